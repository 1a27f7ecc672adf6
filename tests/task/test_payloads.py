"""Payloads between worker and triggerer come back unchanged from the database."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses import exceptions
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task import payloads
from airflow_provider_responses.task.arguments import Arguments
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.payload_encoding import from_pairs, to_pairs
from airflow_provider_responses.task.payloads import DeferredArguments, StartArguments
from airflow_provider_responses.task.request import TaskRequest
from tests.execution_modes import through_the_database

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def _is_no_template(key):
    return not set(key) & set("{\n\r")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.filter(_is_no_template), inner, max_size=3),
    max_leaves=12,
)
details = st.fixed_dictionaries(
    {},
    optional={
        "retryable": st.booleans(),
        "ambiguous": st.booleans(),
        "status_code": st.integers(400, 599),
        "code": st.integers() | texts,
        "error_type": texts,
        "metadata": st.dictionaries(texts, plain, max_size=2),
        "availability": st.dictionaries(texts, plain, max_size=2),
        "retry_after": st.floats(0, 1e6),
        "generation_id": texts,
        "openrouter_metadata": st.dictionaries(texts, plain, max_size=2),
    },
)
classes = st.sampled_from([name for name in exceptions.__all__ if name.endswith("Error")]).map(
    lambda name: getattr(exceptions, name)
)
responses = st.builds(
    Response,
    raw=st.dictionaries(texts | st.sampled_from(["id", "__type", "__classname__", "output"]), plain, max_size=3),
    headers=st.dictionaries(
        st.sampled_from(["x-openrouter-cache-status", "x-openrouter-cache-source-id"]), texts, max_size=2
    ),
    seconds=st.none() | st.floats(0, 1e4),
    inconsistent=st.booleans(),
    maybe_truncated=st.booleans(),
)


def in_order(value):
    return json.dumps(value, sort_keys=False)


@given(plain)
def test_pairs_keep_every_value_and_its_order(value):
    stored = through_the_database(to_pairs(value))
    assert in_order(from_pairs(stored)) == in_order(value)


def test_deferred_arguments_come_back_unchanged():
    arguments = DeferredArguments(
        conn_id="llm",
        task_request=TaskRequest(
            fields={"input": "hi", "metadata": {"b": "1", "a": "2"}},
            output_format={"type": "json_schema", "schema": {"z": 1, "a": 2}},
            output_retries=3,
            result="response",
            on_invalid_output="return",
            cache=False,
            cache_ttl=60,
            stream=False,
            idempotency_key="ab",
        ),
        output_type_path="labels:Label",
        options=RequestOptions(timeout=60.0, max_retries=1, headers={"X-Team": "data"}),
        do_xcom_push=False,
        spent={"gen-1": 0.5, "gen-2": None},
        deadline=1000.5,
        not_before=900.5,
        ends_task=True,
        waits_for_retry_after=True,
    )
    back = DeferredArguments.from_kwargs(through_the_database(arguments.to_kwargs()))
    assert back == arguments
    assert in_order(back.task_request.fields) == in_order(arguments.task_request.fields)
    assert in_order(back.task_request.output_format) == in_order(arguments.task_request.output_format)


def test_start_arguments_come_back_unchanged():
    arguments = StartArguments(
        arguments=Arguments(input="{{ ds }}", request={"b": {"z": 1, "a": [2]}}, options={"timeout": 60}, cache_ttl=60),
        output_type_path="labels:Label",
        output_format={"type": "json_schema", "schema": {"z": 1, "a": 2}},
        execution_timeout=60.0,
        do_xcom_push=False,
        retries=2,
    )
    back = StartArguments.from_kwargs(through_the_database(arguments.to_kwargs()))
    assert back == arguments
    assert in_order(back.arguments.request) == in_order(arguments.arguments.request)
    assert in_order(back.output_format) == in_order(arguments.output_format)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": [0, {1, 2}]}}, "request.a.b[1] is a set"),
        ({"a": {1: 2}}, "request.a has the key 1"),
        ({"{{ ds }}": 2}, "request has the key '{{ ds }}'"),
        ({"{# ds #}": 2}, "request has the key '{# ds #}'"),
        ({"ds\n": 2}, "request has the key 'ds\\n'"),
        ({"a": float("nan")}, "request.a is nan"),
        ({"a": float("-inf")}, "request.a is -inf"),
    ],
)
def test_a_value_that_is_not_plain_json_is_refused_with_its_path(value, message):
    with pytest.raises(RequestValidationError) as caught:
        to_pairs(value, "request")
    assert message in str(caught.value)


@given(st.builds(lambda cls, text, given: cls(text, **given), classes, texts, details), responses, st.booleans())
def test_an_error_keeps_its_class_its_fields_and_the_errors_before_it(error, response, with_response):
    earlier = ResponsesError("earlier", retry_after=3.0)
    earlier.wait = 3.25
    if with_response:
        error.response = Response(raw=response.raw, headers=response.headers, previous=(earlier,))
    error.previous = (earlier,)
    error.add_note("2 sends were made")
    event = payloads.write_event(Outcome(error=error, response=error.response), idempotency_key="ab")
    outcome, idempotency_key = payloads.read_event(through_the_database(event))
    assert idempotency_key == "ab"
    back = outcome.error
    assert type(back) is type(error)
    names = set(vars(error)) - {"response", "previous", "args"}
    assert {name: getattr(back, name) for name in names} == {name: getattr(error, name) for name in names}
    assert str(back) == str(error)
    assert [(str(e), e.retry_after, e.wait) for e in back.previous] == [("earlier", 3.0, 3.25)]
    assert (back.response is None) == (error.response is None)


@given(responses, plain, st.booleans(), st.booleans(), st.booleans())
def test_a_response_keeps_its_body_its_flags_and_the_order_of_its_keys(response, value, unparsed, invalid, repaired):
    flags = {"unparsed": unparsed, "invalid": invalid, "repaired": repaired}
    outcome = Outcome(response=response, value=value, generations={"gen-1": None}, **flags)
    back, _ = payloads.read_event(through_the_database(payloads.write_event(outcome, idempotency_key=None)))
    assert in_order(back.response.raw) == in_order(response.raw)
    assert back == outcome


@given(st.recursive(st.none() | st.integers() | texts, lambda inner: st.dictionaries(texts, inner, max_size=3)))
def test_every_broken_event_raises_a_version_mismatch(garbage):
    for event in (garbage, {"version": payloads.EVENT_VERSION, "outcome": json.dumps(garbage)}):
        with pytest.raises(exceptions.VersionMismatchError):
            payloads.read_event(event)


def test_an_event_holds_the_header_with_the_cost():
    response = Response(raw={}, headers={"x-litellm-response-cost": "0.25"})
    back, _ = payloads.read_event(
        through_the_database(payloads.write_event(Outcome(response=response), idempotency_key=None))
    )
    assert back.response.usage.cost == 0.25


def test_an_event_holds_no_other_headers():
    headers = {"x-generation-id": "gen-1", "set-cookie": "session=abc123", "x-echo": "Bearer sk-made-up"}
    event = payloads.write_event(Outcome(response=Response(raw={}, headers=headers)), idempotency_key=None)
    assert payloads.read_event(event)[0].response.headers == {"x-generation-id": "gen-1"}
    assert "abc123" not in event["outcome"]


@pytest.mark.parametrize(
    ("status", "headers", "is_in_event"),
    [
        ("completed", {"status": "MISS", "ttl": "3600"}, False),
        ("completed", {"status": "HIT", "ttl": "3600", "age": "600"}, False),
        ("completed", {"status": "HIT", "ttl": "3600", "age": "3500"}, True),
        ("completed", {"status": "HIT", "ttl": "3600"}, True),
        ("completed", {"status": "MISS", "ttl": "300"}, True),
        ("completed", {"status": "MISS"}, True),
        ("completed", {"status": "BYPASS", "ttl": "3600", "age": "0"}, True),
        ("completed", {"status": "MISS", "ttl": "9" * 5000}, True),
        ("completed", {}, True),
        ("incomplete", {"status": "MISS", "ttl": "3600"}, True),
        (None, {"status": "MISS", "ttl": "3600"}, True),
    ],
)
def test_a_large_response_is_in_the_event_unless_it_is_known_to_stay_cached(status, headers, is_in_event, monkeypatch):
    monkeypatch.setattr(payloads, "MAX_EVENT_BYTES", 10)
    response = Response(
        raw={"status": status}, headers={f"x-openrouter-cache-{name}": text for name, text in headers.items()}
    )
    event = payloads.write_event(Outcome(response=response, value="a long text"), idempotency_key=None)
    assert (event["outcome"] is not None) is is_in_event
