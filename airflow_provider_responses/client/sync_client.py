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
from typing import Any, Final, Self

import httpx
from httpx_sse import ServerSentEvent
from tenacity import Retrying

from airflow_provider_responses.client import framing, sync_pool
from airflow_provider_responses.client.base_client import BaseClient, Options, read_object, read_objects, shows_path
from airflow_provider_responses.client.batch_body import BatchBody, BatchHead
from airflow_provider_responses.client.batch_errors import mark_submit_failure
from airflow_provider_responses.client.batch_results import BatchReader, ResultsDownload, read_batch, read_result
from airflow_provider_responses.client.batch_upload import Requests, Upload
from airflow_provider_responses.client.batches import BatchPages, ResultPages, batch_path, id_of, not_finished
from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.config import ClientConfig, Route
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.response_check import check_response
from airflow_provider_responses.client.retries import Retries
from airflow_provider_responses.client.send_plan import SendPlan
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import (
    APIError,
    NotFoundResponseError,
    ResponsesError,
    StreamInterruptedError,
    TransportError,
)
from airflow_provider_responses.models.batch import RESPONSES_ENDPOINT, Batch, BatchResult
from airflow_provider_responses.models.events import StreamEvent
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

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
        options: Options = None,
    ) -> Batch:
        """
        Submit a batch and return it; its requests run within 24 hours, at about half the price.

        The body is sent while the requests are read. If one of them is wrong, the upload is aborted and no batch
        exists. A submit whose outcome is unknown is never repeated: its error is ``ambiguous``, and ``list_batches``
        shows whether the batch exists. A refused connection, a 429 or a 503 is retried if the same requests can be
        read again: from a list, from a function, or if they are less than 1 MiB.

        :param requests: BatchRequests, or dicts of ``custom_id`` and ``body``; an iterable, or a function that returns
            one.
        :param model: the model of all requests.
        :param endpoint: the endpoint of all requests; bodies for other endpoints than ``/v1/responses`` are not
            checked.
        :param completion_window: the time within which the requests run.
        :param provider: ``only`` and ``allow_fallbacks``.
        :param callback_url: public https URL that the server calls when the batch has finished.
        :param options: timeout, retries, headers and base URL of this call.
        :raises ConfigurationError: if the server has no batches.
        :raises RequestValidationError: naming the ``custom_id`` and the field; no batch exists.
        :raises APIError: the class of the status.
        :raises TransportError: if no response arrived.
        """
        head = BatchHead(
            endpoint=endpoint,
            model=model,
            completion_window=completion_window,
            provider=provider,
            callback_url=callback_url,
        )
        call = self._post_batch(head, options)
        upload = Upload(requests, lambda: BatchBody(head, call.config))
        try:
            upload.begin()
            call = call.as_submit(can_repeat=upload.can_repeat)
            retries = self._start_retries(call)
            batch: Batch = self._retry(retries, lambda: self._submit_once(call, upload, retries.deadline))
        finally:
            upload.close()
        return batch

    def get_batch(self, batch_id: str, *, options: Options = None) -> Batch:
        """
        Return a batch without its results (``GET /batches/{id}``).

        :raises PaymentRequiredResponseError: if the account owes the price.
        :raises NotFoundResponseError: if there is none with this id, or it belongs to another key.
        :raises APIError: with status 410, if it has expired.
        """
        call = self._batch_call("GET", batch_path(batch_id), options, "read")
        retries = self._start_retries(call)
        batch: Batch = self._retry(retries, lambda: self._read_batch(call, retries.deadline))
        return batch

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
        :param status: one or more of validating, in_progress, completed, failed, expired and cancelled. The server
            lists other statuses as in_progress.
        :param created_after: a datetime with a time zone, seconds since 1970, or a text.
        :param created_before: likewise.
        :raises RequestValidationError: naming the argument.
        """
        pages = BatchPages(
            limit=limit, after=after, status=status, created_after=created_after, created_before=created_before
        )
        self._batch_call("GET", "/batches", options, "list")  # refuses another server at once
        return self._iter_batches(pages, options)

    def iter_batch_results(self, batch: Batch | str, *, options: Options = None) -> Iterator[BatchResult]:
        """
        Return an iterator over the results of a finished batch, in any order.

        They are read in pages where the server has them, else while the batch arrives: memory does not grow with
        their number. A request that failed is a result with an ``error``.

        :param batch: the batch or its id.
        :raises APIError: if the batch has not finished, is unknown (404) or has expired (410).
        """
        batch_id = id_of(batch)
        self._batch_call("GET", batch_path(batch_id), options, "read")  # refuses another server at once
        return self._iter_results(batch_id, options)

    def delete_batch(self, batch_id: str, *, options: Options = None) -> dict[str, Any]:
        """
        Delete a finished batch with its requests and results, and return the server's report.

        :raises APIError: with status 409, if the batch has not finished.
        """
        call = self._batch_call("DELETE", batch_path(batch_id), options, "delete")
        try:
            return self._get_json(call)
        except NotFoundResponseError as error:
            if any(isinstance(earlier, TransportError) for earlier in error.previous):
                return {"id": batch_id, "object": "batch"}  # an earlier send deleted it, and its response was lost
            raise

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

    def _get_json(self, call: Call) -> dict[str, Any]:
        """Send a ``GET``, with retries, and return the JSON object of its response."""
        retries = self._start_retries(call)

        def send() -> dict[str, Any]:
            http = self._open(call, retries.deadline)
            try:
                with self._map_errors(call, retries.deadline):
                    http.read()
            finally:
                http.close()
            return call.read_json(http)

        data: dict[str, Any] = self._retry(retries, send)
        return data

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

    def _submit_once(self, call: Call, upload: Upload, deadline: float) -> Batch:
        """Send a batch and return it as the server has stored it."""
        http = None

        def check() -> None:
            self._check_cancelled(call)
            if self._clock() >= deadline:
                raise call.deadline_error()

        content = upload.open(check)
        try:
            http = self._open(call.with_content(content), deadline)
            with self._map_errors(call, deadline):
                http.read()
            return read_batch(call.read_json(http), http, request=call.summary)
        except ResponsesError as error:
            if upload.failure is not None and upload.failure is not error:
                raise upload.failure from upload.failure.__cause__
            if upload.failure is None:
                mark_submit_failure(error, body_began=upload.began)
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

    def _iter_batches(self, pages: BatchPages, options: Options) -> Iterator[Batch]:
        """Yield the batches of all pages."""
        while path := pages.next_path():
            page = self._get_json(self._batch_call("GET", path, options, "list"))
            yield from pages.read(page)

    def _iter_results(self, batch_id: str, options: Options) -> Iterator[BatchResult]:
        """Yield the results of a batch, page by page or out of the batch itself."""
        pages = ResultPages(batch_id)
        while path := pages.next_path():
            call = self._batch_call("GET", path, options, "read")
            try:
                items = pages.read(self._get_json(call))
            except APIError as error:
                if not pages.is_unknown(error):
                    raise
                items = None
            if items is None:
                break
            for item in items:
                yield read_result(item, batch_id)
        else:
            return
        yield from self._stream_results(batch_id, options)

    def _stream_results(self, batch_id: str, options: Options) -> Iterator[BatchResult]:
        """Yield the results inside a batch while they arrive; if the connection breaks, the batch is read again."""
        call = self._batch_call("GET", batch_path(batch_id), options, "read")
        download = ResultsDownload(call.summary)
        try:
            while True:
                retries = self._start_retries(call)  # the deadline limits a read, and not the caller's work
                read = partial(self._read_results, call, download, retries.deadline)
                items = self._retry(retries, read)
                if items is None:
                    break
                for item in items:
                    yield read_result(item, batch_id)
        finally:
            if (http := download.stop()) is not None:
                http.close()
        if download.is_empty and not (batch := self.get_batch(batch_id, options=options)).is_finished:
            raise not_finished(batch, call.summary.label)

    def _read_results(self, call: Call, download: ResultsDownload, deadline: float) -> list[Any] | None:
        """Return the next results inside a batch, None after the last one."""
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
                    download.finish()
                    return None
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
