"""Error bodies of real servers: class, retryable or not, and the message with its advice."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses import exceptions
from airflow_provider_responses.client import response_errors, server_errors
from airflow_provider_responses.client.error_names import STATUS_OF_NAME, most_particular, read_cause
from airflow_provider_responses.client.network_errors import cancelled_error, deadline_error, transport_error
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import APIError, ResponsesError
from airflow_provider_responses.models import Response

from .error_rows import CONTINUED, OPEN, OPENROUTER, ROWS, SECRET, Row
from .wire import result


def error_of(row: Row, **headers: str) -> APIError:
    data = row.body if isinstance(row.body, bytes) else json.dumps(row.body).encode()
    return server_errors.error_from_response(row.status, headers, data, request=row.request)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_error_of_a_real_server_has_its_class_words_and_advice(row: Row) -> None:
    error = error_of(row)
    assert type(error) is exceptions.error_class_for_status(row.status)[0]
    assert (error.status_code, error.retryable, error.ambiguous) == (row.status, row.retryable, False)
    assert row.words in str(error)
    assert row.advice in str(error)
    assert SECRET not in str(error)
    assert ("this persists" in str(error)) is row.retryable


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_message_has_the_cause_then_the_advice_then_the_request(row: Row) -> None:
    text = str(error_of(row))
    name = server_errors.NAME_OF_STATUS.get(row.status, "error")
    assert text.startswith(f"{row.status} {name}: ")
    assert text.endswith(f". Request: {row.request.label}")
    assert text.index(row.words) < text.index(row.advice) < text.rindex("Request: ")


@pytest.mark.parametrize(
    ("error", "cause", "advice"),
    [
        (transport_error(httpx.ConnectError("refused"), request=OPEN), "no connection: refused", "Check the base URL"),
        (transport_error(httpx.ReadTimeout("slow"), request=OPEN), "no response in time: slow", "Raise `read_timeout`"),
        (transport_error(httpx.ReadError("lost"), request=OPEN), "the connection broke: lost", "can be sent again"),
        (deadline_error(request=OPEN, timeout=7.5), "no response within 7.5 s", "Raise the timeout"),
        (cancelled_error(request=OPEN), "the call was cancelled", "No send follows"),
        (
            response_errors.truncated(Response(raw=result(status="incomplete")), request=OPEN),
            "the response was truncated (unknown reason)",
            'set on_invalid_output="return"',
        ),
        (response_errors.refused(Response(raw=result()), request=OPEN), "the model refused", "Change the input"),
        (
            response_errors.not_ready(Response(raw=result(status="queued")), request=OPEN),
            "the response is not ready: its status is 'queued'",
            "Leave out `background`",
        ),
        (
            response_errors.no_response(Response(raw={}), request=OPEN),
            "the server sent JSON that is not a resp",
            "Check the",
        ),
        (
            response_errors.not_json(200, {}, b"<html>", request=OPEN),
            "expected a complete JSON object with status 200, got 6 bytes",
            "Check the base URL",
        ),
        (StreamReader({}, request=OPEN).interrupted("reset"), "the stream broke before any output: reset", "stream=F"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_message_begins_with_the_cause_and_ends_with_the_request(
    error: ResponsesError, cause: str, advice: str
) -> None:
    text = str(error)
    assert text.startswith(cause)
    assert text.endswith(f". Request: {OPEN.label}")
    assert text.index(advice) < text.rindex("Request: ")
    assert ".." not in text


def test_the_corpus_of_real_errors_is_large_enough() -> None:
    assert len(ROWS) >= 60


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_other_servers_get_no_advice_about_openrouter(row: Row) -> None:
    for word in ("openrouter", "`models`", "credits", "guardrail"):
        assert word not in str(error_of(row)).lower()


STATUSES = [*range(400, 430), 451, 498, 499, *range(500, 512), 520, 524, 529, 530, 599]


@pytest.mark.parametrize("status", STATUSES)
def test_no_status_of_another_server_brings_advice_about_openrouter(status: int) -> None:
    for metadata in ({}, {"patterns": ["email"]}, {"reasons": ["violence"]}):
        for availability in ({}, {"retryable": False}, {"retryable": True}):
            body = {"error": {"message": "no", "metadata": metadata, "availability": availability}}
            text = str(error_of(Row(status, body, False, "", ""))).lower()
            assert "openrouter" not in text
            assert "`models`" not in text
            assert "credits" not in text


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "https://openrouter.ai/settings/keys"),
        (402, "https://openrouter.ai/settings/credits"),
        (503, "`models`"),
        (500, "status page"),
    ],
)
def test_openrouter_keeps_its_own_advice(status: int, advice: str) -> None:
    assert advice in str(error_of(Row(status, {"error": {"message": "m"}}, False, "", "", OPENROUTER)))


@pytest.mark.parametrize(("header", "retryable"), [("true", True), ("FALSE", False), ("maybe", True), ("", True)])
def test_a_header_may_set_whether_to_retry(header: str, retryable: bool) -> None:
    row = Row(503, {"error": {"message": "m"}}, True, "", "")
    error = error_of(row, **{"x-should-retry": header})
    assert error.retryable is retryable
    assert ("same request fails again" in str(error)) is not retryable


@pytest.mark.parametrize("digits", [400, 404, "400", "404", " 422 "])
@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_digits_inside_a_5xx_count(status: int, digits: Any) -> None:
    assert not error_of(Row(status, {"error": {"message": "m", "code": digits}}, False, "", "")).retryable


@pytest.mark.parametrize("digits", [400, "400", 401, "404"])
@pytest.mark.parametrize("status", [408, 409, 425, 429])
def test_digits_beside_a_retryable_status_are_ignored(status: int, digits: Any) -> None:
    assert error_of(Row(status, {"error": {"message": "m", "code": digits}}, False, "", "")).retryable


# --- inside a 200, and in events

NAMED = [
    ("insufficient_quota", 402),
    ("invalid_api_key", 401),
    ("authentication_error", 401),
    ("invalid_request_error", 400),
    ("context_length_exceeded", 400),
    ("model_not_found", 404),
    ("rate_limit_error", 429),
    ("rate_limit_exceeded", 429),
    ("overloaded_error", 503),
    ("permission_error", 403),
    ("not_found_error", 404),
    ("NotFoundError", 404),
    ("BadRequestError", 400),
    ("AuthenticationError", 401),
    ("PermissionDeniedError", 403),
    ("UnprocessableEntityError", 422),
    ("RateLimitError", 429),
    ("InternalServerError", 500),
    ("litellm.ContextWindowExceededError", 400),
    ("billing_error", 402),
    ("billing_hard_limit_reached", 402),
    ("tokens", 429),
    ("server_error", 500),
    ("api_error", 500),
    ("timeout_error", 504),
    ("request_too_large", 413),
    ("https://llm.example.com/errors/rate-limit-exceeded", 429),
    ("INVALID_ARGUMENT", 400),
    ("rateLimitExceeded", 429),
    ("Too Many Requests", 429),
    ("404", 404),
    ("503", 503),
    (404, 404),
    (529, 529),
    ("something_new", 500),
    ("200", 500),
    ("4040", 500),
    ("٤٠٤", 500),
    (True, 500),
    (None, 500),
    ([], 500),
    ("x" * 10_000, 500),
]


@pytest.mark.parametrize(("name", "status"), NAMED, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("place", ["code", "type", "event", "flat event"])
def test_a_code_or_type_as_text_is_read(name: Any, status: int, place: str) -> None:
    error: dict[str, Any] = {"message": "reported", "type" if place == "type" else "code": name}
    if place in {"code", "type"}:
        made = server_errors.error_from_result(Response(raw={"status": "failed", "error": error}), request=OPEN)
    else:
        event = {"type": "error", **(error if place == "flat event" else {"error": error})}
        made = server_errors.error_from_event(event, {}, request=OPEN)
    cls, retryable = exceptions.error_class_for_status(status)
    assert (type(made), made.status_code, made.retryable) == (cls, status, retryable)
    assert "reported" in str(made)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 400, "type": "server_error"}, 400),
        ({"code": "400", "type": "server_error"}, 400),
        ({"code": "500", "type": "invalid_request_error"}, 400),
        ({"code": "server_error", "type": "context_length_exceeded"}, 400),
        ({"code": "429", "type": "insufficient_quota"}, 402),
        ({"code": "429", "type": "invalid_request_error"}, 429),
        ({"code": "rate_limit_exceeded", "type": "invalid_request_error"}, 429),
        ({"code": "invalid_value", "type": "server_error"}, 400),
        ({"code": None, "type": None}, 500),
    ],
    ids=str,
)
def test_particular_names_count_more_than_generic_ones(error: dict[str, Any], status: int) -> None:
    raw = {"status": "failed", "error": {"message": "m", **error}}
    assert server_errors.error_from_result(Response(raw=raw), request=OPEN).status_code == status


def test_a_filtered_response_that_is_called_failed_is_not_paid_again() -> None:
    raw = result(status="failed", error=None, incomplete_details={"reason": "content_filter"})
    error = server_errors.error_from_result(Response(raw=raw), request=OPEN)
    assert (type(error), error.retryable) == (exceptions.BadRequestResponseError, False)
    assert "change the input or the model" in str(error)


# --- nothing else is raised, and nothing of the input is repeated

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["error", "detail", "message", "errors", "title", "status", "type", "code", "loc", "msg", "error_type", "param"]
names = st.sampled_from([*STATUS_OF_NAME, "400", "429", "500", "error", "NotFoundError"])
envelopes = st.recursive(
    json_values | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


@given(envelopes, st.integers(300, 599), st.sampled_from([OPEN, OPENROUTER, CONTINUED]))
def test_no_envelope_raises_anything_else(body: Any, status: int, request_: RequestSummary) -> None:
    error = server_errors.error_from_response(status, {}, json.dumps(body).encode(), request=request_)
    assert error.status_code == status
    assert len(str(error)) < 3_000


@given(envelopes, st.sampled_from(["error", "response.error", ""]))
def test_no_error_event_raises_anything_else(body: Any, kind: str) -> None:
    made = server_errors.error_from_event({"type": kind, "error": body}, {}, request=OPEN)
    assert 400 <= (made.status_code or 0) < 600


SENTINEL = "SENTINEL"  # a part of the input that a server repeats
content = st.sampled_from([SENTINEL, {"input": SENTINEL}, [SENTINEL], {"messages": [{"content": SENTINEL}]}])
complaints = st.fixed_dictionaries(
    {"input": content},
    optional={
        "loc": st.lists(st.sampled_from(["body", "input", "model", 0, 3]), max_size=4) | st.just("body") | st.none(),
        "msg": st.sampled_from(["Field required", f"[type=x, input_value='{SENTINEL}', input_type=str]", "", None, 5]),
        "type": st.sampled_from(["missing", "value_error", "string_type"]),
        "ctx": st.fixed_dictionaries({"error": content}),
        "url": st.just("https://errors.example.com"),
    },
)
details = st.lists(complaints, max_size=12)
bodies = st.one_of(
    details,
    details.map(lambda detail: {"detail": detail}),
    details.map(lambda detail: {"error": {"message": "no", "detail": detail}}),
    details.map(lambda detail: {"error": {"detail": detail}}),
    details.map(lambda detail: {"message": {"detail": detail}}),
    details.map(lambda detail: {"error": {"message": str(detail)}}),
    details.map(lambda detail: {"error": {"message": json.dumps(detail)}}),
    details.map(lambda detail: {"detail": str(detail)}),
    details.map(lambda detail: {"title": "Invalid", "status": 422, "errors": detail}),
    st.tuples(details, content).map(lambda pair: {"detail": pair[0], "body": pair[1]}),
    complaints,
    complaints.map(lambda complaint: {"detail": complaint}),
)


@given(bodies, st.sampled_from([400, 422, 500]), st.booleans())
def test_no_input_of_a_list_of_complaints_is_repeated(body: Any, status: int, is_cut: bool) -> None:
    data = json.dumps(body).encode()
    error = server_errors.error_from_response(status, {}, data[:-1] if is_cut else data, request=OPEN)
    for shown in (str(error), repr(error), repr(error.metadata), repr(error.availability)):
        assert SENTINEL not in shown


@given(st.lists(names | st.integers() | json_values, max_size=5))
def test_the_cause_that_is_chosen_is_one_of_those_named(values: list[Any]) -> None:
    causes = [read_cause(value) for value in values]
    chosen = most_particular(causes)
    assert chosen is None if not any(causes) else chosen in causes


@pytest.mark.parametrize("name", STATUS_OF_NAME)
def test_a_name_is_read_however_it_is_spelt(name: str) -> None:
    camel = "".join(word.title() for word in name.split("_"))
    for spelt in (name, name.upper(), name.replace("_", "-"), f"{name}_error", camel, f"{camel}Error", f"pkg.{camel}"):
        cause = read_cause(spelt)
        assert cause is not None
        assert cause.status == STATUS_OF_NAME[name]


# --- the sends before the last one


def lost(kind: str = "timeout") -> exceptions.TransportError:
    return exceptions.TransportError("no response", kind=kind, ambiguous=kind != "connect")


def test_a_final_error_names_the_earlier_sends_that_may_have_been_billed() -> None:
    paid = exceptions.OutputValidationError(
        "invalid", response=Response(raw=result(), headers={"x-generation-id": "gen-2"})
    )
    error = ResponsesError("the last").set_previous(
        [lost("connect"), lost(), exceptions.TooManyRequestsResponseError("x"), paid]
    )
    assert str(error) == (
        "the last. Before it, 2 earlier sends may have been billed: TransportError (timeout), "
        "OutputValidationError (gen-2)"
    )
    assert error.sends == 5
    assert str(error.set_previous(error.previous)) == str(error)  # setting them twice changes nothing
    assert str(error.set_previous([lost("connect")])) == "the last"
    assert (
        str(error.set_previous([lost("read")]))
        == "the last. Before it, 1 earlier send may have been billed: TransportError (read)"
    )


@pytest.mark.parametrize(
    ("response", "billed"),
    [
        (None, False),
        (Response(raw=result()), True),
        (Response(raw=result(), headers={"x-openrouter-cache-status": "HIT"}), False),
        (Response(raw=result(usage={"cost": 0})), False),
        (Response(raw=result(usage=None)), True),
        (Response(raw=result(usage=None, output=[])), False),
    ],
)
def test_a_response_that_arrived_may_have_been_billed(response: Response | None, billed: bool) -> None:
    assert ResponsesError("x", response=response).may_have_been_billed is billed
