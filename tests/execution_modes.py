"""Every execution mode, for tests whose body is the same in all of them: without a database and without processes."""

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
from airflow_provider_responses.task.payloads import StartArguments
from airflow_provider_responses.triggers.responses import ResponsesStartTrigger
from tests.usage import check_xcom

# deferred: a worker ends the task, with the trigger's event. triggerer: the trigger ends it. started_in_triggerer: it
# ends there as well, and no worker prepares it.
MODES = ("worker", "deferred", *(("triggerer", "started_in_triggerer") if AIRFLOW_V_3_3_PLUS else ()))


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
    """Return arguments or an event as Airflow's tables return them: PostgreSQL reorders the keys of objects."""
    return json.loads(json.dumps(value, sort_keys=True))


def revive(trigger: Any, ti: Any) -> Any:
    """Make a trigger again from its stored arguments, as the triggerer does."""
    path, kwargs = trigger.serialize()
    module, _, name = path.rpartition(".")
    revived = getattr(importlib.import_module(module), name)(**through_the_database(kwargs))
    revived.trigger_id = 1
    revived.task_instance = ti
    if isinstance(revived, ResponsesStartTrigger):
        revived._is_rendered = True
    return revived


def start_trigger(task: Any) -> Any:
    """Return the trigger of a task that starts in the triggerer."""
    return ResponsesStartTrigger(**StartArguments.of(task).to_kwargs())


def first_event(trigger: Any) -> Any:
    return asyncio.run(anext(trigger.run()))


def performer(mode: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, Any], Any]:
    """Return a function that runs a task with a context, as ``task.execute(context)`` does, in an execution mode."""

    def perform(task: Any, context: Any) -> Any:
        if mode == "worker":
            return task.execute(context)
        ti, xcoms = context["ti"], XComs()
        task.deferrable = True
        try:
            trigger = revive(start_trigger(task), ti) if mode == "started_in_triggerer" else None
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
            trigger.kwargs["ends_task"] &= mode != "deferred"
            trigger.kwargs["waits_for_retry_after"] = False  # as long as a server asks for; this has its own test

    perform.mode = mode  # type: ignore[attr-defined]
    return perform
