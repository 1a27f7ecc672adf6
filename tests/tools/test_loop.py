"""The loop without a server: its records, the ids of calls, and texts that Airflow's database cannot store."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import ToolError
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.tools import IdempotencyKey
from airflow_provider_responses.tools.calls import Call
from airflow_provider_responses.tools.loop import ToolLoop
from airflow_provider_responses.tools.records import Records
from airflow_provider_responses.tools.toolbox import Toolbox

CALL = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "refund", "arguments": '{"order":1}'}


class Store(dict):
    """A store of JSON in UTF-8 without NUL, as PostgreSQL's."""

    def set(self, key: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
        if "\\u0000" in text.replace("\\\\", ""):
            raise ValueError("NUL")
        self[key] = json.loads(text)


class Killed(BaseException):
    """The worker is killed."""


def start(functions: list[Any], store: Any = None, **arguments: Any) -> ToolLoop:
    """Return the loop of an attempt, after it has taken over the recorded steps."""
    loop = ToolLoop(toolbox=Toolbox(functions), records=Records(store, "k"), **arguments)
    loop.next_request(TaskRequest(fields={"input": "hi"}, idempotency_key="k"), lambda: None)
    return loop


def finish(loop: ToolLoop, *output: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the calls of a response; return what they have added to the input."""
    raw = {"id": "r", "status": "completed", "output": [{"status": "completed", **item} for item in output]}
    loop.finish_step(Response(raw=raw), {"cost": 0.1, "cost_this_attempt": 0.1, "sends": []}, lambda: None)
    assert loop.fields is not None
    added: list[dict[str, Any]] = loop.fields["input"][1:]
    return added


@pytest.mark.parametrize("on_interrupted", ["fail", "repeat"])
def test_a_call_that_is_interrupted_after_a_fatal_error_is_an_interrupted_call(on_interrupted):
    store, ran = Store(), []
    endings: list[BaseException] = [LookupError("database is down"), Killed()]

    def refund(order: int) -> str:
        """Refund."""
        ran.append(order)
        if endings:
            raise endings.pop(0)
        return "refunded"

    settings = {"fatal": (LookupError,), "on_interrupted": on_interrupted}
    with pytest.raises(ToolError, match="database is down"):
        finish(start([refund], store, **settings), CALL)
    with pytest.raises(Killed):
        start([refund], store, **settings)
    if on_interrupted == "fail":
        with pytest.raises(ToolError, match="tool refund was interrupted in step 1"):
            start([refund], store, **settings)
        assert ran == [1, 1]
    else:
        assert len(start([refund], store, **settings).steps) == 1
        assert ran == [1, 1, 1]


def test_a_call_with_a_fatal_error_is_not_recorded_as_started_while_another_one_is_interrupted():
    store, ran = Store(), []

    def refund(order: int) -> str:
        """Refund."""
        ran.append(order)
        if order == 1:
            raise LookupError("down")
        raise Killed

    settings: dict[str, Any] = {"fatal": (LookupError,), "in_threads": False}
    with pytest.raises(Killed):
        finish(
            start([refund], store, **settings), CALL, {**CALL, "id": "b", "call_id": "c2", "arguments": '{"order":2}'}
        )
    store.set("airflow_provider_responses.tools.k.1.0", {"status": "fatal"})

    with pytest.raises(ToolError, match="was interrupted"):
        start([refund], store, **settings)

    assert store["airflow_provider_responses.tools.k.1.0"] == {"status": "fatal"}
    assert ran == [1, 2]


@pytest.mark.parametrize("text", ["bad \udcff name", "bad \x00 name"])
@pytest.mark.parametrize("kind", ["text", "error"])
def test_a_text_that_cannot_be_stored_is_stored_with_a_replacement_and_the_call_runs_once(text, kind):
    store, ran = Store(), []

    def find(order: int) -> str:
        """Find."""
        ran.append(order)
        if kind == "error":
            raise FileNotFoundError(text)
        return text

    added = finish(start([find], store), {**CALL, "name": "find"})
    again = start([find], store)

    assert added[-1]["output"].endswith("bad \N{REPLACEMENT CHARACTER} name")
    assert ran == [1]
    assert again.fields is not None
    assert again.fields["input"][1:] == added


def test_json_with_half_of_a_surrogate_pair_is_a_result():
    def find(order: int) -> list[dict[str, str]]:
        """Find."""
        return [{"file \udcff": "bad \udcff name"}]

    added = finish(start([find], Store()), {**CALL, "name": "find"})

    bad = "\N{REPLACEMENT CHARACTER}"
    assert added[-1]["output"] == f'[{{"file {bad}":"bad {bad} name"}}]'


@pytest.mark.parametrize("name", ["bad \udcff name", "bad \x00 name"])
def test_arguments_and_names_that_cannot_be_stored_are_an_error_for_the_model(name):
    def find(order: int) -> str:
        """Find."""
        raise AssertionError

    store = Store()
    wrong = {**CALL, "name": "find", "arguments": json.dumps({"order": 1, name: 2})}

    added = finish(start([find], store), wrong, {**CALL, "id": "b", "call_id": "c2", "name": name})

    Store().set("added", added)
    assert added[2]["output"].startswith("Error: invalid arguments of find: ")
    assert added[3]["output"] == "Error: there is no tool 'bad \N{REPLACEMENT CHARACTER} name'. The tools are: find"


def test_a_result_whose_record_fails_does_not_lose_the_results_of_the_other_calls():
    class Failing(Store):
        def set(self, key: str, value: Any) -> None:
            if key.endswith((".1.0", ".1.1")):
                raise OSError(f"cannot write {key[-3:]}")
            super().set(key, value)

    def refund(order: int) -> int:
        """Refund."""
        return order

    store = Failing()
    calls = [{**CALL, "id": name, "call_id": name, "arguments": f'{{"order":{n}}}'} for n, name in enumerate("abc")]

    with pytest.raises(OSError, match=r"cannot write 1\.0"):
        finish(start([refund], store, in_threads=False), *calls)

    assert store["airflow_provider_responses.tools.k.1.2"]["output"] == "2"


def key_of(name: str = "refund", arguments: str = '{"order":1}', step: int = 1, position: int = 0) -> str:
    return Records(None, "k").idempotency_key(step, Call(position, "c1", name, arguments))


def test_an_idempotency_key_belongs_to_one_function_with_one_set_of_arguments():
    keys = [
        key_of(),
        key_of(name="charge"),
        key_of(arguments='{"order":2}'),
        key_of(step=2),
        key_of(position=1),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)


def test_an_idempotency_key_does_not_depend_on_how_the_arguments_are_written():
    assert key_of(arguments='{"a": 1, "b": "\\u00e9"}') == key_of(arguments='{"b":"é","a":1}')
    assert key_of(arguments="") == key_of(arguments=" {} ")


@given(st.text(alphabet=st.characters(codec=None)) | st.sampled_from(["[" * 100_000, "9" * 5_000, '"\\ud800"']))
def test_any_text_of_a_model_has_an_idempotency_key(text):
    assert key_of(arguments=text) == key_of(arguments=text)


def test_a_repeated_call_with_other_arguments_gets_another_idempotency_key():
    """As on Airflow before 3.3, where a retry may get another response from the model."""
    keys = []

    def refund(order: int, key: IdempotencyKey) -> str:
        """Refund."""
        keys.append(key)
        return "refunded"

    for order in (1, 2, 1):
        finish(start([refund]), {**CALL, "arguments": f'{{"order":{order}}}'})

    assert keys[0] == keys[2] != keys[1]


def refunds(*calls: dict[str, Any]) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the orders that were refunded, and what the calls have added to the input."""
    ran = []

    def refund(order: int) -> str:
        """Refund."""
        ran.append(order)
        return f"refunded {order}"

    added = finish(start([refund], in_threads=False), *calls)
    return ran, added


def test_calls_with_one_item_id_are_all_run_and_have_ids_of_their_own():
    second = {**CALL, "call_id": "c2", "arguments": '{"order":2}'}

    ran, added = refunds(CALL, second, second)

    assert ran == [1, 2]
    assert [(it["type"], it["call_id"]) for it in added] == [
        ("function_call", "c1"),
        ("function_call", "c2"),
        ("function_call_output", "c1"),
        ("function_call_output", "c2"),
    ]
    assert added[0]["id"] == "fc"
    assert added[1]["id"] not in ("fc", None)
    assert refunds(CALL, second, second)[1] == added  # a retry sends the same bytes


def test_two_items_of_one_call_are_run_and_returned_once(caplog):
    ran, added = refunds(CALL, {**CALL, "id": "fc2", "arguments": '{"order":2}'})

    assert ran == [2]
    assert [it["type"] for it in added] == ["function_call", "function_call_output"]
    assert added[0]["arguments"] == '{"order":2}'
    assert "Two calls of the response have the call_id c1: only the last one runs" in caplog.text


def test_a_secret_in_the_error_of_a_tool_is_redacted_before_the_text_is_cut():
    def refund(order: int) -> str:
        """Refund."""
        raise RuntimeError("x" * 480 + "hunter2secret" + "y" * 100)

    def redact(text: str) -> str:
        return text.replace("hunter2secret", "***")

    (_, output) = finish(start([refund], redact=redact), CALL)

    assert "***" in output["output"]
    assert "hunter" not in output["output"]
    assert len(output["output"]) < 600
