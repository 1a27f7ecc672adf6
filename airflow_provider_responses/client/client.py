"""The clients: thin loops over what protocol.py, retries.py and sse.py decide."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
from httpx_sse import EventSource
from tenacity import AsyncRetrying, Retrying

from airflow_provider_responses.client import protocol, transport
from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.client.retries import Judge
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import (
    APIError,
    RequestCancelledError,
    ResponsesError,
    StreamInterruptedError,
    TransportError,
)
from airflow_provider_responses.models.events import StreamEvent
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

EVENT_STREAM: Final = "text/event-stream"
DRAIN: Final = 0.5  # seconds that the end of a stream may take once the answer is whole
NAP: Final = 0.2  # seconds between looks at the cancel mark while waiting

Options = RequestOptions | Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One HTTP request, ready to be sent any number of times."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # the key is among them
    body: bytes | None = field(repr=False)
    stream: bool
    config: ClientConfig
    what: str

    def request(self, extensions: Mapping[str, Any]) -> httpx.Request:
        """Give the request for one try; made by hand, as merging a client's defaults in is a fifth of its time."""
        return httpx.Request(
            self.method, _parsed(self.url), headers=self.headers, content=self.body, extensions=extensions
        )

    def timeout(self, remaining: float) -> dict[str, float]:
        """Give httpx's timeouts: none may outlast the deadline."""
        connect = min(self.config.connect_timeout, remaining)
        return {"connect": connect, "pool": connect, "write": min(self.config.read_timeout, remaining)} | {
            "read": min(self.config.read_timeout, remaining)
        }

    def refusal(self, http: httpx.Response) -> APIError:
        """Give the error of a status other than 2XX."""
        return protocol.error_from_response(http.status_code, _head(http), http.content, what=self.what)

    def deadline_error(self) -> TransportError:
        return TransportError(
            f"{self.what}: no answer within {round(self.config.timeout, 2):g} s, all tries included. "
            "It may have been billed. "
            "Raise the timeout (`options`, the connection, or the task's execution_timeout), or ask for less",
            kind="deadline",
            ambiguous=True,
        )


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


class _Calls:
    """What both clients share: settings, and how a request becomes a call."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._clock: Callable[[], float] = time.monotonic
        self._draw: Callable[[], float] = random.random

    def _post(self, request: ResponsesRequest | Mapping[str, Any], options: Options, *, stream: bool = False) -> _Call:
        parsed = None if options is None else RequestOptions.parse(options)
        config = self.config.for_call(parsed)
        prepared = protocol.prepare(request, config)
        if stream and not prepared.stream:
            prepared = prepared.replace(stream=True)
        return _Call(
            method="POST",
            url=f"{config.base_url}/responses",
            headers=protocol.build_headers(config, parsed, stream=bool(prepared.stream)),
            body=prepared.to_bytes(),
            stream=bool(prepared.stream),
            config=config,
            what=protocol.describe_call(config, prepared),
        )

    def _get(self, path: str, options: Options = None) -> _Call:
        parsed = None if options is None else RequestOptions.parse(options)
        config = self.config.for_call(parsed)
        url = f"{config.base_url}{path}"
        headers = protocol.build_headers(config, parsed)
        return _Call(method="GET", url=url, headers=headers, body=None, stream=False, config=config, what=f"GET {url}")

    def _get_generation(self, generation_id: str, options: Options) -> _Call:
        return self._get(f"/generation?id={quote(generation_id, safe='')}", options)

    def _judge(self, call: _Call) -> Judge:
        return Judge(call.config, self._clock, self._draw)


def _settle(judge: Judge, response: Response) -> Response:
    return replace(response, previous=tuple(judge.errors), seconds=judge.clock() - judge.started)


def _blame(judge: Judge, error: ResponsesError) -> None:
    error.previous = tuple(e for e in judge.errors if e is not error)
    if error.response is not None:
        error.response = replace(error.response, previous=error.previous, seconds=judge.clock() - judge.started)
    protocol.note_tries(error)


def _head(http: httpx.Response) -> dict[str, str]:
    """Give the headers as a plain dict: httpx's own looks at all of them for each look-up."""
    return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in http.headers.raw}


def _is_event_stream(http: httpx.Response) -> bool:
    content_type: str = http.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == EVENT_STREAM


def _event_source(http: httpx.Response) -> EventSource:
    http.headers["content-type"] = EVENT_STREAM  # httpx-sse reads it to the letter
    return EventSource(http)


def _whole(http: httpx.Response, call: _Call) -> Response:
    """Read a plain answer whose body has arrived."""
    head = _head(http)
    return Response(raw=protocol.read_json(http.status_code, head, http.content, what=call.what), headers=head)


def _object(body: Mapping[str, Any]) -> dict[str, Any]:
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def _objects(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    data = body.get("data")
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


class ResponsesClient(_Calls):
    """
    Sends requests and blocks until they are answered. Safe to share between threads.

    :param config: address, key, patience.
    :param pool: connections of its own; by default all clients of the process share one pool.
    """

    def __init__(self, config: ClientConfig, *, pool: transport.SyncPool | None = None) -> None:
        super().__init__(config)
        self._own_pool = pool
        self._nap: Callable[[float], None] = time.sleep
        # A plain attribute and not an Event: it is set inside signal handlers, where locks can be held.
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None) -> Response:
        """
        Send a request and give the whole answer; with ``stream=True`` the stream is read to its end here.

        :param request: a ResponsesRequest, or a dict of its fields.
        :param options: this call's timeout, retries, headers, metadata level, base URL.
        :raises RequestValidationError: before anything is sent.
        :raises APIError: the class of the status, also for a failure inside a 200.
        :raises IncompleteResponseError: if the answer was cut off.
        :raises RefusalError: if the model refused.
        :raises TransportError: if no answer arrived.
        """
        call = self._post(request, options)
        judge = self._judge(call)
        return _settle(judge, self._retry(judge, lambda: self._answer(call, judge.deadline)))

    def stream(
        self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None
    ) -> Iterator[StreamEvent]:
        """
        Send a request and give its events as they arrive.

        Tries are made until the stream stands; after that a break raises, since text has been handed out.

        :raises StreamInterruptedError: with the text so far, when the stream breaks.
        """
        call = self._post(request, options, stream=True)
        judge = self._judge(call)
        http = self._retry(judge, lambda: self._open(call, judge.deadline))
        try:
            yield from self._events(http, call, StreamReader(_head(http), what=call.what), judge.deadline)
        except ResponsesError as error:
            error.hide(call.config.secrets)
            raise
        finally:
            http.close()

    def get_key(self) -> dict[str, Any]:
        """Give the key's label, limit, what is left of it and when it resets (``GET /key``)."""
        return _object(self._read(self._get("/key")))

    def get_generation(self, generation_id: str, *, options: Options = None) -> dict[str, Any]:
        """Give a generation's tokens, cost, provider and latency (``GET /generation``)."""
        return _object(self._read(self._get_generation(generation_id, options)))

    def get_models(self) -> list[dict[str, Any]]:
        """Give the models that the server offers (``GET /models``)."""
        return _objects(self._read(self._get("/models")))

    def cancel(self) -> None:
        """
        End all calls of this client: what waits is interrupted, and no try follows.

        Safe in a signal handler. Connections are dropped only if they are the client's own (``pool``).
        """
        self._cancelled = True
        if self._own_pool:
            self._own_pool.drop()

    def close(self) -> None:
        """Close the client's own connections."""
        if self._own_pool:
            self._own_pool.close()

    def _retry(self, judge: Judge, attempt: Callable[[], Any]) -> Any:
        try:
            return attempt()  # as nearly all calls do: tenacity's machinery is for those that do not
        except ResponsesError as error:
            first = [error]

        def again() -> Any:
            if first:
                raise first.pop()
            return attempt()

        retrying = Retrying(
            retry=judge.again,
            wait=judge.wait,
            before_sleep=judge.before_sleep,
            stop=lambda _: self._cancelled,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(again)
        except ResponsesError as error:
            _blame(judge, error)
            raise

    def _sleep(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._cancelled and (left := until - self._clock()) > 0:
            self._nap(min(left, NAP))

    def _read(self, call: _Call) -> dict[str, Any]:
        judge = self._judge(call)

        def attempt() -> dict[str, Any]:
            http = self._open(call, judge.deadline)
            try:
                with self._mapped(call, judge.deadline):
                    http.read()
            finally:
                http.close()
            return protocol.read_json(http.status_code, _head(http), http.content, what=call.what)

        data: dict[str, Any] = self._retry(judge, attempt)
        return data

    def _answer(self, call: _Call, deadline: float) -> Response:
        http = self._open(call, deadline)
        try:
            if _is_event_stream(http):
                reader = StreamReader(_head(http), what=call.what)
                try:
                    for _ in self._events(http, call, reader, deadline):
                        pass
                except StreamInterruptedError as error:
                    if self._clock() >= deadline:
                        raise call.deadline_error() from error
                    raise
                return reader.finish()
            with self._mapped(call, deadline):
                http.read()
            return protocol.check_answer(_whole(http, call), what=call.what)
        finally:
            http.close()

    def _open(self, call: _Call, deadline: float) -> httpx.Response:
        """Send, and give the response once its status is known to be good; the body is unread."""
        pool = self._own_pool or transport.process_pools.get(call.config.route)
        with self._mapped(call, deadline), pool.until(deadline, self._clock):
            extensions = {"timeout": call.timeout(deadline - self._clock()), "trace": pool.trace}
            http = pool.http.send(call.request(extensions), stream=True)
            http.stream = transport.DeadlineStream(http, pool, deadline, self._clock)
        if not http.is_success:
            try:
                with self._mapped(call, deadline):
                    http.read()
            finally:
                http.close()
            raise call.refusal(http)
        return http

    def _events(
        self, http: httpx.Response, call: _Call, reader: StreamReader, deadline: float
    ) -> Iterator[StreamEvent]:
        if not _is_event_stream(http):  # a server that cannot stream answers at once
            with self._mapped(call, deadline):
                http.read()
            yield reader.whole(_whole(http, call))
        else:
            yield from self._sse(http, call, reader)
        self._check_cancelled(call)
        reader.finish()

    def _sse(self, http: httpx.Response, call: _Call, reader: StreamReader) -> Iterator[StreamEvent]:
        try:
            source = _event_source(http).iter_sse()
            for sse in source:
                if event := reader.read(sse.data):
                    yield event
                if self._cancelled or reader.response:
                    break
            if reader.response:  # the end that follows lets the connection be used again
                http.stream.end_within(DRAIN)  # type: ignore[union-attr]
                for _ in source:
                    pass
        except httpx.HTTPError as error:
            if reader.response:
                return
            self._check_cancelled(call, error)
            raise reader.interrupted(str(error) or type(error).__name__) from error

    def _check_cancelled(self, call: _Call, cause: Exception | None = None) -> None:
        if self._cancelled:
            raise RequestCancelledError(
                f"{call.what}: cancelled; its connection was dropped and no try follows. It may have been billed",
                ambiguous=True,
            ) from cause

    @contextmanager
    def _mapped(self, call: _Call, deadline: float) -> Iterator[None]:
        """Turn what the network raises into this package's errors."""
        self._check_cancelled(call)
        if self._clock() >= deadline:
            raise call.deadline_error()
        try:
            yield
        except httpx.HTTPError as error:
            self._check_cancelled(call, error)
            if self._clock() >= deadline:
                raise call.deadline_error() from error
            raise transport.to_transport_error(error, what=call.what) from error
        self._check_cancelled(call)


class AsyncResponsesClient(_Calls):
    """
    Sends requests without blocking the event loop. Use it as ``async with``, in one loop.

    :param config: address, key, patience.
    :param pool: connections of its own; by default all clients of the loop share one pool.
    """

    def __init__(self, config: ClientConfig, *, pool: transport.AsyncPool | None = None) -> None:
        super().__init__(config)
        self._pool = pool
        self._shares_pool = pool is None
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __aenter__(self) -> Self:
        self._connections()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def _connections(self) -> transport.AsyncPool:
        if self._pool is None:
            self._pool, self._shares_pool = transport.acquire_loop_pool(self.config.route), True
        return self._pool

    async def aclose(self) -> None:
        """Close the client's own connections, or let go of the loop's."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await (transport.release_loop_pool(pool) if self._shares_pool else pool.close())

    async def send(self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None) -> Response:
        """Like :meth:`ResponsesClient.send`. Cancelling the coroutine drops the connection."""
        call = self._post(request, options)
        judge = self._judge(call)
        return _settle(judge, await self._retry(judge, lambda: self._answer(call, judge.deadline)))

    async def stream(
        self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None
    ) -> AsyncIterator[StreamEvent]:
        """Like :meth:`ResponsesClient.stream`."""
        call = self._post(request, options, stream=True)
        judge = self._judge(call)
        http = await self._retry(judge, lambda: self._standing(call, judge.deadline))
        reader = StreamReader(_head(http), what=call.what)
        events = self._events(http, call, reader)
        try:
            while True:
                # Only the wait for the next event is under the deadline: what the caller does with it is not.
                try:
                    async with self._mapped(call, judge.deadline):
                        event = await anext(events, None)
                except TransportError as error:
                    if error.kind != "deadline":
                        raise
                    raise reader.interrupted(str(error)) from error
                if event is None:
                    break
                yield event
        except ResponsesError as error:
            error.hide(call.config.secrets)
            raise
        finally:
            await events.aclose()
            await http.aclose()

    async def get_key(self) -> dict[str, Any]:
        """Like :meth:`ResponsesClient.get_key`."""
        return _object(await self._read(self._get("/key")))

    async def get_generation(self, generation_id: str, *, options: Options = None) -> dict[str, Any]:
        """Like :meth:`ResponsesClient.get_generation`."""
        return _object(await self._read(self._get_generation(generation_id, options)))

    async def get_models(self) -> list[dict[str, Any]]:
        """Like :meth:`ResponsesClient.get_models`."""
        return _objects(await self._read(self._get("/models")))

    async def _retry(self, judge: Judge, attempt: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await attempt()
        except ResponsesError as error:
            first = [error]

        async def again() -> Any:  # tenacity awaits coroutine functions only, and not lambdas that return one
            if first:
                raise first.pop()
            return await attempt()

        retrying = AsyncRetrying(
            retry=judge.again, wait=judge.wait, before_sleep=judge.before_sleep, sleep=self._sleep, reraise=True
        )
        try:
            return await retrying(again)
        except ResponsesError as error:
            _blame(judge, error)
            raise

    async def _read(self, call: _Call) -> dict[str, Any]:
        judge = self._judge(call)

        async def attempt() -> dict[str, Any]:
            async with self._mapped(call, judge.deadline):
                http = await self._open(call, judge.deadline)
                try:
                    await http.aread()
                finally:
                    await http.aclose()
            return protocol.read_json(http.status_code, _head(http), http.content, what=call.what)

        data: dict[str, Any] = await self._retry(judge, attempt)
        return data

    async def _answer(self, call: _Call, deadline: float) -> Response:
        async with self._mapped(call, deadline):
            http = await self._open(call, deadline)
            try:
                if _is_event_stream(http):
                    reader = StreamReader(_head(http), what=call.what)
                    async for _ in self._events(http, call, reader):
                        pass
                    return reader.finish()
                await http.aread()
            finally:
                await http.aclose()
        return protocol.check_answer(_whole(http, call), what=call.what)

    async def _open(self, call: _Call, deadline: float) -> httpx.Response:
        """Send, and give the response once its status is known to be good; the body is unread."""
        request = call.request({"timeout": call.timeout(deadline - self._clock())})
        http = await self._connections().http.send(request, stream=True)
        if not http.is_success:
            try:
                await http.aread()
            finally:
                await http.aclose()
            raise call.refusal(http)
        return http

    async def _standing(self, call: _Call, deadline: float) -> httpx.Response:
        async with self._mapped(call, deadline):
            return await self._open(call, deadline)

    async def _events(
        self, http: httpx.Response, call: _Call, reader: StreamReader
    ) -> AsyncGenerator[StreamEvent, None]:
        if not _is_event_stream(http):
            try:
                await http.aread()
            except transport.network_errors() as error:
                raise transport.to_transport_error(error, what=call.what) from error
            yield reader.whole(_whole(http, call))
        else:
            try:
                async with aclosing(_event_source(http).aiter_sse()) as source:
                    async for sse in source:
                        if event := reader.read(sse.data):
                            yield event
                        if reader.response:
                            break
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(DRAIN):
                            async for _ in source:
                                pass
            except transport.network_errors() as error:
                if not reader.response:
                    raise reader.interrupted(str(error) or type(error).__name__) from error
        reader.finish()

    @asynccontextmanager
    async def _mapped(self, call: _Call, deadline: float) -> AsyncIterator[None]:
        """Turn what the network raises into this package's errors, and hold the deadline."""
        try:
            async with asyncio.timeout(deadline - self._clock()):
                yield
        except TimeoutError as error:
            raise call.deadline_error() from error
        except transport.network_errors() as error:
            raise transport.to_transport_error(error, what=call.what) from error
