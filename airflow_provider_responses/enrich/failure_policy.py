"""
What follows from a failed request: for its row, and for all others. No I/O and no clock.

| failure | its row | the others |
|---|---|---|
| a response that is refused, cut off or invalid | ends, with that status | go on |
| the row's own, such as 400 | ends as failed | go on |
| the same for all rows, such as 401 | is not answered | no more are sent |
| a wait longer than ``max_outage`` | is not answered | no more are sent: Airflow can wait without a worker |
| too busy for this request | is sent again after a wait, at no cost to its retries | go on |
| too busy for a sizable share, or the account's limit is used up | the same | wait as well |
| 5XX | is sent again after a wait, within its retries | go on |
| no connection | is sent again after a wait, at no cost to its retries | go on |
| the same for many in a row: the service is down | the same, at no cost to its retries | wait as well |
| down, or too busy for any response, for ``max_outage`` | is not answered | are dropped, in flight or not |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.client.retries import FIRST_BACKOFF, backoff
from airflow_provider_responses.enrich.index import FAILED
from airflow_provider_responses.enrich.progress import INCOMPLETE, REFUSED, UNREADABLE
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

BUSY: Final = frozenset({429, 503, 529})
HOPELESS: Final = frozenset({401, 402, 404})  # for one row as for all
OF_THE_ROW: Final = frozenset({"guardrail-blocked", "moderation"})
_IMAGES: Final = frozenset({"image_not_found", "image_file_not_found"})  # also a 404
MOST_BUSY: Final = (
    50  # times that the service is too busy for a row at no cost to its retries, while others come through
)
_DOUBLED: Final = 3  # times that the wait of such a row is doubled
_SPREAD: Final = 0.1  # of a wait that the service names: the most that is added to it
_STATUS_OF: Final[Mapping[type[ResponsesError], str]] = {
    RefusalError: REFUSED,
    IncompleteResponseError: INCOMPLETE,
    OutputValidationError: UNREADABLE,
}


class Kind(Enum):
    """What a failure is about."""

    RESPONSE = auto()  # one came, and the task does not take it
    ROW = auto()
    ALL = auto()  # the key, the model, the settings
    BUSY = auto()
    FAILING = auto()  # the service, or the way to it
    OURS = auto()  # this run did not send it


class Action(Enum):
    """What to do."""

    FINISH = auto()  # the row, with a status
    RETRY = auto()  # the row, after a wait
    HOLD = auto()  # the same, and send nothing else meanwhile
    STOP = auto()  # the run; what is in flight is waited for
    CANCEL = auto()  # the run, and what is in flight


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    What is known when a request fails.

    :param config: of the client, whose limits of retries go for a row.
    :param max_outage: seconds that the service is waited for.
    :param plain: retries of the row so far, after failures that billed nothing.
    :param ambiguous: the same, after failures that may have been billed.
    :param busy: times that the service was too busy for the row, though not for others.
    :param is_overloaded: whether the service is too busy for a sizable share of recent sends.
    :param is_down: whether it is down.
    :param is_over: whether it has been so for ``max_outage``.
    :param draw: a random number from 0 to 1.
    """

    config: ClientConfig
    max_outage: float
    plain: int = 0
    ambiguous: int = 0
    busy: int = 0
    is_overloaded: bool = False
    is_down: bool = False
    is_over: bool = False
    draw: float = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What follows from a failure.

    :param status: of a row that is finished.
    :param wait: seconds until its row may be sent again.
    :param is_free: whether that is at no cost to the row's retries.
    :param hold: seconds in which nothing else is sent either.
    :param of_all: whether that goes for all models, and not only for the row's.
    """

    action: Action
    status: str = FAILED
    wait: float = 0.0
    is_free: bool = False
    hold: float = 0.0
    of_all: bool = False


def kind_of(error: ResponsesError) -> Kind:
    """Return what a failure is about."""
    if type(error) in _STATUS_OF:
        return Kind.RESPONSE
    if isinstance(error, RequestCancelledError):
        return Kind.OURS
    if _is_hopeless(error):
        return Kind.ALL
    if error.retryable:
        return Kind.BUSY if _code(error) in BUSY else Kind.FAILING
    return Kind.ROW


def is_refused(error: ResponsesError) -> bool:
    """Return whether there was no connection: nothing was sent."""
    return isinstance(error, TransportError) and error.kind == "connect"


def decide(error: ResponsesError, state: State) -> Decision:
    """Return what follows from a failure."""
    kind = kind_of(error)
    if kind is Kind.RESPONSE:
        return Decision(Action.FINISH, status=_STATUS_OF[type(error)])
    if kind is Kind.ALL:
        return Decision(Action.STOP)
    if kind in {Kind.ROW, Kind.OURS}:
        return Decision(Action.FINISH)
    named = max(error.retry_after or 0.0, error.account_reset or 0.0)
    if named > state.max_outage:
        return Decision(Action.STOP)
    if state.is_over:
        return Decision(Action.CANCEL)
    is_held = state.is_down or (kind is Kind.BUSY and (state.is_overloaded or error.account_reset is not None))
    # None of these is the row's fault; but what may have been billed has a limit of its own.
    is_free = not error.ambiguous and (is_held or is_refused(error) or (kind is Kind.BUSY and state.busy < MOST_BUSY))
    if not is_free and not may_retry(error, state):
        return Decision(Action.FINISH)
    wait = named or backoff(state.plain + state.ambiguous + min(state.busy, _DOUBLED), state.draw)
    if not is_held:
        return Decision(Action.RETRY, wait=wait, is_free=is_free)
    if named:  # a little apart from all others that wait for the same
        wait += state.draw * min(FIRST_BACKOFF, _SPREAD * named)
    of_all = state.is_down or error.account_reset is not None
    return Decision(Action.HOLD, wait=wait, is_free=is_free, hold=named, of_all=of_all)


def may_retry(error: ResponsesError, state: State) -> bool:
    """Return whether the limits of retries leave one more to a row."""
    if error.ambiguous:
        return state.ambiguous < state.config.max_ambiguous_retries
    return state.plain < state.config.max_retries


def is_final(*, may_pass: int) -> bool:
    """
    Return whether another attempt would fail as this one did.

    :param may_pass: the number of requests that have failed, and that another attempt may get a response for.
    """
    return not may_pass


def _code(error: ResponsesError) -> int | None:
    return error.status_code if isinstance(error, APIError) else None


def _is_hopeless(error: ResponsesError) -> bool:
    if isinstance(error, ForbiddenResponseError):
        return error.kind not in OF_THE_ROW
    of_an_image = error.error_type in _IMAGES or error.code in _IMAGES
    return (_code(error) in HOPELESS and not of_an_image) or isinstance(error, ConfigurationError)
