import { useEffect, useState } from "react";

import { airflow, api, taskInstancePage, type TaskInstanceKey } from "../address";
import type { Task } from "../api";
import { Failure } from "../parts/Failure";
import { Notice } from "../parts/Notice";
import { Page } from "../parts/Page";
import { delayOf, isUnfinished } from "../polling";
import { useLoad } from "../use-load";
import { EnrichmentView } from "./EnrichmentView";
import { isRunning } from "./progress";
import { ProgressView } from "./ProgressView";
import { RequestView } from "./RequestView";

const queryOf = ({ dagId, runId, taskId, mapIndex }: TaskInstanceKey): URLSearchParams => {
  const query = new URLSearchParams({ dag_id: dagId, run_id: runId, task_id: taskId, map_index: String(mapIndex) });
  // One iteration of a task loop (Airflow 3.4), as its page names it.
  const page = new URLSearchParams(location.search);
  for (const key of ["region_index", "region_id"]) {
    const value = page.get(key);
    if (value !== null) query.set(key, value);
  }
  return query;
};

const useVisible = (): boolean => {
  const [visible, setVisible] = useState(!document.hidden);
  useEffect(() => {
    const update = () => setVisible(!document.hidden);
    document.addEventListener("visibilitychange", update);
    return () => document.removeEventListener("visibilitychange", update);
  }, []);
  return visible;
};

export const TaskTab = ({ standalone, ...key }: TaskInstanceKey & { standalone: boolean }) => {
  const { data, error, loading, failures, reload } = useLoad<Task>(api("task", queryOf(key)));
  const visible = useVisible();
  const state = data?.state;
  useEffect(() => {
    if (loading) return undefined;
    const delay = delayOf({ visible, state, error, failures });
    if (delay === null) return undefined;
    const timer = setTimeout(reload, delay);
    return () => clearTimeout(timer);
  }, [loading, visible, state, error, failures, reload]);
  return (
    <Page standalone={standalone} busy={loading}>
      <header className="head">
        <h1>{standalone ? `Responses of ${key.taskId}` : "Responses"}</h1>
        <span className="grow note" role="status">
          {data === null && loading ? "Loading …" : ""}
        </span>
        {data?.state && <span className="badge">{data.state}</span>}
        {data?.try_number != null && <span className="note">attempt {data.try_number}</span>}
        <button type="button" className="button" onClick={reload}>
          Refresh
        </button>
      </header>
      {standalone && (
        <p className="note">
          <a href={taskInstancePage(key)}>
            {[key.dagId, key.runId, key.taskId, ...(key.mapIndex >= 0 ? [key.mapIndex] : [])].join(" / ")}
          </a>{" "}
          in <a href={airflow()}>Airflow</a>
        </p>
      )}
      {Boolean(error) && <Failure error={error} subject="task" stale={data !== null} retry={reload} />}
      {data && <Content task={data} />}
    </Page>
  );
};

const Content = ({ task }: { task: Task }) => (
  <>
    {task.progress && <ProgressView progress={task.progress} running={isRunning(task)} />}
    {task.usage === null && <NoUsage task={task} />}
    {task.usage !== null && task.kind !== "enrichment" && <RequestView task={task} usage={task.usage} />}
    {(task.kind === "enrichment" || task.manifest || task.result_path || (task.batches ?? []).length > 0) && (
      <EnrichmentView task={task} />
    )}
  </>
);

const NoUsage = ({ task }: { task: Task }) => {
  if (task.missing === "not_ours") {
    return (
      <Notice kind="warning" title="The XCom usage of this task has another form">
        <p>It was not pushed by an operator of this provider, or by a later version of it.</p>
      </Notice>
    );
  }
  if (task.missing === "unreadable") {
    return (
      <Notice kind="warning" title="The XCom usage of this task could not be read">
        <p>{task.missing_detail ?? "The XCom backend failed. The log of the api-server has the cause."}</p>
      </Notice>
    );
  }
  if (isUnfinished(task.state)) {
    return (
      <Notice kind="info" title="No usage yet">
        <p>It is pushed when an attempt ends. This page follows.</p>
      </Notice>
    );
  }
  return (
    <Notice kind="info" title="This task instance has no usage">
      <p>
        {task.state === null
          ? "It has not run yet."
          : "Its XComs were cleared or purged, do_xcom_push is off, or the attempt ended before it could push them."}
      </p>
    </Notice>
  );
};
