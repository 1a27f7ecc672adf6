// What charts and tables show of the sums.
import type { Missing, Spend, Sums } from "./api";
import type { Metric } from "./filters";
import { compact, count, knownCost, money, plural, UNKNOWN } from "./format";

export const METRICS: { value: Metric; label: string }[] = [
  { value: "cost", label: "Cost" },
  { value: "tokens", label: "Tokens" },
  { value: "requests", label: "Requests" },
];

export const labelOf = (metric: Metric): string => METRICS.find(({ value }) => value === metric)?.label ?? metric;

export const tokensOf = (sums: Pick<Sums, "input_tokens" | "output_tokens">): number | null =>
  sums.input_tokens == null && sums.output_tokens == null
    ? null
    : (sums.input_tokens ?? 0) + (sums.output_tokens ?? 0);

/** Return the height of a bar; null is unknown, and without requests it is 0. */
export const valueOf = (sums: Sums, metric: Metric): number | null => {
  if (sums.requests === 0 && sums.unpriced === 0) return 0;
  if (metric === "cost") return knownCost(sums);
  return metric === "tokens" ? tokensOf(sums) : sums.requests;
};

export const valueText = (value: number | null, metric: Metric): string => {
  if (value === null) return metric === "cost" ? "cost unknown" : UNKNOWN;
  return metric === "cost" ? money(value) : compact(value);
};

/** Return the metric that a chart shows: cost, unless no cost is known at all. */
export const metricFor = (wanted: Metric | null, totals: Sums): Metric =>
  wanted ?? (knownCost(totals) == null && totals.requests > 0 ? "requests" : "cost");

/** Sort by a figure, highest first, what is unknown last; names decide a tie. */
export const ranked = <T extends Sums>(rows: T[], metric: Metric, name: (row: T) => string): T[] =>
  [...rows].sort((a, b) => {
    const [x, y] = [valueOf(a, metric) ?? -1, valueOf(b, metric) ?? -1];
    return y - x || b.requests - a.requests || name(a).localeCompare(name(b), "en");
  });

/** Return round values for the lines of a chart, 0 first; the last one is at least the highest value. */
export const ticksFor = (highest: number, metric: Metric): number[] => {
  if (!(highest > 0)) return [0];
  const power = 10 ** Math.floor(Math.log10(highest / 4));
  const factors = metric !== "cost" && power <= 1 ? [1, 2, 5, 10] : [1, 2, 2.5, 5, 10];
  const fits = factors.map((factor) => factor * power).find((step) => highest <= 4 * step * (1 + 1e-9));
  const step = Math.max(fits ?? 10 * power, metric === "cost" ? 0 : 1);
  const number = Math.max(1, Math.ceil((highest / step) * (1 - 1e-9)));
  return Array.from({ length: number + 1 }, (_, index) => index * step);
};

/** Return sentences about what the figures lack. */
export const missingFrom = (missing: Missing): string[] => {
  const texts: string[] = [];
  if (missing.without_usage > 0) {
    const subject = plural(missing.without_usage, "finished task instance has", "finished task instances have");
    texts.push(`${subject} no usage: their XComs were cleared or purged, or do_xcom_push is off.`);
  }
  if (missing.unreadable > 0) {
    const subject = plural(missing.unreadable, "usage XCom");
    const backend = missing.backend ? ` from the XCom backend ${missing.backend}` : "";
    texts.push(`${subject} could not be read${backend}.`);
  }
  if (missing.not_ours > 0) {
    const subject = plural(missing.not_ours, "XCom named usage has", "XComs named usage have");
    texts.push(`${subject} another form and ${missing.not_ours === 1 ? "is" : "are"} not counted.`);
  }
  if (missing.earlier_attempts) {
    texts.push("Attempts before a task was last cleared are not counted.");
  }
  return texts;
};

/** Return whether nothing was counted. */
export const isEmpty = (spend: Spend): boolean => spend.totals.task_instances === 0 && spend.totals.requests === 0;

/** Return one sentence for those who cannot see a chart. */
export const summaryOf = (rows: { label: string; value: number | null }[], metric: Metric): string =>
  rows.map(({ label, value }) => `${label}: ${valueText(value, metric)}`).join("; ");

export const tokensText = (sums: Sums): string => {
  const tokens = tokensOf(sums);
  return tokens === null ? UNKNOWN : count(tokens);
};
