"""The estimate of a task outside of a DAG run: load its DAG, render its templates, and count; nothing is sent."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import json
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import conf as configuration

from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError, ResponsesError
from airflow_provider_responses.operators import before_paying
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.arguments import comes_from_upstream
from airflow_provider_responses.validation import closest, show_exception, wrong_value

RUN_ID = "estimate"


def estimate_task(
    dag_id: str, task_id: str, *, conf: str | None = None, path: str | None = None, logical_date: str | None = None
) -> dict[str, Any]:
    """
    Return the estimate of a task, as ``estimate_only`` does.

    :param conf: of the DAG run, as a JSON object.
    :param path: of the DAG's file; by default the DAGs folder is searched.
    :param logical_date: of the DAG run, in ISO 8601; by default now.
    :raises ResponsesError: if there is no such task, or its requests depend on other tasks.
    """
    given, date = _read_conf(conf), _read_date(logical_date)
    task = _find_task(_load_dag(dag_id, path), task_id)
    names = ("op_args", "op_kwargs", *task.template_fields)
    for name in dict.fromkeys(names):
        if comes_from_upstream(getattr(task, name, None)):
            raise ConfigurationError(
                f"`{name}` comes from another task, which has not run. Task: {task_id}. Set estimate_only=True on an "
                "enrichment instead, and run its DAG"
            )
    context = _context(task, given, date)
    try:
        task.render_template_fields(context)
    except ResponsesError:
        raise
    except Exception as error:  # a template may raise anything
        raise ConfigurationError(
            f"the task's templates cannot be rendered: {show_exception(error)}. Task: {task_id}. Without a DAG run, "
            "templates have params, dag_run.conf, dates, variables and connections"
        ) from error
    if isinstance(task, ResponsesEnrichOperator):
        task.estimate_only, task.preview = True, None
        return task._run_steps(context, None)
    return before_paying.estimate_request(task, context)


def _load_dag(dag_id: str, path: str | None) -> Any:
    is_new = importlib.util.find_spec("airflow.dag_processing.dagbag") is not None  # from Airflow 3.2 on
    module = importlib.import_module("airflow.dag_processing.dagbag" if is_new else "airflow.models.dagbag")
    folder = path or configuration.get("core", "dags_folder")
    bag = module.DagBag(folder)
    if dag_id in bag.dags:
        return bag.dags[dag_id]
    broken = "; ".join(f"{file}: {error.strip().splitlines()[-1]}" for file, error in bag.import_errors.items())
    known = closest(dag_id, bag.dags)
    hint = f"; did you mean {known!r}?" if known else ""
    failed = f". Files that cannot be imported: {broken}" if broken else ""
    raise ConfigurationError(
        f"there is no DAG {dag_id!r} in {folder}{hint}{failed}. Pass the path of its file with --file"
    )


def _find_task(dag: Any, task_id: str) -> Any:
    if task_id not in dag.task_ids:
        known = closest(task_id, dag.task_ids)
        hint = f"; did you mean {known!r}?" if known else f"; its tasks are {', '.join(sorted(dag.task_ids))}"
        raise ConfigurationError(f"the DAG {dag.dag_id!r} has no task {task_id!r}{hint}")
    task = dag.get_task(task_id)
    if hasattr(task, "partial_kwargs"):
        raise ConfigurationError(f"the task {task_id!r} is mapped: its arguments are known only in a DAG run")
    if not isinstance(task, (ResponsesOperator, ResponsesEnrichOperator)):
        raise ConfigurationError(
            f"the task {task_id!r} is a {type(task).__name__}, which sends no requests of this kind"
        )
    return task


def _read_conf(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RequestValidationError(f"--conf must be a JSON object: {error}", fields=("conf",)) from error
    if not isinstance(found, dict):
        raise wrong_value("--conf", "a JSON object", found)
    return found


def _read_date(text: str | None) -> datetime.datetime:
    if text is None:
        return datetime.datetime.now(datetime.UTC)
    try:
        date = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise wrong_value("--logical-date", "a date in ISO 8601, such as 2026-11-28", text) from None
    return date if date.tzinfo else date.replace(tzinfo=datetime.UTC)


def _context(task: Any, conf: dict[str, Any], date: datetime.datetime) -> Any:
    """Return what templates may read without a DAG run."""
    dag = task.get_dag()
    ti = SimpleNamespace(
        dag_id=dag.dag_id, task_id=task.task_id, run_id=RUN_ID, map_index=-1, max_tries=0, try_number=1, task=task
    )
    day, moment = date.strftime("%Y-%m-%d"), date.isoformat()
    run = SimpleNamespace(
        conf=conf, run_id=RUN_ID, dag_id=dag.dag_id, logical_date=date, data_interval_start=date, data_interval_end=date
    )
    return {
        "dag": dag,
        "task": task,
        "ti": ti,
        "task_instance": ti,
        "dag_run": run,
        "run_id": RUN_ID,
        "conf": configuration,
        "params": {**_params(task), **conf},
        "logical_date": date,
        "data_interval_start": date,
        "data_interval_end": date,
        "ds": day,
        "ds_nodash": day.replace("-", ""),
        "ts": moment,
        "ts_nodash": date.strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": moment.replace("-", "").replace(":", ""),
        **_accessors(),
    }


def _params(task: Any) -> dict[str, Any]:
    return {
        name: param.value if hasattr(param, "schema") else param for name, param in dict(task.params.items()).items()
    }


def _accessors() -> dict[str, Any]:
    """Return Airflow's accessors of variables and connections, and its macros."""
    is_sdk = importlib.util.find_spec("airflow.sdk") is not None  # Airflow 2.11 has none
    context = importlib.import_module("airflow.sdk.execution_time.context" if is_sdk else "airflow.utils.context")
    return {
        "macros": importlib.import_module("airflow.sdk.execution_time.macros" if is_sdk else "airflow.macros"),
        "var": {
            "value": context.VariableAccessor(deserialize_json=False),
            "json": context.VariableAccessor(deserialize_json=True),
        },
        "conn": context.ConnectionAccessor(),
    }
