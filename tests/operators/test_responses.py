"""One request as one task: what is refused, what is sent, what lands in XCom, what a failure does."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Callable
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Literal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel, Json, field_validator

from airflow_provider_responses.client import AsyncResponsesClient, RequestOptions, ResponsesClient
from airflow_provider_responses.client.base_client import read_object
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestValidationError,
    TooManyRequestsResponseError,
    TransportError,
)
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.texts import storable
from tests.airflow_fakes import TaskInstance, TaskStateStore, context

MODEL = "openai/gpt-4o-mini"


class Label(BaseModel):
    topic: Literal["good", "bad"]
    why: str


class NoSchema(BaseModel):
    call: Callable[[], int]


class Unreadable(BaseModel):
    numbers: Json[list[int]]


def ask(**kwargs):
    return ResponsesOperator(task_id="ask", **({"model": MODEL, "input": "Is it good?"} | kwargs))


class Spelled(enum.StrEnum):
    YES = "yes"


DEFAULT = "tools.0.parameters.default"
NO_FORM = "which has no JSON form: convert it to text, a number, a list or a dict"


def _tool_with(default):
    return {"tools": [{"type": "function", "name": "f", "parameters": {"default": default}}]}


def sent(sandbox):
    return [entry.body for entry in sandbox.ledger]


class TestRefusedAtParse:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                {"request": {"temprature": 1}},
                "request.temprature is not a field of a request (did you mean 'temperature'",
            ),
            ({"request": {"input": "x"}}, "input is given twice"),
            ({"request": {"model": "x"}}, "model is given twice"),
            ({"request": {"stream": True}}, "stream must be an argument of the operator"),
            ({"request": ["x"]}, "request must be dict, got list"),
            ({"input": 5}, "input must be str or list, got int"),
            ({"model": 5}, "model must be str, got int"),
            (
                {"output_type": dict},
                "output_type must be a pydantic model (a subclass of BaseModel), got <class 'dict'>",
            ),
            (
                {"output_type": Label(topic="good", why="x")},
                "(a subclass of BaseModel), got Label(topic='good', why='x')",
            ),
            ({"output_type": NoSchema}, "output_type NoSchema.call has no JSON schema"),
            ({"output_type": Unreadable}, "Unreadable.numbers is a pydantic Json, which is JSON inside a text"),
            ({"result": "output"}, "result must be 'text' or 'response', got 'output'"),
            ({"on_invalid_output": "skip"}, "on_invalid_output must be 'fail' or 'return', got 'skip'"),
            ({"cache_ttl": 0}, "cache_ttl must be a whole number from 1 to 86400, got 0"),
            ({"output_retries": 1.5}, "output_retries must be a whole number from 0 to 10, got 1.5"),
            ({"cache": "yes"}, "cache must be True or False, got 'yes'"),
            ({"stream": 1}, "stream must be True, False or None, got 1"),
        ],
    )
    def test_names_task_and_field(self, arguments, said):
        with pytest.raises(RequestValidationError, match=r"\. Task: ask$") as caught:
            ask(**arguments)
        assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"timeut": 5}, "options.timeut is unknown"),
            ({"timeout": -1}, "options.timeout must be a number of seconds > 0, got -1"),
            ({"max_retries": 1.5}, "options.max_retries must be a whole number >= 0, got 1.5"),
            ({"headers": {"Authorization": "x"}}, "put a key into the connection's password"),
            ({"headers": {"X-A": "a\nb"}}, "options.headers.X-A"),
            ({"metadata_level": "on"}, "options.metadata_level must be 'enabled' or 'disabled', got 'on'"),
            ({"base_url": "nowhere"}, "options.base_url must be a full URL without query"),
        ],
    )
    def test_names_the_option(self, options, said):
        with pytest.raises(ConfigurationError, match=r"\. Task: ask$") as caught:
            ask(options=options)
        assert said in str(caught.value)

    def test_templates_wait_until_the_task_runs(self):
        ask(
            input="{{ ds }}",
            result="{{ params.result }}",
            cache="{{ params.cache }}",
            options=RequestOptions(timeout="{{ params.timeout }}"),
        )


class TestRefusedBeforeSending:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"model": None}, "model is missing: give `model` or `models`, or set a default model on the connection"),
            ({"input": None}, "input is missing"),
            ({"input": ""}, "input must not be empty"),
            ({"input": []}, "input must not be empty"),
            ({"input": "  \n"}, "input must not be empty"),
            (
                {"request": {"metadata": {str(n): "x" for n in range(16)}}},
                "metadata must have at most 15 pairs, got 16: the task's idempotency key 'airflow'",
            ),
            (
                {"request": {"metadata": {str(n): "x" for n in range(17)}}},
                "metadata must have at most 16 pairs, got 17",
            ),
            (
                {"request": {"metadata": {"airflow": "x"}}},
                "metadata.airflow: this key is reserved for the task's idempotency key",
            ),
            ({"request": {"store": True}}, "store must not be true: OpenRouter stores no"),
            ({"request": {"previous_response_id": "resp-1"}}, "previous_response_id must not be set: OpenRouter"),
            ({"request": {"background": True}}, "background must not be true: the call would return without"),
            ({"request": {"temperature": "warm"}}, "temperature must be"),
            ({"request": {"text": {"format": {"type": "text"}}}, "output_type": Label}, "text.format is given twice"),
        ],
    )
    def test_fails_at_once_and_costs_nothing(self, perform, arguments, said, responses_sandbox):
        with pytest.raises(AirflowFailException, match=r"\. Task: ask$") as caught:
            perform(ask(**arguments), context())
        assert said in str(caught.value)
        assert isinstance(caught.value.__cause__, RequestValidationError)
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("connection", "said"),
        [
            ({"password": None}, "password is missing"),
            (
                {"host": "not a url"},
                "host must be a full URL without query, such as https://llm.example.com/v1, got 'not a url'",
            ),
            ({"host": "ftp://example.com"}, ", got 'ftp://example.com'"),
            ({"host": "http://example.com/api/v1"}, "the key would be sent unencrypted"),
            ({"extra": {"max_retrys": 3}}, "extra 'max_retrys' is unknown"),
            ({"extra": {"timeout": "long"}}, "timeout must be a number of seconds > 0, got 'long'"),
        ],
    )
    def test_a_connection_that_cannot_be_used(self, perform, connection, said, responses_sandbox, monkeypatch):
        broken = responses_sandbox.connection | connection
        monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(broken))
        with pytest.raises(AirflowFailException, match=r"\. Connection: broken\. Task: ask$") as caught:
            perform(ask(conn_id="broken"), context())
        assert said in str(caught.value)
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("request_", "said"),
        [
            (_tool_with(datetime.date(2026, 1, 1)), f"{DEFAULT} is a date, {NO_FORM}"),
            (_tool_with(datetime.datetime(2026, 1, 1)), f"{DEFAULT} is a datetime, {NO_FORM}"),
            (_tool_with(b"x"), f"{DEFAULT} is a bytes, {NO_FORM}"),
            (_tool_with(PurePosixPath("a")), f"{DEFAULT} is a PurePosixPath, {NO_FORM}"),
            (_tool_with({1}), f"{DEFAULT} is a set, {NO_FORM}"),
            ({"extra_body": {"x": [float("nan")]}}, "x.0 is nan, which has no JSON form"),
            ({"extra_body": {"x": Label(topic="good", why="x")}}, f"x is a Label, {NO_FORM}"),
            ({"extra_body": {"x": "\ud800"}}, "x holds half of a surrogate pair, which is not text: decode the source"),
        ],
    )
    def test_what_has_no_json_form_is_refused_alike(self, perform, request_, said, responses_sandbox):
        with pytest.raises(AirflowFailException) as caught:
            perform(ask(request=request_), context())
        assert str(caught.value).startswith(f"the request cannot be sent as JSON: {said}")
        assert isinstance(caught.value.__cause__, RequestValidationError)
        assert responses_sandbox.ledger == []

    def test_what_has_a_json_form_is_sent_alike(self, perform, responses_sandbox):
        given = {"user": b"data", "extra_body": {"x": MappingProxyType({"b": (1, 2), "a": Spelled.YES})}}
        perform(ask(request=given), context())
        body = responses_sandbox.ledger[0].body
        assert (body["user"], body["x"]) == ("data", {"b": [1, 2], "a": "yes"})
        assert list(body["x"]) == ["b", "a"]

    def test_an_unknown_connection(self, perform, airflow_db):
        with pytest.raises(Exception, match="nowhere"):
            perform(ask(conn_id="nowhere"), context())

    def test_the_default_model_is_added_only_then(self, perform, responses_sandbox, monkeypatch):
        connection = responses_sandbox.connection
        extra = {**connection["extra"], "default_model": "vendor/default"}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection | {"extra": extra}))
        perform(ask(model=None), context())
        perform(ask(), context())
        perform(ask(model=None, request={"models": ["vendor/other"]}), context())
        assert [(r.get("model"), r.get("models")) for r in sent(responses_sandbox)] == [
            ("vendor/default", None),
            (MODEL, None),
            (None, ["vendor/other"]),
        ]


class TestAnswers:
    def test_the_text_and_one_xcom_with_ids_cost_and_model(self, perform, responses_sandbox):
        ti = TaskInstance()
        text = perform(ask(), context(ti))
        (entry,) = responses_sandbox.ledger
        assert isinstance(text, str)
        assert text
        assert set(ti.xcoms) == {"usage"}
        usage = ti.xcoms["usage"]
        assert usage["response_id"]
        assert usage["generation_id"] == entry.generation_id
        assert (usage["version"], usage["status"], usage["model"]) == (1, "completed", MODEL)
        assert usage["cost"] == usage["cost_this_attempt"] == pytest.approx(entry.cost)
        assert usage["cached"] is False
        assert usage["sends"] == [{"cause": None, "ambiguous": False, "wait": None}]

    def test_what_postgresql_cannot_store_is_replaced(self, perform, responses_sandbox):
        said = "a\x00b"
        responses_sandbox.script({"text": said}, {"text": json.dumps({"topic": "good", "why": said})}, {"text": said})
        assert perform(ask(), context()) == "a\ufffdb"
        assert perform(ask(input="typed", output_type=Label), context())["why"] == "a\ufffdb"
        whole = json.dumps(perform(ask(input="whole", result="response"), context()))
        assert "a\\ufffdb" in whole
        assert "\\u0000" not in whole
        assert storable({"x\x00": ["\ud83d", 1, "😀", float("nan")]}) == {"x\ufffd": ["\ufffd", 1, "😀", None]}

    def test_typed_output_is_a_plain_dict_of_a_strict_schema(self, perform, responses_sandbox):
        value = perform(ask(output_type=Label), context())
        assert Label.model_validate(value)
        (request,) = sent(responses_sandbox)
        assert request["text"]["format"]["strict"] is True
        assert request["text"]["format"]["name"] == "Label"

    def test_the_whole_answer(self, perform, responses_sandbox):
        value = perform(ask(result="response"), context())
        assert value["status"] == "completed"
        assert value["output"]

    def test_an_answer_is_kept_as_long_as_is_said(self, perform, responses_sandbox):
        perform(ask(cache_ttl=7200), context())
        assert responses_sandbox.ledger[0].headers["x-openrouter-cache-ttl"] == "7200"

    @pytest.mark.parametrize(("stream", "streamed"), [(True, True), (False, False), ("false", False)])
    def test_streamed_as_the_task_says(self, perform, stream, streamed, responses_sandbox):
        perform(ask(stream=stream), context())
        assert sent(responses_sandbox)[0]["stream"] is streamed

    def test_streamed_by_default_on_a_worker_only(self, perform, responses_sandbox):
        perform(ask(), context())
        assert sent(responses_sandbox)[0]["stream"] is (perform.mode == "worker")

    def test_any_other_field_and_options_arrive(self, perform, responses_sandbox):
        perform(
            ask(
                request={"max_output_tokens": 50, "extra_body": {"brand_new": [1]}},
                options={"headers": {"X-Team": "data"}, "metadata_level": "enabled"},
            ),
            context(),
        )
        (entry,) = responses_sandbox.ledger
        assert entry.body["max_output_tokens"] == 50
        assert entry.body["brand_new"] == [1]
        headers = {name.lower(): value for name, value in entry.headers.items()}
        assert headers["x-team"] == "data"
        assert headers["x-openrouter-metadata"] == "enabled"

    def test_one_line_in_the_log_without_prompt_or_answer(self, perform, responses_sandbox, caplog, capfd):
        caplog.set_level("INFO")
        text = perform(ask(input="purple elephants"), context())
        logged = caplog.text + "".join(capfd.readouterr())  # Airflow 3 logs past the root logger
        (line,) = {line.partition("Response ")[2] for line in logged.splitlines() if "Response " in line}
        assert MODEL in line
        assert "cost $" in line
        assert "sends 1" in line
        assert "purple" not in logged
        assert text not in logged


class TestIncompleteRefusedInvalid:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("step", "error"),
        [
            ({"incomplete": "max_output_tokens"}, IncompleteResponseError),
            ({"refusal": "I would rather not."}, RefusalError),
        ],
    )
    def test_fails_at_once_with_its_price(self, perform, step, error, stream, responses_sandbox):
        responses_sandbox.script(step)
        ti = TaskInstance()
        with pytest.raises(AirflowFailException) as caught:
            perform(ask(stream=stream), context(ti))
        assert isinstance(caught.value.__cause__, error)
        assert len(responses_sandbox.ledger) == 1
        assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.ledger[0].cost)
        assert ti.xcoms["usage"]["generation_id"] == responses_sandbox.ledger[0].generation_id

    def test_a_cut_off_answer_passes_if_asked_for(self, perform, responses_sandbox):
        responses_sandbox.script({"incomplete": "max_output_tokens"})
        ti = TaskInstance()
        assert isinstance(perform(ask(on_invalid_output="return"), context(ti)), str)
        assert ti.xcoms["usage"]["cost"] is not None

    def test_a_refusal_passes_if_asked_for(self, perform, responses_sandbox):
        responses_sandbox.script({"refusal": "I would rather not."})
        assert perform(ask(on_invalid_output="return"), context()) == "I would rather not."

    def test_an_answer_that_is_not_as_typed_is_asked_for_again(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "no label"}, {"text": '{"topic": "good", "why": "because"}'})
        ti = TaskInstance()
        assert perform(ask(output_type=Label), context(ti)) == {"topic": "good", "why": "because"}
        first, second = responses_sandbox.ledger
        assert first.body_sha256 == second.body_sha256
        assert "x-openrouter-cache-clear" not in {name.lower() for name in first.headers}
        assert {name.lower(): text for name, text in second.headers.items()}["x-openrouter-cache-clear"] == "true"
        assert ti.xcoms["usage"]["cost"] == pytest.approx(first.cost + second.cost)
        assert ti.xcoms["usage"]["cost_this_attempt"] == pytest.approx(first.cost + second.cost)
        assert len(ti.xcoms["usage"]["sends"]) == 2
        assert ti.xcoms["usage"]["generation_id"] == second.generation_id

    def test_what_was_paid_counts_though_the_second_answer_never_comes(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "no label"}, {"status": 402})
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="402"):
            perform(ask(output_type=Label), context(ti))
        assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.ledger[0].cost)
        assert ti.xcoms["usage"]["generation_id"] == responses_sandbox.ledger[0].generation_id

    def test_a_retry_that_gets_an_invalid_kept_answer_asks_for_a_fresh_one(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "no label"}, {"text": '{"topic": "good", "why": "because"}'})
        with pytest.raises(AirflowFailException):
            perform(ask(output_type=Label, output_retries=0), context())
        ti = TaskInstance()
        assert perform(ask(output_type=Label), context(ti))
        assert len(responses_sandbox.billed) == 2
        assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))

    def test_another_server_is_asked_again_without_openrouters_header(self, perform, responses_sandbox, monkeypatch):
        connection = responses_sandbox.connection | {"extra": {}}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
        responses_sandbox.script({"text": "no label"}, {"text": '{"topic": "good", "why": "because"}'})
        assert perform(ask(output_type=Label), context())
        assert not [name for e in responses_sandbox.ledger for name in e.headers if "openrouter" in name.lower()]

    @pytest.mark.parametrize("retries", [0, 1, 3])
    def test_an_answer_that_stays_invalid_fails_at_once_with_its_price(self, perform, retries, responses_sandbox):
        responses_sandbox.script(*[{"text": '{"topic": "ugly"}'}] * 5)
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match=r"topic: .*; why: ") as caught:
            perform(ask(output_type=Label, output_retries=retries), context(ti))
        assert isinstance(caught.value.__cause__, OutputValidationError)
        assert caught.value.__cause__.response.output_text == '{"topic": "ugly"}'
        assert len(responses_sandbox.ledger) == retries + 1
        assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))

    def test_an_answer_that_is_not_as_typed_passes_as_text_if_asked_for(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "neither"})
        assert perform(ask(output_type=Label, on_invalid_output="return"), context()) == "neither"


class TestFailures:
    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
    def test_not_retryable_fails_the_task_at_once(self, perform, status, responses_sandbox):
        responses_sandbox.script({"status": status})
        with pytest.raises(AirflowFailException) as caught:
            perform(ask(), context())
        assert caught.value.__cause__.status_code == status
        assert len(responses_sandbox.ledger) == 1

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 524, 529])
    def test_retryable_goes_to_airflows_retries(self, perform, status, responses_sandbox):
        responses_sandbox.script({"status": status})
        with pytest.raises(Exception) as caught:  # noqa: PT011  the class differs by status
            perform(ask(options={"max_retries": 0}), context())
        assert not isinstance(caught.value, AirflowFailException)
        assert caught.value.status_code == status

    def test_a_long_wait_is_left_to_airflow(self, perform, responses_sandbox):
        responses_sandbox.script({"status": 429, "retry_after": 3600})
        with pytest.raises(TooManyRequestsResponseError) as caught:
            perform(ask(), context())
        assert caught.value.retry_after == 3600
        assert len(responses_sandbox.ledger) == 1

    def test_execution_timeout_bounds_the_call(self, perform, responses_sandbox):
        responses_sandbox.script({"hang": True})
        task = ask(execution_timeout=datetime.timedelta(seconds=0.4), options={"timeout": 100})
        with pytest.raises(TransportError, match=r"no response within 0\.[0-3]"):
            perform(task, context())

    def test_a_task_that_runs_again_in_one_process_has_all_its_time_again(self, responses_sandbox):
        task = ask(execution_timeout=datetime.timedelta(seconds=50))
        task.execute(context())
        task._started_at -= 1000  # as if that had been long ago
        assert task.execute(context())

    def test_a_failure_inside_the_answer_is_counted(self, perform, responses_sandbox):
        responses_sandbox.script({"failed": "server"}, {})
        ti = TaskInstance()
        perform(ask(), context(ti))
        assert len(ti.xcoms["usage"]["sends"]) == 2
        billed = sum(entry.cost for entry in responses_sandbox.billed)
        assert ti.xcoms["usage"]["cost"] == pytest.approx(billed)


class TestFreeRetries:
    def test_a_retry_gets_the_kept_answer_for_nothing_and_knows_its_price(self, perform, responses_sandbox):
        first, second = TaskInstance(), TaskInstance()
        text = perform(ask(), context(first))
        again = perform(ask(), context(second))

        assert again == text
        assert len(responses_sandbox.billed) == 1
        assert second.xcoms["usage"]["cached"] is True
        assert second.xcoms["usage"]["cost_this_attempt"] == 0
        assert second.xcoms["usage"]["cost"] == pytest.approx(first.xcoms["usage"]["cost"])
        assert second.xcoms["usage"]["total_tokens"] == first.xcoms["usage"]["total_tokens"]

    def test_the_task_state_store_knows_the_price_without_asking(self, perform, responses_sandbox):
        store = TaskStateStore()
        first, second = TaskInstance(), TaskInstance()
        perform(ask(), context(first, task_state_store=store))
        perform(ask(), context(second, task_state_store=store))
        assert second.xcoms["usage"]["cost"] == pytest.approx(first.xcoms["usage"]["cost"])

    @pytest.mark.parametrize("retries", [0, 1, 2, 3])
    def test_a_cleared_task_asks_anew_and_counts_anew(self, perform, retries, responses_sandbox):
        store = TaskStateStore()
        perform(ask(retries=2), context(TaskInstance(max_tries=2), task_state_store=store))
        # As Airflow clears a task after one try, whatever its DAG's file said before.
        cleared = TaskInstance(try_number=2, max_tries=1 + retries)
        perform(ask(retries=retries), context(cleared, task_state_store=store))
        assert len(responses_sandbox.billed) == 2
        assert cleared.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.billed[1].cost)

    @pytest.mark.parametrize(
        "other",
        [{"task_id": "b"}, {"dag_id": "b"}, {"run_id": "b"}, {"map_index": 3}, {"max_tries": 3, "try_number": 2}],
    )
    def test_every_task_instance_has_an_idempotency_key_of_its_own(self, perform, other, responses_sandbox):
        perform(ask(), context(TaskInstance()))
        perform(ask(), context(TaskInstance(**other)))
        idempotency_keys = [request["metadata"]["airflow"] for request in sent(responses_sandbox)]
        assert len(set(idempotency_keys)) == 2
        assert all(len(idempotency_key) == 32 and int(idempotency_key, 16) for idempotency_key in idempotency_keys)

    def test_every_try_is_the_same_bytes(self, perform, responses_sandbox):
        responses_sandbox.script({"status": 503, "retry_after": 0}, {})
        perform(ask(output_type=Label), context())
        perform(ask(output_type=Label), context())
        assert len({entry.body_sha256 for entry in responses_sandbox.ledger}) == 1
        assert len(responses_sandbox.ledger) == 3

    @pytest.mark.parametrize(
        "arguments",
        [
            {"cache": False},
            {"request": {"provider": {"zdr": True}}},
            {"request": {"provider": {"data_collection": "deny"}}},
        ],
    )
    def test_off_where_nothing_may_be_kept(self, perform, arguments, responses_sandbox):
        perform(ask(**arguments), context())
        assert not [name for name in responses_sandbox.ledger[0].headers if "cache" in name.lower()]

    def test_another_server_gets_nothing_of_openrouters(self, perform, responses_sandbox, monkeypatch):
        connection = responses_sandbox.connection | {"extra": {}}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
        perform(ask(), context())
        (entry,) = responses_sandbox.ledger
        assert set(entry.body) - {"stream"} == {"model", "input"}
        assert not [name for name in entry.headers if "openrouter" in name.lower()]


class TestWhatTasksAreGiven:
    @pytest.mark.parametrize(
        ("given", "sent_as"),
        [
            (12345, "12345"),
            ((items := [{"role": "user", "content": "x"}]), items),
            (tuple(items), items),
        ],
    )
    def test_native_rendering_and_lazy_lists_are_undone(self, perform, given, sent_as, responses_sandbox):
        task = ask(input="{{ params.x }}")
        task.input = given  # as Airflow sets what it rendered
        task.request = {"metadata": {"day": 20260101}, "user": 7}
        perform(task, context())
        (body,) = sent(responses_sandbox)
        assert body["input"] == sent_as
        assert body["metadata"]["day"] == "20260101"
        assert body["user"] == "7"

    def test_what_a_template_rendered_is_checked_though_it_holds_braces(self, perform, responses_sandbox):
        task = ask(request="{{ params.x }}")
        task.request = "{{ not a dict }}"
        with pytest.raises(AirflowFailException, match="request must be dict, got str"):
            perform(task, context())

    def test_a_price_that_cannot_be_had_costs_no_answer(self, perform, responses_sandbox, monkeypatch):
        perform(ask(), context())
        ti = TaskInstance()
        for shape in (["x"], "str", None):

            def get_generation(*_, shape=shape, **__):
                return read_object({"data": shape})

            async def aget_generation(*_, shape=shape, **__):
                return read_object({"data": shape})

            monkeypatch.setattr(ResponsesClient, "get_generation", get_generation)
            monkeypatch.setattr(AsyncResponsesClient, "get_generation", aget_generation)
            assert perform(ask(), context(ti))
            assert ti.xcoms["usage"]["cost"] is None
            assert ti.xcoms["usage"]["total_tokens"] is None

    def test_a_validator_that_breaks_fails_at_once_with_its_exception_and_the_response(
        self, perform, responses_sandbox
    ):
        class Broken(BaseModel):
            topic: str

            @field_validator("topic")
            @classmethod
            def breaks(cls, value):
                return {}[value]

        with pytest.raises(AirflowFailException, match=r"^a validator of Broken raised KeyError: 'good'") as caught:
            perform(ask(output_type=Broken), context())
        assert """The response has 17 characters: '{"topic": "good"}'""" in str(caught.value)
