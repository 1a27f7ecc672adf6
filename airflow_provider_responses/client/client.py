"""The clients: thin loops over what calls.py, framing.py, protocol.py, retries.py and sse.py decide."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, Final, Self, cast

import httpx
from httpx_sse import ServerSentEvent
from tenacity import AsyncRetrying, Retrying

from airflow_provider_responses.client import framing, outcomes, protocol, transport
from airflow_provider_responses.client.calls import (
    Call,
    Calls,
    Options,
    Sends,
    blame,
    content,
    is_there,
    object_of,
    objects_of,
    place,
    settle,
    whole,
)
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.client.replies import Reply
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

NAP: Final = 0.2  # seconds between looks at the cancel mark while waiting


class ResponsesClient(Calls):
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
        Send a request and return the whole response; with ``stream=True`` the stream is read to its end here.

        A stream that breaks before any output, from another server than OpenRouter, is sent again unstreamed, once
        and within ``max_ambiguous_retries``: this brings the reason of a server that refuses a request by breaking off.

        :param request: a ResponsesRequest, or a dict of its fields.
        :param options: this call's timeout, retries, headers, metadata level, base URL.
        :raises RequestValidationError: before anything is sent.
        :raises APIError: the class of the status, also for a failure inside a 200.
        :raises IncompleteResponseError: if the response was cut off.
        :raises RefusalError: if the model refused.
        :raises StreamInterruptedError: if the stream broke.
        :raises TransportError: if no response arrived.
        """
        return self.send_call(self.prepare(request, options))

    def send_call(self, call: Call) -> Response:
        """Send a call of :meth:`prepare`; otherwise like :meth:`send`."""
        sends = Sends(call)
        judge = self._judge(call)
        return settle(judge, self._retry(judge, lambda: self._answer(sends, judge.deadline)))

    def stream(
        self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None
    ) -> Iterator[StreamEvent]:
        """
        Send a request and yield its events as they arrive.

        It is sent again until a stream has begun; after that a break raises, since text has been handed out. The
        ``response`` of the last event is the same as ``send`` returns.

        :raises StreamInterruptedError: with the text so far, when the stream breaks.
        """
        call = self._post(request, options, stream=True)
        judge = self._judge(call)
        reply = self._retry(judge, lambda: self._open(call, judge.deadline))
        try:
            yield from self._events(reply, call, StreamReader(reply.head, request=call.summary), judge.deadline)
        except ResponsesError as error:
            error.hide(call.config.secrets)
            place(error, reply)
            blame(judge, error)
            raise
        finally:
            reply.close()

    def get_key(self) -> dict[str, Any]:
        """Give the key's label, limit, what is left of it and when it resets (``GET /key``)."""
        return object_of(self._read(self._get("/key")))

    def get_generation(self, generation_id: str, *, options: Options = None) -> dict[str, Any]:
        """Give a generation's tokens, cost, provider and latency (``GET /generation``)."""
        return object_of(self._read(self._get_generation(generation_id, options)))

    def get_models(self) -> list[dict[str, Any]]:
        """Give the models that the server offers (``GET /models``)."""
        return objects_of(self._read(self._get("/models")))

    def probe(self) -> bool | None:
        """
        Return whether the server has ``/responses``, None if a ``GET`` does not tell; nothing is made or billed.

        :raises UnauthorizedResponseError: if the key is refused.
        :raises TransportError: if no response arrived.
        """
        try:
            return is_there(self._read(self._get("/responses")))
        except APIError as error:
            return is_there(error)

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
            blame(judge, error)
            raise

    def _sleep(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._cancelled and (left := until - self._clock()) > 0:
            self._nap(min(left, NAP))

    def _read(self, call: Call) -> dict[str, Any]:
        judge = self._judge(call)

        def attempt() -> dict[str, Any]:
            reply = self._open(call, judge.deadline)
            try:
                with self._mapped(call, judge.deadline):
                    reply.read()
            finally:
                reply.close()
            return content(reply, call)

        data: dict[str, Any] = self._retry(judge, attempt)
        return data

    def _answer(self, sends: Sends, deadline: float) -> Response:
        call, reply, reader = sends.next, None, None
        try:
            reply = self._open(call, deadline)
            if not (call.stream or reply.is_event_stream):
                with self._mapped(call, deadline):
                    reply.read()
                return protocol.check_answer(whole(reply, call), request=call.summary)
            reader = StreamReader(reply.head, request=call.summary, hands_out=False)
            for _ in self._events(reply, call, reader, deadline):
                pass
            return reader.finish()
        except ResponsesError as error:
            place(error, reply)
            failure = sends.failed(error, reader)
            if isinstance(failure, StreamInterruptedError) and self._clock() >= deadline:
                raise place(call.deadline_error(), reply) from error
            if failure is not error:
                raise failure from error
            raise
        finally:
            if reply is not None:
                reply.close()

    def _open(self, call: Call, deadline: float) -> Reply:
        """Send, and give the response once its status is known to be good; the body is unread."""
        pool = self._own_pool or transport.process_pools.get(call.config.route)
        with self._mapped(call, deadline), pool.until(deadline, self._clock):
            extensions = {"timeout": call.timeout(deadline - self._clock()), "trace": pool.trace}
            http = pool.http.send(call.request(extensions), stream=True)
            http.stream = transport.DeadlineStream(http, pool, deadline, self._clock)
        reply = Reply(http)
        if not reply.is_success:
            try:
                with self._mapped(call, deadline):
                    outcomes.read_reason(reply)
            finally:
                reply.close()
            raise call.refusal(reply)
        return reply

    def _events(self, reply: Reply, call: Call, reader: StreamReader, deadline: float) -> Iterator[StreamEvent]:
        pieces = reply.http.iter_bytes()
        begin = framing.Beginning(labelled=reply.is_event_stream)
        try:
            any(begin.take(piece) for piece in pieces)  # until they show what the body is
        except httpx.HTTPError as error:
            self._check_cancelled(call, error)
            raise reader.interrupted(str(error) or type(error).__name__) from error
        if begin.is_json:  # from a server that does not stream
            with self._mapped(call, deadline):
                reply.body = b"".join((begin.data, *pieces))
            yield reader.whole(whole(reply, call))
        else:
            yield from self._sse(reply, call, reader, framing.events(begin.data, pieces), deadline)
        self._check_cancelled(call)
        reader.finish()

    def _sse(
        self, reply: Reply, call: Call, reader: StreamReader, source: Iterator[ServerSentEvent], deadline: float
    ) -> Iterator[StreamEvent]:
        try:
            for sse in source:
                if event := reader.read(sse.data, sse.event):
                    yield event
                if self._cancelled or reader.is_settled:
                    break
            if reader.is_settled:  # the end that follows lets the connection be used again, and may add to an error
                reply.http.stream.end_within(self._patience(reader, deadline))  # type: ignore[union-attr]
                for sse in source:
                    reader.read(sse.data, sse.event)
        except httpx.HTTPError as error:
            if not reader.is_settled:
                self._check_cancelled(call, error)
                raise reader.interrupted(str(error) or type(error).__name__) from error
        if event := reader.end():
            yield event

    def _check_cancelled(self, call: Call, cause: Exception | None = None) -> None:
        if self._cancelled:
            raise RequestCancelledError(
                f"{call.what}: cancelled; its connection was dropped and no try follows. It may have been billed",
                ambiguous=True,
            ) from cause

    @contextmanager
    def _mapped(self, call: Call, deadline: float) -> Iterator[None]:
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


class AsyncResponsesClient(Calls):
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
        return await self.send_call(self.prepare(request, options))

    async def send_call(self, call: Call) -> Response:
        """Like :meth:`ResponsesClient.send_call`."""
        sends = Sends(call)
        judge = self._judge(call)
        try:
            response = await self._answer(sends, judge.deadline)
        except ResponsesError as error:
            response = await self._again(judge, error, lambda: self._answer(sends, judge.deadline))
        return settle(judge, response)

    async def stream(
        self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None
    ) -> AsyncIterator[StreamEvent]:
        """Like :meth:`ResponsesClient.stream`."""
        call = self._post(request, options, stream=True)
        judge = self._judge(call)
        reply = await self._retry(judge, lambda: self._standing(call, judge.deadline))
        reader = StreamReader(reply.head, request=call.summary)
        events = self._events(reply, call, reader, judge.deadline)
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
            place(error, reply)
            blame(judge, error)
            raise
        finally:
            await events.aclose()
            await reply.aclose()

    async def get_key(self) -> dict[str, Any]:
        """Like :meth:`ResponsesClient.get_key`."""
        return object_of(await self._read(self._get("/key")))

    async def get_generation(self, generation_id: str, *, options: Options = None) -> dict[str, Any]:
        """Like :meth:`ResponsesClient.get_generation`."""
        return object_of(await self._read(self._get_generation(generation_id, options)))

    async def get_models(self) -> list[dict[str, Any]]:
        """Like :meth:`ResponsesClient.get_models`."""
        return objects_of(await self._read(self._get("/models")))

    async def probe(self) -> bool | None:
        """Like :meth:`ResponsesClient.probe`."""
        try:
            return is_there(await self._read(self._get("/responses")))
        except APIError as error:
            return is_there(error)

    async def _retry(self, judge: Judge, attempt: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await attempt()
        except ResponsesError as error:
            return await self._again(judge, error, attempt)

    async def _again(self, judge: Judge, failed: ResponsesError, attempt: Callable[[], Awaitable[Any]]) -> Any:
        first = [failed]

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
            blame(judge, error)
            raise

    async def _read(self, call: Call) -> dict[str, Any]:
        judge = self._judge(call)

        async def attempt() -> dict[str, Any]:
            async with self._mapped(call, judge.deadline):
                reply = await self._open(call, judge.deadline)
                try:
                    await reply.aread()
                finally:
                    await reply.aclose()
            return content(reply, call)

        data: dict[str, Any] = await self._retry(judge, attempt)
        return data

    async def _answer(self, sends: Sends, deadline: float) -> Response:
        # As `_mapped` does, without its generator: a thousand of them at once are felt.
        call, reply, reader = sends.next, None, None
        try:
            async with asyncio.timeout(deadline - self._clock()):
                reply = await self._open(call, deadline)
                if call.stream or reply.is_event_stream:
                    reader = StreamReader(reply.head, request=call.summary, hands_out=False)
                    async for _ in self._events(reply, call, reader, deadline):
                        pass
                    return reader.finish()
                await reply.aread()
            return protocol.check_answer(await outcomes.read_whole(reply, call), request=call.summary)
        except outcomes.failures() as error:
            failure = place(outcomes.to_failure(error, call), reply)
            failure = sends.failed(failure, reader)
            raise failure from (error.__cause__ if failure is error else error)
        finally:
            if reply is not None:
                await reply.aclose()

    async def _open(self, call: Call, deadline: float) -> Reply:
        """Send, and give the response once its status is known to be good; the body is unread."""
        reply = await self._connections().send(call, call.timeout(deadline - self._clock()))
        if not reply.is_success:
            try:
                await outcomes.aread_reason(reply)
            finally:
                await reply.aclose()
            raise call.refusal(reply)
        return reply

    async def _standing(self, call: Call, deadline: float) -> Reply:
        async with self._mapped(call, deadline):
            return await self._open(call, deadline)

    async def _events(
        self, reply: Reply, call: Call, reader: StreamReader, deadline: float
    ) -> AsyncGenerator[StreamEvent, None]:
        begin = framing.Beginning(labelled=reply.is_event_stream)
        async with aclosing(cast("AsyncGenerator[bytes, None]", reply.http.aiter_bytes())) as pieces:
            try:
                async for piece in pieces:
                    if begin.take(piece):  # it shows what the body is
                        break
                if begin.is_json:  # from a server that does not stream
                    reply.body = b"".join([begin.data, *[piece async for piece in pieces]])
            except transport.network_errors() as error:
                if begin.is_json:
                    raise transport.to_transport_error(error, what=call.what) from error
                raise reader.interrupted(str(error) or type(error).__name__) from error
            if begin.is_json:
                yield reader.whole(await outcomes.read_whole(reply, call))
            else:
                async with aclosing(self._sse(reader, framing.aevents(begin.data, pieces), deadline)) as events:
                    async for event in events:
                        yield event
        reader.finish()

    async def _sse(
        self, reader: StreamReader, source: AsyncGenerator[ServerSentEvent, None], deadline: float
    ) -> AsyncGenerator[StreamEvent, None]:
        try:
            async with aclosing(source):
                async for sse in source:
                    if event := await outcomes.read_event(reader, sse):
                        yield event
                    if reader.is_settled:
                        break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._patience(reader, deadline)):
                        async for sse in source:
                            reader.read(sse.data, sse.event)
        except transport.network_errors() as error:
            if not reader.is_settled:
                raise reader.interrupted(str(error) or type(error).__name__) from error
        if event := reader.end():
            yield event

    @asynccontextmanager
    async def _mapped(self, call: Call, deadline: float) -> AsyncIterator[None]:
        """Turn what the network raises into this package's errors, and hold the deadline."""
        try:
            async with asyncio.timeout(deadline - self._clock()):
                yield
        except outcomes.failures() as error:
            failure = outcomes.to_failure(error, call)
            raise failure from (error.__cause__ if failure is error else error)
