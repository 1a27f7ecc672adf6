import { useState } from "react";

import type { Spend } from "../api";
import { labelOf, ticksFor, valueOf, valueText } from "../figures";
import type { Metric } from "../filters";
import { day, knownCost, plural } from "../format";
import { useWidth } from "./use-width";

const HEIGHT = 220;
const TOP = 12;
const BOTTOM = 24;
const LEFT = 72;
const LABEL = 64; // pixels that the name of a day needs

type Day = Spend["by_day"][number];

/** Text of one day: its value, and how many requests it is of. */
const dayText = (row: Day, metric: Metric): string =>
  row.requests === 0
    ? `${day(row.day)}: no requests`
    : `${day(row.day)}: ${valueText(valueOf(row, metric), metric)}` +
      (metric === "requests" ? "" : `, ${plural(row.requests, "request")}`) +
      (metric === "cost" && knownCost(row) != null && row.unpriced > 0
        ? `, ${plural(row.unpriced, "request")} of unknown cost`
        : "") +
      (row.failed > 0 ? `, ${row.failed} failed` : "");

/** One column for each day. The pointer and the arrow keys choose a day, whose values are written below. */
export const DayChart = ({ days, metric }: { days: Day[]; metric: Metric }) => {
  const { ref, width } = useWidth<HTMLDivElement>(960);
  const [chosen, setChosen] = useState<number | null>(null);
  const values = days.map((row) => valueOf(row, metric));
  const ticks = ticksFor(Math.max(...values.map((value) => value ?? 0), 0), metric);
  const top = ticks.at(-1) || 1;
  const step = (width - LEFT) / Math.max(days.length, 1);
  const scale = (value: number) => ((HEIGHT - TOP - BOTTOM) * value) / top;
  const floor = HEIGHT - BOTTOM;
  const bar = Math.max(1, step * 0.8);
  const every = Math.ceil(LABEL / step);
  const last = Math.max(days.length - 1, 0);
  const at = Math.min(chosen ?? last, last);
  const row = days[at];
  const total = totalText(days, metric);
  const keys = (event: React.KeyboardEvent) => {
    const moves: Record<string, number> = {
      ArrowLeft: at - 1,
      ArrowDown: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at + 1,
      PageDown: at - 7,
      PageUp: at + 7,
      Home: 0,
      End: last,
    };
    const next = moves[event.key];
    if (next === undefined) return;
    event.preventDefault();
    setChosen(Math.min(Math.max(next, 0), last));
  };
  return (
    <figure className="chart card">
      <div
        ref={ref}
        role="slider"
        tabIndex={0}
        aria-label={`${labelOf(metric)} per day. ${total} The arrow keys move from day to day.`}
        aria-valuemin={0}
        aria-valuemax={last}
        aria-valuenow={at}
        aria-valuetext={row ? dayText(row, metric) : "no days"}
        onKeyDown={keys}
        onMouseLeave={() => setChosen(null)}
      >
        <svg aria-hidden="true" width={width} height={HEIGHT} data-chart="days">
          {ticks.map((tick) => (
            <g key={tick} transform={`translate(0 ${floor - scale(tick)})`}>
              <line x1={LEFT} x2={width} className="line" />
              <text x={LEFT - 8} y={4} textAnchor="end">
                {valueText(tick, metric)}
              </text>
            </g>
          ))}
          {days.map((each, index) => {
            const value = values[index] ?? null;
            const height = value === null ? 12 : Math.max(scale(value), value > 0 ? 1 : 0);
            const x = LEFT + index * step;
            return (
              <g key={each.day} onMouseEnter={() => setChosen(index)}>
                <rect x={x} y={0} width={step} height={HEIGHT} className={index === chosen ? "chosen" : "area"} />
                <rect
                  x={x + (step - bar) / 2}
                  y={floor - height}
                  width={bar}
                  height={height}
                  className={value === null ? "unknown" : "bar"}
                />
                {index % every === 0 && step * (days.length - index) >= LABEL / 2 && (
                  <text x={x + step / 2} y={HEIGHT - 6} textAnchor={index === 0 ? "start" : "middle"}>
                    {day(each.day, false)}
                  </text>
                )}
              </g>
            );
          })}
        </svg>
      </div>
      <figcaption className="readout">{chosen !== null && row ? dayText(row, metric) : total}</figcaption>
    </figure>
  );
};

const totalText = (days: Day[], metric: Metric): string => {
  const rows = days.filter((row) => row.requests > 0);
  const unknown = rows.filter((row) => valueOf(row, metric) === null).length;
  const highest = rows.reduce<Day | null>(
    (most, row) => ((valueOf(row, metric) ?? 0) > (most ? (valueOf(most, metric) ?? 0) : 0) ? row : most),
    null,
  );
  const texts = [`${plural(rows.length, "day")} with requests of ${days.length}.`];
  if (highest) texts.push(`Highest on ${day(highest.day)}: ${valueText(valueOf(highest, metric), metric)}.`);
  if (unknown > 0) texts.push(`Unknown on ${plural(unknown, "day")}.`);
  return texts.join(" ");
};
