"""A stream that breaks before any output is sent again unstreamed, once: vLLM refuses some requests this way."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    StreamInterruptedError,
    TransportError,
)

from .server import Connection, Server
from .wire import REQUEST, Flavour, Wire, deltas, ended, failure, good, sse, streamed

OPEN = "http://127.0.0.1:8642/v1"
STREAMED = {**REQUEST, "stream": True}
BEGUN = [
    {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
    {"type": "response.in_progress", "response": {"id": "resp_1", "status": "in_progress"}},
]
DROPPED = httpx.RemoteProtocolError("peer closed connection without sending complete message body")
WHOLE = sse(*BEGUN, *deltas("Hel|lo"), ended())


def broken(*more: bytes | Exception) -> httpx.Response:
    return streamed(sse(*BEGUN, done=False), *(more or (DROPPED,)))


def streams_sent(wire: Wire) -> list[bool]:
    return [sent["stream"] for sent in wire.sent]


def test_the_resend_brings_the_reason(flavour: Flavour) -> None:
    wire = Wire(broken(), failure(400, message="Grammar error: unexpected token"))
    with pytest.raises(BadRequestResponseError, match="Grammar error") as caught:
        flavour.on(wire, base_url=OPEN).send(STREAMED)
    assert streams_sent(wire) == [True, False]
    first, second = wire.requests
    assert {**json.loads(first.content), "stream": False} == json.loads(second.content)
    assert (first.headers["accept"], second.headers["accept"]) == ("text/event-stream", "application/json")
    assert "sent again with stream=False since its stream broke before any output" in str(caught.value)
    assert [type(error) for error in caught.value.previous] == [StreamInterruptedError]
    assert "before any output" in str(caught.value.previous[0])


@pytest.mark.parametrize(
    "first",
    [
        [sse(*BEGUN, done=False), DROPPED],
        [sse(*BEGUN, done=False)],
        [sse(*BEGUN)],
        [b""],
        [DROPPED],
        [sse(*BEGUN, '{"type": "resp')],
        [sse(*BEGUN, {"type": "response.output_item.added", "item": {"type": "message", "content": []}})],
    ],
    ids=["dropped", "ended", "done", "nothing", "dropped at once", "malformed", "announced"],
)
def test_a_response_to_the_unstreamed_resend_is_returned(flavour: Flavour, first: list[bytes | Exception]) -> None:
    wire = Wire(streamed(*first), good())
    response = flavour.on(wire, base_url=OPEN).send(STREAMED)
    assert (response.output_text, response.sends, streams_sent(wire)) == ("Hello", 2, [True, False])
    assert isinstance(response.previous[0], StreamInterruptedError)


def test_the_unstreamed_resend_counts_as_ambiguous(flavour: Flavour) -> None:
    wire = Wire(broken())
    with pytest.raises(StreamInterruptedError, match="stream=False") as caught:
        flavour.on(wire, base_url=OPEN, max_ambiguous_retries=0).send(STREAMED)
    assert (caught.value.ambiguous, streams_sent(wire)) == (True, [True])


def test_the_unstreamed_resend_is_made_once(flavour: Flavour) -> None:
    wire = Wire(broken(), httpx.ReadError("dropped"), broken(), broken())
    with pytest.raises(StreamInterruptedError):
        flavour.on(wire, base_url=OPEN, max_ambiguous_retries=3).send(STREAMED)
    assert streams_sent(wire) == [True, False, True, True]


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(400, json={"detail": "Stream must be set to true"}),
        httpx.Response(422, json={"error": {"message": "bad value", "param": "stream"}}),
        httpx.Response(400, json={"error": {"message": "stream_options need a stream"}}),
        httpx.Response(200, json={"detail": "Only streaming is supported"}),
        httpx.Response(200, content=b"null"),
    ],
    ids=["a detail", "a field", "its options", "inside a 200", "null"],
)
@pytest.mark.parametrize("limit", [1, 2])
def test_a_server_that_only_streams_leaves_the_first_reason(
    flavour: Flavour, refusal: httpx.Response, limit: int
) -> None:
    last = [broken()] if limit == 2 else []
    wire = Wire(broken(), httpx.Response(refusal.status_code, content=refusal.content), *last)
    with pytest.raises(StreamInterruptedError, match="before any output") as caught:
        flavour.on(wire, base_url=OPEN, max_ambiguous_retries=limit).send(STREAMED)
    assert streams_sent(wire) == [True, False, True][: limit + 1]
    error = caught.value if limit == 1 else caught.value.previous[1]
    assert isinstance(error, StreamInterruptedError)
    assert (error.retryable, error.ambiguous, caught.value.sends) == (True, True, limit + 1)
    assert isinstance(error.__cause__, APIError)
    assert "The server only streams: it refuses the same request with stream=False" in str(error)
    for misleading in ("sent again with", "give the reason", "set stream=True"):
        assert misleading not in str(error)


def test_a_server_that_only_streams_may_stream_the_next_time(flavour: Flavour) -> None:
    wire = Wire(broken(), httpx.Response(400, json={"detail": "Stream must be true"}), streamed(WHOLE))
    response = flavour.on(wire, base_url=OPEN, max_ambiguous_retries=2).send(STREAMED)
    assert (response.output_text, streams_sent(wire)) == ("Hello", [True, False, True])


def test_a_reason_about_another_stream_is_the_reason(flavour: Flavour) -> None:
    wire = Wire(broken(), failure(400, message="Grammar error: unexpected end of stream"))
    with pytest.raises(BadRequestResponseError, match="Grammar error"):
        flavour.on(wire, base_url=OPEN).send(STREAMED)


def test_a_resend_that_breaks_too_does_not_advise_a_resend(flavour: Flavour) -> None:
    with pytest.raises(StreamInterruptedError, match="sent again with stream=False") as caught:
        flavour.on(Wire(broken(), broken()), base_url=OPEN).send(STREAMED)
    assert "give the reason" not in str(caught.value)


def test_null_for_a_request_that_streams_advises_no_stream(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(200, content=b"null"))
    with pytest.raises(APIError) as caught:
        flavour.on(wire, base_url=OPEN, max_ambiguous_retries=0).send(STREAMED)
    assert "stream=True" not in str(caught.value)
    with pytest.raises(APIError, match="set stream=True"):
        flavour.on(Wire(httpx.Response(200, content=b"null")), base_url=OPEN).send(REQUEST)


def test_a_retryable_refusal_does_not_use_the_unstreamed_resend_up(flavour: Flavour) -> None:
    wire = Wire(broken(), failure(503), failure(429), good())
    assert flavour.on(wire, base_url=OPEN).send(STREAMED).sends == 4
    assert streams_sent(wire) == [True, False, False, False]


@pytest.mark.parametrize(
    ("settings", "then"),
    [
        ({}, [DROPPED]),
        ({"base_url": OPEN, "dialect": "openrouter"}, [DROPPED]),
        ({"base_url": OPEN}, [sse(*deltas("Hel"), done=False), DROPPED]),
        ({"base_url": OPEN}, [sse({"type": "response.reasoning_text.delta", "delta": "Hm."}, done=False), DROPPED]),
        ({"base_url": OPEN}, [sse({"type": "response.refusal.delta", "delta": "I"}, done=False), DROPPED]),
        ({"base_url": OPEN}, [httpx.ReadTimeout("silent")]),
    ],
    ids=["OpenRouter", "its dialect", "after text", "after reasoning", "after a refusal", "silent"],
)
def test_other_broken_streams_are_resent_as_streams(
    flavour: Flavour, settings: dict[str, Any], then: list[Any]
) -> None:
    wire = Wire(broken(*then), streamed(WHOLE))
    assert flavour.on(wire, **settings).send(STREAMED).output_text == "Hello"
    assert streams_sent(wire) == [True, True]


def test_an_unstreamed_request_is_not_changed(flavour: Flavour) -> None:
    wire = Wire(httpx.ReadError("dropped"), streamed(sse(*BEGUN)))
    with pytest.raises(StreamInterruptedError):
        flavour.on(wire, base_url=OPEN).send(REQUEST)
    assert streams_sent(wire) == [False, False]


def test_stream_yields_events_and_is_not_sent_again(flavour: Flavour) -> None:
    wire = Wire(broken())
    with pytest.raises(StreamInterruptedError, match="stream=False"):
        list(flavour.on(wire, base_url=OPEN).stream())
    assert streams_sent(wire) == [True]


def test_an_accept_header_of_the_users_own_stays(flavour: Flavour) -> None:
    wire = Wire(broken(), good())
    flavour.on(wire, base_url=OPEN).send(STREAMED, options={"accept": "application/vnd.other+json"})
    assert [request.headers["accept"] for request in wire.requests] == ["application/vnd.other+json"] * 2


def test_the_deadline_also_ends_the_unstreamed_resend(flavour: Flavour) -> None:
    def late(_: httpx.Request) -> httpx.Response:
        wire.now += 60
        return broken()

    wire = Wire(late)
    with pytest.raises((TransportError, StreamInterruptedError)):
        flavour.on(wire, base_url=OPEN, timeout=30).send(STREAMED)
    assert wire.send_count == 1


def test_a_real_connection_that_breaks_off_is_resent(flavour: Flavour, server: Server) -> None:
    def script(connection: Connection) -> None:
        while request := connection.read_request():
            if json.loads(request[1])["stream"]:
                data = sse(*BEGUN, done=False)
                head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                connection.send(head.encode() + f"{len(data):x}\r\n".encode() + data + b"\r\n")
                return
            reason = b'{"error": {"code": 400, "message": "logprobs are off"}}'
            connection.send(f"HTTP/1.1 400 Bad Request\r\ncontent-length: {len(reason)}\r\n\r\n".encode() + reason)

    server.script = script
    with pytest.raises(BadRequestResponseError, match="logprobs are off") as caught:
        flavour.network(base_url=server.url).send(STREAMED)
    assert caught.value.sends == 2
