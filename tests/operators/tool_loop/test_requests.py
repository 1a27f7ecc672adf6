"""A model that calls Python functions: the requests of the steps, the value and ``usage``."""

from __future__ import annotations

import json

import pytest

from airflow_provider_responses.task.conversation import ENCRYPTED_REASONING
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import performer
from tests.operators.one_request import Label, ask, sent
from tests.operators.tool_loop.shop import calling, outputs, statuses


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


def test_a_conversation_contains_the_calls_of_the_task_before(perform, responses_sandbox, shop):
    responses_sandbox.script(calling(("charge", {"order": 7})), {"text": "Done."}, {"text": "Because."})

    first = perform(
        ask(tools=[shop.charge], result="conversation"), context(TaskInstance(), task_state_store=TaskStateStore())
    )
    perform(ask(input="Why?", history=first), context(TaskInstance(task_id="why")))

    kinds = [item.get("type", "message") for item in sent(responses_sandbox)[-1]["input"]]
    assert kinds[:4] == ["message", "function_call", "function_call_output", "message"]
