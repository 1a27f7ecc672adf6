"""Deferred tasks, and the outcomes of their triggers."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task import payloads
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import revive, through_the_database


def ask(**kwargs):
    return ResponsesOperator(
        task_id="ask",
        **({"model": "vendor/m", "input": "purple elephants", "deferrable": True} | kwargs),
    )


def deferred(task, ti=None):
    """Return the trigger of a task, made again from its stored arguments; it leaves the end of the task to a worker."""
    ti = ti or TaskInstance()
    with pytest.raises(TaskDeferred) as caught:
        task.execute(context(ti))
    trigger = revive(caught.value.trigger, ti)
    trigger.kwargs["ends_task"] = False
    return trigger


def outcome_of(event):
    outcome, _ = payloads.read_event(through_the_database(event.payload))
    return outcome
