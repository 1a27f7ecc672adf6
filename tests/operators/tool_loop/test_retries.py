"""A retry, a cleared task and the next worker of a deferred task: which steps and calls are repeated."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    TaskDeferred,
)

from airflow_provider_responses.tools import Tool
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import first_event, revive, through_the_database
from tests.operators.one_request import ask
from tests.operators.tool_loop.shop import calling, outputs, outputs_of, statuses


def test_a_retry_continues_after_the_recorded_steps_at_no_cost(perform, responses_sandbox, shop):
    store = TaskStateStore()
    responses_sandbox.script(
        calling(("charge", {"order": 1})), calling(("charge", {"order": 2})), *[{"status": 503, "retry_after": 0}] * 9
    )
    with pytest.raises(Exception, match="503"):
        perform(ask(tools=[shop.charge]), context(TaskInstance(), task_state_store=store))
    spent = sum(entry.cost for entry in responses_sandbox.billed)
    responses_sandbox.reset()
    retry = TaskInstance(try_number=2)

    perform(ask(tools=[shop.charge]), context(retry, task_state_store=store))

    assert shop.charged == [1, 2]
    (last,) = responses_sandbox.ledger
    assert outputs(last.body) == ['{"charged":1}', '{"charged":2}']
    usage = retry.xcoms["usage"]
    assert usage["cost"] == pytest.approx(spent + last.cost)
    assert usage["cost_this_attempt"] == pytest.approx(last.cost)
    assert statuses(retry) == [["succeeded"], ["succeeded"], []]
    assert [step["calls"][0]["seconds"] for step in usage["steps"][:2]] == [None, None]


def test_a_cleared_task_begins_again(perform, responses_sandbox, shop):
    store = TaskStateStore()
    for max_tries in (2, 3):
        ti = TaskInstance(try_number=max_tries - 1, max_tries=max_tries)
        perform(ask(model="sandbox/calls-1", tools=[shop.charge]), context(ti, task_state_store=store))

    assert len(shop.charged) == 2
    assert len(set(shop.keys)) == 2
    assert [entry.outcome for entry in responses_sandbox.ledger] == ["generated"] * 4


def interrupted(store: TaskStateStore) -> None:
    """Remove the results of calls from the store, as if the worker had been killed while they ran."""
    for key in [key for key in store if key.rpartition(".")[0].count(".") > 2]:
        del store[key]


@pytest.mark.parametrize(
    ("argument", "of_tool", "repeats"),
    [("fail", None, False), ("repeat", None, True), ("fail", "repeat", True), ("repeat", "fail", False)],
)
def test_an_interrupted_call_fails_the_task_or_is_repeated(responses_sandbox, shop, argument, of_tool, repeats):
    store = TaskStateStore()
    tools = [Tool(shop.charge, on_interrupted=of_tool)]
    ask(model="sandbox/calls-1", tools=tools).execute(context(task_state_store=store))
    interrupted(store)
    task, retry = ask(model="sandbox/calls-1", tools=tools, on_interrupted_tool=argument), TaskInstance(try_number=2)

    if repeats:
        assert task.execute(context(retry, task_state_store=store))
        assert len(shop.charged) == 2
        assert len(set(shop.keys)) == 1
    else:
        with pytest.raises(AirflowFailException, match="tool charge was interrupted in step 1: an earlier attempt"):
            task.execute(context(retry, task_state_store=store))
        assert len(shop.charged) == 1


def test_without_a_store_a_retry_calls_the_tools_again_and_the_log_states_it(responses_sandbox, shop, logged):
    for attempt in (1, 2):
        assert "Tools are called again" not in logged()
        ask(model="sandbox/calls-1", tools=[shop.charge]).execute(context(TaskInstance(try_number=attempt)))

    assert len(shop.charged) == 2
    assert len(set(shop.keys)) == 1
    assert [entry.outcome for entry in responses_sandbox.ledger][2] == "cached"
    assert "Tools are called again: Airflow before 3.3 does not store results" in logged()


def test_of_parallel_calls_only_those_without_a_record_are_repeated(perform, responses_sandbox, shop):
    store = TaskStateStore()
    script = [calling(*(("charge", {"order": order}) for order in (1, 2, 3))), {"text": "Done."}]
    responses_sandbox.script(*script)
    perform(ask(tools=[shop.charge]), context(task_state_store=store))
    (second,) = [key for key in store if key.endswith(".1.1")]
    del store[second]

    retry = TaskInstance(try_number=2)
    perform(ask(tools=[shop.charge], on_interrupted_tool="repeat"), context(retry, task_state_store=store))

    assert sorted(shop.charged) == [1, 2, 2, 3]
    assert len(set(shop.keys)) == 3
    first, again = [entry.body for entry in responses_sandbox.ledger if outputs_of(entry.body)]
    assert first == again
    assert responses_sandbox.ledger[-1].outcome == "cached"
    assert statuses(retry)[0] == ["succeeded"] * 3


def test_a_deferred_task_passes_its_steps_on_to_the_next_worker(responses_sandbox, shop):
    ti, events = TaskInstance(), []
    task = ask(model="sandbox/calls-2", tools=[shop.charge], deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(ti))
    value = None
    while value is None:
        passed = through_the_database(deferred.value.kwargs)
        events.append(first_event(revive(deferred.value.trigger, ti)).payload)
        # Another process, which has nothing but the event and the arguments. It has no store either.
        task = ask(model="sandbox/calls-2", tools=[shop.charge], deferrable=True)
        try:
            value = task.execute_complete(context(ti), through_the_database(events[-1]), **passed)
        except TaskDeferred as again:
            deferred.value.trigger, deferred.value.kwargs = again.trigger, again.kwargs

    assert len(events) == 3
    assert len(shop.charged) == 2
    usage = ti.xcoms["usage"]
    assert usage["cost"] == usage["cost_this_attempt"] == pytest.approx(sum(it.cost for it in responses_sandbox.ledger))
    assert len(usage["steps"]) == 3
    assert deferred.value.kwargs["tool_loop"]["began_at"] == passed["tool_loop"]["began_at"]
    assert usage["prompt_fingerprint"] == passed["tool_loop"]["prompt_fingerprint"]
