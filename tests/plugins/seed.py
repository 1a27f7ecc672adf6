"""
Fills Airflow's database with task instances and their ``usage``, as weeks of runs would have left them.

In a running deployment (its ``AIRFLOW_HOME`` and database set), from the root of this project::

    python -m tests.plugins.seed --count 10000                  # several DAGs, models, days, failures
    python -m tests.plugins.seed --count 500 --mode unpriced    # no cost is known
    python -m tests.plugins.seed --mode without                 # task instances, and no `usage`
    python -m tests.plugins.seed --mode empty                   # DAGs alone
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

Mode = Literal["mixed", "unpriced", "without", "empty"]
MODES: Final = ("mixed", "unpriced", "without", "empty")
BUNDLE: Final = "dags-folder"

# model, provider, US dollars for a million tokens in and out
MODELS: Final = (
    ("openai/gpt-4o-mini-2024-07-18", "OpenAI", 0.15, 0.6),
    ("anthropic/claude-haiku-4.5", "Anthropic", 1.0, 5.0),
    ("google/gemini-2.5-flash", "Google", 0.3, 2.5),
    ("meta-llama/llama-3.3-70b-instruct", "DeepInfra", 0.04, 0.12),
)
# DAG, tasks: id, operator, its name in the UI, number of mapped task instances
DAGS: Final = {
    "nightly_tickets": (
        ("triage", "ResponsesOperator", None, 6),
        ("summarize", "_ResponsesDecoratedOperator", "@task.responses", 1),
    ),
    "product_catalog": (
        ("describe", "ResponsesEnrichOperator", None, 1),
        ("translate", "ResponsesOperator", None, 8),
    ),
    "weekly_report": (("write_report", "ResponsesOperator", None, 1),),
}


def usage_of_request(**changes: Any) -> dict[str, Any]:
    """Return the ``usage`` of one request."""
    return {
        "version": 1,
        "kind": "request",
        "prompt_fingerprint": "5f2b0a9c1d3e4f60",
        "status": "completed",
        "model": "openai/gpt-4o-mini-2024-07-18",
        "provider": "OpenAI",
        "response_id": "resp_1",
        "generation_id": "gen-1",
        "input_tokens": 100,
        "output_tokens": 50,
        "total_tokens": 150,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "cost": 0.00004,
        "cost_this_attempt": 0.00004,
        "cached": False,
        "sends": [{"cause": None, "ambiguous": False, "wait": None}],
        "ambiguous_sends": 0,
        "maybe_truncated": False,
        "inconsistent": False,
        "repaired": False,
        "steps": None,
    } | changes


def usage_of_enrichment(**changes: Any) -> dict[str, Any]:
    """Return the ``usage`` of an enrichment of 20 rows."""
    of_model = {
        "model": "openai/gpt-4o-mini-2024-07-18",
        "requests": 20,
        "failed": 1,
        "cached": 2,
        "cost": 0.002,
        "input_tokens": 2000,
        "output_tokens": 400,
    }
    return (
        usage_of_request(
            kind="enrichment",
            status="completed",
            model=None,
            provider=None,
            response_id=None,
            generation_id=None,
            input_tokens=2000,
            output_tokens=400,
            total_tokens=2400,
            cost=0.002,
            cost_this_attempt=0.002,
            cached=None,
            sends=[],
            requests=20,
            requests_cached=2,
            requests_failed=1,
            failures={"RateLimitError": 1},
            models=[of_model],
            rows=20,
            result_path="s3://bucket/catalog/result-00001.jsonl",
        )
        | changes
    )


def seed(
    count: int,
    *,
    mode: Mode = "mixed",
    days: int = 30,
    now: datetime.datetime | None = None,
    dags: Mapping[str, Sequence[tuple[str, str, str | None, int]]] = DAGS,
) -> int:
    """
    Add task instances with ``usage``, and return their number.

    :param count: number of task instances.
    :param mode: ``mixed``, ``unpriced`` (no cost is known), ``without`` (no XComs) or ``empty`` (no runs).
    :param days: over which they are spread, until now.
    """
    drawn = random.Random(15)  # noqa: S311  the same data each time
    now = now or datetime.datetime.now(datetime.UTC)
    rows: list[dict[str, Any]] = []
    if mode != "empty":
        for run, (dag_id, started) in enumerate(_runs(list(dags), days, now, drawn)):
            for task_id, operator, shown, mapped in dags[dag_id]:
                for map_index in range(mapped) if mapped > 1 else (-1,):
                    priced = mode != "unpriced" and task_id != "write_report"
                    rows.append(
                        {
                            "dag_id": dag_id,
                            "task_id": task_id,
                            "run_id": f"scheduled__{started.isoformat()}_{run}",
                            "map_index": map_index,
                            "operator": operator,
                            "custom_operator_name": shown,
                            "started": started,
                            "ended": started + datetime.timedelta(seconds=drawn.uniform(2, 90)),
                            "usage": _usage(operator, drawn, priced=priced) if mode != "without" else None,
                        }
                    )
            if len(rows) >= count:
                break
    add_task_instances(rows[:count], dag_ids=list(dags))
    return len(rows[:count])


def add_task_instances(rows: Sequence[Mapping[str, Any]], *, dag_ids: Sequence[str] = ()) -> None:
    """
    Add rows of Airflow's tables for DAGs, their runs, task instances and XComs.

    :param rows: of task instances: ``dag_id``, ``task_id``, ``run_id``, ``map_index``, ``operator``, ``started``,
        ``ended`` and, unless None, ``usage``; optional: ``state``, ``try_number``, ``custom_operator_name``,
        ``return_value``, ``key`` (of the XCom, in place of ``usage``), ``links`` (addresses by XCom key), ``archived``,
        ``progress``, ``max_tries``, ``region_id`` (Airflow 3.4) and ``created``, unless ``started``.
    """
    from airflow.utils.session import create_session

    with create_session() as session:
        _add_dags({*dag_ids, *(row["dag_id"] for row in rows)}, session)
        run_ids = _add_runs(rows, session)
        _add_instances(rows, run_ids, session)


def _runs(
    dag_ids: list[str], days: int, now: datetime.datetime, drawn: random.Random
) -> Iterator[tuple[str, datetime.datetime]]:
    while True:
        for dag_id in dag_ids:
            yield dag_id, now - datetime.timedelta(seconds=drawn.uniform(100, (days - 1) * 86_400))


def _usage(operator: str, drawn: random.Random, *, priced: bool) -> dict[str, Any]:
    model, provider, price_in, price_out = drawn.choice(MODELS)
    tokens_in, tokens_out = drawn.randint(50, 4000), drawn.randint(5, 900)
    cost = round((tokens_in * price_in + tokens_out * price_out) / 1e6, 9) if priced else None
    if operator == "ResponsesEnrichOperator":
        return _enrichment(drawn, priced=priced)
    fate = drawn.random()
    failed_send = {"cause": {"error": "RateLimitError", "status": 429}, "ambiguous": False, "wait": 1.5}
    last = {"cause": None, "ambiguous": False, "wait": None}
    common = {
        "model": model,
        "provider": provider,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "cost": cost,
        "cost_this_attempt": cost,
        "generation_id": f"gen-{drawn.randrange(10**9)}",
        "prompt_fingerprint": f"{drawn.randrange(16**16):016x}",
        "sends": [failed_send, last] if drawn.random() < 0.1 else [last],
    }
    if fate < 0.04:
        nothing = dict.fromkeys(common, None) | {"sends": [failed_send], "cost": 0.0, "cost_this_attempt": 0.0}
        return usage_of_request(**nothing, status="failed", cached=None)
    if fate < 0.06:
        return usage_of_request(**common, status="invalid_output")
    if fate < 0.15:
        return usage_of_request(**{**common, "cached": True, "cost_this_attempt": 0.0})
    return usage_of_request(**common)


def _enrichment(drawn: random.Random, *, priced: bool) -> dict[str, Any]:
    models = []
    for model, _, price_in, price_out in drawn.sample(MODELS, drawn.choice((1, 1, 2))):
        requests = drawn.randint(20, 400)
        tokens_in, tokens_out = requests * drawn.randint(80, 300), requests * drawn.randint(5, 60)
        models.append(
            {
                "model": model,
                "requests": requests,
                "failed": drawn.choice((0, 0, 0, 1, 5)),
                "cached": drawn.choice((0, 0, requests // 3)),
                "cost": round((tokens_in * price_in + tokens_out * price_out) / 1e6, 9) if priced else None,
                "input_tokens": tokens_in,
                "output_tokens": tokens_out,
            }
        )
    tokens = {name: sum(it[name] for it in models) for name in ("input_tokens", "output_tokens")}
    cost = sum(it["cost"] for it in models) if priced else None
    requests = sum(it["requests"] for it in models)
    failed = sum(it["failed"] for it in models)
    return usage_of_enrichment(
        **tokens,
        total_tokens=sum(tokens.values()),
        cost=cost,
        cost_this_attempt=cost,
        models=models,
        requests=requests,
        requests_failed=failed,
        requests_cached=sum(it["cached"] for it in models),
        failures={"RateLimitError": failed} if failed else {},
        rows=requests,
    )


def _add_dags(dag_ids: set[str], session: Any) -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from sqlalchemy import select

    if session.scalar(select(DagBundleModel.name).where(DagBundleModel.name == BUNDLE)) is None:
        session.add(DagBundleModel(name=BUNDLE))
        session.flush()
    known = set(session.scalars(select(DagModel.dag_id).where(DagModel.dag_id.in_(dag_ids))))
    table = DagModel.__table__
    for dag_id in sorted(dag_ids - known):
        values = {
            "dag_id": dag_id,
            "bundle_name": BUNDLE,
            "fileloc": f"/dags/{dag_id}.py",
            "is_paused": True,
            "is_stale": False,
            "max_active_tasks": 16,
            "max_active_runs": 16,
            "max_consecutive_failed_dag_runs": 0,
            "has_task_concurrency_limits": False,
        }
        session.execute(table.insert().values(**values))


def _add_runs(rows: Sequence[Mapping[str, Any]], session: Any) -> dict[tuple[str, str], int]:
    """Add the DAG runs, and return their ids."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    table: Any = DagRun.__table__
    begun = {(row["dag_id"], row["run_id"]): row["started"] for row in reversed(rows)}
    known = {(dag_id, run_id) for dag_id, run_id in session.execute(select(table.c.dag_id, table.c.run_id))}
    new = [
        {
            "dag_id": dag_id,
            "run_id": run_id,
            "run_type": "scheduled" if run_id.startswith("scheduled__") else "manual",
            "_state": "success",
            "state": "success",
            "run_after": started,
            "logical_date": started if run_id.startswith("scheduled__") else None,
            "start_date": started,
            "end_date": started + datetime.timedelta(minutes=5),
        }
        for (dag_id, run_id), started in begun.items()
        if (dag_id, run_id) not in known
    ]
    columns = {column.name for column in table.columns}
    if new:
        session.execute(table.insert(), [{name: it[name] for name in it if name in columns} for it in new])
    found = session.execute(select(table.c.dag_id, table.c.run_id, table.c.id))
    return {(dag_id, run_id): number for dag_id, run_id, number in found}


def _add_instances(rows: Sequence[Mapping[str, Any]], run_ids: dict[tuple[str, str], int], session: Any) -> None:
    from airflow.models import xcom
    from airflow.models.taskinstance import TaskInstance

    table: Any = TaskInstance.__table__
    instances, xcoms, progress = [], [], []
    is_3_4 = hasattr(xcom, "XComModelV2")
    for row in rows:
        ti_id = uuid7(row.get("created") or row["started"])
        instances.append(_instance(row, ti_id, is_3_4=is_3_4))
        values = {row.get("key", "usage"): row["usage"], "return_value": row.get("return_value")}
        values |= row.get("links", {})
        for key, value in values.items():
            if value is None:
                continue
            of_run = {
                "dag_run_id": run_ids[row["dag_id"], row["run_id"]],
                **{name: row[name] for name in ("dag_id", "task_id", "run_id", "map_index")},
            }
            of_attempt = {"id": uuid7(row["ended"]), "task_instance_id": ti_id}
            xcoms.append({"key": key, "value": value, "timestamp": row["ended"], **(of_attempt if is_3_4 else of_run)})
        if row.get("progress") is not None:
            progress.append(_state(row, run_ids, is_3_4=is_3_4))
    of_xcoms: Any = (xcom.XComModelV2 if is_3_4 else xcom.XComModel).__table__
    for target, values in ((table, instances), (of_xcoms, xcoms)):
        if values:
            session.execute(target.insert(), values)
    if progress:
        from airflow.models.task_state_store import TaskStateStoreModel

        session.execute(TaskStateStoreModel.__table__.insert(), progress)


def _instance(row: Mapping[str, Any], ti_id: uuid.UUID, *, is_3_4: bool) -> dict[str, Any]:
    from airflow.models.taskinstance import TaskInstance

    is_text = TaskInstance.__table__.c.id.type.python_type is str
    values = {
        "id": str(ti_id) if is_text else ti_id,
        "dag_id": row["dag_id"],
        "task_id": row["task_id"],
        "run_id": row["run_id"],
        "operator": row["operator"],
        "custom_operator_name": row.get("custom_operator_name"),
        "state": row.get("state", "success"),
        "try_number": row.get("try_number", 1),
        "start_date": row["started"],
        "end_date": row["ended"],
        "duration": (row["ended"] - row["started"]).total_seconds() if row["started"] and row["ended"] else None,
        "pool": "default_pool",
        "pool_slots": 1,
        "max_tries": row.get("max_tries", 1),
        "region_index" if is_3_4 else "map_index": row["map_index"],
    }
    return values | ({"working_set": None if row.get("archived") else True, **_region(row)} if is_3_4 else {})


def _region(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"region_id": row["region_id"]} if "region_id" in row else {}


def _state(row: Mapping[str, Any], run_ids: dict[tuple[str, str], int], *, is_3_4: bool) -> dict[str, Any]:
    from airflow_provider_responses.operators.progress_report import STATE_KEY

    return {
        "dag_run_id": run_ids[row["dag_id"], row["run_id"]],
        **{name: row[name] for name in ("dag_id", "task_id", "run_id")},
        "region_index" if is_3_4 else "map_index": row["map_index"],
        **(_region(row) if is_3_4 else {}),
        "key": STATE_KEY,
        "value": json.dumps(row["progress"]),
    }


def uuid7(at: datetime.datetime) -> uuid.UUID:
    """Return an id of version 7, as Airflow would have made it at a time."""
    milliseconds = int(at.timestamp() * 1000)
    rest = uuid.uuid4().int & ((1 << 74) - 1)
    high, low = rest >> 62, rest & ((1 << 62) - 1)
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="number of task instances")
    parser.add_argument("--mode", choices=MODES, default="mixed")
    parser.add_argument("--days", type=int, default=30)
    given = parser.parse_args()
    print(f"added {seed(given.count, mode=given.mode, days=given.days)} task instances")
