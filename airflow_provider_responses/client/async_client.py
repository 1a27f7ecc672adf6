"""The async client; sync_client.py has the same methods in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Self, cast

from httpx_sse import ServerSentEvent
from tenacity import AsyncRetrying

from airflow_provider_responses.client import framing
from airflow_provider_responses.client.async_pool import AsyncPool, acquire_loop_pool, release_loop_pool
from airflow_provider_responses.client.base_client import BaseClient, Options, read_object, read_objects, shows_path
from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.network_errors import async_failures, async_network_errors
from airflow_provider_responses.client.response_check import check_response
from airflow_provider_responses.client.retries import Retries
from airflow_provider_responses.client.send_plan import SendPlan
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import APIError, ResponsesError, TransportError
from airflow_provider_responses.models.events import StreamEvent
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

# Bytes of a body, or characters of an event, above which it is parsed in a thread, so that other calls of the event
# loop continue. Images are that large.
LARGE: Final = 1024 * 1024


class AsyncResponsesClient(BaseClient):
    """
    Sends requests without blocking the event loop. Use it with ``async with``, in one loop.

    :param config: address, key, timeouts and retries.
    :param pool: connections of its own; by default all clients of the loop share one pool.
    :param clock: returns the seconds of a monotonic clock.
    :param sleep: waits a number of seconds.
    :param random: returns a number from 0 to 1, which spreads the waits before retries.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        pool: AsyncPool | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(config, clock=clock, random=random)
        self._pool = pool
        self._sleep = sleep
        self._shares_pool = pool is None

    async def __aenter__(self) -> Self:
        self._get_pool()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def send(self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None) -> Response:
        """Like :meth:`ResponsesClient.send`. Cancelling the coroutine drops the connection."""
        return await self.send_call(self.prepare(request, options))

    async def send_call(self, call: Call) -> Response:
        """Like :meth:`ResponsesClient.send_call`."""
        plan = SendPlan(call)
        retries = self._start_retries(call)
        try:
            response = await self._send_once(plan, retries.deadline)
        except ResponsesError as error:
            response = await self._resend(retries, error, lambda: self._send_once(plan, retries.deadline))
        return retries.add_history(response)

    async def stream(
        self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None
    ) -> AsyncIterator[StreamEvent]:
        """Like :meth:`ResponsesClient.stream`."""
        call = self._post(request, options, stream=True)
        retries = self._start_retries(call)

        async def send() -> HTTPResponse:
            async with self._map_errors(call, retries.deadline):
                return await self._open(call, retries.deadline)

        http = await self._retry(retries, send)
        reader = call.stream_reader(http)
        events = self._read_events(http, call, reader, retries.deadline)
        try:
            while True:
                # The deadline limits the wait for the next event, and not the caller's work on it.
                try:
                    async with self._map_errors(call, retries.deadline):
                        event = await anext(events, None)
                except TransportError as error:
                    if error.kind != "deadline":
                        raise
                    raise reader.interrupted(str(error)) from error
                if event is None:
                    break
                yield event
        except ResponsesError as error:
            error.redact(call.config.secrets)
            self._add_generation_id(error, http)
            retries.add_history_to_error(error)
            raise
        finally:
            await events.aclose()
            await http.aclose()

    async def get_key(self) -> dict[str, Any]:
        """Like :meth:`ResponsesClient.get_key`."""
        return read_object(await self._get_json(self._get("/key")))

    async def get_generation(self, generation_id: str, *, options: Options = None) -> dict[str, Any]:
        """Like :meth:`ResponsesClient.get_generation`."""
        return read_object(await self._get_json(self._get_generation(generation_id, options)))

    async def get_models(self) -> list[dict[str, Any]]:
        """Like :meth:`ResponsesClient.get_models`."""
        return read_objects(await self._get_json(self._get("/models")))

    async def probe(self) -> bool | None:
        """Like :meth:`ResponsesClient.probe`."""
        try:
            return shows_path(await self._get_json(self._get("/responses")))
        except APIError as error:
            return shows_path(error)

    async def aclose(self) -> None:
        """Close the client's own connections, or release the loop's."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await (release_loop_pool(pool) if self._shares_pool else pool.close())

    def _get_pool(self) -> AsyncPool:
        if self._pool is None:
            self._pool, self._shares_pool = acquire_loop_pool(self.config.route), True
        return self._pool

    async def _retry(self, retries: Retries, send: Callable[[], Awaitable[Any]]) -> Any:
        """Send until it succeeds or the retries are used up."""
        try:
            return await send()
        except ResponsesError as error:
            return await self._resend(retries, error, send)

    async def _resend(self, retries: Retries, failed: ResponsesError, send: Callable[[], Awaitable[Any]]) -> Any:
        """Retry after a first send that failed."""
        first = [failed]

        async def send_next() -> Any:  # tenacity awaits coroutine functions, but not lambdas that return a coroutine
            if first:
                raise first.pop()
            return await send()

        retrying = AsyncRetrying(
            retry=retries.should_retry,
            wait=retries.get_wait,
            before_sleep=retries.log_retry,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return await retrying(send_next)
        except ResponsesError as error:
            retries.add_history_to_error(error)
            raise

    async def _get_json(self, call: Call) -> dict[str, Any]:
        """Send a ``GET``, with retries, and return the JSON object of its response."""
        retries = self._start_retries(call)

        async def send() -> dict[str, Any]:
            async with self._map_errors(call, retries.deadline):
                http = await self._open(call, retries.deadline)
                try:
                    await http.aread()
                finally:
                    await http.aclose()
            return call.read_json(http)

        data: dict[str, Any] = await self._retry(retries, send)
        return data

    async def _send_once(self, plan: SendPlan, deadline: float) -> Response:
        """Send the plan's next call and return its response, complete and checked."""
        # Maps errors as `_map_errors` does, but without its generator, which is slow for a thousand sends at once.
        call, http, reader = plan.next, None, None
        try:
            async with asyncio.timeout(deadline - self._clock()):
                http = await self._open(call, deadline)
                if call.stream or http.is_event_stream:
                    reader = call.stream_reader(http, yields_events=False)
                    async for _ in self._read_events(http, call, reader, deadline):
                        pass
                    return reader.finish()
                await http.aread()
            return check_response(await self._read_response(http, call), request=call.summary)
        except async_failures() as error:
            failure = self._add_generation_id(call.map_async_failure(error), http)
            failure = plan.after_failure(failure, reader)
            raise failure from (error.__cause__ if failure is error else error)
        finally:
            if http is not None:
                await http.aclose()

    async def _open(self, call: Call, deadline: float) -> HTTPResponse:
        """Send, and return the HTTP response once its status is known to be 2XX; its body is unread."""
        http = await self._get_pool().send(call, call.timeouts(deadline - self._clock()))
        if not http.is_success:
            try:
                await http.aread_error_body()
            finally:
                await http.aclose()
            raise call.status_error(http)
        return http

    async def _read_events(
        self, http: HTTPResponse, call: Call, reader: StreamReader, deadline: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the events of a body, or the last event of a stream for a JSON object."""
        beginning = framing.Beginning(labelled=http.is_event_stream)
        async with aclosing(cast("AsyncGenerator[bytes, None]", http.wrapped.aiter_bytes())) as pieces:
            try:
                async for piece in pieces:
                    if beginning.add(piece):  # the bytes decide
                        break
                if beginning.is_json:  # from a server that does not stream
                    http.body = b"".join([beginning.data, *[piece async for piece in pieces]])
            except async_network_errors() as error:
                if beginning.is_json:
                    raise call.transport_error(error) from error
                raise reader.interrupted(str(error) or type(error).__name__) from error
            if beginning.is_json:
                yield reader.read_unstreamed(await self._read_response(http, call))
            else:
                async with aclosing(
                    self._read_sse(reader, framing.aevents(beginning.data, pieces), deadline)
                ) as events:
                    async for event in events:
                        yield event
        reader.finish()

    async def _read_sse(
        self, reader: StreamReader, source: AsyncGenerator[ServerSentEvent, None], deadline: float
    ) -> AsyncGenerator[StreamEvent, None]:
        """Yield the events of a stream."""
        try:
            async with aclosing(source):
                async for sse in source:
                    if event := await self._read_event(reader, sse):
                        yield event
                    if reader.has_outcome:
                        break
                # Reading the end frees the connection for another call, and may add to an error.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(reader.seconds_to_end(deadline - self._clock())):
                        async for sse in source:
                            reader.read(sse.data, sse.event)
        except async_network_errors() as error:
            if not reader.has_outcome:
                raise reader.interrupted(str(error) or type(error).__name__) from error
        if event := reader.end():
            yield event

    async def _read_event(self, reader: StreamReader, sse: ServerSentEvent) -> StreamEvent | None:
        """Return one event of a stream; a large one is parsed in a thread."""
        if len(sse.data) > LARGE:
            return await asyncio.to_thread(reader.read, sse.data, sse.event)
        return reader.read(sse.data, sse.event)

    async def _read_response(self, http: HTTPResponse, call: Call) -> Response:
        """Return the response of a body that has arrived; a large one is parsed in a thread."""
        if len(http.body) > LARGE:
            return await asyncio.to_thread(call.read_response, http)
        return call.read_response(http)

    @asynccontextmanager
    async def _map_errors(self, call: Call, deadline: float) -> AsyncIterator[None]:
        """Turn the network's exceptions into this package's errors; hold the deadline."""
        try:
            async with asyncio.timeout(deadline - self._clock()):
                yield
        except async_failures() as error:
            failure = call.map_async_failure(error)
            raise failure from (error.__cause__ if failure is error else error)
