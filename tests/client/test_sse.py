"""Complete and broken streams in both clients: `send(stream=True)` returns the response, `stream()` its events."""

from __future__ import annotations

import contextlib
import json
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    IncompleteResponseError,
    InternalServerResponseError,
    ServiceUnavailableResponseError,
    StreamInterruptedError,
    TooManyRequestsResponseError,
    TransportError,
)

from .wire import EVENT_STREAM, KEY, REQUEST, Body, Flavour, Wire, deltas, ended, failure, good, result, sse, streamed

STREAMED = {**REQUEST, "stream": True}
TEXT = "Grüße, 世界 🙂"
CREATED = {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}
WHOLE = sse(CREATED, *deltas("Grüße, |世界 |🙂"), ended(TEXT))
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *sorted(places), len(data)])]


# --- the grammar


@many
@given(places=st.lists(st.integers(0, len(WHOLE)), max_size=9))
def test_a_stream_may_be_cut_at_any_byte(flavour: Flavour, places: list[int]) -> None:
    client = flavour.on(Wire(streamed(*cut(WHOLE, places)), streamed(*cut(WHOLE, places))))
    assert client.send(STREAMED).output_text == TEXT
    assert "".join(event.delta for event in client.stream()) == TEXT


def test_a_stream_may_come_byte_by_byte(flavour: Flavour) -> None:
    pieces = [WHOLE[n : n + 1] for n in range(len(WHOLE))]
    assert flavour.on(Wire(streamed(*pieces))).send(STREAMED).output_text == TEXT


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=repr)
def test_any_line_end_is_read_wherever_it_is_cut(flavour: Flavour, newline: str) -> None:
    data = sse(CREATED, *deltas("a|b"), ended("ab"), newline=newline)
    for place in range(0, len(data), 7):
        events = list(flavour.on(Wire(streamed(*cut(data, [place])))).stream())
        assert [event.type.rpartition(".")[2] for event in events] == ["created", "delta", "delta", "completed"]


def test_comments_names_ids_and_empty_events_are_passed_over(flavour: Flavour) -> None:
    data = (
        b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\nevent: response.created\nid: 1\nretry: 5\n"
        + sse(CREATED, done=False)
        + b"event: ping\n\ndata:\n\nevent: response.completed\n"
        + sse(ended())
    )
    assert [event.type for event in flavour.on(Wire(streamed(data))).stream()] == [
        "response.created",
        "response.completed",
    ]


def test_data_over_several_lines_is_one_event(flavour: Flavour) -> None:
    lines = json.dumps(ended(), indent=1).splitlines()
    data = "".join(f"data: {line}\n" for line in lines).encode() + b"\n"
    assert flavour.on(Wire(streamed(data))).send(STREAMED).output_text == "Hello"


def test_line_separators_of_unicode_end_no_line(flavour: Flavour) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf"
    assert flavour.on(Wire(streamed(sse(*deltas(text), ended(text))))).send(STREAMED).output_text == text


def test_the_content_types_letters_and_parameters_do_not_matter(flavour: Flavour) -> None:
    headers = {"content-type": "Text/Event-Stream; charset=utf-8"}
    wire = Wire(streamed(WHOLE, headers=headers), streamed(WHOLE, headers=headers))
    client = flavour.on(wire)
    assert client.send(STREAMED).output_text == TEXT
    assert len(list(client.stream())) == 5


def test_a_stream_without_a_last_blank_line_or_done_is_complete(flavour: Flavour) -> None:
    assert flavour.on(Wire(streamed(sse(ended(), done=False)))).send(STREAMED).output_text == "Hello"


def test_nothing_after_the_terminal_event_matters(flavour: Flavour) -> None:
    data = sse(ended()) + b"data: {broken\n\n"
    assert len(list(flavour.on(Wire(streamed(data, httpx.ReadError("late")))).stream())) == 1


# --- events


def test_a_streamed_request_accepts_a_stream(flavour: Flavour) -> None:
    wire = Wire(streamed(WHOLE), streamed(WHOLE))
    client = flavour.on(wire)
    list(client.stream())
    client.send(STREAMED)
    assert [sent["stream"] for sent in wire.sent] == [True, True]
    assert {request.headers["accept"] for request in wire.requests} == {"text/event-stream"}
    assert wire.requests[0].content == wire.requests[1].content


def test_events_have_type_data_and_number(flavour: Flavour) -> None:
    data = sse(*({**event, "sequence_number": n} for n, event in enumerate((CREATED, *deltas("a"), ended("a")))))
    created, delta, last = flavour.on(Wire(streamed(data))).stream()
    assert (created.sequence_number, delta.sequence_number, delta.delta) == (0, 1, "a")
    assert created.response is not None
    assert created.response.id == "resp_1"
    assert last.is_terminal
    assert last.response is not None
    assert last.response.usage.cost == 0.5


def test_the_response_has_the_streams_headers(flavour: Flavour) -> None:
    response = flavour.on(Wire(streamed(WHOLE, headers={"x-generation-id": "gen-1"}))).send(STREAMED)
    assert (response.generation_id, response.usage.cost, response.sends) == ("gen-1", 0.5, 1)


def test_the_older_name_of_the_end_is_read(flavour: Flavour) -> None:
    done = {"type": "response.done", "response": {k: v for k, v in result().items() if k != "status"}}
    response = flavour.on(Wire(streamed(sse(done)))).send(STREAMED)
    assert (response.status, response.output_text) == ("completed", "Hello")


def test_events_of_unknown_or_no_type_are_passed_on(flavour: Flavour) -> None:
    data = sse({"type": "response.unknown", "x": 1}, {"x": 2}, {"type": 5}, {"error": None}, ended())
    events = list(flavour.on(Wire(streamed(data))).stream())
    assert [event.type for event in events] == ["response.unknown", "", "", "", "response.completed"]


ERROR_EVENTS: list[dict[str, Any]] = [
    {
        "type": "response.failed",
        "response": result(
            status="failed", error={"code": "rate_limit_exceeded", "message": "slow down"}, output=[], usage=None
        ),
    },
    {"type": "response.error", "error": {"code": "rate_limit_exceeded", "message": "slow down"}},
    {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None},
    {"type": "error", "error": {"code": 429, "message": "slow down"}},
    {"type": "error", "code": 500, "message": "slow down", "error_type": "rate_limit_exceeded"},
    {"error": {"code": 429, "message": "slow down"}},
]


@pytest.mark.parametrize("event", ERROR_EVENTS, ids=range(len(ERROR_EVENTS)))
def test_every_shape_of_an_error_is_its_class(flavour: Flavour, event: dict[str, Any]) -> None:
    headers = {"x-generation-id": "gen-1"}
    client = flavour.on(Wire(*[streamed(sse(CREATED, event), headers=headers) for _ in range(2)]), max_retries=0)
    with pytest.raises(TooManyRequestsResponseError, match="slow down") as caught:
        client.send(STREAMED)
    assert (caught.value.generation_id, caught.value.retryable) == ("gen-1", True)
    with pytest.raises(TooManyRequestsResponseError, match="slow down"):
        list(client.stream())


def test_an_error_in_a_stream_is_retried_by_send(flavour: Flavour) -> None:
    wire = Wire(*[streamed(sse(CREATED, event)) for event in ERROR_EVENTS[:3]], streamed(WHOLE))
    response = flavour.on(wire).send(STREAMED)
    assert (response.output_text, response.sends) == (TEXT, 4)


def test_a_wrong_request_is_not_retried_for_being_streamed(flavour: Flavour) -> None:
    event = {"type": "error", "code": "invalid_prompt", "message": "m"}
    with pytest.raises(BadRequestResponseError):
        flavour.on(Wire(streamed(sse(CREATED, event)))).send(STREAMED)


@pytest.mark.parametrize("status", ["incomplete", None])
def test_a_truncated_response_raises_after_its_events(flavour: Flavour, status: str | None) -> None:
    last = ended("the begin", "incomplete", status=status, incomplete_details={"reason": "max_output_tokens"})
    client = flavour.on(Wire(*[streamed(sse(*deltas("the begin"), last)) for _ in range(2)]))
    with pytest.raises(IncompleteResponseError) as caught:
        client.send(STREAMED)
    assert caught.value.response is not None
    assert caught.value.response.output_text == "the begin"
    seen = []
    with pytest.raises(IncompleteResponseError):
        seen.extend(event.type for event in client.stream())


# --- broken streams

BROKEN: dict[str, list[bytes | Exception]] = {
    "truncated": [sse(CREATED, *deltas("Hel|lo"), done=False)],
    "ended by [DONE] alone": [sse(CREATED, *deltas("Hel|lo"))],
    "dropped": [sse(*deltas("Hel|lo"), done=False), httpx.ReadError("dropped")],
    "silent": [sse(*deltas("Hel|lo"), done=False), httpx.ReadTimeout("silent")],
    "hung up": [sse(*deltas("Hel|lo"), done=False), httpx.RemoteProtocolError("hung up")],
    "malformed": [sse(*deltas("Hel|lo"), '{"type": "response.output_te')],
    "no object": [sse(*deltas("Hel|lo"), "[1]")],
    "cut inside an event": [sse(*deltas("Hel|lo"), ended("Hello"), done=False)[:-9]],
    "terminal without response": [sse(*deltas("Hel|lo"), {"type": "response.completed"})],
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN)
def test_send_starts_over_and_returns_the_whole_response(flavour: Flavour, pieces: list[Any]) -> None:
    wire = Wire(streamed(*pieces), streamed(WHOLE))
    response = flavour.on(wire).send(STREAMED)
    assert (response.output_text, response.sends) == (TEXT, 2)
    assert isinstance(response.previous[0], StreamInterruptedError)
    assert len({request.content for request in wire.requests}) == 1


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN)
def test_send_starts_over_only_as_often_as_may_be_billed(flavour: Flavour, pieces: list[Any]) -> None:
    wire = Wire(streamed(*pieces), streamed(*pieces))
    with pytest.raises(StreamInterruptedError) as caught:
        flavour.on(wire).send(STREAMED)
    assert (caught.value.ambiguous, caught.value.retryable, caught.value.sends) == (True, True, 2)


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN)
def test_stream_raises_with_the_text_so_far(flavour: Flavour, pieces: list[Any]) -> None:
    wire = Wire(streamed(*pieces, headers={"x-generation-id": "gen-1"}))
    seen = ""
    with pytest.raises(StreamInterruptedError) as caught:  # noqa: PT012  the events before it are needed
        for event in flavour.on(wire).stream():
            seen += event.delta
    error = caught.value
    assert (seen, error.text, error.generation_id) == ("Hello", "Hello", "gen-1")
    assert "Hello" not in str(error)
    if isinstance(pieces[-1], Exception):
        assert error.__cause__ is pieces[-1]


def test_stream_retries_until_the_stream_begins(flavour: Flavour) -> None:
    wire = Wire(failure(503), httpx.ConnectError("refused"), streamed(WHOLE))
    assert "".join(event.delta for event in flavour.on(wire).stream()) == TEXT
    wire = Wire(*[failure(503)] * 4)
    with pytest.raises(ServiceUnavailableResponseError) as caught:
        list(flavour.on(wire).stream())
    assert caught.value.sends == 4


def test_a_stream_that_the_caller_leaves_is_closed(flavour: Flavour) -> None:
    response = streamed(WHOLE)
    body = response.stream
    events = flavour.on(Wire(response)).stream()
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert isinstance(body, Body)
    assert body.closed


def test_a_stream_that_broke_is_closed(flavour: Flavour) -> None:
    response = streamed(*BROKEN["malformed"])
    body = response.stream
    with pytest.raises(StreamInterruptedError):
        list(flavour.on(Wire(response)).stream())
    assert isinstance(body, Body)
    assert body.closed


# --- servers that do not stream


def test_a_plain_response_to_a_streamed_request_is_accepted(flavour: Flavour) -> None:
    client = flavour.on(Wire(good(), good()))
    assert client.send(STREAMED).output_text == "Hello"
    (event,) = client.stream()
    assert event.type == "response.completed"
    assert event.is_terminal
    assert event.response is not None
    assert event.response.output_text == "Hello"


def test_a_plain_failure_to_a_streamed_request_is_its_class(flavour: Flavour) -> None:
    responses = [
        good(status="failed", output=[], usage=None, error={"code": "server_error", "message": "m"}) for _ in range(2)
    ]
    client = flavour.on(Wire(*responses), max_retries=0)
    with pytest.raises(InternalServerResponseError):
        client.send(STREAMED)
    with pytest.raises(InternalServerResponseError):
        list(client.stream())


@pytest.mark.parametrize("pieces", [[b'{"id": ', httpx.ReadError("dropped")], [b'{"id": ']], ids=["dropped", "cut"])
def test_a_plain_response_that_breaks_is_this_packages_error(flavour: Flavour, pieces: list[Any]) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=Body(*pieces))

    client = flavour.on(Wire(broken), max_ambiguous_retries=0)
    with pytest.raises((TransportError, APIError)) as caught:
        list(client.stream())
    assert caught.value.ambiguous


def test_a_stream_to_a_plain_request_is_read_to_its_end(flavour: Flavour) -> None:
    assert flavour.on(Wire(streamed(WHOLE))).send().output_text == TEXT


# --- the reader by itself


@given(st.text())
def test_the_reader_raises_only_its_own_error(data: str) -> None:
    reader = StreamReader(EVENT_STREAM, request=RequestSummary(label="POST x"))
    with contextlib.suppress(StreamInterruptedError, APIError):
        reader.read(data)


def test_the_reader_keeps_the_text_so_far() -> None:
    reader = StreamReader({}, request=RequestSummary(label="POST x"))
    assert reader.read("") is None
    for event in deltas("a|b|c"):
        reader.read(json.dumps(event))
    assert reader.text == "abc"
    assert reader.read("[DONE]") is None
    assert reader.has_outcome
    with pytest.raises(StreamInterruptedError) as caught:
        reader.finish()
    assert caught.value.text == "abc"


# --- odd servers


def test_a_response_that_arrived_only_in_pieces_is_assembled(flavour: Flavour) -> None:
    data = sse(*deltas("Hello"), ended(output=[]))
    assert flavour.on(Wire(streamed(data))).send(STREAMED).output_text == "Hello"


def test_items_that_arrived_only_in_pieces_are_in_the_response(flavour: Flavour) -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}
    data = sse({"type": "response.output_item.done", "item": call}, ended(output=[]))
    assert flavour.on(Wire(streamed(data))).send(STREAMED).function_calls == [call]


def test_the_last_event_decides_whether_a_response_is_complete(flavour: Flavour) -> None:
    assert flavour.on(Wire(streamed(sse(ended(status="in_progress"))))).send(STREAMED).status == "completed"


def test_half_of_a_surrogate_pair_loses_no_response(flavour: Flavour) -> None:
    piece = b'data: {"type": "response.output_text.delta", "delta": "x\\ud83d"}\n\n'
    response = flavour.on(Wire(streamed(piece + sse(ended("x"))))).send(STREAMED)
    assert (response.output_text, response.sends) == ("x", 1)


def test_an_error_event_whose_error_is_text_has_it_as_message(flavour: Flavour) -> None:
    client = flavour.on(Wire(streamed(sse({"error": "model not loaded"}))), max_retries=0)
    with pytest.raises(InternalServerResponseError, match="model not loaded"):
        client.send(STREAMED)


@pytest.mark.parametrize("streaming", [True, False])
def test_an_error_event_that_echoes_the_key_does_not_show_it(flavour: Flavour, streaming: bool) -> None:
    event = {"type": "error", "error": {"code": 400, "message": f"key {KEY} is bad", "metadata": {"raw": KEY}}}
    client = flavour.on(Wire(streamed(sse(event))), max_retries=0)
    with pytest.raises(APIError) as caught:
        list(client.stream()) if streaming else client.send(STREAMED)
    assert KEY not in f"{caught.value} {vars(caught.value)}"


def test_an_event_of_empty_data_lines_is_passed_over(flavour: Flavour) -> None:
    body = b"data\ndata\n\n" + sse(ended("Hello"))
    assert flavour.on(Wire(streamed(body))).send(STREAMED).output_text == "Hello"
