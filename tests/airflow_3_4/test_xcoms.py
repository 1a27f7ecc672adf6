"""XComs that a trigger sets: Airflow finds whose they are in the context of the call, not in its arguments."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.sdk.bases import xcom
from airflow.sdk.execution_time.xcom import XCom

from tests.execution_modes import revive, start_trigger
from tests.triggers.tasks import ask, deferred


def task_instance(index):
    """Return an iteration of a loop, as the triggerer has it."""
    return TaskInstanceDTO(
        id=uuid.uuid4(),
        task_id="ask",
        dag_id="nightly",
        run_id="r",
        try_number=1,
        map_index=-1,
        region_id=uuid.UUID(int=7),
        region_index=index,
        dag_version_id=uuid.uuid4(),
        pool_slots=1,
        priority_weight=1,
    )


@pytest.mark.parametrize("start", [True, False])
def test_they_are_those_of_the_triggers_own_task_instance(start, responses_sandbox, monkeypatch):
    found = []

    def keep(key, value, *, dag_id, task_id, run_id, map_index):
        coordinate = xcom._find_own_coordinate(dag_id, run_id, task_id, map_index)
        found.append((coordinate.ti_id, coordinate.region_index, key))

    monkeypatch.setattr(XCom, "set", keep)
    instances = [task_instance(index) for index in range(3)]
    triggers = []
    for instance in instances:
        trigger = revive(start_trigger(ask(retries=2)) if start else deferred(ask()), instance)
        if not start:
            trigger.kwargs["ends_task"] = True
        triggers.append(trigger)

    async def run(trigger):
        xcom._current_trigger_ti.set(trigger.task_instance)  # as the triggerer does, in each trigger's asyncio task
        return await anext(trigger.run())

    async def run_all():
        return await asyncio.gather(*(asyncio.create_task(run(trigger)) for trigger in triggers))

    assert {type(event).__name__ for event in asyncio.run(run_all())} == {"TaskSuccessEvent"}
    owners = {(ti_id, index) for ti_id, index, key in found if key == "return_value"}
    assert owners == {(instance.id, instance.region_index) for instance in instances}
    assert len(found) == 3 * len({key for _, _, key in found})
    if start:
        assert len(responses_sandbox.billed) == 3
