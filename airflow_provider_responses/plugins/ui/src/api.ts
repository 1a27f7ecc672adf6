// The JSON of the plugin's API. Unknown is null, never 0. A field that is missing counts as null.

export type Count = number | null | undefined;

export type Sums = {
  requests: number;
  cost: number | null;
  unpriced: number;
  input_tokens: number | null;
  output_tokens: number | null;
  cached: number;
  failed: number;
  task_instances: number;
};

export type Missing = {
  unreadable: number;
  not_ours: number;
  without_usage: number;
  earlier_attempts: boolean;
  backend: string | null;
};

export type Spend = {
  start: string;
  end: string;
  totals: Sums;
  by_dag: (Sums & { dag_id: string })[];
  by_task: (Sums & { dag_id: string; task_id: string })[];
  by_model: (Sums & { model: string | null })[];
  by_day: (Sums & { day: string })[];
  top_runs: (Sums & { dag_id: string; run_id: string; start: string | null })[];
  choices: { dags: string[]; tasks: [string, string][]; models: (string | null)[] };
  missing: Missing;
};

export type Send = {
  cause: { error: string; status: number | null } | null;
  ambiguous: boolean;
  wait: number | null;
  model?: string | null;
  escalated_to?: string | null;
};

export type ModelSums = {
  model: string | null;
  requests: number;
  failed: number;
  cached: number;
  cost: number | null;
  input_tokens: number | null;
  output_tokens: number | null;
};

export type Usage = {
  status?: string | null;
  model?: string | null;
  provider?: string | null;
  response_id?: string | null;
  generation_id?: string | null;
  input_tokens?: number | null;
  output_tokens?: number | null;
  total_tokens?: number | null;
  cached_tokens?: number | null;
  reasoning_tokens?: number | null;
  cost?: number | null;
  cost_this_attempt?: number | null;
  cached?: boolean | null;
  sends?: Send[] | null;
  ambiguous_sends?: number | null;
  escalated?: number | null;
  maybe_truncated?: boolean | null;
  inconsistent?: boolean | null;
  repaired?: boolean | null;
  requests?: number | null;
  requests_cached?: number | null;
  requests_failed?: number | null;
  failures?: Record<string, number> | null;
  models?: ModelSums[] | null;
  rows?: number | null;
};

export type Progress = {
  total?: number | null;
  done?: number | null;
  left?: number | null;
  rate?: number | null;
  seconds_left?: number | null;
  cost?: number | null;
  failed?: number | null;
  failures?: Record<string, number> | null;
  resent?: number | null;
  in_flight?: number | null;
  try_number?: number | null;
  is_current?: boolean;
};

export type Batch = {
  id: string;
  model?: string | null;
  status?: string | null;
  requests?: number | null;
  url?: string | null;
};

export type Task = {
  dag_id: string;
  run_id: string;
  task_id: string;
  map_index: number;
  try_number: number | null;
  state: string | null;
  operator: string | null;
  usage: Usage | null;
  missing: "none" | "not_ours" | "unreadable" | null;
  missing_detail?: string | null;
  kind: "request" | "enrichment" | null;
  prompt_fingerprint: string | null;
  progress: Progress | null;
  manifest: Record<string, unknown> | null;
  result_path: string | null;
  batches?: Batch[] | null;
  generation_url: string | null;
};

/** Why nothing could be read. `status` is null if no HTTP response came, and 0 if it was no JSON. */
export class ApiError extends Error {
  constructor(
    readonly status: number | null,
    readonly detail: string | null,
  ) {
    super(detail ?? String(status));
  }
}

export const load = async <T>(address: string, signal?: AbortSignal): Promise<T> => {
  let response: Response;
  try {
    response = await fetch(address, {
      credentials: "same-origin",
      headers: { Accept: "application/json" },
      signal: signal ?? null,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(null, null);
  }
  // Airflow returns its own page for an address that nobody serves.
  const isJson = (response.headers.get("content-type") ?? "").includes("json");
  if (!response.ok) throw new ApiError(response.status, isJson ? detailOf(await parsed(response)) : null);
  if (!isJson) throw new ApiError(0, null);
  return (await parsed(response)) as T;
};

const parsed = async (response: Response): Promise<unknown> => {
  try {
    return await response.json();
  } catch {
    throw new ApiError(response.ok ? 0 : response.status, null);
  }
};

const detailOf = (body: unknown): string | null => {
  if (typeof body !== "object" || body === null || !("detail" in body)) return null;
  return typeof body.detail === "string" ? body.detail : null;
};
