import { dagPage, runPage, taskPage } from "../address";
import type { Spend, Sums } from "../api";
import { ranked, tokensOf } from "../figures";
import { NO_MODEL, type Filters } from "../filters";
import { costOf, count, day, knownCost, percent, time } from "../format";
import { DataTable, type Column } from "../parts/DataTable";

type TablesProps = { spend: Spend; filters: Filters; change: (filters: Filters) => void };

const Only = ({ name, isOn, click }: { name: string; isOn: boolean; click: () => void }) =>
  isOn ? null : (
    <button type="button" className="only" aria-label={`Show only ${name}`} onClick={click}>
      only
    </button>
  );

const CostCell = ({ row }: { row: Sums }) => (
  <>
    {costOf(row)}
    {knownCost(row) != null && row.unpriced > 0 && <span className="note"> + {count(row.unpriced)} unknown</span>}
  </>
);

const sums = <T extends Sums>(): Column<T>[] => [
  { name: "Cost", numeric: true, cell: (row) => <CostCell row={row} />, sort: knownCost },
  { name: "Requests", numeric: true, cell: (row) => count(row.requests), sort: (row) => row.requests },
  { name: "Input tokens", numeric: true, cell: (row) => count(row.input_tokens), sort: (row) => row.input_tokens },
  { name: "Output tokens", numeric: true, cell: (row) => count(row.output_tokens), sort: (row) => row.output_tokens },
  { name: "Cached", numeric: true, cell: (row) => percent(row.cached, row.requests), sort: (row) => row.cached },
  { name: "Failed", numeric: true, cell: (row) => percent(row.failed, row.requests), sort: (row) => row.failed },
];

export const Tables = ({ spend, filters, change }: TablesProps) => {
  const onlyDag = (dag: string) => (
    <Only
      name={`DAG ${dag}`}
      isOn={filters.dags.length === 1 && filters.dags[0] === dag}
      click={() => change({ ...filters, dags: [dag] })}
    />
  );
  return (
    <section aria-labelledby="responses-tables" className="tables">
      <h2 id="responses-tables">Tables</h2>
      <DataTable
        caption="Most expensive runs"
        id={(row) => JSON.stringify([row.dag_id, row.run_id])}
        rows={spend.top_runs}
        columns={[
          {
            name: "Run",
            cell: (row) => <a href={runPage(row.dag_id, row.run_id)}>{row.run_id}</a>,
            sort: (row) => row.run_id,
          },
          { name: "DAG", cell: (row) => <a href={dagPage(row.dag_id)}>{row.dag_id}</a>, sort: (row) => row.dag_id },
          { name: "Start", cell: (row) => <span className="line">{time(row.start)}</span>, sort: (row) => row.start },
          ...sums<Spend["top_runs"][number]>(),
        ]}
      />
      <DataTable
        caption="By DAG"
        id={(row) => row.dag_id}
        rows={ranked(spend.by_dag, "cost", (row) => row.dag_id)}
        columns={[
          {
            name: "DAG",
            cell: (row) => (
              <>
                <a href={dagPage(row.dag_id)}>{row.dag_id}</a> {onlyDag(row.dag_id)}
              </>
            ),
            sort: (row) => row.dag_id,
          },
          ...sums<Spend["by_dag"][number]>(),
        ]}
      />
      <DataTable
        caption="By task"
        id={(row) => JSON.stringify([row.dag_id, row.task_id])}
        rows={ranked(spend.by_task, "cost", (row) => `${row.dag_id} ${row.task_id}`)}
        columns={[
          {
            name: "Task",
            cell: (row) => (
              <>
                <a href={taskPage(row.dag_id, row.task_id)}>{row.task_id}</a>{" "}
                <Only
                  name={`task ${row.task_id} of DAG ${row.dag_id}`}
                  isOn={filters.dags.length === 1 && filters.tasks.length === 1 && filters.tasks[0] === row.task_id}
                  click={() => change({ ...filters, dags: [row.dag_id], tasks: [row.task_id] })}
                />
              </>
            ),
            sort: (row) => row.task_id,
          },
          { name: "DAG", cell: (row) => row.dag_id, sort: (row) => row.dag_id },
          ...sums<Spend["by_task"][number]>(),
        ]}
      />
      <DataTable
        caption="By model"
        id={(row) => JSON.stringify(row.model)}
        rows={ranked(spend.by_model, "cost", (row) => row.model ?? "")}
        columns={[
          {
            name: "Model",
            cell: (row) => (
              <>
                {row.model ?? "unknown model"}{" "}
                <Only
                  name={`model ${row.model ?? "unknown"}`}
                  isOn={filters.models.length === 1 && filters.models[0] === (row.model ?? NO_MODEL)}
                  click={() => change({ ...filters, models: [row.model ?? NO_MODEL] })}
                />
              </>
            ),
            sort: (row) => row.model,
          },
          ...sums<Spend["by_model"][number]>(),
        ]}
      />
      <DataTable
        caption="By day"
        id={(row) => row.day}
        rows={spend.by_day.filter((row) => row.requests > 0).reverse()}
        columns={[
          { name: "Day (UTC)", cell: (row) => day(row.day), sort: (row) => row.day },
          {
            name: "Tokens",
            numeric: true,
            cell: (row) => count(tokensOf(row)),
            sort: (row) => tokensOf(row),
          },
          ...sums<Spend["by_day"][number]>(),
        ]}
      />
    </section>
  );
};
