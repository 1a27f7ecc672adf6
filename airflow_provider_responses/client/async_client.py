"""The async client; sync_client.py has the same methods in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, Self, TypeVar, cast

from httpx_sse import ServerSentEvent
from tenacity import AsyncRetrying

from airflow_provider_responses.client import framing
from airflow_provider_responses.client.async_pool import AsyncPool, acquire_loop_pool, release_loop_pool
from airflow_provider_responses.client.base_client import BaseClient, Options, read_object, read_objects, shows_path
from airflow_provider_responses.client.batch_errors import mark_upload_failure
from airflow_provider_responses.client.batch_protocol import (
    Download,
    Flow,
    Found,
    ItemFlow,
    Progress,
    ReadBatch,
    SendJson,
    SendRequests,
    Step,
)
from airflow_provider_responses.client.batch_results import BatchReader, ResultsDownload
from airflow_provider_responses.client.batch_upload import AsyncRequests, AsyncUpload
from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.network_errors import async_failures, async_network_errors
from airflow_provider_responses.client.response_check import check_response
from airflow_provider_responses.client.retries import Retries
from airflow_provider_responses.client.send_plan import SendPlan
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import APIError, ResponsesError, TransportError
from airflow_provider_responses.models.batch import RESPONSES_ENDPOINT, Batch, BatchResult
from airflow_provider_responses.models.events import StreamEvent
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

T = TypeVar("T")

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

    async def create_batch(
        self,
        requests: AsyncRequests,
        *,
        model: str,
        endpoint: str = RESPONSES_ENDPOINT,
        completion_window: str = "24h",
        provider: Mapping[str, Any] | None = None,
        callback_url: str | None = None,
        metadata: Mapping[str, str] | None = None,
        options: Options = None,
    ) -> Batch:
        """Like :meth:`ResponsesClient.create_batch`; ``requests`` may be async. Cancelling it aborts the upload."""
        protocol = self._batch_protocol(options)
        head = protocol.head(
            endpoint=endpoint,
            model=model,
            completion_window=completion_window,
            provider=provider,
            callback_url=callback_url,
            metadata=metadata,
        )
        upload = AsyncUpload(requests, lambda: protocol.make_body(head))
        try:
            await upload.begin()
            return await self._run(protocol.submit(head, upload))
        finally:
            await upload.aclose()

    async def get_batch(self, batch_id: str, *, options: Options = None) -> Batch:
        """Like :meth:`ResponsesClient.get_batch`."""
        return await self._run(self._batch_protocol(options).get(batch_id))

    def list_batches(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        status: str | Iterable[str] | None = None,
        created_after: datetime | float | str | None = None,
        created_before: datetime | float | str | None = None,
        options: Options = None,
    ) -> AsyncIterator[Batch]:
        """Like :meth:`ResponsesClient.list_batches`."""
        protocol = self._batch_protocol(options)
        return self._iter(
            protocol.list(
                limit=limit, after=after, status=status, created_after=created_after, created_before=created_before
            )
        )

    def iter_batch_results(self, batch: Batch | str, *, options: Options = None) -> AsyncIterator[BatchResult]:
        """Like :meth:`ResponsesClient.iter_batch_results`."""
        return self._iter(self._batch_protocol(options).results(batch))

    async def cancel_batch(self, batch_id: str, *, options: Options = None) -> Batch:
        """Like :meth:`ResponsesClient.cancel_batch`."""
        return await self._run(self._batch_protocol(options).cancel(batch_id))

    async def delete_batch(self, batch_id: str, *, options: Options = None) -> dict[str, Any]:
        """Like :meth:`ResponsesClient.delete_batch`."""
        return await self._run(self._batch_protocol(options).delete(batch_id))

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

    async def _run(self, flow: Flow[T]) -> T:
        """Carry out a flow and return its result."""
        progress = Progress(flow)
        while (step := progress.step) is not None:
            await self._carry_out(step, progress)
        return cast("T", progress.result)

    async def _iter(self, flow: ItemFlow) -> AsyncIterator[Any]:
        """Carry out a flow and yield its items."""
        progress = Progress(flow)
        while (step := progress.step) is not None:
            if isinstance(step, Download):
                async for result in self._download(step):
                    yield result
            elif isinstance(step, Found):
                for item in step.items:
                    yield item
            else:
                await self._carry_out(step, progress)
                continue
            progress.advance(None)

    async def _carry_out(self, step: Step, progress: Progress[Any, Any]) -> None:
        """Carry out one step of a flow, and continue the flow."""
        try:
            outcome = await self._take(step)
        except ResponsesError as error:
            progress.fail(error)
        else:
            progress.advance(outcome)

    async def _take(self, step: Step) -> Any:
        """Send the call of a step, with retries, and return its outcome."""
        retries = self._start_retries(step.call)
        if isinstance(step, SendRequests):
            return await self._retry(retries, partial(self._upload_once, step, retries.deadline))
        if isinstance(step, ReadBatch):
            return await self._retry(retries, partial(self._read_batch, step.call, retries.deadline))
        return await self._retry(retries, partial(self._send_json, step, retries.deadline))

    async def _get_json(self, call: Call) -> dict[str, Any]:
        """Send a ``GET``, with retries, and return the JSON object of its response."""
        data: dict[str, Any] = await self._take(SendJson(call=call))
        return data

    async def _send_json(self, step: SendJson, deadline: float) -> Any:
        """Send a call and return the JSON object of its response."""
        async with self._map_errors(step.call, deadline):
            http = await self._open(step.call, deadline)
            try:
                await http.aread()
            finally:
                await http.aclose()
        return step.read(step.call.read_json(http), http)

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

    async def _upload_once(self, step: SendRequests, deadline: float) -> Any:
        """Send the requests of a batch and return the JSON object of the response."""
        call, http = step.call, None
        upload: AsyncUpload = step.upload
        content = await upload.open()
        try:
            async with self._map_errors(call, deadline):
                http = await self._open(call.with_content(content), deadline)
                await http.aread()
            return step.read(call.read_json(http), http)
        except ResponsesError as error:
            if upload.failure is not None and upload.failure is not error:
                raise upload.failure from upload.failure.__cause__
            if upload.failure is None:
                mark_upload_failure(error, call.summary.batch, body_began=upload.began)
            raise
        finally:
            if http is not None:
                await http.aclose()

    async def _read_batch(self, call: Call, deadline: float) -> Batch:
        """Return a batch without its results, which are dropped while they arrive."""
        async with self._map_errors(call, deadline):
            http = await self._open(call, deadline)
            reader = BatchReader(http, call.summary)
            try:
                async for piece in http.wrapped.aiter_bytes():
                    reader.feed(piece)
            finally:
                await http.aclose()
        return reader.finish()

    async def _download(self, step: Download) -> AsyncIterator[BatchResult]:
        """Yield the results in a body while they arrive; if the connection breaks, it is read again."""
        call, results = step.call, step.results
        try:
            while True:
                retries = self._start_retries(call)  # the deadline limits a read, and not the caller's work
                items = await self._retry(retries, partial(self._read_results, call, results, retries.deadline))
                if items is None:
                    break
                for item in items:
                    yield step.read(item)
        finally:
            if (http := results.stop()) is not None:
                await http.aclose()

    async def _read_results(self, call: Call, download: ResultsDownload, deadline: float) -> list[Any] | None:
        """Return the next results in a body, None after the last one."""
        try:
            if download.http is None:
                async with self._map_errors(call, deadline):
                    http = await self._open(call, deadline)
                download.start(http, http.wrapped.aiter_bytes())
            while True:
                async with self._map_errors(call, deadline):
                    piece = await anext(download.pieces, None)
                if piece is None:
                    return download.finish() or None
                if items := download.feed(piece):
                    return items
        except ResponsesError:
            if (failed := download.stop()) is not None:
                await failed.aclose()
            raise

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
