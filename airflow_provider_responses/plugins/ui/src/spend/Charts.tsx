import type { Spend, Sums } from "../api";
import { labelOf, METRICS, ranked, valueOf } from "../figures";
import type { Metric } from "../filters";
import { BarChart } from "./BarChart";
import { DayChart } from "./DayChart";

const LARGEST = 8;

type ChartsProps = { spend: Spend; metric: Metric; change: (metric: Metric) => void };

export const Charts = ({ spend, metric, change }: ChartsProps) => (
  <section aria-labelledby="responses-charts">
    <div className="head">
      <h2 id="responses-charts">{labelOf(metric)} over time</h2>
      <span className="grow" />
      <fieldset className="choice">
        <legend className="hidden">What the charts show</legend>
        {METRICS.map(({ value, label }) => (
          <label key={value}>
            <input
              type="radio"
              name="responses-metric"
              value={value}
              checked={metric === value}
              onChange={() => change(value)}
            />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
    </div>
    <DayChart days={spend.by_day} metric={metric} />
    <div className="columns">
      <BarChart
        title={`${labelOf(metric)} by DAG`}
        metric={metric}
        rows={largest(spend.by_dag, metric, (row) => row.dag_id)}
        left={spend.by_dag.length - LARGEST}
      />
      <BarChart
        title={`${labelOf(metric)} by model`}
        metric={metric}
        rows={largest(spend.by_model, metric, (row) => row.model ?? "unknown model")}
        left={spend.by_model.length - LARGEST}
      />
    </div>
  </section>
);

const largest = <T extends Sums>(rows: T[], metric: Metric, name: (row: T) => string) =>
  ranked(rows, metric, name)
    .slice(0, LARGEST)
    .map((row) => ({ label: name(row), value: valueOf(row, metric) }));
