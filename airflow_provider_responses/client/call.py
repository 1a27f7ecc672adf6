"""A request as an HTTP call that can be sent any number of times; reads its responses. No I/O."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import httpx

from airflow_provider_responses.client import framing, network_errors, server_errors
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.response_check import read_json
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.client.streamed_body import StreamedBody, body_of
from airflow_provider_responses.exceptions import APIError, RequestCancelledError, ResponsesError, TransportError
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """
    One HTTP request, ready to be sent any number of times.

    :param stream: whether the request asks for a stream.
    :param prepared: the request in ``body``; None for a ``GET``.
    :param body: bytes, or a body with files, which is encoded while it is sent.
    :param pieces: the body in pieces, in place of ``body``; such a call can be sent once.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # with the key
    body: bytes | StreamedBody | None = field(repr=False)
    stream: bool
    config: ClientConfig
    summary: RequestSummary
    prepared: ResponsesRequest | None = field(default=None, repr=False)
    pieces: Iterable[bytes] | AsyncIterable[bytes] | None = field(default=None, repr=False)

    @property
    def content(self) -> bytes | StreamedBody | Iterable[bytes] | AsyncIterable[bytes] | None:
        """The body of one send."""
        return self.body if self.pieces is None else self.pieces

    @property
    def all_headers(self) -> Mapping[str, str]:
        """The headers of one send. A streamed body has its length among them: many servers take none without."""
        if isinstance(self.body, StreamedBody) and self.pieces is None:
            return {**self.headers, "content-length": str(self.body.length)}
        return self.headers

    def with_content(self, content: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> Call:
        """Return the same call with a body, or with the pieces of one."""
        if isinstance(content, bytes):
            return replace(self, body=content)
        return replace(self, pieces=content)

    def as_submit(self, *, can_repeat: bool) -> Call:
        """
        Return the call of a batch, which is never sent again if the batch may exist.

        :param can_repeat: whether the body can be sent again.
        """
        max_retries = self.config.max_retries if can_repeat else 0
        return replace(self, config=replace(self.config, max_retries=max_retries, max_ambiguous_retries=0))

    def build_request(self, extensions: Mapping[str, Any]) -> httpx.Request:
        """Return the request of one send. Not by httpx's client, whose merging of defaults takes a fifth longer."""
        return httpx.Request(
            self.method, parse_url(self.url), headers=self.all_headers, content=self.content, extensions=extensions
        )

    def with_body(self, body: bytes) -> Call:
        """Return the same request, which is not streamed, with another body of the same kind."""
        return Call(
            method=self.method,
            url=self.url,
            headers=self.headers,
            body=body,
            stream=self.stream,
            config=self.config,
            summary=self.summary,
        )

    def unstreamed(self) -> Call:
        """Return the same request without a stream, to be sent after its stream broke before any output."""
        if self.prepared is None:
            return self
        accept = "application/json" if self.headers["accept"] == framing.EVENT_STREAM else self.headers["accept"]
        label = f"{self.summary.label}, sent again with stream=False since its stream broke before any output"
        return replace(
            self,
            headers={**self.headers, "accept": accept},
            body=body_of(with_stream(self.prepared, stream=False)),
            stream=False,
            summary=replace(self.summary, label=label, is_streamed=False),
        )

    def timeouts(self, remaining: float) -> dict[str, float]:
        """Return httpx's timeouts, none of which is longer than the remaining seconds."""
        connect = min(self.config.connect_timeout, remaining)
        silence = min(self.config.read_timeout, remaining)
        return {"connect": connect, "pool": connect, "write": silence, "read": silence}

    def read_json(self, http: HTTPResponse) -> dict[str, Any]:
        """Return the JSON object of an HTTP response whose body has arrived."""
        return read_json(http.status, http.headers, http.body, request=self.summary)

    def read_response(self, http: HTTPResponse) -> Response:
        """Return the response in a body that has arrived: a JSON object, or a stream of any content type."""
        if framing.is_stream(http.body):
            reader = self.stream_reader(http)
            for sse in framing.events(http.body, iter(())):
                reader.read(sse.data, sse.event)
            reader.end()
            return reader.finish()
        raw = self.read_json(http)
        if isinstance(raw.get("response"), dict) and str(raw.get("type")).startswith("response."):
            raw = raw["response"]  # only the last event of a stream
        return Response(raw=raw, headers=http.headers)

    def stream_reader(self, http: HTTPResponse, *, yields_events: bool = True) -> StreamReader:
        """Return the reader of a streamed response."""
        return StreamReader(http.headers, request=self.summary, yields_events=yields_events)

    def status_error(self, http: HTTPResponse) -> APIError:
        """Return the error of a status other than 2XX."""
        return server_errors.error_from_response(http.status, http.headers, http.body, request=self.summary)

    def transport_error(self, error: Exception) -> TransportError:
        """Return the error of a failure of the network."""
        return network_errors.transport_error(error, request=self.summary)

    def deadline_error(self) -> TransportError:
        """Return the error of a call that exceeded its timeout."""
        return network_errors.deadline_error(request=self.summary, timeout=self.config.timeout)

    def cancelled_error(self) -> RequestCancelledError:
        """Return the error of a call that was cancelled."""
        return network_errors.cancelled_error(request=self.summary)

    def map_async_failure(self, error: Exception) -> ResponsesError:
        """Return an exception of an async call as an error of this package."""
        return network_errors.map_async_failure(error, request=self.summary, timeout=self.config.timeout)


@lru_cache(maxsize=64)
def parse_url(url: str) -> httpx.URL:
    """Return an address as httpx's class."""
    return httpx.URL(url)


def with_stream(request: ResponsesRequest, *, stream: bool) -> ResponsesRequest:
    """Return a request that sets ``stream``: some servers stream if it is not set."""
    if request.stream is stream and "stream" not in request.extra_body:
        return request
    changes: dict[str, Any] = {"stream": stream}
    if "stream" in request.extra_body:
        changes["extra_body"] = {name: value for name, value in request.extra_body.items() if name != "stream"}
    return request.model_copy(update=changes)
