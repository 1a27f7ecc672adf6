import { useId } from "react";

import { summaryOf, valueText } from "../figures";
import type { Metric } from "../filters";
import { useWidth } from "./use-width";

const ROW = 38;
const LETTER = 7.2; // pixels of an average letter

type BarChartProps = {
  title: string;
  metric: Metric;
  rows: { label: string; value: number | null }[];
  /** How many rows the chart leaves out. */
  left: number;
};

/** Bars from left to right, each below its name and value. */
export const BarChart = ({ title, metric, rows, left }: BarChartProps) => {
  const { ref, width } = useWidth<HTMLDivElement>(480);
  const id = useId();
  const highest = Math.max(...rows.map(({ value }) => value ?? 0), 0);
  return (
    <figure className="chart card">
      <figcaption id={id}>
        {title}
        {left > 0 && <span className="note">, {left} more in the table</span>}
      </figcaption>
      <div ref={ref}>
        <svg
          role="img"
          aria-label={`${title}. ${summaryOf(rows, metric)}`}
          width={width}
          height={Math.max(rows.length, 1) * ROW}
          data-chart="bars"
        >
          {rows.map(({ label, value }, index) => {
            const text = valueText(value, metric);
            const letters = Math.max(4, Math.floor((width - text.length * LETTER - 16) / LETTER));
            return (
              <g key={label} transform={`translate(0 ${index * ROW})`}>
                <title>{`${label}: ${text}`}</title>
                <text y={16}>{label.length > letters ? `${label.slice(0, letters - 1)}…` : label}</text>
                <text x={width} y={16} textAnchor="end" className="value">
                  {text}
                </text>
                <rect y={22} width={width} height={8} rx={2} className="track" />
                {value === null ? (
                  <rect y={22} width={width} height={8} rx={2} className="unknown" />
                ) : (
                  <rect
                    y={22}
                    width={highest > 0 ? Math.max((value / highest) * width, value > 0 ? 1 : 0) : 0}
                    height={8}
                    rx={2}
                    className="bar"
                  />
                )}
              </g>
            );
          })}
        </svg>
      </div>
    </figure>
  );
};
