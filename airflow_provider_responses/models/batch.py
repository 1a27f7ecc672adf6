"""
Batches of OpenRouter's and OpenAI's batch API: the requests, the batch and its results.

Plain classes over the raw body, as in response.py: a result is paid for, so no shape of it may raise. A value of an
unexpected type counts as missing; ``raw`` holds the whole object.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.models.response import Response, Usage
from airflow_provider_responses.validation import check_known, check_type, wrong_value

if TYPE_CHECKING:
    from airflow_provider_responses.models.request import ResponsesRequest

RESPONSES_ENDPOINT: Final = "/v1/responses"
# A batch in any other status, also in one that is unknown here, may still change.
FINISHED_STATUSES: Final = frozenset({"completed", "failed", "expired", "cancelled"})
# The statuses that OpenRouter's list can be filtered by; the server lists other ones as in_progress.
LISTED_STATUSES: Final = ("validating", "in_progress", "completed", "failed", "expired", "cancelled")
STATUSES: Final = (*LISTED_STATUSES, "finalizing", "cancelling")


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """
    One request of a batch.

    :param custom_id: names the request and its result; unique in the batch.
    :param request: the request; its ``model`` may be left out, or is the batch's.
    """

    custom_id: str
    request: ResponsesRequest | Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.custom_id, str) or not self.custom_id:
            raise wrong_value("custom_id", "text that is not empty", self.custom_id)

    @classmethod
    def parse(cls, value: BatchRequest | Mapping[str, Any]) -> Self | BatchRequest:
        """
        Return a request of a batch; a dict holds ``custom_id`` and ``body``, as in the API.

        :raises RequestValidationError: naming the field.
        """
        if isinstance(value, BatchRequest):
            return value
        expected = "a BatchRequest or a dict of custom_id and body"
        check_type("an item of requests", value, Mapping, expected=expected, type_only=True)
        check_known("requests", value, ("custom_id", "body"))
        for name in ("custom_id", "body"):
            if name not in value:
                raise RequestValidationError(f"{name} is missing in an item of requests", fields=(name,))
        return cls(custom_id=value["custom_id"], request=value["body"])


class PreparedBatchRequest(NamedTuple):
    """
    One request of a batch whose body has been checked and serialized before. Internal.

    :param custom_id: names the request and its result; unique in the batch.
    :param body: the JSON object of the request, with its model; it is sent as it is.
    :param model: the model in the body.
    """

    custom_id: str
    body: bytes
    model: str

    def __repr__(self) -> str:
        return f"PreparedBatchRequest(custom_id={self.custom_id!r}, model={self.model!r}, bytes={len(self.body)})"


class BatchProblem(NamedTuple):
    """One reason why a batch failed; None where the server reports nothing."""

    message: str
    line: int | None = None
    """The number of the request among those of the batch, from 1."""
    param: str | None = None
    """The field of the request."""
    code: str | None = None

    def __str__(self) -> str:
        places = ("" if self.line is None else f"request {self.line}", f"field {self.param}" if self.param else "")
        place = ", ".join(filter(None, places))
        return f"{self.message} ({place})" if place else self.message


class BatchCounts(NamedTuple):
    """Numbers of requests in a batch; None where the server reports none."""

    total: int | None
    completed: int | None
    failed: int | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """
    One batch: the whole object as ``raw``, except ``results``, which the client's ``iter_batch_results`` yields.

    :param raw: the JSON object as it arrived.
    """

    raw: Mapping[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"Batch(id={self.id!r}, status={self.status!r}, model={self.model!r}, counts={tuple(self.counts)!r})"

    @property
    def id(self) -> str:
        """The batch's id; empty if the server reports none."""
        return self._text("id") or ""

    @property
    def status(self) -> str | None:
        """Such as validating, in_progress, finalizing, completed, failed, expired, cancelling, cancelled."""
        return self._text("status")

    @property
    def is_finished(self) -> bool:
        """Whether the status is final. A status that this version does not know is not final."""
        return self.status in FINISHED_STATUSES

    @property
    def model(self) -> str | None:
        """The model of all requests; None if the server reports none."""
        return self._text("model")

    @property
    def endpoint(self) -> str | None:
        """The endpoint of all requests."""
        return self._text("endpoint")

    @property
    def provider(self) -> str | None:
        """The provider that runs the batch, once one is assigned."""
        return self._text("provider")

    @property
    def counts(self) -> BatchCounts:
        """Numbers of all, completed and failed requests."""
        counts = self.raw.get("request_counts")
        values = counts if isinstance(counts, Mapping) else {}
        return BatchCounts(*(_whole_number(values.get(name)) for name in BatchCounts._fields))

    @functools.cached_property
    def usage(self) -> Usage:
        """Tokens and cost of all requests together."""
        return Usage.from_raw(self.raw.get("usage"))

    @functools.cached_property
    def errors(self) -> tuple[BatchProblem, ...]:
        """All reasons why the batch failed; OpenAI reports one for each wrong request."""
        reported = self.raw.get("errors")
        data = reported.get("data") if isinstance(reported, Mapping) else None
        found = [self.raw.get("error"), *(data if isinstance(data, list) else ())]
        return tuple(error for value in found if (error := _read_error(value)) is not None)

    @property
    def error_message(self) -> str | None:
        """The first reason why the batch failed, with the number of the request and the field if they are known."""
        return str(self.errors[0]) if self.errors else None

    @property
    def metadata(self) -> dict[str, str]:
        """The names and texts that ``create_batch`` attached to the batch."""
        value = self.raw.get("metadata")
        given = value if isinstance(value, Mapping) else {}
        return {name: text for name, text in given.items() if isinstance(name, str) and isinstance(text, str)}

    @property
    def input_file_id(self) -> str | None:
        """The id of the file with the requests (OpenAI's API)."""
        return self._text("input_file_id")

    @property
    def output_file_id(self) -> str | None:
        """The id of the file with the results of the requests that succeeded (OpenAI's API)."""
        return self._text("output_file_id")

    @property
    def error_file_id(self) -> str | None:
        """The id of the file with the results of the requests that failed (OpenAI's API)."""
        return self._text("error_file_id")

    @property
    def created_at(self) -> datetime | None:
        """The time of the submit, in UTC."""
        return self._time("created_at")

    @property
    def expires_at(self) -> datetime | None:
        """The time, in UTC, when the provider gives up unfinished requests; None if it has no such limit."""
        return self._time("expires_at")

    @property
    def finalized_at(self) -> datetime | None:
        """The time, in UTC, when the batch reached its final status."""
        by_status = self._time(f"{self.status}_at") if self.is_finished else None  # such as completed_at
        return self._time("finalized_at") or by_status

    def _text(self, name: str) -> str | None:
        value = self.raw.get(name)
        return value if isinstance(value, str) else None

    def _time(self, name: str) -> datetime | None:
        value = self.raw.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            return None


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """
    The result of one request of a batch.

    :param raw: the JSON object as it arrived.
    :param response: the response, if there is one; also one that is truncated, or that the model refused.
    :param error: the error that ``send`` would have raised for the same request, None for a complete response.
    """

    raw: Mapping[str, Any] = field(repr=False)
    response: Response | None = None
    error: ResponsesError | None = None

    @property
    def custom_id(self) -> str:
        """The request's ``custom_id``; empty if the server reports none."""
        value = self.raw.get("custom_id")
        return value if isinstance(value, str) else ""

    @property
    def status_code(self) -> int | None:
        """The HTTP status of the request; None if it was never sent to the model."""
        received = self.raw.get("response")
        return _whole_number(received.get("status_code")) if isinstance(received, Mapping) else None


def _read_error(value: Any) -> BatchProblem | None:
    given = value if isinstance(value, Mapping) else {"message": value}
    message, param, code = (
        text if isinstance(text := given.get(name), str) and text else None for name in ("message", "param", "code")
    )
    if message is None and code is None:
        return None
    return BatchProblem(message=message or str(code), line=_whole_number(given.get("line")), param=param, code=code)


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
