// Numbers as text. Unknown is a word, never 0.
import type { Count } from "./api";

export const NONE = "–";
export const UNKNOWN = "unknown";

const known = (value: Count): value is number => typeof value === "number" && Number.isFinite(value);

/** US dollars: cents from one dollar on, two digits that matter below a cent ($0.000031). */
export const money = (value: Count): string => {
  if (!known(value)) return UNKNOWN;
  const amount = Math.abs(value);
  const sign = value < 0 ? "-" : "";
  if (amount === 0) return "$0";
  if (amount < 1e-9) return `${sign}<$0.000000001`;
  if (Number(amount.toFixed(4)) >= 1) return sign + "$" + digits(amount, 2, 2);
  if (amount >= 0.01) return sign + "$" + digits(amount, 2, 4);
  const places = 1 - Math.floor(Math.log10(amount));
  return sign + "$" + digits(amount, 0, places);
};

/** The cost of several requests; null if it is unknown. Those at no cost do not make the unknown rest free. */
export const knownCost = (sums: { cost: number | null; unpriced?: number }): number | null =>
  sums.cost === 0 && (sums.unpriced ?? 0) > 0 ? null : sums.cost;

/** A cost of several requests, some of which may have an unknown one. */
export const costOf = (sums: { cost: number | null; unpriced?: number; requests?: number }): string => {
  const cost = knownCost(sums);
  if (cost == null) return sums.requests === 0 && !sums.unpriced ? NONE : UNKNOWN;
  return money(cost);
};

export const count = (value: Count): string => (known(value) ? digits(value, 0, 0) : UNKNOWN);

export const times = (value: Count): string => (value === 1 ? "once" : `${count(value)} times`);

/** A count for where space is short: from 100,000 on with a unit, 12.3 M. */
export const compact = (value: Count): string => {
  if (!known(value)) return UNKNOWN;
  const units: [number, string][] = [
    [1e12, "T"],
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  const unit = Math.abs(value) < 1e5 ? undefined : units.find(([size]) => Math.abs(value) >= size);
  if (!unit) return digits(value, 0, Number.isInteger(value) ? 0 : 1);
  const [size, letter] = unit;
  const places = Math.abs(value) / size >= 100 ? 0 : 1;
  return `${digits(value / size, 0, places)} ${letter}`;
};

/** A share; 0% and 100% only where it is none or all. */
export const percent = (part: Count, whole: Count): string => {
  if (!known(part) || !known(whole) || whole <= 0) return NONE;
  const share = (100 * part) / whole;
  if (share > 0 && share < 0.1) return "<0.1%";
  if (share < 100 && share > 99.9) return ">99.9%";
  return `${digits(share, 0, share < 10 || share > 90 ? 1 : 0)}%`;
};

/** Seconds in the two largest units. */
export const duration = (seconds: Count): string => {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 10) return `${digits(Math.max(0, seconds), 0, 1)} s`;
  const whole = Math.round(seconds);
  const units: [number, string][] = [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const first = units.findIndex(([size]) => whole >= size);
  const [large, small] = [units[first], units[first + 1]];
  if (!large) return "0 s";
  const parts = [`${Math.floor(whole / large[0])} ${large[1]}`];
  const rest = small ? Math.floor((whole % large[0]) / small[0]) : 0;
  if (small && rest > 0) parts.push(`${rest} ${small[1]}`);
  return parts.join(" ");
};

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;

/** A day of the API (`2026-11-28`) as `28 Nov`, or with its year. */
export const day = (text: string, withYear = true): string => {
  const date = new Date(`${text}T00:00:00Z`);
  if (Number.isNaN(date.getTime())) return text;
  return date.toLocaleDateString("en-GB", {
    day: "numeric",
    month: "short",
    timeZone: "UTC",
    ...(withYear ? { year: "numeric" } : {}),
  });
};

/** A time of the API, to the minute, in UTC. */
export const time = (text: string | null | undefined): string => {
  const date = new Date(text ?? "");
  if (!text || Number.isNaN(date.getTime())) return NONE;
  return `${date.toISOString().slice(0, 16).replace("T", " ")} UTC`;
};

const digits = (value: number, least: number, most: number): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: most });
