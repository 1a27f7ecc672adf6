"""The calls of one response: together or one after another, with errors, and in time."""

from __future__ import annotations

import asyncio
import datetime
import threading

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    mask_secret,
)

from airflow_provider_responses.exceptions import ToolError
from airflow_provider_responses.operators.tool_loop import THREADS_MAY_USE_AIRFLOW
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.operators.one_request import ask, sent
from tests.operators.tool_loop.shop import FOREVER, calling, outputs, statuses


@pytest.mark.skipif(not THREADS_MAY_USE_AIRFLOW, reason="Airflow 3.0 and 3.1 are not safe for threads")
def test_calls_of_one_response_run_together(perform, responses_sandbox):
    barrier = threading.Barrier(3, timeout=60)
    everybody = asyncio.Event()
    arrived = []

    def wait(number: int) -> int:
        """Wait for the others."""
        barrier.wait()
        return number

    async def gather(name: str) -> str:
        """Wait for the other one."""
        arrived.append(name)
        if len(arrived) == 2:
            everybody.set()
        await everybody.wait()
        return name

    responses_sandbox.script(
        calling(
            ("wait", {"number": 1}),
            ("gather", {"name": "a"}),
            ("wait", {"number": 2}),
            ("gather", {"name": "b"}),
            ("wait", {"number": 3}),
        ),
        {},
    )

    perform(ask(tools=[wait, gather]), context(task_state_store=TaskStateStore()))

    assert outputs(sent(responses_sandbox)[1]) == ["1", "a", "2", "b", "3"]


def test_without_threads_calls_run_one_after_another(perform, responses_sandbox, monkeypatch):
    monkeypatch.setattr("airflow_provider_responses.operators.tool_loop.THREADS_MAY_USE_AIRFLOW", False)
    threads = []

    def find(number: int) -> int:
        """Find."""
        threads.append(threading.current_thread())
        return number

    async def look(number: int) -> int:
        """Look."""
        return number

    responses_sandbox.script(
        calling(("find", {"number": 1}), ("look", {"number": 2}), ("find", {"number": 3}), ("find", {"number": "x"})),
        {},
    )

    perform(ask(tools=[find, look]), context(task_state_store=TaskStateStore()))

    assert set(threads) == {threading.main_thread()}
    assert outputs(sent(responses_sandbox)[1])[:3] == ["1", "2", "3"]


def test_a_single_async_function_is_awaited(responses_sandbox):
    async def find(name: str) -> str:
        """Find."""
        await asyncio.sleep(0)
        return f"found {name}"

    responses_sandbox.script(calling(("find", {"name": "Ada"})), {})

    ask(tools=[find]).execute(context())

    assert outputs(sent(responses_sandbox)[1]) == ["found Ada"]


def test_the_model_gets_errors_unknown_names_and_malformed_arguments_as_results(
    perform, responses_sandbox, shop, logged
):
    shop.failures = [ValueError("no such order: 7")]
    responses_sandbox.script(
        calling(("charge", {"order": 7}), ("chrge", {}), ("charge", '{"order": '), ("charge", {"order": "x", "by": 1})),
        {},
    )
    ti = TaskInstance()

    perform(ask(tools=[shop.charge, shop.find]), context(ti, task_state_store=TaskStateStore()))

    failed, unknown, malformed, wrong = outputs(sent(responses_sandbox)[1])
    assert failed == "Error: ValueError: no such order: 7"
    assert unknown == "Error: there is no tool 'chrge'. The tools are: charge, find"
    assert malformed.startswith("Error: invalid arguments of charge: the arguments: Invalid JSON")
    assert wrong.startswith("Error: invalid arguments of charge: order: Input should be a valid integer")
    assert "by: Extra inputs are not permitted" in wrong
    assert statuses(ti)[0] == ["failed", "unknown_tool", "invalid_arguments", "invalid_arguments"]
    assert shop.charged == [7]
    assert "Tool charge failed with ValueError, which the model gets" in (text := logged())
    assert "no such order" not in text


def test_the_model_gets_no_secret_that_airflow_masks(perform, responses_sandbox, shop):
    mask_secret("hunter2secret")
    shop.failures = [RuntimeError("cannot connect to postgresql://airflow:hunter2secret@db")]
    responses_sandbox.script(calling(("charge", {"order": 7})), {})

    perform(ask(tools=[shop.charge]), context(task_state_store=TaskStateStore()))

    (output,) = outputs(sent(responses_sandbox)[1])
    assert output == "Error: RuntimeError: cannot connect to postgresql://airflow:***@db"


def test_a_fatal_error_ends_the_attempt_and_a_retry_calls_that_tool_again_after_the_recorded_ones(
    perform, responses_sandbox, shop
):
    shop.failures = [LookupError("database is down")]
    responses_sandbox.script(calling(("find", {"name": "Ada"}), ("charge", {"order": 7})))
    store, ti = TaskStateStore(), TaskInstance()
    found = []

    def find(name: str) -> str:
        """Find."""
        found.append(name)
        return name

    tools = {"tools": [find, shop.charge], "fatal_tool_errors": [LookupError]}
    with pytest.raises(
        ToolError, match=r"tool charge failed in step 1: LookupError: database is down\. A retry"
    ) as info:
        perform(ask(**tools), context(ti, task_state_store=store))

    assert (info.value.retryable, info.value.tool, info.value.reason) == (True, "charge", "fatal")
    assert isinstance(info.value.__cause__, LookupError)
    assert ti.xcoms["usage"]["status"] == "failed"
    assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.ledger[0].cost)
    assert statuses(ti) == [["succeeded", None]]

    retry = TaskInstance(try_number=2)
    perform(ask(**tools), context(retry, task_state_store=store))

    assert (found, shop.charged) == (["Ada"], [7, 7])
    assert len(set(shop.keys)) == 1
    assert [entry.outcome for entry in responses_sandbox.ledger] == ["generated", "generated"]
    assert retry.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger))
    assert retry.xcoms["usage"]["cost_this_attempt"] == pytest.approx(responses_sandbox.ledger[1].cost)


@pytest.mark.parametrize("error", [AirflowSkipException("not today"), AirflowFailException("never")])
def test_airflows_own_exceptions_of_a_tool_end_the_task_in_their_way(perform, responses_sandbox, shop, error):
    shop.failures = [error]
    ti = TaskInstance()

    with pytest.raises(type(error), match=str(error)):
        perform(ask(model=FOREVER, tools=[shop.charge]), context(ti, task_state_store=TaskStateStore()))

    assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.ledger[0].cost)


def test_a_truncated_response_runs_no_calls(perform, responses_sandbox, shop):
    responses_sandbox.script({**calling(("charge", {"order": 7})), "incomplete": "max_output_tokens"})

    perform(
        ask(tools=[shop.charge], on_invalid_output="return"), context(TaskInstance(), task_state_store=TaskStateStore())
    )

    assert shop.charged == []
    assert len(responses_sandbox.ledger) == 1


def test_a_tool_that_outlasts_the_execution_timeout_ends_the_attempt(responses_sandbox):
    async def sleep(hours: int) -> None:
        """Sleep."""
        await asyncio.Event().wait()

    task = ask(model=FOREVER, tools=[sleep], execution_timeout=datetime.timedelta(seconds=0.5))

    with pytest.raises(ToolError, match="tool sleep did not end within the task's execution_timeout") as info:
        task.execute(context(task_state_store=TaskStateStore()))

    assert (info.value.reason, info.value.retryable) == ("deadline", True)


def test_results_are_recorded_in_the_main_thread_and_not_in_the_event_loop(responses_sandbox, shop):
    """Airflow's store may be missing in other threads, and refuses a call in a loop while a thread uses its API."""

    class Store(TaskStateStore):
        def set(self, key, value):
            assert threading.current_thread() is threading.main_thread()
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            super().set(key, value)

    store = Store()
    responses_sandbox.script(calling(("charge", {"order": 1}), ("charge", {"order": 2})), {})

    ask(tools=[shop.charge]).execute(context(task_state_store=store))

    assert sorted(shop.charged) == [1, 2]
    assert len([key for key in store if ".tools." in key]) == 3


@pytest.mark.skipif(not THREADS_MAY_USE_AIRFLOW, reason="Airflow 3.0 and 3.1 are not safe for threads")
def test_a_thread_that_outlasts_the_execution_timeout_does_not_hold_the_attempt_up(responses_sandbox):
    release, store = threading.Event(), TaskStateStore()

    def sleep(hours: int) -> int:
        """Sleep."""
        if hours > 1:
            release.wait(100)
        return hours

    responses_sandbox.script(calling(("sleep", {"hours": 1}), ("sleep", {"hours": 2})))
    task = ask(tools=[sleep], execution_timeout=datetime.timedelta(seconds=1))

    with pytest.raises(ToolError, match="tool sleep did not end within the task's execution_timeout"):
        task.execute(context(task_state_store=store))
    release.set()
    assert [value["output"] for key, value in store.items() if key.endswith(".1.0")] == ["1"]
    assert [key for key in store if key.endswith(".1.1")] == []
