import { webLink } from "../address";
import type { Batch, ModelSums, Task } from "../api";
import { count, money, percent, UNKNOWN } from "../format";
import { DataTable } from "../parts/DataTable";
import { Facts, type Fact } from "../parts/Facts";
import { Failures } from "./Failures";
import { Copyable } from "./RequestView";

export const EnrichmentView = ({ task }: { task: Task }) => (
  <>
    <Summary task={task} />
    {!task.progress && <Failures failures={task.usage?.failures} />}
    <Models models={task.usage?.models ?? []} />
    <Batches batches={task.batches ?? []} />
    <Manifest manifest={task.manifest} />
  </>
);

const Summary = ({ task }: { task: Task }) => {
  const { usage } = task;
  const facts: Fact[] = [
    ...(usage
      ? [
          { name: "Rows", value: count(usage.rows) },
          { name: "Requests", value: count(usage.requests) },
          { name: "Cost", value: money(usage.cost) },
          { name: "Cost of this attempt", value: money(usage.cost_this_attempt) },
          { name: "Input tokens", value: count(usage.input_tokens) },
          { name: "Output tokens", value: count(usage.output_tokens) },
          { name: "Cached", value: part(usage.requests_cached, usage.requests) },
          { name: "Failed", value: part(usage.requests_failed, usage.requests) },
        ]
      : []),
    task.prompt_fingerprint !== null && {
      name: "Prompt fingerprint",
      value: <Copyable text={task.prompt_fingerprint} what="the prompt fingerprint" />,
    },
    task.result_path !== null && {
      name: "Result",
      value: <Copyable text={task.result_path} what="the path of the result" />,
    },
  ];
  if (facts.every((fact) => !fact)) return null;
  return (
    <section aria-labelledby="responses-enrichment" className="card">
      <h2 id="responses-enrichment">Table of requests</h2>
      <Facts facts={facts} />
    </section>
  );
};

const part = (some: number | null | undefined, all: number | null | undefined): string =>
  some == null ? UNKNOWN : `${count(some)} (${percent(some, all)})`;

const Models = ({ models }: { models: ModelSums[] }) => {
  if (models.length === 0) return null;
  return (
    <DataTable
      caption="Models"
      id={(row) => JSON.stringify(row.model)}
      rows={models}
      columns={[
        { name: "Model", cell: (row) => row.model ?? "unknown model", sort: (row) => row.model },
        { name: "Cost", numeric: true, cell: (row) => money(row.cost), sort: (row) => row.cost },
        { name: "Requests", numeric: true, cell: (row) => count(row.requests), sort: (row) => row.requests },
        { name: "Input tokens", numeric: true, cell: (row) => count(row.input_tokens), sort: (row) => row.input_tokens },
        {
          name: "Output tokens",
          numeric: true,
          cell: (row) => count(row.output_tokens),
          sort: (row) => row.output_tokens,
        },
        { name: "Cached", numeric: true, cell: (row) => percent(row.cached, row.requests), sort: (row) => row.cached },
        { name: "Failed", numeric: true, cell: (row) => percent(row.failed, row.requests), sort: (row) => row.failed },
      ]}
    />
  );
};

const Batches = ({ batches }: { batches: Batch[] }) => {
  if (batches.length === 0) return null;
  return (
    <DataTable
      caption="Batches"
      id={(row) => row.id}
      rows={batches}
      columns={[
        { name: "Batch", cell: batchName, sort: (row) => row.id },
        { name: "Model", cell: (row) => row.model ?? UNKNOWN, sort: (row) => row.model ?? null },
        { name: "Status", cell: (row) => row.status ?? UNKNOWN, sort: (row) => row.status ?? null },
        { name: "Requests", numeric: true, cell: (row) => count(row.requests), sort: (row) => row.requests ?? null },
      ]}
    />
  );
};

const batchName = ({ id, url }: Batch): React.ReactNode => {
  const link = webLink(url);
  if (link === null) return <code>{id}</code>;
  return (
    <a href={link} target="_blank" rel="noopener noreferrer">
      {id}
    </a>
  );
};

/** The single values of a manifest; what it nests is shown as JSON. */
const Manifest = ({ manifest }: { manifest: Record<string, unknown> | null }) => {
  const entries = Object.entries(manifest ?? {});
  if (entries.length === 0) return null;
  return (
    <details className="card">
      <summary>Manifest</summary>
      <Facts facts={entries.map(([name, value]) => ({ name, value: <code>{text(value)}</code> }))} />
    </details>
  );
};

const text = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? ""));
