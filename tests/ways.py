"""The ways of running a task, for tests whose body is the same for all of them: no database, no processes."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators import ways
from airflow_provider_responses.triggers.responses import ResponsesStartTrigger
from tests.usage import check_xcom

# resumed: a worker reads the trigger's event. ended: the trigger ends the task. started: it never takes a worker.
WAYS = ("worker", "resumed", *(("ended", "started") if AIRFLOW_V_3_3_PLUS else ()))


class XComs:
    """Stands in for Airflow's XCom in the triggerer."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def set(self, key: str, value: Any, *, dag_id: str, task_id: str, run_id: str, map_index: int) -> None:
        check_xcom(key, value)
        self.values[key] = value

    def delete(self, key: str, *, dag_id: str, task_id: str, run_id: str, map_index: int) -> None:
        self.values.pop(key, None)


def through_the_database(value: Any) -> Any:
    """Turn arguments and events into what comes out of Airflow's tables: PostgreSQL reorders the keys of objects."""
    return json.loads(json.dumps(value, sort_keys=True))


def revive(trigger: Any, ti: Any) -> Any:
    """Make a trigger again from what it stores, as the triggerer does."""
    path, arguments = trigger.serialize()
    module, _, name = path.rpartition(".")
    revived = getattr(importlib.import_module(module), name)(**through_the_database(arguments))
    revived.trigger_id = 1
    revived.task_instance = ti
    if isinstance(revived, ResponsesStartTrigger):
        revived._is_rendered = True
    return revived


def started(task: Any) -> Any:
    """Give the trigger that a task starts with in the triggerer."""
    return ResponsesStartTrigger(**ways.start_fields(task))


def first_event(trigger: Any) -> Any:
    return asyncio.run(anext(trigger.run()))


def performer(way: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], Any]:
    """Give what runs a task with a context, as ``task.execute(context)`` does, in one of the ways."""

    def perform(task: Any, context: Any) -> Any:
        if way == "worker":
            return task.execute(context)
        ti, xcoms = context["ti"], XComs()
        task.deferrable = True
        try:
            trigger = revive(started(task), ti) if way == "started" else None
        except RequestValidationError:  # then the task falls back to a worker
            trigger = None
        if AIRFLOW_V_3_3_PLUS:
            monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.set", xcoms.set)
            monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.delete", xcoms.delete)
        event = None
        while True:
            if trigger is not None:
                event = first_event(trigger)
                if type(event).__name__ == "TaskSuccessEvent":
                    ti.xcoms |= {key: value for key, value in xcoms.values.items() if key != "return_value"}
                    return xcoms.values.get("return_value")
            try:
                if event is None:
                    return task.execute(context)
                return task.execute_complete(context, through_the_database(event.payload))
            except TaskDeferred as deferred:
                trigger = revive(deferred.trigger, ti)
            trigger.ends_task = way != "resumed" and trigger.ends_task
            trigger.waits = False  # for as long as a server asks; that has a test of its own

    perform.way = way  # type: ignore[attr-defined]
    return perform
