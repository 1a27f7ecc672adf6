import { webLink } from "../address";
import type { Send, Task, Usage } from "../api";
import { count, duration, money, NONE, times, UNKNOWN } from "../format";
import { CopyButton } from "../parts/CopyButton";
import { DataTable } from "../parts/DataTable";
import { Facts } from "../parts/Facts";
import { Notice } from "../parts/Notice";

const yesNo = (value: boolean | null | undefined): string => (value == null ? UNKNOWN : value ? "yes" : "no");

export const RequestView = ({ task, usage }: { task: Task; usage: Usage }) => (
  <>
    <Warnings usage={usage} />
    <section aria-labelledby="responses-response" className="card">
      <h2 id="responses-response">Response</h2>
      <Facts
        facts={[
          { name: "Status", value: usage.status ?? UNKNOWN },
          { name: "Model", value: usage.model ?? UNKNOWN },
          Boolean(usage.escalated) && { name: "Escalated to a larger model", value: times(usage.escalated) },
          { name: "Provider", value: usage.provider ?? UNKNOWN },
          { name: "Cost", value: money(usage.cost) },
          { name: "Cost of this attempt", value: money(usage.cost_this_attempt) },
          { name: "Response from the cache", value: yesNo(usage.cached) },
          { name: "Input tokens", value: tokens(usage.input_tokens, usage.cached_tokens, "from the prompt cache") },
          { name: "Output tokens", value: tokens(usage.output_tokens, usage.reasoning_tokens, "for reasoning") },
          { name: "Total tokens", value: count(usage.total_tokens) },
          task.prompt_fingerprint !== null && {
            name: "Prompt fingerprint",
            value: <Copyable text={task.prompt_fingerprint} what="the prompt fingerprint" />,
          },
          usage.response_id != null && { name: "Response id", value: <code>{usage.response_id}</code> },
          usage.generation_id != null && {
            name: "Generation",
            value: <Generation id={usage.generation_id} url={task.generation_url} />,
          },
        ]}
      />
    </section>
    <Sends sends={usage.sends ?? []} />
  </>
);

const tokens = (all: number | null | undefined, part: number | null | undefined, what: string): string =>
  part ? `${count(all)} (${count(part)} ${what})` : count(all);

export const Copyable = ({ text, what }: { text: string; what: string }) => (
  <span className="copyable">
    <code>{text}</code> <CopyButton text={text} what={what} />
  </span>
);

const Generation = ({ id, url }: { id: string; url: string | null }) => {
  const link = webLink(url);
  if (link === null) return <code>{id}</code>;
  return (
    <a href={link} target="_blank" rel="noopener noreferrer">
      {id} at OpenRouter (opens a new page)
    </a>
  );
};

const Warnings = ({ usage }: { usage: Usage }) => {
  const texts = [
    usage.maybe_truncated && "The response may be cut off.",
    usage.inconsistent && "The stream of the response contradicted itself.",
    usage.repaired && "The JSON of the response had to be repaired.",
    usage.ambiguous_sends
      ? "A send failed after it may have reached the model: it may have been billed once more."
      : null,
  ].filter((text) => typeof text === "string");
  if (texts.length === 0) return null;
  return (
    <Notice kind="warning" title="Check this response">
      <ul>
        {texts.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
    </Notice>
  );
};

const resultOf = ({ cause, model, escalated_to: larger }: Send): React.ReactNode => {
  if (cause === null) return "response";
  if (larger != null)
    return (
      <>
        response of <code>{model ?? UNKNOWN}</code> not accepted (<code>{cause.error}</code>): escalated to{" "}
        <code>{larger}</code>
      </>
    );
  return (
    <>
      <code>{cause.error}</code>
      {cause.status != null && ` (HTTP ${cause.status})`}
    </>
  );
};

const mayBeBilled = ({ cause, ambiguous, escalated_to: larger }: Send): string => {
  if (cause === null || larger != null) return NONE; // its cost is in that of the attempt
  return ambiguous ? "yes" : "no";
};

const Sends = ({ sends }: { sends: Send[] }) => {
  if (sends.length === 0) return null;
  const rows = sends.map((send, index) => ({ ...send, number: index + 1 }));
  return (
    <DataTable
      caption="Sends of this attempt"
      id={(row) => String(row.number)}
      rows={rows}
      first={20}
      columns={[
        { name: "Send", cell: (row) => row.number },
        { name: "Result", cell: resultOf },
        { name: "May be billed", cell: mayBeBilled },
        {
          name: "Wait before the next",
          numeric: true,
          cell: (row) => (row.wait == null ? NONE : duration(row.wait)),
        },
      ]}
    />
  );
};
