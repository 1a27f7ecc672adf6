"""A fake network, and one interface to both clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any, Protocol

import httpx

from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig, ResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.models.events import StreamEvent
from airflow_provider_responses.models.response import Response

KEY = "made-up-key-of-the-tests"
REQUEST = {"model": "maker/small-1", "input": "the secret plan"}
EVENT_STREAM = {"content-type": "text/event-stream"}

Scripted = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def result(text: str = "Hello", **changes: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "maker/small-1",
        "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}],
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "cost": 0.5},
        "error": None,
        "incomplete_details": None,
    } | changes


def good(text: str = "Hello", headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
    return httpx.Response(200, json=result(text, **changes), headers=headers)


def failure(status: int, headers: dict[str, str] | None = None, **error: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": status, "message": "reported", **error}}, headers=headers)


def deltas(text: str) -> list[dict[str, Any]]:
    return [{"type": "response.output_text.delta", "delta": piece} for piece in text.split("|")]


def ended(text: str = "Hello", kind: str = "completed", **changes: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": result(text, **{"status": kind, **changes})}


def sse(*events: dict[str, Any] | str, done: bool = True, newline: str = "\n") -> bytes:
    lines = [event if isinstance(event, str) else json.dumps(event, ensure_ascii=False) for event in events]
    lines += ["[DONE]"] if done else []
    return "".join(f"data: {line}{newline}{newline}" for line in lines).encode()


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces for both clients; an exception among them is raised."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def streamed(*pieces: bytes | Exception, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(200, headers=EVENT_STREAM | (headers or {}), stream=Body(*pieces))


class Clock(Protocol):
    """A clock that advances when a client sleeps."""

    def clock(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class Wire:
    """Returns the responses one after another; records the requests that were sent, and when."""

    def __init__(self, *responses: Scripted) -> None:
        self.responses = list(responses)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(self.now)
        assert self.responses, "one request too many"
        response = self.responses.pop(0)
        if isinstance(response, BaseException):
            raise response
        return response if isinstance(response, httpx.Response) else response(request)

    @property
    def send_count(self) -> int:
        return len(self.requests)

    @property
    def waits(self) -> list[float]:
        return [round(later - earlier, 6) for earlier, later in pairwise(self.times)]

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


def config(**changes: Any) -> ClientConfig:
    return ClientConfig(**({"api_key": KEY, "base_url": "https://openrouter.ai/api/v1"} | changes))


class Handle:
    """Runs a client of either flavour in a synchronous test."""

    def __init__(self, client: ResponsesClient | AsyncResponsesClient, runner: asyncio.Runner) -> None:
        self.client: Any = client
        self._runner = runner

    def _run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        given = getattr(self.client, name)(*args, **kwargs)
        return self._runner.run(given) if asyncio.iscoroutine(given) else given

    def send(self, request: Any = REQUEST, **kwargs: Any) -> Response:
        response: Response = self._run("send", request, **kwargs)
        return response

    def get(self, name: str, *args: Any) -> Any:
        return self._run(name, *args)

    def stream(self, request: Any = REQUEST, **kwargs: Any) -> Iterator[StreamEvent]:
        events = self.client.stream(request, **kwargs)
        if isinstance(self.client, ResponsesClient):
            try:
                yield from events
            finally:
                events.close()
            return

        async def step() -> StreamEvent | None:
            return await anext(events, None)

        async def close() -> None:
            await events.aclose()

        try:
            while event := self._runner.run(step()):
                yield event
        finally:
            self._runner.run(close())

    def close(self) -> None:
        self._run("close" if isinstance(self.client, ResponsesClient) else "aclose")


class Flavour:
    """Creates clients of one flavour, and closes them."""

    def __init__(self, *, sync: bool) -> None:
        self.sync = sync
        self._runner = asyncio.Runner()
        self._handles: list[Handle] = []

    def on(
        self, wire: Wire | Callable[[httpx.Request], httpx.Response], *, draw: float = 1.0, **changes: Any
    ) -> Handle:
        """
        Return a client on a faked wire. Its clock is the wire's.

        :param draw: the random number of each backoff: 1 for the longest.
        """
        pool = SyncPool(httpx.MockTransport(wire)) if self.sync else AsyncPool(httpx.MockTransport(wire))
        return self._make(config(**changes), pool, draw, wire if isinstance(wire, Wire) else None)

    def network(self, pool: Any = None, *, clock: Clock | None = None, **changes: Any) -> Handle:
        """Return a client on real sockets, which never waits before a retry."""
        return self._make(config(**changes), pool or (SyncPool() if self.sync else None), 0.0, clock)

    def _make(self, settings: ClientConfig, pool: Any, draw: float, clock: Clock | None) -> Handle:
        times: dict[str, Any] = {"random": lambda: draw}
        if clock is not None:

            async def sleep(seconds: float) -> None:
                clock.sleep(seconds)

            times |= {"clock": clock.clock, "sleep": clock.sleep if self.sync else sleep}
        client = (ResponsesClient if self.sync else AsyncResponsesClient)(settings, pool=pool, **times)
        handle = Handle(client, self._runner)
        self._handles.append(handle)
        return handle

    def close(self) -> None:
        for handle in self._handles:
            handle.close()
        self._runner.close()
