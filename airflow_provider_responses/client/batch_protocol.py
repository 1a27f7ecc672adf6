"""
The operations of a batch API as flows, which both clients carry out. No I/O.

A flow is a generator: it yields one step after another, and receives the outcome of each, or its error. Its return
value is the result of the operation. So the two clients share what is sent, in which order, and what follows a failure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from airflow_provider_responses.client.batch_body import BodyOfBatch, HeadOfBatch
from airflow_provider_responses.client.batch_errors import BatchAction
from airflow_provider_responses.client.batch_results import ResultsDownload
from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.batch import Batch, BatchResult

T = TypeVar("T")
MakeCall = Callable[[str, str, BatchAction], Call]


def whole_body(raw: dict[str, Any], http: HTTPResponse) -> Any:  # noqa: ARG001  the signature of `read`
    """Return the JSON object of a response as it is."""
    return raw


@dataclass(frozen=True, kw_only=True)
class SendJson:
    """
    Send a call; the outcome is the JSON object of its response.

    :param read: turns the object into the outcome, or raises the error of another shape.
    """

    call: Call
    read: Callable[[dict[str, Any], HTTPResponse], Any] = whole_body


@dataclass(frozen=True, kw_only=True)
class SendRequests:
    """
    Send a call whose body are the requests; the outcome is the JSON object of its response.

    :param upload: the requests.
    :param read: like that of :class:`SendJson`.
    """

    call: Call
    upload: Any
    read: Callable[[dict[str, Any], HTTPResponse], Any]


@dataclass(frozen=True, kw_only=True)
class ReadBatch:
    """Send a call; the outcome is the batch, without its results."""

    call: Call


@dataclass(frozen=True, kw_only=True)
class Found:
    """Yield items to the caller."""

    items: Iterable[Any]


@dataclass(frozen=True, kw_only=True)
class Download:
    """
    Yield results to the caller, which are read from a body while it arrives.

    :param read: turns a line, or an item, into a result.
    """

    call: Call
    results: ResultsDownload
    read: Callable[[Any], BatchResult]


Step = SendJson | SendRequests | ReadBatch
Flow = Generator[Step, Any, T]
ItemFlow = Generator[Step | Found | Download, Any, None]
StepT = TypeVar("StepT")


class Progress(Generic[StepT, T]):
    """
    A flow with its present step.

    :param step: the step to carry out; None after the last one.
    :param result: the result of the flow, after its last step.
    """

    def __init__(self, flow: Generator[StepT, Any, T]) -> None:
        self._flow = flow
        self.step: StepT | None = None
        self.result: T | None = None
        self.advance(None)

    def advance(self, outcome: Any) -> None:
        """Continue the flow after a step."""
        self._continue(self._flow.send, outcome)

    def fail(self, error: ResponsesError) -> None:
        """
        Continue the flow after a step that failed.

        :raises ResponsesError: the same error, or another one in its place.
        """
        self._continue(self._flow.throw, error)

    def _continue(self, method: Callable[[Any], StepT], value: Any) -> None:
        try:
            self.step = method(value)
        except StopIteration as end:
            self.step, self.result = None, end.value


class BatchProtocol(ABC):
    """
    The batch API of one kind of server.

    :param config: the settings of the operation's calls.
    :param make_call: returns the call of a method, path and action, without a body.
    """

    body: ClassVar[type[BodyOfBatch]]
    head: ClassVar[type[HeadOfBatch]]

    def __init__(self, config: ClientConfig, make_call: MakeCall) -> None:
        self.config = config
        self._make_call = make_call

    def make_body(self, head: HeadOfBatch) -> BodyOfBatch:
        """Return an empty body."""
        return self.body(head, self.config)

    @abstractmethod
    def submit(self, head: Any, upload: Any) -> Flow[Batch]:
        """
        Return the flow that submits a batch.

        :param upload: the requests, of which the first have been read.
        """

    @abstractmethod
    def get(self, batch_id: str) -> Flow[Batch]:
        """Return the flow that reads a batch."""

    @abstractmethod
    def list(self, **filters: Any) -> ItemFlow:
        """Return the flow that yields batches."""

    @abstractmethod
    def results(self, batch: Batch | str) -> ItemFlow:
        """Return the flow that yields the results of a batch."""

    @abstractmethod
    def cancel(self, batch_id: str) -> Flow[Batch]:
        """Return the flow that cancels a batch."""

    @abstractmethod
    def delete(self, batch_id: str) -> Flow[dict[str, Any]]:
        """Return the flow that deletes a batch, whose result is a report."""

    def _call(
        self, method: str, path: str, action: BatchAction, *, note: str = "", headers: Mapping[str, str] | None = None
    ) -> Call:
        """
        Return a call without a body.

        :param note: is added to the request in messages.
        """
        call = self._make_call(method, path, action)
        if note:
            call = replace(call, summary=replace(call.summary, label=f"{call.summary.label} ({note})"))
        return replace(call, headers={**call.headers, **headers}) if headers else call
