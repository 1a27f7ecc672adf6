"""What both clients share: a request as a call that can be sent any number of times, and what its answer says."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from airflow_provider_responses.client import errors, framing, protocol
from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.client.replies import Reply
from airflow_provider_responses.client.retries import Judge
from airflow_provider_responses.client.sse import ADVICE_UNSTREAMED, StreamReader
from airflow_provider_responses.client.summary import RequestSummary
from airflow_provider_responses.exceptions import (
    APIError,
    ResponsesError,
    StreamInterruptedError,
    TransportError,
    UnauthorizedResponseError,
)
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

ErrorT = TypeVar("ErrorT", bound=ResponsesError)
DRAIN: Final = 0.5  # seconds that the end of a stream may take once the response is whole
LINGER: Final = 5.0  # seconds that it may take once an error has come: the terminal event holds id, model and usage
# Words about streams that a request should ask for, and not about one that ended or was read.
STREAMING: Final = re.compile(
    r"(?<!of )(?<!of the )(?<!in )(?<!in the )(?<!input )(?<!-)\bstream(?:s|ed|ing|_options)?\b", re.IGNORECASE
)
Options = RequestOptions | Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One HTTP request, ready to be sent any number of times."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)  # the key is among them
    body: bytes | None = field(repr=False)
    stream: bool
    config: ClientConfig
    summary: RequestSummary
    prepared: ResponsesRequest | None = field(default=None, repr=False)

    @property
    def what(self) -> str:
        """The request in messages."""
        return self.summary.label

    def request(self, extensions: Mapping[str, Any]) -> httpx.Request:
        """Give the request for one try; made by hand, as merging a client's defaults in is a fifth of its time."""
        return httpx.Request(
            self.method, parsed(self.url), headers=self.headers, content=self.body, extensions=extensions
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
        label = f"{self.what}, sent again with stream=False since its stream broke before any output"
        return replace(
            self,
            headers={**self.headers, "accept": accept},
            body=_with_stream(self.prepared, stream=False).to_bytes(),
            stream=False,
            summary=replace(self.summary, label=label, is_streamed=False),
        )

    def timeout(self, remaining: float) -> dict[str, float]:
        """Give httpx's timeouts: none may outlast the deadline."""
        connect = min(self.config.connect_timeout, remaining)
        silence = min(self.config.read_timeout, remaining)
        return {"connect": connect, "pool": connect, "write": silence, "read": silence}

    def refusal(self, reply: Reply) -> APIError:
        """Give the error of a status other than 2XX."""
        return errors.error_from_response(reply.status, reply.head, reply.body, request=self.summary)

    def deadline_error(self) -> TransportError:
        """Give the error of a call whose time is over."""
        return TransportError(
            f"{self.what}: no answer within {round(self.config.timeout, 2):g} s, all tries included. "
            "It may have been billed. "
            "Raise the timeout (`options`, the connection, or the task's execution_timeout), or ask for less",
            kind="deadline",
            ambiguous=True,
        )


class Sends:
    """
    The sends of one request, of which one may be unstreamed although a stream is asked for.

    :param call: as it is sent at first.
    """

    def __init__(self, call: Call) -> None:
        self._asked = self.next = call
        self._was_unstreamed = False
        self._broken: StreamInterruptedError | None = None  # why it was sent unstreamed

    def failed(self, error: ErrorT, reader: StreamReader | None = None) -> ErrorT | StreamInterruptedError:
        """
        Decide how the next send is made, if there is one; return the error that this one ended in.

        Some servers find out what is wrong with a request after they have begun to stream, and break off. The same
        request unstreamed brings their reason. From a server that does nothing but stream it brings none: then the
        stream that broke is the error.

        :param reader: what read the stream, if one had begun.
        """
        if not self.next.stream and self._asked.stream:
            only_streams = self._broken is not None and _only_streams(error, self.next.what)
            self._was_unstreamed = self._was_unstreamed or error.ambiguous or only_streams
            self.next = self._asked if self._was_unstreamed else self.next
            if self._broken is not None and only_streams:
                error.hide(self._asked.config.secrets)  # it is seen as the cause
                return _broken_again(self._broken, error)
        elif (
            isinstance(error, StreamInterruptedError)
            and not isinstance(error.__cause__, (httpx.TimeoutException, TimeoutError))
            and not (reader is None or reader.has_output or self._was_unstreamed or self.next.config.is_openrouter)
        ):
            self.next, self._broken = self._asked.unstreamed(), error
        return error


def _only_streams(error: ResponsesError, label: str) -> bool:
    """Whether an unstreamed request was refused because it is none that streams."""
    if not isinstance(error, APIError) or error.retryable:
        return False
    status = error.status_code
    if status is not None and 200 <= status < 300:  # a bridge responds with `null` to what it cannot do
        return error.response is None
    return STREAMING.search(error.message.removeprefix(label)) is not None


def _broken_again(broken: StreamInterruptedError, refusal: ResponsesError) -> StreamInterruptedError:
    message = broken.message.removesuffix(ADVICE_UNSTREAMED)
    status = f" (status {refusal.status_code})" if refusal.status_code else ""
    message += f". The server only streams: it refuses the same request with stream=False{status}"
    return StreamInterruptedError(message, ambiguous=True, generation_id=broken.generation_id)


@lru_cache(maxsize=64)
def parsed(url: str) -> httpx.URL:
    """Give an address as httpx writes it."""
    return httpx.URL(url)


class Calls:
    """What both clients share: settings, and how a request becomes a call."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._clock: Callable[[], float] = time.monotonic
        self._draw: Callable[[], float] = random.random
        self._linger = LINGER

    def _patience(self, reader: StreamReader, deadline: float) -> float:
        """Return the seconds that the end of a stream may take once its outcome is known."""
        if not reader.has_failed:
            return DRAIN
        # Half of what is left, so that the error is raised and not the deadline's.
        return max(0.0, min(self._linger, (deadline - self._clock()) / 2))

    def prepare(self, request: ResponsesRequest | Mapping[str, Any], options: Options = None) -> Call:
        """
        Return a request as a call, which ``send_call`` may send any number of times.

        :raises RequestValidationError: naming the field and what to do.
        """
        return self._post(request, options)

    def _post(self, request: ResponsesRequest | Mapping[str, Any], options: Options, *, stream: bool = False) -> Call:
        parsed = None if options is None else RequestOptions.parse(options)
        config = self.config.for_call(parsed)
        if isinstance(request, Mapping) and "stream" not in request:
            request = {**request, "stream": stream}  # cheaper than to add it below
        prepared = protocol.prepare(request, config)
        stream = stream or bool(prepared.extra_body.get("stream", prepared.stream))
        prepared = _with_stream(prepared, stream=stream)
        return Call(
            method="POST",
            url=f"{config.base_url}/responses",
            headers=protocol.build_headers(config, parsed, stream=stream),
            body=prepared.to_bytes(),
            stream=stream,
            config=config,
            summary=RequestSummary.of(prepared, config),
            prepared=prepared,
        )

    def _get(self, path: str, options: Options = None) -> Call:
        parsed = None if options is None else RequestOptions.parse(options)
        config = self.config.for_call(parsed)
        url = f"{config.base_url}{path}"
        headers = protocol.build_headers(config, parsed)
        summary = RequestSummary(label=f"GET {url}", is_openrouter=config.is_openrouter)
        return Call(method="GET", url=url, headers=headers, body=None, stream=False, config=config, summary=summary)

    def _get_generation(self, generation_id: str, options: Options) -> Call:
        return self._get(f"/generation?id={quote(generation_id, safe='')}", options)

    def _judge(self, call: Call) -> Judge:
        return Judge(call.config, self._clock, self._draw)


def _with_stream(request: ResponsesRequest, *, stream: bool) -> ResponsesRequest:
    """Return a request that says whether it is streamed: some servers stream where nothing is said."""
    if request.stream is stream and "stream" not in request.extra_body:
        return request
    changes: dict[str, Any] = {"stream": stream}
    if "stream" in request.extra_body:
        changes["extra_body"] = {name: value for name, value in request.extra_body.items() if name != "stream"}
    return request.model_copy(update=changes)


def settle(judge: Judge, response: Response) -> Response:
    """Enter into an answer what came before it, and how long it took."""
    return response.settled(tuple(judge.errors), judge.clock() - judge.started)


def blame(judge: Judge, error: ResponsesError) -> None:
    """Enter into a final error, and the answer that came with it, what came before it."""
    error.after(e for e in judge.errors if e is not error)
    if error.response is not None:
        error.response = replace(error.response, previous=error.previous, seconds=judge.clock() - judge.started)
    errors.note_tries(error)


def place(error: ErrorT, reply: Reply | None) -> ErrorT:
    """Say which generation an error is about, once the answer's head has told: its cost can be looked up."""
    if reply is not None:
        error.generation_id = error.generation_id or reply.head.get("x-generation-id")
    return error


def content(reply: Reply, call: Call) -> dict[str, Any]:
    """Give the JSON object of a plain answer whose body has arrived."""
    return protocol.read_json(reply.status, reply.head, reply.body, request=call.summary)


def whole(reply: Reply, call: Call) -> Response:
    """Read a response whose body has arrived: one JSON object, or a stream under whatever content type."""
    if framing.is_stream(reply.body):
        reader = StreamReader(reply.head, request=call.summary)
        for sse in framing.events(reply.body, iter(())):
            reader.read(sse.data, sse.event)
        reader.end()
        return reader.finish()
    raw = content(reply, call)
    if isinstance(raw.get("response"), dict) and str(raw.get("type")).startswith("response."):
        raw = raw["response"]  # the last event of a stream by itself
    return Response(raw=raw, headers=reply.head)


def object_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give the object that a ``GET`` brought, empty if it is another shape."""
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def objects_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the objects that a ``GET`` brought, without what is another shape."""
    data = body.get("data")
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def is_there(found: Mapping[str, Any] | APIError) -> bool | None:
    """
    Return whether a ``GET`` shows that the server has a path, None if it does not tell.

    :raises UnauthorizedResponseError: if the key is refused, which many servers do before they look at the path.
    """
    if isinstance(found, UnauthorizedResponseError):
        raise found
    if isinstance(found, APIError):
        return {404: False, 405: True}.get(found.status_code or 0)
    return None if found.get("error") else True  # some servers return a 200 with an error for any path
