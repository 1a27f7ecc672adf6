"""
Builds the body of a batch request by request, so that it is never in memory as a whole. No I/O.

The parts for every server, and OpenRouter's body. Everything else stands before ``requests`` in its JSON: OpenRouter
reads the body while it arrives. OpenAI's body is in openai_batch_body.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from airflow_provider_responses.client.batch_rules import check_for_batch, has_web_search
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.client.preparation import prepare
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import canonical
from airflow_provider_responses.models.batch import RESPONSES_ENDPOINT, BatchRequest, PreparedBatchRequest
from airflow_provider_responses.models.batch_sizes import MAX_BATCH_BYTES, MAX_BATCH_REQUESTS
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.validation import check_type, wrong_value

# Models whose batches must have the same `text.format` in all requests.
ONE_FORMAT: Final = "google/"
# Bytes of a body beside its requests, which a packer leaves free: those of the head, whose texts have no limit.
HEAD_ROOM: Final = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class HeadOfBatch:
    """The fields of a batch beside its requests, with the checks for every server."""

    endpoint: str
    model: str
    completion_window: str
    provider: Mapping[str, Any] | None = None
    callback_url: str | None = None
    metadata: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("endpoint", "model", "completion_window"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise wrong_value(name, "text that is not empty", value)
        check_type("provider", self.provider, Mapping, optional=True)
        check_type("callback_url", self.callback_url, str, optional=True)
        metadata = check_type("metadata", self.metadata, Mapping, optional=True) or {}
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise wrong_value("metadata", "a dict of names and texts", metadata, type_only=True)


class BatchHead(HeadOfBatch):
    """The fields of OpenRouter's batch before its requests. They are written in this order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if has_web_search(self.model):
            raise wrong_value("model", "a model without ':online' in a batch, which has no web search", self.model)
        if (self.provider or {}).get("zdr"):
            raise RequestValidationError(
                "provider.zdr must not be true: a batch has no zero data retention", fields=("provider.zdr",)
            )
        url = self.callback_url
        if url is not None and (urlsplit(url).scheme != "https" or not urlsplit(url).hostname):
            raise wrong_value("callback_url", "a public https URL", url, type_only=True)
        if self.metadata is not None:
            raise RequestValidationError(
                "metadata must not be set for a batch of OpenRouter, which has none: leave it out", fields=("metadata",)
            )

    def to_bytes(self) -> bytes:
        """Return the beginning of the body, up to the first request."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return canonical.to_bytes(given)[:-1] + b',"requests":['


class BodyOfBatch(ABC):
    """
    The body of one batch: ``begin``, then ``add`` for each request, then ``end``.

    :param head: the fields beside the requests.
    :param config: the settings of the call; its rules are those of ``send``.
    :param max_requests: number of requests that the server takes.
    :param max_bytes: bytes of a body that the server takes.
    """

    MAX_REQUESTS: ClassVar[int]
    MAX_BYTES: ClassVar[int] = MAX_BATCH_BYTES
    HEAD_ROOM: ClassVar[int] = HEAD_ROOM
    SEPARATOR: ClassVar[bytes]

    def __init__(
        self,
        head: HeadOfBatch,
        config: ClientConfig,
        *,
        max_requests: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._head = head
        self._config = config
        self._max_requests = self.MAX_REQUESTS if max_requests is None else max_requests
        self._max_bytes = self.MAX_BYTES if max_bytes is None else max_bytes
        self._positions: dict[str, int] = {}
        self._bytes = 0
        self._counted_tail = 0  # bytes after the last request that count, too

    @abstractmethod
    def begin(self) -> bytes:
        """Return the bytes before the first request."""

    def add(self, item: BatchRequest | PreparedBatchRequest | Mapping[str, Any]) -> bytes:
        """
        Return the bytes of the next request. Of one that is prepared, only the place, size and model are checked.

        :raises RequestValidationError: naming the request's ``custom_id`` and the field.
        """
        position = len(self._positions) + 1
        name = f"Request {position} of the batch"
        custom_id = None
        try:
            request = item if isinstance(item, PreparedBatchRequest) else BatchRequest.parse(item)
            custom_id = request.custom_id
            name = f"Request {custom_id!r} of the batch"
            self._check_place(custom_id, position)
            data = self._item(custom_id, self._body_of(request), self._head.endpoint)
            return self._counted(data if position == 1 else self.SEPARATOR + data)
        except RequestValidationError as error:
            error.custom_id = custom_id
            raise error.about(name) from error.__cause__

    def end(self) -> bytes:
        """
        Return the bytes after the last request.

        :raises RequestValidationError: if there was no request.
        """
        if not self._positions:
            raise RequestValidationError("requests must have at least one request, got none", fields=("requests",))
        return self._tail()

    @classmethod
    def size_of(cls, request: PreparedBatchRequest) -> int:
        """Return the number of bytes that a request adds to the body, with the separator between two requests."""
        return len(cls._item(request.custom_id, b"", RESPONSES_ENDPOINT)) + len(request.body) + len(cls.SEPARATOR)

    @staticmethod
    @abstractmethod
    def _item(custom_id: str, body: bytes, endpoint: str) -> bytes: ...

    @abstractmethod
    def _tail(self) -> bytes: ...

    @abstractmethod
    def _checked_body(self, item: BatchRequest) -> dict[str, Any]: ...

    def _body_of(self, request: BatchRequest | PreparedBatchRequest) -> bytes:
        if not isinstance(request, PreparedBatchRequest):
            return canonical.to_bytes(self._checked_body(request))
        self._check_model(request.model)
        return request.body

    def _check_model(self, model: Any) -> None:
        if model != self._head.model:
            raise wrong_value("model", f"{self._head.model!r}, the batch's, or left out", model)

    def _check_place(self, custom_id: str, position: int) -> None:
        if position > self._max_requests:
            raise RequestValidationError(
                f"requests must be at most {self._max_requests}, got more: split them over several batches",
                fields=("requests",),
            )
        if custom_id in self._positions:
            raise RequestValidationError(
                f"custom_id must be unique in a batch: request {self._positions[custom_id]} has the same one",
                fields=("custom_id",),
            )
        self._positions[custom_id] = position

    def _counted(self, data: bytes) -> bytes:
        self._bytes += len(data)
        if self._bytes + self._counted_tail > self._max_bytes:
            raise RequestValidationError(
                f"requests must be at most {self._max_bytes} bytes, got more with the {len(data)} bytes of this one: "
                "split them over several batches",
                fields=("requests",),
            )
        return data

    def _unchecked_body(self, item: BatchRequest) -> dict[str, Any]:
        return dict(check_type("body", item.request, Mapping, expected="a dict", type_only=True))

    def _prepared_body(self, request: ResponsesRequest) -> dict[str, Any]:
        """Return the body of a request, which is checked as by ``send``. The connection's model is not the batch's."""
        if request.model is None and "model" not in request.extra_body:
            request = request.model_copy(update={"model": self._head.model})
        body = prepare(request, self._config).to_dict()
        body.pop("stream", None)
        return body


class BatchBody(BodyOfBatch):
    """The body of OpenRouter's batch: one JSON object."""

    MAX_REQUESTS = MAX_BATCH_REQUESTS
    SEPARATOR = b","
    END: Final = b"]}"

    def __init__(self, head: BatchHead, config: ClientConfig, **limits: Any) -> None:
        super().__init__(head, config, **limits)
        self._beginning = head.to_bytes()
        self._format: tuple[Any] | None = None
        self._counted_tail = len(self.END)

    def begin(self) -> bytes:
        """Return the bytes before the first request."""
        return self._counted(self._beginning)

    @staticmethod
    def _item(custom_id: str, body: bytes, endpoint: str) -> bytes:  # noqa: ARG004  it is in the head
        return b'%b,"body":%b}' % (canonical.to_bytes({"custom_id": custom_id})[:-1], body)

    def _tail(self) -> bytes:
        return self.END

    def _checked_body(self, item: BatchRequest) -> dict[str, Any]:
        if self._head.endpoint != RESPONSES_ENDPOINT:  # its schema is not known here
            body = self._unchecked_body(item)
        else:
            request = ResponsesRequest.parse(item.request)
            check_for_batch(request)
            body = self._prepared_body(request)
            self._check_format(body)
        self._check_model(body.pop("model", self._head.model))
        return body

    def _check_format(self, body: Mapping[str, Any]) -> None:
        if not self._head.model.startswith(ONE_FORMAT):
            return
        text = body.get("text")
        given = (text.get("format") if isinstance(text, Mapping) else None,)
        self._format = self._format or given
        if given != self._format:
            raise RequestValidationError(
                "text.format must be the same in all requests of a batch for a Google model: submit each format as a "
                "batch of its own",
                fields=("text.format",),
            )
