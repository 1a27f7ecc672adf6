"""
Reads the bodies of the batch API while they arrive, so that the results are never in memory as a whole. No I/O.

Numbers are read as everywhere else: a float, and not a Decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.client import response_errors, server_errors
from airflow_provider_responses.client.bodies import parse_json
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.response_check import check_response
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.batch import Batch, BatchResult
from airflow_provider_responses.models.response import Response

if TYPE_CHECKING:
    from airflow_provider_responses.client.http_response import HTTPResponse

log = getLogger(__name__)

SHOWN: Final = 200  # bytes of a broken body that its error may describe
_BEFORE_JSON: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
# `object` and `type` of bodies of other endpoints, which are not checked as a response.
_OTHER_BODIES: Final = frozenset({"list", "chat.completion", "message"})


class _Reader:
    """
    Feeds a parser with the pieces of a body.

    :param http: the HTTP response, for the error of a broken body.
    """

    def __init__(self, http: HTTPResponse, request: RequestSummary) -> None:
        self._http = http
        self._request = request
        self._beginning = b""  # for the error of a broken body
        self._held: bytes | None = b""  # bytes before the JSON, which the parser refuses; None once it has begun
        self._parser: Any = None

    def _send(self, piece: bytes) -> None:
        import ijson

        if len(self._beginning) < SHOWN:
            self._beginning = (self._beginning + piece)[:SHOWN]
        if self._held is not None:
            self._held += piece
            piece = self._held.lstrip(_BEFORE_JSON).removeprefix(_BOM).lstrip(_BEFORE_JSON)
            if _BOM.startswith(piece):  # nothing yet, or half of the mark
                return
            self._held = None
        if not piece:  # for the parser, the end
            return
        try:
            self._parser.send(piece)
        except ijson.JSONError as error:
            raise self._broken() from error

    def _close(self) -> None:
        import ijson

        try:
            self._parser.close()
        except ijson.JSONError as error:
            raise self._broken() from error

    def _broken(self) -> ResponsesError:
        return response_errors.not_json(self._http.status, self._http.headers, self._beginning, request=self._request)


class BatchReader(_Reader):
    """Reads one batch without its ``results``."""

    def __init__(self, http: HTTPResponse, request: RequestSummary) -> None:
        import ijson

        super().__init__(http, request)
        self._events: Any = ijson.sendable_list()
        self._parser = ijson.basic_parse_coro(self._events)
        self._builder = ijson.ObjectBuilder()
        self._depth = 0
        self._skips = False

    def feed(self, piece: bytes) -> None:
        """
        Read the next piece of the body.

        :raises APIError: if the body is not JSON.
        """
        self._send(piece)
        self._drain()

    def finish(self) -> Batch:
        """
        Return the batch.

        :raises APIError: if the body is not that of a batch.
        """
        self._close()
        self._drain()
        raw = _with_floats(getattr(self._builder, "value", None))
        if not isinstance(raw, dict) or not isinstance(raw.get("id"), str) or not raw["id"]:
            raise self._broken()
        return Batch(raw=raw)

    def _drain(self) -> None:
        for event, value in self._events:
            self._read(event, value)
        del self._events[:]

    def _read(self, event: str, value: Any) -> None:
        self._depth += event.startswith("start_") - event.startswith("end_")
        if self._skips:
            self._skips = self._depth > 1  # the value has ended
        elif event == "map_key" and value == "results" and self._depth == 1:
            self._skips = True
            self._builder.event(event, value)
            self._builder.event("null", None)
        else:
            self._builder.event(event, value)


class ResultsReader(_Reader):
    """Reads the ``results`` of one batch."""

    def __init__(self, http: HTTPResponse, request: RequestSummary) -> None:
        import ijson

        super().__init__(http, request)
        self._items: Any = ijson.sendable_list()
        self._parser = ijson.items_coro(self._items, "results.item")

    def feed(self, piece: bytes) -> list[Any]:
        """
        Return the results that end in the next piece of the body.

        :raises APIError: if the body is not JSON.
        """
        self._send(piece)
        items = [_with_floats(item) for item in self._items]
        del self._items[:]
        return items

    def finish(self) -> list[Any]:
        """
        Check that the body has ended, and return no further result.

        :raises APIError: if it was cut off.
        """
        self._close()
        return []


class LinesReader:
    """Reads a file of OpenAI's API with one result in each line."""

    def __init__(self, http: HTTPResponse, request: RequestSummary) -> None:
        self._http = http
        self._request = request
        self._rest = bytearray()
        self._count = 0  # lines so far

    def feed(self, piece: bytes) -> list[Any]:
        """
        Return the results that end in the next piece of the file.

        :raises APIError: if the body is no such file.
        """
        self._rest += piece
        if b"\n" not in piece:
            return []
        *lines, self._rest = self._rest.split(b"\n")
        return [item for line in lines for item in self._read(line)]

    def finish(self) -> list[Any]:
        """
        Return the result in a last line without its end.

        :raises APIError: if the file was cut off.
        """
        line, self._rest = self._rest, bytearray()
        return list(self._read(line, is_last=True))

    def _read(self, line: bytearray, *, is_last: bool = False) -> Iterator[Any]:
        line = line.strip(_BEFORE_JSON)
        if not self._count:
            line = line.removeprefix(_BOM)
        if not line:
            return
        self._count += 1
        value = parse_json(bytes(line))
        if not isinstance(value, dict):
            if self._count == 1 or is_last:  # another page, or a file that was cut off
                raise response_errors.not_json(
                    self._http.status, self._http.headers, bytes(line[:SHOWN]), request=self._request
                )
            log.warning("Line %d of the results is not a JSON object. Request: %s", self._count, self._request.label)
        yield value


class ResultsDownload:
    """
    Results of one batch, from a body that may break: it is read again, and no result is returned twice.

    :param make_reader: the class that reads the body.
    :param http: the HTTP response that is read, None before the first one and after a failure.
    :param pieces: the iterator over its body.
    """

    def __init__(
        self, request: RequestSummary, make_reader: Callable[..., ResultsReader | LinesReader] = ResultsReader
    ) -> None:
        self._request = request
        self._make_reader = make_reader
        self._reader: ResultsReader | LinesReader | None = None
        self._returned: set[Any] = set()
        self._skipped: frozenset[Any] = frozenset()
        self.http: HTTPResponse | None = None
        self.pieces: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether there was no result."""
        return not self._returned

    def start(self, http: HTTPResponse, pieces: Any) -> None:
        """Begin to read a body."""
        self.http, self.pieces = http, pieces
        self._reader = self._make_reader(http, self._request)
        self._skipped = frozenset(self._returned)

    def feed(self, piece: bytes) -> list[Any]:
        """Return the results that end in the next piece, without those of a body that broke."""
        assert self._reader is not None  # noqa: S101  for the type checker
        return self._without_returned(self._reader.feed(piece))

    def finish(self) -> list[Any]:
        """Check that the body has ended, and return the results that its end completes."""
        return self._without_returned(self._reader.finish()) if self._reader is not None else []

    def _without_returned(self, items: list[Any]) -> list[Any]:
        names = [item.get("custom_id") if isinstance(item, Mapping) else None for item in items]
        self._returned.update(name for name in names if isinstance(name, str | None))
        return [
            item
            for name, item in zip(names, items, strict=True)
            if not isinstance(name, str) or name not in self._skipped
        ]

    def stop(self) -> HTTPResponse | None:
        """Return the HTTP response to close, if there is one; the next read begins with a new one."""
        http, self.http, self.pieces = self.http, None, None
        return http


def read_batch(raw: Mapping[str, Any], http: HTTPResponse, *, request: RequestSummary) -> Batch:
    """
    Return the batch in the response to a submit.

    :raises APIError: ambiguous, if there is no id: the batch may exist.
    """
    batch = Batch(raw=raw)
    if not batch.id:
        raise response_errors.not_json(http.status, http.headers, http.body, request=request)
    return batch


def read_file_id(raw: Mapping[str, Any], http: HTTPResponse, *, request: RequestSummary) -> str:
    """
    Return the id in the response to an upload.

    :raises APIError: if there is none.
    """
    file_id = raw.get("id")
    if not isinstance(file_id, str) or not file_id:
        raise response_errors.not_json(http.status, http.headers, http.body, request=request)
    return file_id


def read_result(raw: Any, batch_id: str, *, is_openrouter: bool = True) -> BatchResult:
    """Return the result of one request, with the error that ``send`` would have raised."""
    raw = raw if isinstance(raw, Mapping) else {}
    label = f"{raw.get('custom_id')!r} in batch {batch_id}"
    summary = RequestSummary(label=label, is_openrouter=is_openrouter, batch="result")
    received = raw.get("response")
    received = received if isinstance(received, Mapping) else {}
    status, body = received.get("status_code"), received.get("body")
    body = body if isinstance(body, dict) else None
    status = status if isinstance(status, int) and not isinstance(status, bool) else None
    is_success = status is None or 200 <= status < 300
    response = None if body is None or not is_success else Response(raw=body, headers=_headers(received))
    if body is None or response is None or raw.get("error"):
        reported = raw if body is None or raw.get("error") else body
        error = server_errors.error_in_batch(None if is_success else status, _report(reported), request=summary)
        return BatchResult(raw=raw, response=response, error=error)
    if _OTHER_BODIES.intersection(value for name in ("object", "type") if isinstance(value := body.get(name), str)):
        return BatchResult(raw=raw, response=response)
    try:
        return BatchResult(raw=raw, response=check_response(response, request=summary))
    except ResponsesError as error:
        return BatchResult(raw=raw, response=response, error=error)


def _report(reported: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a result, or of its body, that report an error."""
    return {name: reported[name] for name in ("error", "error_type", "openrouter_metadata") if name in reported}


def _headers(received: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that the same response would have: the id under which its price can be looked up."""
    request_id = received.get("request_id")
    is_generation = isinstance(request_id, str) and request_id.startswith("gen-")
    return {"x-generation-id": str(request_id)} if is_generation else {}


def _with_floats(value: Any) -> Any:
    """Return a value in which floats stand for the parser's Decimals; containers are changed in place."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (dict, list)):
        stack: list[Any] = [value]
        while stack:
            container = stack.pop()
            # No key or index is added: only values are replaced.
            for key, item in container.items() if type(container) is dict else enumerate(container):
                kind = type(item)
                if kind is Decimal:
                    container[key] = float(item)
                elif kind is dict or kind is list:
                    stack.append(item)
    return value
