"""
The blocking client; async_client.py has the same methods in the same order.

Longer than other modules for its docstrings, which the async twin refers to.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, Self, TypeVar, cast

import httpx
from httpx_sse import ServerSentEvent
from tenacity import Retrying

from airflow_provider_responses.client import framing, sync_pool
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
from airflow_provider_responses.client.batch_upload import Requests, Upload
from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.config import ClientConfig, Route
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.response_check import check_response
from airflow_provider_responses.client.retries import Retries
from airflow_provider_responses.client.send_plan import SendPlan
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import (
    APIError,
    ResponsesError,
    StreamInterruptedError,
)
from airflow_provider_responses.models.batch import RESPONSES_ENDPOINT, Batch, BatchResult
from airflow_provider_responses.models.events import StreamEvent
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

T = TypeVar("T")

CANCEL_CHECK_SECONDS: Final = 0.2  # a wait checks this often whether `cancel` was called


class ResponsesClient(BaseClient):
    """
    Sends requests and blocks until the response has arrived. Threads may share a client.

    :param config: address, key, timeouts and retries.
    :param pool: connections of its own; by default all clients of the process share one pool.
    :param clock: returns the seconds of a monotonic clock.
    :param sleep: waits a number of seconds.
    :param random: returns a number from 0 to 1, which spreads the waits before retries.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        pool: sync_pool.SyncPool | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(config, clock=clock, random=random)
        self._pool = pool
        self._sleep = sleep
        # Not an Event: it is set inside signal handlers, where its lock may be held.
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None) -> Response:
        """
        Send a request and return the response; with ``stream=True`` the stream is read to its end.

        If a stream breaks before any output, and the server is not OpenRouter, the request is sent again unstreamed,
        once and within ``max_ambiguous_retries``: some servers refuse a request by closing the connection, and report
        the reason only to the unstreamed request.

        :param request: a ResponsesRequest, or a dict of its fields.
        :param options: timeout, retries, headers, metadata level and base URL of this call.
        :raises RequestValidationError: before anything is sent.
        :raises APIError: the class of the status, also for a failure inside a 200.
        :raises IncompleteResponseError: if the response was truncated.
        :raises RefusalError: if the model refused.
        :raises StreamInterruptedError: if the stream broke.
        :raises TransportError: if no response arrived.
        """
        return self.send_call(self.prepare(request, options))

    def send_call(self, call: Call) -> Response:
        """Send a call of :meth:`prepare`; otherwise like :meth:`send`."""
        plan = SendPlan(call)
        retries = self._start_retries(call)
        try:
            response = self._send_once(plan, retries.deadline)
        except ResponsesError as error:
            response = self._resend(retries, error, lambda: self._send_once(plan, retries.deadline))
        return retries.add_history(response)

    def stream(
        self, request: ResponsesRequest | Mapping[str, Any], *, options: Options = None
    ) -> Iterator[StreamEvent]:
        """
        Send a request and yield its events as they arrive.

        There are no retries once the stream has begun, since the caller has seen events. The ``response`` of the last
        event is the same as ``send`` returns.

        :raises StreamInterruptedError: with the text so far, if the stream breaks.
        """
        call = self._post(request, options, stream=True)
        retries = self._start_retries(call)
        http = self._retry(retries, lambda: self._open(call, retries.deadline))
        try:
            yield from self._read_events(http, call, call.stream_reader(http), retries.deadline)
        except ResponsesError as error:
            error.redact(call.config.secrets)
            self._add_generation_id(error, http)
            retries.add_history_to_error(error)
            raise
        finally:
            http.close()

    def get_key(self) -> dict[str, Any]:
        """Return the key's label, limit, remaining limit and reset interval (``GET /key``)."""
        return read_object(self._get_json(self._get("/key")))

    def get_generation(self, generation_id: str, *, options: Options = None) -> dict[str, Any]:
        """Return a generation's tokens, cost, provider and latency (``GET /generation``)."""
        return read_object(self._get_json(self._get_generation(generation_id, options)))

    def get_models(self) -> list[dict[str, Any]]:
        """Return the models that the server offers (``GET /models``)."""
        return read_objects(self._get_json(self._get("/models")))

    def probe(self) -> bool | None:
        """
        Return whether the server has ``/responses``, None if a ``GET`` does not show it. Nothing is billed.

        :raises UnauthorizedResponseError: if the key was rejected.
        :raises TransportError: if no response arrived.
        """
        try:
            return shows_path(self._get_json(self._get("/responses")))
        except APIError as error:
            return shows_path(error)

    def create_batch(
        self,
        requests: Requests,
        *,
        model: str,
        endpoint: str = RESPONSES_ENDPOINT,
        completion_window: str = "24h",
        provider: Mapping[str, Any] | None = None,
        callback_url: str | None = None,
        metadata: Mapping[str, str] | None = None,
        options: Options = None,
    ) -> Batch:
        """
        Submit a batch and return it; its requests run within 24 hours, at about half the price.

        On other servers than OpenRouter the requests are uploaded as a file, which is then submitted: OpenAI's API.
        The requests are sent while they are read. If one of them is wrong, the upload is aborted and no batch
        exists. A submit whose outcome is unknown is never repeated: its error is ``ambiguous``, and ``list_batches``
        shows whether the batch exists. A refused connection, a 429 or a 503, and any failed upload of a file, is
        retried if the same requests can be read again: from a list, from a function, or if they are less than 1 MiB.

        :param requests: BatchRequests, or dicts of ``custom_id`` and ``body``; an iterable, or a function that returns
            one.
        :param model: the model of all requests.
        :param endpoint: the endpoint of all requests; bodies for other endpoints than ``/v1/responses`` are not
            checked.
        :param completion_window: the time within which the requests run.
        :param provider: ``only`` and ``allow_fallbacks`` (OpenRouter only).
        :param callback_url: public https URL that the server calls when the batch has finished (OpenRouter only).
        :param metadata: names and texts that the server stores with the batch (not on OpenRouter).
        :param options: timeout, retries, headers and base URL; the timeout is that of the upload, and of the submit.
        :raises ConfigurationError: if the server has no batches; nothing was submitted.
        :raises RequestValidationError: naming the ``custom_id`` and the field; no batch exists.
        :raises APIError: the class of the status.
        :raises TransportError: if no response arrived.
        """
        protocol = self._batch_protocol(options)
        head = protocol.head(
            endpoint=endpoint,
            model=model,
            completion_window=completion_window,
            provider=provider,
            callback_url=callback_url,
            metadata=metadata,
        )
        upload = Upload(requests, lambda: protocol.make_body(head))
        try:
            upload.begin()
            return self._run(protocol.submit(head, upload))
        finally:
            upload.close()

    def get_batch(self, batch_id: str, *, options: Options = None) -> Batch:
        """
        Return a batch without its results (``GET /batches/{id}``).

        :raises PaymentRequiredResponseError: if the account owes the price.
        :raises NotFoundResponseError: if there is none with this id, or it belongs to another key.
        :raises APIError: with status 410, if it has expired.
        """
        return self._run(self._batch_protocol(options).get(batch_id))

    def list_batches(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        status: str | Iterable[str] | None = None,
        created_after: datetime | float | str | None = None,
        created_before: datetime | float | str | None = None,
        options: Options = None,
    ) -> Iterator[Batch]:
        """
        Return an iterator over batches, newest first, without results; pages are fetched as needed.

        :param limit: number of batches; by default all.
        :param after: id of the batch after which the list begins.
        :param status: one or more of validating, in_progress, completed, failed, expired and cancelled. OpenRouter
            lists other statuses as in_progress; on other servers they can be named, too.
        :param created_after: a datetime with a time zone, seconds since 1970, or a text.
        :param created_before: likewise.
        :raises RequestValidationError: naming the argument.
        """
        protocol = self._batch_protocol(options)
        return self._iter(
            protocol.list(
                limit=limit, after=after, status=status, created_after=created_after, created_before=created_before
            )
        )

    def iter_batch_results(self, batch: Batch | str, *, options: Options = None) -> Iterator[BatchResult]:
        """
        Return an iterator over the results of a finished batch, in any order.

        They are read in pages where the server has them, else while the batch, or its files, arrive: memory does not
        grow with their number. A request that failed is a result with an ``error``.

        :param batch: the batch or its id.
        :raises APIError: if the batch has not finished, is unknown (404) or has expired (410).
        """
        return self._iter(self._batch_protocol(options).results(batch))

    def cancel_batch(self, batch_id: str, *, options: Options = None) -> Batch:
        """
        Cancel a batch and return it; requests that have not begun are not billed.

        Not on OpenRouter, whose batches cannot be cancelled. The results so far can be read once the status is
        cancelled.

        :raises ConfigurationError: on OpenRouter.
        :raises APIError: with status 409, if the batch has finished.
        """
        return self._run(self._batch_protocol(options).cancel(batch_id))

    def delete_batch(self, batch_id: str, *, options: Options = None) -> dict[str, Any]:
        """
        Delete a finished batch with its requests and results, and return a report.

        On other servers than OpenRouter its files are deleted, and the batch stays in the list.

        :raises APIError: with status 409, if the batch has not finished.
        """
        return self._run(self._batch_protocol(options).delete(batch_id))

    def cancel(self) -> None:
        """
        End all calls of this client: waits are interrupted, and no send follows.

        Safe in a signal handler. Connections are dropped only if they are the client's own (``pool``).
        """
        self._cancelled = True
        if self._pool:
            self._pool.drop()

    def close(self) -> None:
        """Close the client's own connections."""
        if self._pool:
            self._pool.close()

    def _get_pool(self, route: Route) -> sync_pool.SyncPool:
        return self._pool or sync_pool.process_pools.get(route)

    def _retry(self, retries: Retries, send: Callable[[], Any]) -> Any:
        """Send until it succeeds or the retries are used up."""
        try:
            return send()  # the usual case, without tenacity's overhead
        except ResponsesError as error:
            return self._resend(retries, error, send)

    def _resend(self, retries: Retries, failed: ResponsesError, send: Callable[[], Any]) -> Any:
        """Retry after a first send that failed."""
        first = [failed]

        def send_next() -> Any:
            if first:
                raise first.pop()
            return send()

        retrying = Retrying(
            retry=retries.should_retry,
            wait=retries.get_wait,
            before_sleep=retries.log_retry,
            stop=lambda _: self._cancelled,
            sleep=self._wait,
            reraise=True,
        )
        try:
            return retrying(send_next)
        except ResponsesError as error:
            retries.add_history_to_error(error)
            raise

    def _wait(self, seconds: float) -> None:
        """Wait before a retry; `cancel` ends it."""
        until = self._clock() + seconds
        while not self._cancelled and (left := until - self._clock()) > 0:
            self._sleep(min(left, CANCEL_CHECK_SECONDS))

    def _run(self, flow: Flow[T]) -> T:
        """Carry out a flow and return its result."""
        progress = Progress(flow)
        while (step := progress.step) is not None:
            self._carry_out(step, progress)
        return cast("T", progress.result)

    def _iter(self, flow: ItemFlow) -> Iterator[Any]:
        """Carry out a flow and yield its items."""
        progress = Progress(flow)
        while (step := progress.step) is not None:
            if isinstance(step, Download):
                yield from self._download(step)
            elif isinstance(step, Found):
                yield from step.items
            else:
                self._carry_out(step, progress)
                continue
            progress.advance(None)

    def _carry_out(self, step: Step, progress: Progress[Any, Any]) -> None:
        """Carry out one step of a flow, and continue the flow."""
        try:
            outcome = self._take(step)
        except ResponsesError as error:
            progress.fail(error)
        else:
            progress.advance(outcome)

    def _take(self, step: Step) -> Any:
        """Send the call of a step, with retries, and return its outcome."""
        retries = self._start_retries(step.call)
        if isinstance(step, SendRequests):
            return self._retry(retries, partial(self._upload_once, step, retries.deadline))
        if isinstance(step, ReadBatch):
            return self._retry(retries, partial(self._read_batch, step.call, retries.deadline))
        return self._retry(retries, partial(self._send_json, step, retries.deadline))

    def _get_json(self, call: Call) -> dict[str, Any]:
        """Send a ``GET``, with retries, and return the JSON object of its response."""
        data: dict[str, Any] = self._take(SendJson(call=call))
        return data

    def _send_json(self, step: SendJson, deadline: float) -> Any:
        """Send a call and return the JSON object of its response."""
        http = self._open(step.call, deadline)
        try:
            with self._map_errors(step.call, deadline):
                http.read()
        finally:
            http.close()
        return step.read(step.call.read_json(http), http)

    def _send_once(self, plan: SendPlan, deadline: float) -> Response:
        """Send the plan's next call and return its response, complete and checked."""
        call, http, reader = plan.next, None, None
        try:
            http = self._open(call, deadline)
            if call.stream or http.is_event_stream:
                reader = call.stream_reader(http, yields_events=False)
                for _ in self._read_events(http, call, reader, deadline):
                    pass
                return reader.finish()
            with self._map_errors(call, deadline):
                http.read()
            return check_response(call.read_response(http), request=call.summary)
        except ResponsesError as error:
            failure = plan.after_failure(self._add_generation_id(error, http), reader)
            if isinstance(failure, StreamInterruptedError) and self._clock() >= deadline:
                raise self._add_generation_id(call.deadline_error(), http) from error
            if failure is not error:
                raise failure from error
            raise
        finally:
            if http is not None:
                http.close()

    def _upload_once(self, step: SendRequests, deadline: float) -> Any:
        """Send the requests of a batch and return the JSON object of the response."""
        call, http = step.call, None
        upload: Upload = step.upload

        def check() -> None:
            self._check_cancelled(call)
            if self._clock() >= deadline:
                raise call.deadline_error()

        content = upload.open(check)
        try:
            http = self._open(call.with_content(content), deadline)
            with self._map_errors(call, deadline):
                http.read()
            return step.read(call.read_json(http), http)
        except ResponsesError as error:
            if upload.failure is not None and upload.failure is not error:
                raise upload.failure from upload.failure.__cause__
            if upload.failure is None:
                mark_upload_failure(error, call.summary.batch, body_began=upload.began)
            raise
        finally:
            if http is not None:
                http.close()

    def _read_batch(self, call: Call, deadline: float) -> Batch:
        """Return a batch without its results, which are dropped while they arrive."""
        http = self._open(call, deadline)
        reader = BatchReader(http, call.summary)
        try:
            with self._map_errors(call, deadline):
                for piece in http.wrapped.iter_bytes():
                    reader.feed(piece)
        finally:
            http.close()
        return reader.finish()

    def _download(self, step: Download) -> Iterator[BatchResult]:
        """Yield the results in a body while they arrive; if the connection breaks, it is read again."""
        call, results = step.call, step.results
        try:
            while True:
                retries = self._start_retries(call)  # the deadline limits a read, and not the caller's work
                items = self._retry(retries, partial(self._read_results, call, results, retries.deadline))
                if items is None:
                    break
                for item in items:
                    yield step.read(item)
        finally:
            if (http := results.stop()) is not None:
                http.close()

    def _read_results(self, call: Call, download: ResultsDownload, deadline: float) -> list[Any] | None:
        """Return the next results in a body, None after the last one."""
        try:
            if download.http is None:
                http = self._open(call, deadline)
                download.start(http, http.wrapped.iter_bytes())
            else:
                download.http.wrapped.stream.end_at(deadline)  # type: ignore[union-attr]
            while True:
                with self._map_errors(call, deadline):
                    piece = next(download.pieces, None)
                if piece is None:
                    return download.finish() or None
                if items := download.feed(piece):
                    return items
        except ResponsesError:
            if (failed := download.stop()) is not None:
                failed.close()
            raise

    def _open(self, call: Call, deadline: float) -> HTTPResponse:
        """Send, and return the HTTP response once its status is known to be 2XX; its body is unread."""
        pool = self._get_pool(call.config.route)
        with self._map_errors(call, deadline), pool.end_reads_at(deadline, self._clock):
            extensions = {"timeout": call.timeouts(deadline - self._clock()), "trace": pool.trace}
            received = pool.http.send(call.build_request(extensions), stream=True)
            received.stream = sync_pool.DeadlineStream(received, pool, deadline, self._clock)
        http = HTTPResponse(received)
        if not http.is_success:
            try:
                with self._map_errors(call, deadline):
                    http.read_error_body()
            finally:
                http.close()
            raise call.status_error(http)
        return http

    def _read_events(
        self, http: HTTPResponse, call: Call, reader: StreamReader, deadline: float
    ) -> Iterator[StreamEvent]:
        """Yield the events of a body, or the last event of a stream for a JSON object."""
        pieces = http.wrapped.iter_bytes()
        beginning = framing.Beginning(labelled=http.is_event_stream)
        try:
            any(beginning.add(piece) for piece in pieces)  # until the bytes decide
        except httpx.HTTPError as error:
            self._check_cancelled(call, error)
            raise reader.interrupted(str(error) or type(error).__name__) from error
        if beginning.is_json:  # from a server that does not stream
            with self._map_errors(call, deadline):
                http.body = b"".join((beginning.data, *pieces))
            yield reader.read_unstreamed(call.read_response(http))
        else:
            yield from self._read_sse(http, call, reader, framing.events(beginning.data, pieces), deadline)
        self._check_cancelled(call)
        reader.finish()

    def _read_sse(
        self,
        http: HTTPResponse,
        call: Call,
        reader: StreamReader,
        source: Iterator[ServerSentEvent],
        deadline: float,
    ) -> Iterator[StreamEvent]:
        """Yield the events of a stream."""
        try:
            for sse in source:
                if event := reader.read(sse.data, sse.event):
                    yield event
                if self._cancelled or reader.has_outcome:
                    break
            if reader.has_outcome:  # reading the end frees the connection for another call, and may add to an error
                http.wrapped.stream.end_within(reader.seconds_to_end(deadline - self._clock()))  # type: ignore[union-attr]
                for sse in source:
                    reader.read(sse.data, sse.event)
        except httpx.HTTPError as error:
            if not reader.has_outcome:
                self._check_cancelled(call, error)
                raise reader.interrupted(str(error) or type(error).__name__) from error
        if event := reader.end():
            yield event

    def _check_cancelled(self, call: Call, cause: Exception | None = None) -> None:
        if self._cancelled:
            raise call.cancelled_error() from cause

    @contextmanager
    def _map_errors(self, call: Call, deadline: float) -> Iterator[None]:
        """Turn the network's exceptions into this package's errors; check the deadline and `cancel`."""
        self._check_cancelled(call)
        if self._clock() >= deadline:
            raise call.deadline_error()
        try:
            yield
        except httpx.HTTPError as error:
            self._check_cancelled(call, error)
            if self._clock() >= deadline:
                raise call.deadline_error() from error
            raise call.transport_error(error) from error
        self._check_cancelled(call)
