// Addresses are relative to the bundle's own, which is `…/responses/static/responses.js`: a proxy's prefix is kept.

export type Props = {
  dagId?: string | undefined;
  runId?: string | undefined;
  taskId?: string | undefined;
  mapIndex?: string | number | undefined;
};

export type TaskInstanceKey = { dagId: string; runId: string; taskId: string; mapIndex: number };

const bundle = import.meta.url;

export const api = (path: string, query: URLSearchParams): string => {
  const text = query.toString();
  return new URL(`../api/${path}${text ? `?${text}` : ""}`, bundle).href;
};

/** A page of Airflow. */
export const airflow = (...path: string[]): string =>
  new URL(`../../${path.map(encodeURIComponent).join("/")}`, bundle).href;

export const login = (next: string): string =>
  `${airflow("api", "v2", "auth", "login")}?${new URLSearchParams({ next })}`;

export const dagPage = (dagId: string): string => airflow("dags", dagId);
export const taskPage = (dagId: string, taskId: string): string => airflow("dags", dagId, "tasks", taskId);
export const runPage = (dagId: string, runId: string): string => airflow("dags", dagId, "runs", runId);

export const taskInstancePage = ({ dagId, runId, taskId, mapIndex }: TaskInstanceKey): string => {
  const task = ["dags", dagId, "runs", runId, "tasks", taskId];
  return airflow(...task, ...(mapIndex >= 0 ? ["mapped", String(mapIndex)] : []));
};

/** Return an address that a link may have: of the web, and nothing that a click would run. */
export const webLink = (text: string | null | undefined): string | null => {
  if (!text || !/^https?:\/\//i.test(text)) return null;
  try {
    return new URL(text).href;
  } catch {
    return null;
  }
};

/** Return which task instance a page is about: by Airflow's props, else by its query; null if by neither. */
export const taskInstanceOf = (props: Props, search: string): TaskInstanceKey | null => {
  const query = new URLSearchParams(search);
  const dagId = props.dagId ?? query.get("dag_id");
  const runId = props.runId ?? query.get("run_id");
  const taskId = props.taskId ?? query.get("task_id");
  const mapIndex = Number(props.mapIndex ?? query.get("map_index") ?? -1);
  if (!dagId || !runId || !taskId) return null;
  return { dagId, runId, taskId, mapIndex: Number.isInteger(mapIndex) ? mapIndex : -1 };
};

/** Return whether the standalone page is that of a task instance. */
export const isTaskPage = (pathname: string): boolean => pathname.endsWith("/responses/task");
