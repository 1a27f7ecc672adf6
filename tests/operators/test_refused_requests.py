"""Wrong arguments and requests: refused when the DAG is parsed, or before anything is sent."""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Callable
from pathlib import PurePosixPath
from types import MappingProxyType

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel, Json

from airflow_provider_responses.client import RequestOptions
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    RequestValidationError,
)
from tests.airflow_fakes import context
from tests.operators.one_request import MODEL, Label, ask, sent


class NoSchema(BaseModel):
    call: Callable[[], int]


class JsonInText(BaseModel):
    numbers: Json[list[int]]


class Spelled(enum.StrEnum):
    YES = "yes"


DEFAULT = "tools.0.parameters.default"
NO_FORM = "which has no JSON form: convert it to text, a number, a list or a dict"


def _tool_with(default):
    return {"tools": [{"type": "function", "name": "f", "parameters": {"default": default}}]}


class TestRefusedAtParse:
    @pytest.mark.parametrize(
        ("arguments", "message"),
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
                {"output_type": "Label"},
                "output_type must be a type or a JSON Schema, got 'Label'",
            ),
            (
                {"output_type": Label(topic="good", why="x")},
                "output_type must be a type or a JSON Schema, got Label(topic='good', why='x')",
            ),
            ({"output_type": [Label]}, "output_type must be a type or a JSON Schema, got [<class"),
            ({"output_type": {}}, "output_type must be a JSON Schema with at least one keyword, got an empty dict"),
            ({"output_type": {"type": "text"}}, "output_type.type is not valid in a JSON Schema: 'text' is not valid"),
            ({"output_type": {"$ref": "#/$defs/Label"}}, "output_type refers to nothing in it: '#/$defs/Label'"),
            ({"output_feedback": "often"}, "output_feedback must be True or False, got 'often'"),
            ({"output_type": NoSchema}, "output_type NoSchema.call has no JSON schema"),
            ({"output_type": JsonInText}, "JsonInText.numbers is a pydantic Json, which is JSON inside a text"),
            ({"result": "output"}, "result must be 'text', 'response' or 'conversation', got 'output'"),
            ({"on_invalid_output": "skip"}, "on_invalid_output must be 'fail' or 'return', got 'skip'"),
            ({"cache_ttl": 0}, "cache_ttl must be a whole number from 1 to 86400, got 0"),
            ({"output_retries": 1.5}, "output_retries must be a whole number from 0 to 10, got 1.5"),
            ({"cache": "yes"}, "cache must be True or False, got 'yes'"),
            ({"stream": 1}, "stream must be True, False or None, got 1"),
        ],
    )
    def test_a_wrong_argument_is_refused_with_its_name_and_the_task(self, arguments, message):
        with pytest.raises(RequestValidationError, match=r"\. Task: ask$") as caught:
            ask(**arguments)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "message"),
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
    def test_a_wrong_option_is_refused_with_its_name_and_the_task(self, options, message):
        with pytest.raises(ConfigurationError, match=r"\. Task: ask$") as caught:
            ask(options=options)
        assert message in str(caught.value)

    def test_templates_are_not_checked_before_they_are_rendered(self):
        ask(
            input="{{ ds }}",
            result="{{ params.result }}",
            cache="{{ params.cache }}",
            options=RequestOptions(timeout="{{ params.timeout }}"),
        )


class TestRefusedBeforeSending:
    @pytest.mark.parametrize(
        ("arguments", "message"),
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
    def test_a_wrong_request_fails_at_once_and_nothing_is_sent(self, perform, arguments, message, responses_sandbox):
        with pytest.raises(AirflowFailException, match=r"\. Task: ask$") as caught:
            perform(ask(**arguments), context())
        assert message in str(caught.value)
        assert isinstance(caught.value.__cause__, RequestValidationError)
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("connection", "message"),
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
    def test_a_wrong_connection_fails_at_once_and_nothing_is_sent(
        self, perform, connection, message, responses_sandbox, monkeypatch
    ):
        broken = responses_sandbox.connection | connection
        monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(broken))
        with pytest.raises(AirflowFailException, match=r"\. Connection: broken\. Task: ask$") as caught:
            perform(ask(conn_id="broken"), context())
        assert message in str(caught.value)
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("request_", "message"),
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
    def test_a_value_without_a_json_form_is_refused_in_each_execution_mode(
        self, perform, request_, message, responses_sandbox
    ):
        with pytest.raises(AirflowFailException) as caught:
            perform(ask(request=request_), context())
        assert str(caught.value).startswith(f"the request cannot be sent as JSON: {message}")
        assert isinstance(caught.value.__cause__, RequestValidationError)
        assert responses_sandbox.ledger == []

    def test_a_value_with_a_json_form_is_sent_the_same_in_each_execution_mode(self, perform, responses_sandbox):
        given = {"user": b"data", "extra_body": {"x": MappingProxyType({"b": (1, 2), "a": Spelled.YES})}}
        perform(ask(request=given), context())
        body = responses_sandbox.ledger[0].body
        assert (body["user"], body["x"]) == ("data", {"b": [1, 2], "a": "yes"})
        assert list(body["x"]) == ["b", "a"]

    def test_a_missing_connection_is_left_to_retries(self, perform, airflow_db):
        with pytest.raises(Exception, match="nowhere"):
            perform(ask(conn_id="nowhere"), context())

    def test_the_default_model_of_the_connection_is_used_if_the_request_has_none(
        self, perform, responses_sandbox, monkeypatch
    ):
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
