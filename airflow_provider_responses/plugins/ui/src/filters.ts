// The filters of "LLM spend", which the address keeps: a page can be reloaded, bookmarked and sent to a colleague.

export type Metric = "cost" | "tokens" | "requests";

export type Filters = {
  /** The last days, today among them; null if the days are given. */
  days: number | null;
  start: string;
  end: string;
  dags: string[];
  tasks: string[];
  models: string[];
  /** Null: cost, or requests where no cost is known. */
  metric: Metric | null;
};

export const WINDOWS = [1, 7, 30, 90] as const;
export const DEFAULT_DAYS = 30;
export const MAX_DAYS = 366;
/** The model of requests whose model is unknown, in a query. */
export const NO_MODEL = "";

const KEYS = ["days", "start", "end", "dag_id", "task_id", "model", "metric"];
const DAY = 86_400_000;

const isDay = (text: string | null): text is string =>
  text !== null && /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(`${text}T00:00:00Z`));

const isoDay = (time: number): string => new Date(time).toISOString().slice(0, 10);

/** Return the days from the first to the last one of the window. */
export const lastDays = (days: number, now: Date): { start: string; end: string } => ({
  start: isoDay(now.getTime() - (days - 1) * DAY),
  end: isoDay(now.getTime()),
});

export const parseFilters = (search: string, now: Date): Filters => {
  const query = new URLSearchParams(search);
  const [start, end] = [query.get("start"), query.get("end")];
  const given = isDay(start) && isDay(end) && start <= end;
  const asked = Number(query.get("days"));
  const days = given ? null : Number.isInteger(asked) && asked >= 1 && asked <= MAX_DAYS ? asked : DEFAULT_DAYS;
  const metric = query.get("metric");
  return {
    days,
    ...(given ? { start, end } : lastDays(days ?? DEFAULT_DAYS, now)),
    dags: unique(query.getAll("dag_id").filter(Boolean)),
    tasks: unique(query.getAll("task_id").filter(Boolean)),
    models: unique(query.getAll("model")),
    metric: metric === "cost" || metric === "tokens" || metric === "requests" ? metric : null,
  };
};

/** Return the query of an address: what others put there stays. */
export const searchOf = (filters: Filters, search: string): string => {
  const query = new URLSearchParams(search);
  KEYS.forEach((key) => query.delete(key));
  if (filters.days === null) {
    query.set("start", filters.start);
    query.set("end", filters.end);
  } else if (filters.days !== DEFAULT_DAYS) {
    query.set("days", String(filters.days));
  }
  addChoices(query, filters);
  if (filters.metric) query.set("metric", filters.metric);
  const text = query.toString();
  return text ? `?${text}` : "";
};

/** Return the query of the API. */
export const apiQuery = (filters: Filters): URLSearchParams => {
  const query = new URLSearchParams({ start: filters.start, end: filters.end });
  addChoices(query, filters);
  return query;
};

const addChoices = (query: URLSearchParams, filters: Filters): void => {
  filters.dags.forEach((id) => query.append("dag_id", id));
  filters.tasks.forEach((id) => query.append("task_id", id));
  filters.models.forEach((model) => query.append("model", model));
};

export const isFiltered = (filters: Filters): boolean =>
  filters.dags.length + filters.tasks.length + filters.models.length > 0;

export const withoutChoices = (filters: Filters): Filters => ({ ...filters, dags: [], tasks: [], models: [] });

/** Return why the days cannot be a window, null if they can. */
export const problemOfDays = (start: string, end: string): string | null => {
  if (!isDay(start) || !isDay(end)) return "Choose a first and a last day.";
  if (start > end) return "The first day is after the last day.";
  if ((Date.parse(end) - Date.parse(start)) / DAY >= MAX_DAYS) return `Choose at most ${MAX_DAYS} days.`;
  return null;
};

const unique = (values: string[]): string[] => [...new Set(values)];
