"""
Decides what happens after a failed request, to its row and to all others. No I/O and no clock.

| failure | its row | the others |
|---|---|---|
| a response that is refused, truncated or invalid | ends with that status | go on |
| of this row, such as 400 | ends as failed | go on |
| of all rows, such as 401 | gets no response | are sent no more |
| a ``Retry-After`` longer than ``max_outage`` | gets no response | are sent no more: Airflow waits without a worker |
| too busy for this request | is sent again after a wait, without using a retry | go on |
| too busy for a large share, or the account's limit is used up | the same | wait as well |
| 5XX | is sent again after a wait, within its retries | go on |
| no connection | is sent again after a wait, without using a retry | go on |
| the same for many in a row: the service is down | the same, without using a retry | wait as well |
| down, or too busy for any response, for ``max_outage`` | gets no response | are dropped, in flight or not |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.client.retries import FIRST_BACKOFF, backoff
from airflow_provider_responses.enrich.statuses import FAILED, INCOMPLETE, INVALID_OUTPUT, REFUSED
from airflow_provider_responses.exceptions import (
    APIError,
    ConfigurationError,
    ForbiddenResponseError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestCancelledError,
    ResponsesError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_responses.client.config import ClientConfig

BUSY_STATUSES: Final = frozenset({429, 503, 529})
FINAL_STATUSES: Final = frozenset({401, 402, 404})  # every other row would get the same
ROW_KINDS: Final = frozenset({"guardrail-blocked", "moderation"})  # of a 403 that concerns one row
_MISSING_IMAGES: Final = frozenset({"image_not_found", "image_file_not_found"})  # a 404 that concerns one row
# How often the service may be too busy for a row, while others get responses, before the row uses its retries.
MAX_BUSY: Final = 50
_MAX_DOUBLINGS: Final = 3  # of the wait of such a row
_SPREAD: Final = 0.1  # of the wait that the service names, added to it at most
_STATUS_OF: Final[Mapping[type[ResponsesError], str]] = {
    RefusalError: REFUSED,
    IncompleteResponseError: INCOMPLETE,
    OutputValidationError: INVALID_OUTPUT,
}


class Kind(Enum):
    """Kinds of failures."""

    RESPONSE = auto()  # a response arrived, and the task does not accept it
    ROW = auto()  # concerns this row
    ALL = auto()  # concerns all rows: the key, the model, the settings
    BUSY = auto()  # the service is too busy
    FAILING = auto()  # the service or the connection to it fails
    CANCELLED = auto()  # this attempt did not send the request


class Action(Enum):
    """The action after a failure."""

    FINISH = auto()  # finish the row with a status
    RETRY = auto()  # send the row again after a wait
    HOLD = auto()  # the same, and send nothing else meanwhile
    STOP = auto()  # send nothing more, and wait for the requests in flight
    CANCEL = auto()  # send nothing more, and drop the requests in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    The state of the row and of the service when a request fails.

    :param config: of the client, whose limits of retries apply to a row.
    :param max_outage: seconds to wait for a service that is down.
    :param retries: of the row so far, after failures that billed nothing.
    :param ambiguous_retries: of the row so far, after failures that may have been billed.
    :param busy: how often the service was too busy for the row, though not for others.
    :param is_overloaded: whether the service is too busy for a large share of the recent sends.
    :param is_down: whether the service is down.
    :param is_over: whether it has been down or too busy for ``max_outage``.
    :param draw: a random number from 0 to 1.
    """

    config: ClientConfig
    max_outage: float
    retries: int = 0
    ambiguous_retries: int = 0
    busy: int = 0
    is_overloaded: bool = False
    is_down: bool = False
    is_over: bool = False
    draw: float = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """
    The action after a failure.

    :param status: of a row that is finished.
    :param wait: seconds until the row may be sent again.
    :param is_free: whether that does not count as one of the row's retries.
    :param hold: seconds in which nothing else is sent.
    :param all_models: whether that applies to all models, and not only to the row's.
    """

    action: Action
    status: str = FAILED
    wait: float = 0.0
    is_free: bool = False
    hold: float = 0.0
    all_models: bool = False


def kind_of(error: ResponsesError) -> Kind:
    """Return the kind of a failure."""
    if type(error) in _STATUS_OF:
        return Kind.RESPONSE
    if isinstance(error, RequestCancelledError):
        return Kind.CANCELLED
    if _concerns_all(error):
        return Kind.ALL
    if error.retryable:
        return Kind.BUSY if _status(error) in BUSY_STATUSES else Kind.FAILING
    return Kind.ROW


def status_after(error: ResponsesError) -> str:
    """Return the status of a row that ends with an error."""
    return _STATUS_OF.get(type(error), FAILED)


def is_unconnected(error: ResponsesError) -> bool:
    """Return whether there was no connection, so that nothing was sent."""
    return isinstance(error, TransportError) and error.kind == "connect"


def decide(error: ResponsesError, state: State) -> Decision:
    """Return the action after a failure."""
    kind = kind_of(error)
    if kind is Kind.RESPONSE:
        return Decision(Action.FINISH, status=status_after(error))
    if kind is Kind.ALL:
        return Decision(Action.STOP)
    if kind in {Kind.ROW, Kind.CANCELLED}:
        return Decision(Action.FINISH)
    named = max(error.retry_after or 0.0, error.account_reset or 0.0)
    if named > state.max_outage:
        return Decision(Action.STOP)
    if state.is_over:
        return Decision(Action.CANCEL)
    is_held = state.is_down or (kind is Kind.BUSY and (state.is_overloaded or error.account_reset is not None))
    # None of these is caused by the row. But a send that may have been billed always uses a retry.
    is_free = not error.ambiguous and (
        is_held or is_unconnected(error) or (kind is Kind.BUSY and state.busy < MAX_BUSY)
    )
    if not is_free and not may_retry(error, state):
        return Decision(Action.FINISH)
    wait = named or backoff(state.retries + state.ambiguous_retries + min(state.busy, _MAX_DOUBLINGS), state.draw)
    if not is_held:
        return Decision(Action.RETRY, wait=wait, is_free=is_free)
    if named:  # spread the requests that wait for the same time
        wait += state.draw * min(FIRST_BACKOFF, _SPREAD * named)
    all_models = state.is_down or error.account_reset is not None
    return Decision(Action.HOLD, wait=wait, is_free=is_free, hold=named, all_models=all_models)


def may_retry(error: ResponsesError, state: State) -> bool:
    """Return whether the row has a retry left."""
    if error.ambiguous:
        return state.ambiguous_retries < state.config.max_ambiguous_retries
    return state.retries < state.config.max_retries


def is_final(*, retryable_failures: int) -> bool:
    """
    Return whether another attempt would fail in the same way.

    :param retryable_failures: number of requests that failed, and may get a response in another attempt.
    """
    return not retryable_failures


def _status(error: ResponsesError) -> int | None:
    return error.status_code if isinstance(error, APIError) else None


def _concerns_all(error: ResponsesError) -> bool:
    if isinstance(error, ForbiddenResponseError):
        return error.kind not in ROW_KINDS
    is_image = error.error_type in _MISSING_IMAGES or error.code in _MISSING_IMAGES
    return (_status(error) in FINAL_STATUSES and not is_image) or isinstance(error, ConfigurationError)
