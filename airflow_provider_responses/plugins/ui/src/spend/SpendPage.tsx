import { useCallback, useEffect, useState } from "react";

import { airflow, api } from "../address";
import type { Spend } from "../api";
import { isEmpty, metricFor, missingFrom } from "../figures";
import { apiQuery, isFiltered, lastDays, parseFilters, searchOf, withoutChoices, type Filters } from "../filters";
import { day, knownCost, time } from "../format";
import { Failure } from "../parts/Failure";
import { Notice } from "../parts/Notice";
import { Page } from "../parts/Page";
import { useLoad } from "../use-load";
import { Charts } from "./Charts";
import { FilterBar } from "./FilterBar";
import { Tables } from "./Tables";
import { Totals } from "./Totals";

/** The filters of the address; setting them changes it. */
const useFilters = (): [Filters, (filters: Filters) => void] => {
  const [filters, setFilters] = useState(() => parseFilters(location.search, new Date()));
  useEffect(() => {
    const follow = () => setFilters(parseFilters(location.search, new Date()));
    window.addEventListener("popstate", follow);
    return () => window.removeEventListener("popstate", follow);
  }, []);
  const change = useCallback((next: Filters) => {
    const search = searchOf(next, location.search);
    // Airflow's router keeps its own things in the state.
    history.replaceState(history.state, "", `${location.pathname}${search}${location.hash}`);
    setFilters(next);
  }, []);
  return [filters, change];
};

export const SpendPage = ({ standalone }: { standalone: boolean }) => {
  const [filters, change] = useFilters();
  const query = apiQuery(filters);
  const { data, error, loading, reload } = useLoad<Spend>(api("spend", query));
  const refresh = () => {
    // The last days are others after midnight.
    if (filters.days !== null) change({ ...filters, ...lastDays(filters.days, new Date()) });
    reload();
  };
  return (
    <Page standalone={standalone} busy={loading}>
      <header className="head">
        <h1>LLM spend</h1>
        {standalone && <a href={airflow()}>Airflow</a>}
        <span className="grow note" role="status">
          {loading ? "Loading …" : ""}
        </span>
        <a className="button" href={api("spend.csv", query)} download="llm-spend.csv">
          Download CSV
        </a>
        <button type="button" className="button" onClick={refresh}>
          Refresh
        </button>
      </header>
      <FilterBar filters={filters} choices={data?.choices} change={change} />
      {Boolean(error) && <Failure error={error} subject="spend" stale={data !== null} retry={reload} />}
      {data === null && loading && <Skeleton />}
      {data && <Content spend={data} filters={filters} change={change} />}
    </Page>
  );
};

const Skeleton = () => (
  <div aria-hidden="true" className="cards">
    {[1, 2, 3, 4, 5].map((n) => (
      <div key={n} className="card skeleton" />
    ))}
  </div>
);

type ContentProps = { spend: Spend; filters: Filters; change: (filters: Filters) => void };

const Content = ({ spend, filters, change }: ContentProps) => {
  if (isEmpty(spend)) return <Empty spend={spend} filters={filters} change={change} />;
  const metric = metricFor(filters.metric, spend.totals);
  return (
    <>
      {knownCost(spend.totals) == null && (
        <Notice kind="info" title="Cost unknown">
          <p>
            No request in this window has a known cost: the server reports none, and its models have no prices in the
            connection. Tokens and requests are counted.
          </p>
        </Notice>
      )}
      <Totals totals={spend.totals} />
      <Charts spend={spend} metric={metric} change={(next) => change({ ...filters, metric: next })} />
      <Tables spend={spend} filters={filters} change={change} />
      <Incomplete spend={spend} />
    </>
  );
};

const Empty = ({ spend, filters, change }: ContentProps) => (
  <>
    {isFiltered(filters) ? (
      <Notice kind="info" title="No usage matches these filters">
        <p className="actions">
          <button type="button" className="button" onClick={() => change(withoutChoices(filters))}>
            Clear the filters
          </button>
        </p>
      </Notice>
    ) : (
      <Notice kind="info" title="No run in this window has usage">
        <ul>
          <li>Choose a longer window.</li>
          <li>Run a DAG that has a task of this provider, such as @task.responses or ResponsesOperator.</li>
          <li>If such tasks ran: only those of DAGs that you may read are counted, as long as their XComs exist.</li>
        </ul>
      </Notice>
    )}
    <Incomplete spend={spend} />
  </>
);

/** What the figures are of, and what they lack. */
const Incomplete = ({ spend }: { spend: Spend }) => {
  const texts = missingFrom(spend.missing);
  return (
    <section className="about" aria-labelledby="responses-about">
      <h2 id="responses-about">About these figures</h2>
      {texts.length > 0 && (
        <div className="notice warning">
          <p className="notice-title">Some usage is missing</p>
          <ul>
            {texts.map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        </div>
      )}
      <p>
        {windowText(spend)} Only DAGs that you may read are counted. Costs are US dollars, as the server or the price
        list of the connection states them.
      </p>
    </section>
  );
};

const windowText = ({ start, end }: Spend): string => {
  const isDay = (text: string) => text.length === 10;
  return isDay(start) && isDay(end) ? `${day(start)} to ${day(end)}, in UTC.` : `${time(start)} to ${time(end)}.`;
};
