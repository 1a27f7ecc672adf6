"""A model that calls Python functions: in every execution mode, with retries, limits and bad input."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import threading

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
    mask_secret,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.exceptions import BudgetExceededError, RequestValidationError, ToolError
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.operators.tool_loop import THREADS_MAY_USE_AIRFLOW
from airflow_provider_responses.task.conversation import ENCRYPTED_REASONING
from airflow_provider_responses.tools import IdempotencyKey, Tool
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import first_event, performer, revive, through_the_database
from tests.operators.one_request import Label, ask, sent

FOREVER = "sandbox/calls-1000"


class Shop:
    """Functions with effects, which are counted."""

    def __init__(self) -> None:
        self.charged: list[int] = []
        self.keys: list[str] = []
        self.failures: list[Exception] = []

    def charge(self, order: int, *, key: IdempotencyKey) -> dict[str, int]:
        """Charge an order."""
        self.charged.append(order)
        self.keys.append(key)
        if self.failures:
            raise self.failures.pop(0)
        return {"charged": order}

    def find(self, name: str) -> str:
        """Find a customer."""
        return f"customer {name}"


@pytest.fixture(params=["worker", "deferred"])
def perform(request, monkeypatch):
    """Run a task with a context, in each execution mode of a task with tools."""
    return performer(request.param, monkeypatch)


@pytest.fixture
def logged(caplog, capfd):
    """Return the log so far."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capfd.readouterr())  # Airflow 3 logs past the root logger


@pytest.fixture
def shop() -> Shop:
    return Shop()


def calling(*calls: tuple[str, object]) -> dict[str, object]:
    return {"calls": [{"name": name, "arguments": arguments} for name, arguments in calls]}


def outputs(body: dict) -> list[str]:
    return [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]


def outputs_of(body: dict) -> list[str]:
    return outputs(body) if isinstance(body["input"], list) else []


def statuses(ti: TaskInstance) -> list[list[str]]:
    return [[call["status"] for call in step["calls"]] for step in ti.xcoms["usage"]["steps"]]


def test_the_results_of_calls_go_into_the_next_request_and_the_text_is_the_value(perform, responses_sandbox, shop):
    responses_sandbox.script(calling(("charge", {"order": 7})), calling(("find", {"name": "Ada"})), {"text": "Done."})
    ti = TaskInstance()

    value = perform(ask(tools=[shop.charge, shop.find]), context(ti, task_state_store=TaskStateStore()))

    assert value == "Done."
    assert shop.charged == [7]
    first, second, third = sent(responses_sandbox)
    assert [tool["name"] for tool in first["tools"]] == ["charge", "find"]
    assert (first["input"], outputs(second)) == ("Is it good?", ['{"charged":7}'])
    assert outputs(third) == ['{"charged":7}', "customer Ada"]
    called = [item for item in third["input"] if item.get("type") == "function_call"]
    returned = [item["call_id"] for item in third["input"] if item.get("type") == "function_call_output"]
    assert [item["call_id"] for item in called] == returned
    assert third["input"][0] == {"type": "message", "role": "user", "content": "Is it good?"}
    keys = [body["metadata"]["airflow"] for body in (first, second, third)]
    assert [key.partition("/")[2] for key in keys] == ["1", "2", "3"]
    assert len({key.partition("/")[0] for key in keys}) == 1


def test_the_usage_is_that_of_all_steps(perform, responses_sandbox, shop, logged):
    ti = TaskInstance()
    task = ask(model="sandbox/calls-2", tools=[shop.charge])

    perform(task, context(ti, task_state_store=TaskStateStore()))

    usage, ledger = ti.xcoms["usage"], responses_sandbox.ledger
    assert [entry.outcome for entry in ledger] == ["generated"] * 3
    assert usage["cost"] == usage["cost_this_attempt"] == pytest.approx(sum(entry.cost for entry in ledger))
    assert [step["cost"] for step in usage["steps"]] == [pytest.approx(entry.cost) for entry in ledger]
    assert [step["generation_id"] for step in usage["steps"]] == [entry.generation_id for entry in ledger]
    assert usage["input_tokens"] == sum(step["input_tokens"] for step in usage["steps"])
    assert len(usage["sends"]) == 3
    assert statuses(ti) == [["succeeded"], ["succeeded"], []]
    lines = [line for line in logged().splitlines() if "Response: status=" in line]
    assert all(any(f"Step {step}: Response" in line and "calls=charge" in line for line in lines) for step in (1, 2))
    assert not any("Step 3" in line for line in lines)
    assert len({line.partition(" response=")[2].partition(" ")[0] for line in lines}) == 3


def test_the_prompts_fingerprint_is_that_of_the_first_request(responses_sandbox, monkeypatch, shop):
    found = set()
    for mode in ("worker", "deferred"):
        for model in ("sandbox/calls-1", "sandbox/calls-2"):
            ti = TaskInstance()
            task = ask(model=model, tools=[shop.charge])
            performer(mode, monkeypatch)(task, context(ti, task_state_store=TaskStateStore()))
            found.add((model, ti.xcoms["usage"]["prompt_fingerprint"]))

    assert len(found) == 2
    assert None not in dict(found).values()


def test_a_task_without_tools_has_no_steps(perform, responses_sandbox):
    ti = TaskInstance()

    perform(ask(), context(ti))

    assert ti.xcoms["usage"]["steps"] is None
    assert "/" not in sent(responses_sandbox)[0]["metadata"]["airflow"]


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


def test_each_step_asks_for_encrypted_reasoning_in_one_session(perform, responses_sandbox, shop):
    found = []
    for run_id in ("first", "second"):
        responses_sandbox.reset()
        ti = TaskInstance(run_id=run_id)
        perform(ask(model="sandbox/calls-2", tools=[shop.charge]), context(ti, task_state_store=TaskStateStore()))
        bodies = sent(responses_sandbox)
        assert [body["include"] for body in bodies] == [[ENCRYPTED_REASONING]] * 3
        found.append(({body["session_id"] for body in bodies}, ti.xcoms["usage"]["prompt_fingerprint"]))

    (first, fingerprint), (second, same) = found
    assert len(first) == len(second) == 1
    assert first != second
    assert fingerprint == same


def test_a_retry_has_the_session_of_the_attempt_before(perform, responses_sandbox, shop):
    for attempt in (1, 2):
        perform(ask(model="sandbox/calls-1", tools=[shop.charge]), context(TaskInstance(try_number=attempt)))

    first, _, again, _ = responses_sandbox.ledger
    assert first.body_sha256 == again.body_sha256
    assert again.outcome == "cached"
    assert len({body["session_id"] for body in sent(responses_sandbox)}) == 1


def test_the_users_include_and_session_stay(perform, responses_sandbox, shop):
    request = {"include": ["file_search_call.results"], "session_id": "mine"}

    perform(ask(model="sandbox/calls-1", tools=[shop.charge], request=request), context())

    for body in sent(responses_sandbox):
        assert body["include"] == ["file_search_call.results", ENCRYPTED_REASONING]
        assert body["session_id"] == "mine"


def test_another_server_and_a_task_without_functions_get_neither_session_nor_include(
    perform, responses_sandbox, shop, monkeypatch
):
    perform(ask(tools=[{"type": "openrouter:web_search"}]), context())
    perform(ask(), context())
    connection = json.loads(json.dumps(responses_sandbox.connection))
    connection["extra"] = {**connection.get("extra", {}), "dialect": "open"}
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))

    perform(ask(model="sandbox/calls-1", tools=[shop.charge]), context(TaskInstance(task_id="open")))

    assert len(responses_sandbox.ledger) == 4
    for body in sent(responses_sandbox):
        assert {"include", "session_id"}.isdisjoint(body)


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


def test_a_model_that_calls_a_tool_forever_is_stopped_by_max_steps(perform, responses_sandbox, shop):
    ti = TaskInstance()

    with pytest.raises(
        AirflowFailException, match=r"max_steps of 3 is reached, and the model still calls charge"
    ) as info:
        perform(ask(model=FOREVER, tools=[shop.charge], max_steps=3), context(ti, task_state_store=TaskStateStore()))

    assert info.value.__cause__.reason == "max_steps"
    assert "call 3 of it" in str(info.value)
    assert len(shop.charged) == 2
    assert len(responses_sandbox.ledger) == 3
    assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger))
    assert statuses(ti) == [["succeeded"], ["succeeded"], [None]]


def test_the_last_of_max_steps_may_be_the_text(perform, responses_sandbox, shop):
    perform(ask(model="sandbox/calls-2", tools=[shop.charge], max_steps=3), context(task_state_store=TaskStateStore()))

    assert len(shop.charged) == 2


def test_max_cost_refuses_a_step_that_no_longer_fits(perform, responses_sandbox, shop):
    first = {"max_output_tokens": 50}
    ti = TaskInstance()
    task = ask(model="openai/gpt-4o-mini", tools=[shop.charge], request=first, max_cost=0.0002)
    responses_sandbox.script({**calling(("charge", {"order": 7})), "times": 20})

    with pytest.raises(AirflowFailException, match=r"max_cost of \$0\.0002 leaves no room") as info:
        perform(task, context(ti, task_state_store=TaskStateStore()))

    assert isinstance(info.value.__cause__, BudgetExceededError)
    spent = sum(entry.cost for entry in responses_sandbox.billed)
    assert 0 < spent <= 0.0002
    assert len(responses_sandbox.billed) == len(shop.charged) > 1
    assert ti.xcoms["usage"]["cost"] == pytest.approx(spent)


def test_a_typed_output_is_read_of_the_last_response_alone(perform, responses_sandbox, shop):
    responses_sandbox.script(
        calling(("charge", {"order": 7})), {"text": "{"}, {"text": '{"topic": "good", "why": "x"}'}
    )
    ti = TaskInstance()

    value = perform(
        ask(tools=[shop.charge], output_type=Label, output_retries=1), context(ti, task_state_store=TaskStateStore())
    )

    assert value == {"topic": "good", "why": "x"}
    assert shop.charged == [7]
    assert [body["text"]["format"]["name"] for body in sent(responses_sandbox)] == ["Label"] * 3
    assert len(ti.xcoms["usage"]["steps"]) == 2
    assert len(ti.xcoms["usage"]["sends"]) == 3


def test_the_whole_response_is_the_value_on_request(perform, responses_sandbox, shop):
    value = perform(
        ask(model="sandbox/calls-1", tools=[shop.charge], result="response"), context(task_state_store=TaskStateStore())
    )

    assert value["output"][-1]["type"] == "message"


def test_a_truncated_response_runs_no_calls(perform, responses_sandbox, shop):
    responses_sandbox.script({**calling(("charge", {"order": 7})), "incomplete": "max_output_tokens"})

    perform(
        ask(tools=[shop.charge], on_invalid_output="return"), context(TaskInstance(), task_state_store=TaskStateStore())
    )

    assert shop.charged == []
    assert len(responses_sandbox.ledger) == 1


def test_dict_tools_are_sent_unchanged_beside_functions(perform, responses_sandbox, shop):
    search = {"type": "openrouter:web_search", "parameters": {"max_results": 3}}

    perform(ask(tools=[search, shop.charge]), context(task_state_store=TaskStateStore()))

    assert sent(responses_sandbox)[0]["tools"][0] == search


def test_dicts_alone_are_sent_as_one_request(responses_sandbox):
    tool = {"type": "function", "name": "charge", "parameters": {"type": "object", "properties": {}}, "strict": None}
    ti = TaskInstance()

    value = ask(tools=[tool], result="response").execute(context(ti))

    assert value["output"][0]["type"] == "function_call"
    assert (len(responses_sandbox.ledger), ti.xcoms["usage"]["steps"]) == (1, None)


def test_a_forced_call_is_forced_once(perform, responses_sandbox, shop):
    responses_sandbox.script(calling(("charge", {"order": 7})), {"text": "Done."})

    perform(
        ask(tools=[shop.charge], request={"tool_choice": {"type": "function", "name": "charge"}}),
        context(task_state_store=TaskStateStore()),
    )

    assert ["tool_choice" in body for body in sent(responses_sandbox)] == [True, False]


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


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="before, no task starts in the triggerer")
def test_a_task_with_tools_starts_on_a_worker_and_the_log_states_the_reason(responses_sandbox, shop, logged):
    with DAG("started", schedule=None):
        task = ask(tools=[shop.charge], start_from_trigger=True)

    assert task.start_trigger_args is None
    task.render_template_fields(context(TaskInstance()))
    with pytest.raises(TaskDeferred):
        task.execute(context(TaskInstance(), task_state_store=TaskStateStore()))
    assert "Not started in the triggerer, but deferred from a worker: its tools run on a worker" in logged()


def charge(order: int) -> int:
    """Charge."""
    return order


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tools": [lambda order: order]}, "tool '<lambda>' needs a name of 1 to 64 letters"),
        ({"tools": [charge, charge]}, "tools must have different names, got 'charge' twice"),
        ({"tools": [charge, {"type": "custom", "name": "charge"}]}, "tools must have different names, got 'charge'"),
        ({"tools": [charge, 7]}, r"tools\[1\] must be a function, a Tool or a dict, got int"),
        ({"tools": charge}, "tools must be a list of functions and dicts, got function"),
        ({"tools": [charge, {"type": "function", "name": "x"}]}, r"tools\[1\] must be a function, got a dict of type"),
        ({"tools": [charge], "request": {"tools": []}}, "tools is given twice, as an argument and in `request`"),
        ({"tools": [charge], "max_steps": 0}, "max_steps must be a whole number from 1 to 100, got 0"),
        ({"tools": [charge], "fatal_tool_errors": ["x"]}, "fatal_tool_errors must be a list of exception classes"),
        ({"tools": [charge], "on_interrupted_tool": "skip"}, "on_interrupted_tool must be 'fail' or 'repeat'"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_bad_input_is_refused_when_the_dag_is_parsed(arguments, message, mapped):
    def parse():
        with DAG("refused", schedule=None):
            if mapped:
                ResponsesOperator.partial(task_id="ask", model="openai/gpt-4o-mini", **arguments).expand(input=["a"])
            else:
                ask(**arguments)

    with pytest.raises(RequestValidationError, match=message) as info:
        parse()
    assert "Task: ask" in str(info.value)


def test_a_decorated_function_has_tools(run_dag, responses_sandbox):
    source = """
import datetime
from airflow.providers.common.compat.sdk import dag, task

def charge(order: int) -> str:
    "Charge an order."
    return f"charged {order}"

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False)
def decorated():
    @task.responses(model="sandbox/calls-2", tools=[charge], deferrable=%s)
    def ask():
        return "charge order 7"

    ask()

decorated()
"""
    for deferrable in (False, True):
        responses_sandbox.reset()
        result = run_dag(source % deferrable, "decorated")

        assert result.state == "success"
        assert len(result.xcom("ask", "usage")["steps"]) == 3
        assert len(responses_sandbox.ledger) == 3
        last = json.dumps(responses_sandbox.ledger[-1].body["input"])
        assert last.count("charged ") == 2


def test_a_kill_in_a_later_send_counts_against_max_cost_after_the_recorded_steps(responses_sandbox, shop):
    """A cached response of an earlier step says nothing about the send that was in flight."""
    store, request = TaskStateStore(), {"max_output_tokens": 50}
    responses_sandbox.script(calling(("charge", {"order": 1})), {"drop": True}, {"text": "Done."})
    limits = {"max_cost": 1, "request": request, "options": {"max_retries": 0, "max_ambiguous_retries": 0}}
    task = ask(tools=[shop.charge], **limits)
    with pytest.raises(Exception, match="the connection broke"):
        task.execute(context(TaskInstance(), task_state_store=store))
    assert store["airflow_provider_responses.spent"]["ambiguous"] == 1

    ask(tools=[shop.charge], **limits).execute(context(TaskInstance(try_number=2), task_state_store=store))

    assert store["airflow_provider_responses.spent"]["ambiguous"] == 1
    assert shop.charged == [1]


def test_the_prices_are_read_once_for_all_steps(responses_sandbox, shop, monkeypatch):
    from airflow_provider_responses.operators import before_paying

    reads = []
    read = before_paying.read_model_prices
    monkeypatch.setattr(before_paying, "read_model_prices", lambda config: reads.append(config) or read(config))
    responses_sandbox.script(calling(("charge", {"order": 1})), calling(("charge", {"order": 2})), {})

    ask(tools=[shop.charge], max_cost=1, request={"max_output_tokens": 50}).execute(
        context(task_state_store=TaskStateStore())
    )

    assert len(reads) == 1
    assert len(responses_sandbox.ledger) == 3


def test_a_conversation_contains_the_calls_of_the_task_before(perform, responses_sandbox, shop):
    responses_sandbox.script(calling(("charge", {"order": 7})), {"text": "Done."}, {"text": "Because."})

    first = perform(
        ask(tools=[shop.charge], result="conversation"), context(TaskInstance(), task_state_store=TaskStateStore())
    )
    perform(ask(input="Why?", history=first), context(TaskInstance(task_id="why")))

    kinds = [item.get("type", "message") for item in sent(responses_sandbox)[-1]["input"]]
    assert kinds[:4] == ["message", "function_call", "function_call_output", "message"]


def test_a_mapped_task_has_tools(run_dag, responses_sandbox):
    source = """
import datetime
from airflow.providers.common.compat.sdk import dag
from airflow_provider_responses.operators.responses import ResponsesOperator

def charge(order: int) -> str:
    "Charge an order."
    return f"charged {order}"

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False)
def mapped():
    arguments = {"task_id": "ask", "model": "sandbox/calls-1", "tools": [charge], "max_steps": 3}
    ResponsesOperator.partial(**arguments).expand(input=["charge 1", "charge 2"])

mapped()
"""

    result = run_dag(source, "mapped")

    assert result.state == "success"
    assert [len(result.xcom("ask", "usage", index)["steps"]) for index in (0, 1)] == [2, 2]
    assert len({entry.body["metadata"]["airflow"] for entry in responses_sandbox.ledger}) == 4
