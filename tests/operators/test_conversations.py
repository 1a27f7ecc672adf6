"""``history``: the response of one task is continued by the next."""

from __future__ import annotations

import datetime
import json

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.content import InputImage
from airflow_provider_responses.decorators.responses import _ResponsesDecoratedOperator as responses_decorator
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators import execution_mode
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.conversation import ENCRYPTED_REASONING
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive, through_the_database
from tests.operators.enrichments import enrich

START = datetime.datetime(2026, 1, 1)
MODEL = "openai/gpt-4o-mini"

DAG_FILE = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.operators.responses import ResponsesOperator

KNOWN = dict(model="openai/gpt-4o-mini", retries=0, MODE)

with DAG("turns", schedule=None, start_date=datetime.datetime(2026, 1, 1), params=dict(word="tides")):
    first = ResponsesOperator(
        task_id="first", input="About {{ params.word }}", result="response", **KNOWN
    )

    @task.responses(history=first.output, result="response", **KNOWN)
    def second():
        return "And {{ ds }}?"

    turn = second()
    ResponsesOperator.partial(task_id="third", history=turn, **KNOWN).expand(input=["Why?", "How?"])
    ResponsesOperator(task_id="alone", input="hi", result="response", **KNOWN)
"""


def ask(task_id="ask", **kwargs):
    return ResponsesOperator(task_id=task_id, **({"model": MODEL, "input": "Why?"} | kwargs))


def texts(body):
    """Return the texts of a request's input, each with its role."""
    return [
        (item["role"], item["content"] if isinstance(item["content"], str) else item["content"][0]["text"])
        for item in body["input"]
    ]


def response(*output, **conversation):
    found = {"id": "resp_1", "status": "completed", "output": list(output)}
    return found | ({"conversation": conversation} if conversation else {})


def message(text):
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": f"msg_{text}", "role": "assistant", "status": "completed", "content": [part]}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "lookup", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}


@pytest.mark.parametrize("mode", ["", "deferrable=True", "start_from_trigger=True"])
def test_each_turn_contains_the_turns_before_it_in_every_execution_mode(run_dag, responses_sandbox, mode):
    result = run_dag(DAG_FILE.replace(", MODE", f", {mode}"), "turns")
    assert set(result.states.values()) == {"success"}
    bodies = {
        entry.body["input"] if isinstance(entry.body["input"], str) else texts(entry.body)[-1][1]: entry.body
        for entry in responses_sandbox.billed
    }
    first, second, *third = (bodies[it] for it in ("About tides", "And {{ ds }}?", "Why?", "How?"))
    replies = [result.xcom(it)["output"][0]["content"][0]["text"] for it in ("first", "second")]
    so_far = [("user", "About tides"), ("assistant", replies[0]), ("user", "And {{ ds }}?")]
    assert texts(first) == so_far[:1]
    assert texts(second) == so_far
    assert [texts(it) for it in third] == [
        [*so_far, ("assistant", replies[1]), ("user", turn)] for turn in ("Why?", "How?")
    ]
    assert len({it["session_id"] for it in (first, second, *third)}) == 1
    assert {tuple(it["include"]) for it in (first, second, *third)} == {(ENCRYPTED_REASONING,)}
    assert result.xcom("first")["conversation"] == {
        "input": [{"role": "user", "content": "About tides"}],
        "session_id": first["session_id"],
    }
    alone = bodies["hi"]
    assert "conversation" not in result.xcom("alone")
    assert "session_id" not in alone
    assert "include" not in alone


def test_a_retry_of_a_turn_sends_the_same_bytes(responses_sandbox):
    history = response(message("tides"), input=[{"role": "user", "content": "About?"}], session_id="s-1")
    for number in (1, 2):
        ask(history=history).execute(context(TaskInstance(try_number=number, max_tries=1)))
    first, second = responses_sandbox.ledger
    assert json.dumps(first.body) == json.dumps(second.body)
    assert (first.cost > 0, second.cost) == (True, 0)
    assert first.body["session_id"] == "s-1"


def test_encrypted_reasoning_and_ids_are_sent_back_as_they_came(responses_sandbox):
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbGVk"}
    history = response(thought, message("tides"), input=[{"role": "user", "content": "About?"}])
    ask(history=history).execute(context())
    (entry,) = responses_sandbox.ledger
    assert entry.body["input"][1:3] == [thought, message("tides")]


def test_the_users_include_and_session_stay(responses_sandbox):
    request = {"include": ["file_search_call.results"], "session_id": "mine"}
    ask(history=[{"role": "user", "content": "x"}], request=request).execute(context())
    (entry,) = responses_sandbox.ledger
    assert entry.body["include"] == ["file_search_call.results", ENCRYPTED_REASONING]
    assert entry.body["session_id"] == "mine"


def test_another_server_gets_neither_session_nor_include(responses_sandbox, monkeypatch):
    connection = dict(responses_sandbox.connection)
    connection["extra"] = {**connection.get("extra", {}), "dialect": "open"}
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
    ask(history=[{"role": "user", "content": "x"}]).execute(context())
    (entry,) = responses_sandbox.ledger
    assert {"include", "session_id"}.isdisjoint(entry.body)


def test_the_output_of_a_task_without_whole_responses_is_refused_when_the_dag_is_parsed():
    with DAG("turns", schedule=None, start_date=START):
        first = ask("first")
        with pytest.raises(RequestValidationError, match=r"'first', whose result is 'text'.*set result='response'"):
            ask("second", history=first.output)
        with pytest.raises(RequestValidationError, match="only a whole response can be continued"):
            ResponsesOperator.partial(task_id="third", model=MODEL, history=first.output).expand(input=["a"])


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"history": response(message("x"))}, "history is a response without the input that it belongs to"),
        ({"history": "text"}, "history must be the output of a task with result='response', or a list of items"),
        ({"history": 5}, "history must be the output of a task with result='response', or a list of items"),
        (
            {"history": response(CALL, input=[{"role": "user", "content": "x"}])},
            r"history has the call 'lookup' without its output \(call_id 'call_1'\)",
        ),
        (
            {"history": [{"role": "user", "content": "x"}, CALL], "input": [OUTPUT | {"call_id": "other"}]},
            "Add an item of type 'function_call_output' with this call_id to input",
        ),
        (
            {"history": [{"role": "user", "content": "x"}, CALL], "input": [{"type": [], "call_id": {}}]},
            r"history has the call 'lookup' without its output \(call_id 'call_1'\)",
        ),
        (
            {"history": [{"role": "user", "content": "x"}, CALL | {"call_id": ["call_1"]}], "input": [OUTPUT]},
            r"history has the call 'lookup' without its output \(call_id \['call_1'\]\)",
        ),
    ],
)
def test_a_history_that_cannot_be_continued_is_an_error_before_anything_is_sent(responses_sandbox, arguments, cause):
    with pytest.raises((AirflowFailException, RequestValidationError), match=cause):
        ask(**arguments).execute(context())
    assert responses_sandbox.ledger == []


def test_a_history_without_a_next_turn_is_an_error_when_the_dag_is_parsed():
    with pytest.raises(RequestValidationError, match="input is missing: set the next turn after `history`"):
        ask(input=None, history=[{"role": "user", "content": "x"}])


def test_outputs_of_calls_in_the_input_complete_a_history(responses_sandbox):
    ask(history=response(CALL, input=[{"role": "user", "content": "x"}]), input=[OUTPUT]).execute(context())
    (entry,) = responses_sandbox.ledger
    assert [it.get("type") for it in entry.body["input"]] == [None, "function_call", "function_call_output"]


def test_a_task_of_a_conversation_starts_on_a_worker_and_may_end_in_the_triggerer():
    with DAG("turns", schedule=None, start_date=START):
        first = ask("first", result="response", start_from_trigger=True)
        second = ask("second", history=first.output, start_from_trigger=True)
    for task in (first, second):
        assert execution_mode._reason_of_operator(task) == (
            "it is part of a conversation, whose session begins on a worker"
        )
    if AIRFLOW_V_3_3_PLUS:
        assert execution_mode.reason_to_end_on_worker(first, ResponsesOperator) is None


def test_a_response_that_took_another_route_can_be_continued(responses_sandbox):
    value = ask(result="conversation", input="About?").execute(context())
    ask(history=json.loads(json.dumps(value))).execute(context(TaskInstance(task_id="second")))
    assert [role for role, _ in texts(responses_sandbox.ledger[-1].body)] == ["user", "assistant", "user"]


def resumed(make, ti):
    """Run a deferrable task, and resume it by another object, as another process does."""
    with pytest.raises(TaskDeferred) as deferred:
        make().execute(context(ti))
    event = first_event(revive(deferred.value.trigger, ti))
    return make().execute_complete(context(ti), through_the_database(dict(event.payload)))


def test_a_deferred_function_may_return_the_output_of_a_call(responses_sandbox):
    history = response(CALL, input=[{"role": "user", "content": "x"}], session_id="s-1")

    def make():
        return responses_decorator(
            task_id="ask", python_callable=lambda: [OUTPUT], model=MODEL, history=history, deferrable=True
        )

    ti = TaskInstance()
    assert resumed(make, ti)
    (entry,) = responses_sandbox.billed
    assert [it.get("type") for it in entry.body["input"]] == [None, "function_call", "function_call_output"]
    assert ti.xcoms["usage"]["cost"] == pytest.approx(entry.cost)


def test_a_resumed_task_that_cannot_continue_still_has_its_cost(responses_sandbox, monkeypatch):
    ti = TaskInstance()

    def fail(*_, **__):
        raise RequestValidationError("the DAG has changed")

    def make():
        task = ask(deferrable=True, history=[{"role": "user", "content": "x"}])
        if responses_sandbox.billed:
            monkeypatch.setattr(task, "_task_request", fail)
        return task

    with pytest.raises(AirflowFailException, match="the DAG has changed"):
        resumed(make, ti)
    (entry,) = responses_sandbox.billed
    assert ti.xcoms["usage"]["cost"] == pytest.approx(entry.cost)


def test_the_fingerprint_of_a_functions_prompt_is_the_same_deferred_and_on_a_worker(responses_sandbox):
    found = {}
    for text in ("one", "two"):
        for deferrable in (True, False):

            def make(text=text, deferrable=deferrable):
                return responses_decorator(
                    task_id="ask", python_callable=lambda: text, model=MODEL, deferrable=deferrable, stream=False
                )

            ti = TaskInstance()
            if deferrable:
                resumed(make, ti)
            else:
                make().execute(context(ti))
            found[text, deferrable] = ti.xcoms["usage"]["prompt_fingerprint"]
    assert found["one", True] == found["one", False]
    assert found["two", True] == found["two", False]
    assert found["one", True] != found["two", True]


def test_bytes_are_no_part_of_a_conversation(responses_sandbox):
    image = InputImage.from_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(AirflowFailException, match=r"input\.0\.content\.0 must be a file's path in a conversation"):
        ask(result="conversation", input=[{"role": "user", "content": [image]}]).execute(context())
    assert responses_sandbox.ledger == []


def test_a_task_whose_images_are_moved_cannot_be_continued(tmp_path):
    with DAG("turns", schedule=None, start_date=START):
        first = ask("first", result="response", output_path=str(tmp_path))
        with pytest.raises(RequestValidationError, match="which needs its images, and output_path moves them"):
            ask("second", history=first.output)
    with pytest.raises(RequestValidationError, match="Remove output_path, or do not continue this task"):
        ask(result="conversation", output_path=str(tmp_path))


def test_an_enrichment_has_no_conversation(tmp_path):
    with pytest.raises(RequestValidationError, match="result must be 'text' or 'response', got 'conversation'"):
        enrich(tmp_path, result="conversation")
