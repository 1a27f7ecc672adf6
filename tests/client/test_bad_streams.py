"""Large streams, many events and foreign ones: the right text or a typed error, in bounded memory and time."""

from __future__ import annotations

import asyncio
import json
import resource
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from airflow_provider_responses.client import framing
from airflow_provider_responses.client import sse as streams
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    ResponsesError,
    StreamInterruptedError,
)
from airflow_provider_responses.models.response import Response

from .server import LIMIT, Connection, Server
from .shapes import USUAL, added, at, body, created, deltas, end, ended, event, message
from .wire import EVENT_STREAM, REQUEST, Flavour, Wire, sse

STREAMED = {**REQUEST, "stream": True}
CHUNK = 64 * 1024  # bytes that arrive at once
LARGE = 50 * 1024 * 1024
BUSY = 60.0  # seconds that one second of work may take on a busy machine


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Yield a large body in pieces of a usual size."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        return (self.data[place : place + CHUNK] for place in range(0, len(self.data), CHUNK))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def read(*data: bytes) -> Response:
    reader = StreamReader({}, request=RequestSummary(label="POST x"), yields_events=False)
    for one in framing.events(b"", iter(data)):
        reader.read(one.data, one.event)
    reader.end()
    return reader.finish()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", ["delta", "done", "item", "end", "other"])
def test_an_event_of_50_megabytes_is_read(flavour: Flavour, where: str) -> None:
    text = "x" * LARGE
    events: dict[str, list[dict[str, Any]]] = {
        "delta": [*deltas(text), end()],
        "done": [event("output_text.done", text=text, **at()), end()],
        "item": [ended(message(text)), end()],
        "end": [end(message(text))],
        "other": [event("unknown", data=text), *deltas("Hello"), end()],
    }
    data = sse(created(), *events[where])
    began = time.monotonic()
    wire = Wire(httpx.Response(200, headers=EVENT_STREAM, stream=Chunks(data)))
    response = flavour.on(wire).send(STREAMED)
    assert len(response.output_text) == (5 if where == "other" else LARGE)
    assert time.monotonic() - began < BUSY
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 * 1024 * 1024  # KiB


@pytest.mark.parametrize(
    "empty",
    [
        b"data: {}\n\n",
        b"data:\n\n",
        b"event: ping\n\n",
        b"\n\n",
        b": \n\n",
        b"id: 1\n\n",
        b"data: null\n\n",
        sse(event("output_text.delta", delta="", **at()), done=False),
        sse(event("output_text.done", text="", item_id="other"), done=False),
        sse(event("output_item.added", item={}), done=False),
        sse(event("output_item.done", item=None), done=False),
        sse(event("content_part.added", part={"type": "output_text", "text": ""}, item_id="other"), done=False),
        sse({"type": "error", "error": {}}, done=False),
    ],
    ids=repr,
)
def test_empty_events_take_neither_time_nor_memory(empty: bytes) -> None:
    """Sends 100,000 of the shorter events."""
    pieces = [empty * 1000] * (100 if len(empty) < 12 else 10)
    tracemalloc.start()
    began = time.monotonic()
    response = read(sse(created(), done=False), *pieces, sse(*USUAL[1:], end(message())))
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.output_text == message()["content"][0]["text"]
    assert not response.inconsistent
    assert time.monotonic() - began < BUSY
    assert used < 5_000_000


@pytest.mark.parametrize("flood", ["items", "repeated items", "ended items", "new ids", "parts"])
def test_many_items_are_read_in_linear_time(flood: str) -> None:
    def one(number: int) -> dict[str, Any]:
        item = {"type": "message", "id": f"m{number}", "content": [{"type": "output_text", "text": "x"}]}
        return {
            "items": event("output_item.done", item=item, output_index=number * 10**9),
            "repeated items": event("output_item.done", item=item | {"id": "m"}, output_index=0),
            "ended items": event("output_item.done", item=item, output_index=0),
            "new ids": event("output_text.delta", delta="x", item_id=f"m{number}", output_index=0),
            "parts": event("output_text.delta", delta="x", item_id="m", content_index=number * 10**9),
        }[flood]

    reader = StreamReader({}, request=RequestSummary(label="POST x"))
    began = time.monotonic()
    for number in range(5_000):
        reader.read(json.dumps(one(number)))
    reader.read(json.dumps(end()))
    assert reader.finish().output_text.startswith("x")
    assert time.monotonic() - began < BUSY


def test_an_end_of_another_response_is_not_mixed_with_this_one() -> None:
    other = body(message("of somebody else", "msg_9"), id="resp_9", model="maker/other-1")
    response = read(sse(*USUAL, event("completed", response=other)))
    assert response.id == "resp_1"
    assert "somebody" not in json.dumps(response.raw)
    assert response.inconsistent
    with pytest.raises(StreamInterruptedError):
        read(sse(created(), event("completed", response=other)))


@pytest.mark.parametrize("after", [0, 1, 99, 5000])
def test_after_an_error_reading_stops_at_a_limit(flavour: Flavour, after: int) -> None:
    """The last event after an error holds id, model and usage, but a server may send events without end."""
    failed = end(kind="failed", id="resp_7", model="maker/large-1", usage={"input_tokens": 8, "output_tokens": 1})
    error = {"type": "error", "code": "invalid_prompt", "message": "no"}
    data = sse(created(), error, *[event("unknown")] * after, failed)
    with pytest.raises(APIError) as caught:
        flavour.on(Wire(httpx.Response(200, headers=EVENT_STREAM, stream=Chunks(data)))).send(STREAMED)
    response = caught.value.response
    assert response is not None
    assert (caught.value.code, response.status) == ("invalid_prompt", "failed")
    if after < 5000:
        assert (response.id, response.model, response.usage.input_tokens) == ("resp_7", "maker/large-1", 8)
    else:
        assert (response.id, response.model, response.usage.input_tokens) == ("resp_1", "maker/small-1", None)


def test_the_connection_to_a_server_that_keeps_sending_after_an_error_is_closed(
    flavour: Flavour, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "END_SECONDS_AFTER_ERROR", 0.1)

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        connection.send(sse(created(), {"type": "error", "code": "invalid_prompt", "message": "no"}, done=False))
        connection.drip(b": still here\n\n")

    server.script = script
    client = flavour.network(base_url=server.url)
    with pytest.raises(BadRequestResponseError):
        client.send(STREAMED)
    assert server.hung_up.wait(LIMIT), "it was listened to until it had nothing more to send"


class Late(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose end advances the clock and yields to the event loop."""

    def __init__(self, wire: Wire, *pieces: bytes) -> None:
        self.wire = wire
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            yield piece
            self.wire.now += 1

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece
            for _ in range(3):
                await asyncio.sleep(0)


@pytest.mark.parametrize("method", ["send", "stream"])
def test_a_late_end_after_an_error_is_read(flavour: Flavour, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(streams, "END_SECONDS", 0.0)
    wire = Wire()
    error = sse(created(), {"type": "error", "code": "invalid_prompt", "message": "no"}, done=False)
    body = Late(wire, error, sse(end(kind="failed", id="resp_7")))
    wire.responses = [httpx.Response(200, headers=EVENT_STREAM, stream=body)]
    client = flavour.on(wire)
    with pytest.raises(BadRequestResponseError) as caught:
        client.send(STREAMED) if method == "send" else list(client.stream())
    assert caught.value.response is not None
    assert caught.value.response.id == "resp_7"


def test_the_wait_for_the_end_after_an_error_leaves_half_of_the_time() -> None:
    reader = StreamReader({}, request=RequestSummary(label="POST x"))
    assert reader.seconds_to_end(600) == streams.END_SECONDS
    reader.read('{"type": "error", "message": "no"}')
    assert reader.seconds_to_end(600) == streams.END_SECONDS_AFTER_ERROR
    assert reader.seconds_to_end(2) == 1
    assert reader.seconds_to_end(-1) == 0


def test_an_error_has_the_text_before_it_and_may_be_billed(flavour: Flavour) -> None:
    data = sse(created(), *deltas("Hel", "lo"), {"type": "error", "code": "server_error", "message": "no"})
    wire = Wire(*[httpx.Response(200, headers=EVENT_STREAM, stream=Chunks(data)) for _ in range(2)])
    with pytest.raises(ResponsesError) as caught:
        flavour.on(wire).send(STREAMED)
    assert (caught.value.ambiguous, caught.value.sends) == (True, 2)
    assert caught.value.response is not None
    assert caught.value.response.output_text == "Hello"
    assert "Hello" not in str(caught.value)


def test_an_inconsistent_end_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    response = read(sse(created(), added(message()), *deltas("the real text"), end(message("(No update)"))))
    assert (response.output_text, response.inconsistent) == ("the real text", True)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "POST x" in record.getMessage()
    assert "real text" not in caplog.text
    assert "No update" not in caplog.text
