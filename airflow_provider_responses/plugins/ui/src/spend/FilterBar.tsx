import { useState } from "react";

import type { Spend } from "../api";
import {
  isFiltered,
  lastDays,
  NO_MODEL,
  problemOfDays,
  WINDOWS,
  withoutChoices,
  type Filters,
} from "../filters";
import { MultiSelect } from "./MultiSelect";

type FilterBarProps = {
  filters: Filters;
  choices: Spend["choices"] | undefined;
  change: (filters: Filters) => void;
};

const modelName = (model: string): string => (model === NO_MODEL ? "unknown model" : model);

export const FilterBar = ({ filters, choices, change }: FilterBarProps) => {
  const tasks = (choices?.tasks ?? [])
    .filter(([dag]) => filters.dags.length === 0 || filters.dags.includes(dag))
    .map(([, task]) => task);
  const chips = [
    ...filters.dags.map((id) => ({ text: `DAG: ${id}`, rest: { dags: filters.dags.filter((each) => each !== id) } })),
    ...filters.tasks.map((id) => ({ text: `Task: ${id}`, rest: { tasks: filters.tasks.filter((each) => each !== id) } })),
    ...filters.models.map((id) => ({
      text: `Model: ${modelName(id)}`,
      rest: { models: filters.models.filter((each) => each !== id) },
    })),
  ];
  return (
    <form className="filters" role="search" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
      <WindowChoice filters={filters} change={change} />
      <MultiSelect
        name="DAG"
        all="All DAGs"
        choices={choices?.dags ?? []}
        chosen={filters.dags}
        change={(dags) => change({ ...filters, dags })}
      />
      <MultiSelect
        name="Task"
        all="All tasks"
        choices={tasks}
        chosen={filters.tasks}
        change={(next) => change({ ...filters, tasks: next })}
      />
      <MultiSelect
        name="Model"
        all="All models"
        choices={(choices?.models ?? []).map((model) => model ?? NO_MODEL)}
        chosen={filters.models}
        label={modelName}
        change={(models) => change({ ...filters, models })}
      />
      {isFiltered(filters) && (
        <ul className="chips" aria-label="Filters in use">
          {chips.map(({ text, rest }) => (
            <li key={text}>
              <button
                type="button"
                className="chip"
                aria-label={`Remove the filter ${text}`}
                onClick={() => change({ ...filters, ...rest })}
              >
                {text} <span aria-hidden="true">✕</span>
              </button>
            </li>
          ))}
          <li>
            <button type="button" className="button small" onClick={() => change(withoutChoices(filters))}>
              Clear the filters
            </button>
          </li>
        </ul>
      )}
    </form>
  );
};

const CUSTOM = "custom";

const WindowChoice = ({ filters, change }: Omit<FilterBarProps, "choices">) => {
  const [draft, setDraft] = useState<{ start: string; end: string } | null>(null);
  const days = draft ?? (filters.days === null ? { start: filters.start, end: filters.end } : null);
  const problem = days && problemOfDays(days.start, days.end);
  const choose = (value: string) => {
    if (value === CUSTOM) {
      setDraft({ start: filters.start, end: filters.end });
      return;
    }
    setDraft(null);
    change({ ...filters, days: Number(value), ...lastDays(Number(value), new Date()) });
  };
  const edit = (part: { start?: string; end?: string }) => {
    if (!days) return;
    const next = { ...days, ...part };
    setDraft(next);
    if (problemOfDays(next.start, next.end) === null) change({ ...filters, days: null, ...next });
  };
  const known = new Set<number>(WINDOWS);
  const windows = filters.days !== null && !known.has(filters.days) ? [...WINDOWS, filters.days] : WINDOWS;
  return (
    <>
      <label className="field">
        <span>Window</span>
        <select value={days ? CUSTOM : String(filters.days)} onChange={(event) => choose(event.target.value)}>
          {windows.map((each) => (
            <option key={each} value={each}>
              {each === 1 ? "Today" : `Last ${each} days`}
            </option>
          ))}
          <option value={CUSTOM}>From … to …</option>
        </select>
      </label>
      {days && (
        <>
          <label className="field">
            <span>First day</span>
            <input type="date" value={days.start} onChange={(event) => edit({ start: event.target.value })} />
          </label>
          <label className="field">
            <span>Last day</span>
            <input type="date" value={days.end} onChange={(event) => edit({ end: event.target.value })} />
          </label>
          {problem && (
            <p className="problem" role="alert">
              {problem}
            </p>
          )}
        </>
      )}
    </>
  );
};
