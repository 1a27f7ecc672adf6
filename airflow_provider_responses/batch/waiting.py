"""
The wait of one task for its batches: its arguments, its outcome, its log lines, and the loop of a worker that waits.

``BatchWait`` is written by a worker and read by the triggerer (the keyword arguments of ``ResponsesBatchTrigger``); the
event goes the other way. As everything between them (``task.payloads``), both have a version, hold neither a secret nor
a row of a table, and hold nested JSON as text.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, Self, get_args

from airflow_provider_responses.batch.polling import (
    MAX_POLL_INTERVAL,
    MIN_POLL_INTERVAL,
    POLL_INTERVAL,
    Action,
    Finish,
    FinishReason,
    Observation,
    Poll,
    Polled,
    PollFailed,
    PollingState,
    PollSettings,
    Wait,
    observe,
    start,
)
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import RequestCancelledError, ResponsesError, VersionMismatchError
from airflow_provider_responses.task.payload_encoding import decode_error, encode_error
from airflow_provider_responses.task.payloads import READING_ERRORS, reading_arguments
from airflow_provider_responses.validation import check_number, type_name, wrong_value

if TYPE_CHECKING:
    from airflow_provider_responses.models.batch import Batch

EVENT_VERSION: Final = 1
POLL_TIMEOUT: Final = 60.0  # seconds
# A finished batch comes with its results, up to hundreds of megabytes: a poll that took too long gets more time.
LONGEST_POLL_TIMEOUT: Final = 1800.0
PROGRESS_SECONDS: Final = 600.0  # between two lines about progress
SLICE_SECONDS: Final = 1.0  # that a worker sleeps before it checks whether its task was ended
MAX_STATUS: Final = 50  # characters
MAX_COUNT: Final = 10**12
# Statuses after which the next poll may succeed, also where the client would not send the same call again at once.
TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429})

# error: the wait could not begin or go on; the outcome has the error.
EventReason = FinishReason | Literal["error"]
REASONS: Final = (*get_args(FinishReason), "error")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchWait:
    """
    The arguments of ``ResponsesBatchTrigger``: the batches that one task waits for.

    :param conn_id: the connection; the triggerer reads its credentials.
    :param batch_ids: ids of batches that have not finished.
    :param deadline: when the wait ends at the latest, in seconds since the epoch.
    :param poll_interval: seconds between two polls of a batch, at first.
    :param base_url: that of the task's ``options``, None for the connection's.
    :param attempt: totals of the attempt so far, as plain JSON; they come back with the outcome.
    :param not_before: when a worker may resume the task, in seconds since the epoch.
    :raises RequestValidationError: naming the field.
    """

    version: ClassVar[int] = 1
    stored_types: ClassVar[Mapping[str, tuple[type, ...]]] = {
        "conn_id": (str,),
        "batch_ids": (list,),
        "deadline": (int, float),
        "poll_interval": (int, float),
        "base_url": (str, type(None)),
        "attempt": (str,),  # as JSON text
        "not_before": (int, float),
    }

    conn_id: str
    batch_ids: tuple[str, ...]
    deadline: float
    poll_interval: float = POLL_INTERVAL
    base_url: str | None = None
    attempt: Mapping[str, Any] = field(default_factory=dict, repr=False)
    not_before: float = 0.0

    def __post_init__(self) -> None:
        ids = self.batch_ids
        if not isinstance(ids, tuple) or not ids or not all(isinstance(name, str) and name for name in ids):
            raise wrong_value("batch_ids", "a tuple of ids that is not empty", ids)
        for name in ("deadline", "not_before"):
            check_number(name, getattr(self, name), unit="seconds since the epoch")
        least, most = MIN_POLL_INTERVAL, MAX_POLL_INTERVAL
        check_number("poll_interval", self.poll_interval, at_least=least, at_most=most, unit="seconds")

    @property
    def settings(self) -> PollSettings:
        """The settings of the state machine."""
        return PollSettings(deadline=self.deadline, poll_interval=self.poll_interval)

    def to_kwargs(self) -> dict[str, Any]:
        """Return the trigger's keyword arguments: plain JSON types, no secret and no row."""
        return {
            "version": self.version,
            "conn_id": self.conn_id,
            "batch_ids": list(self.batch_ids),
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "base_url": self.base_url,
            "attempt": json.dumps(dict(self.attempt), allow_nan=False),
            "not_before": self.not_before,
        }

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Self:
        """
        Undo :meth:`to_kwargs`.

        :raises VersionMismatchError: if another version of this package wrote them.
        """
        with reading_arguments(kwargs, cls.version, cls.stored_types, action="deferred"):
            return cls(
                conn_id=kwargs["conn_id"],
                batch_ids=tuple(kwargs["batch_ids"]),
                deadline=float(kwargs["deadline"]),
                poll_interval=float(kwargs["poll_interval"]),
                base_url=kwargs["base_url"],
                attempt=read_attempt(kwargs),
                not_before=float(kwargs["not_before"]),
            )


def read_attempt(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the totals of the attempt in a trigger's arguments or in an event."""
    return dict(json.loads(kwargs["attempt"]).items())


@dataclass(frozen=True, kw_only=True)
class WaitOutcome:
    """
    The end of a wait.

    :param statuses: the last known status of each batch: ``gone`` if the server no longer has it, None if it was never
        read.
    :param attempt: the totals of ``BatchWait``.
    :param error: the cause, if the reason is ``refused`` or ``error``.
    """

    reason: EventReason
    statuses: Mapping[str, str | None]
    attempt: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: ResponsesError | None = None


def write_batch_event(
    reason: EventReason,
    statuses: Mapping[str, str | None],
    attempt: Mapping[str, Any],
    error: ResponsesError | None = None,
) -> dict[str, Any]:
    """Return the payload of the trigger's event."""
    return {
        "version": EVENT_VERSION,
        "reason": reason,
        "statuses": [[name, status] for name, status in statuses.items()],
        "attempt": json.dumps(dict(attempt), allow_nan=False),
        "error": None if error is None else json.dumps(encode_error(error)),
    }


def read_batch_event(event: Any) -> WaitOutcome:
    """
    Undo :func:`write_batch_event`.

    :raises VersionMismatchError: if another version of this package wrote the event.
    """
    if not isinstance(event, Mapping):
        raise _event_mismatch(f"is {type_name(event)}")
    if event.get("version") != EVENT_VERSION:
        raise _event_mismatch(f"has version {event.get('version')!r}, expected {EVENT_VERSION}")
    if event.get("reason") not in REASONS:
        raise _event_mismatch(f"has the reason {event.get('reason')!r}")
    try:
        text = event["error"]
        return WaitOutcome(
            reason=event["reason"],
            statuses=dict(event["statuses"]),
            attempt=read_attempt(event),
            error=None if text is None else decode_error(json.loads(text)),
        )
    except READING_ERRORS as error:
        raise _event_mismatch(f"cannot be read: {type(error).__name__}: {error}") from error


def _event_mismatch(problem: str) -> VersionMismatchError:
    return VersionMismatchError(
        "the triggerer runs another version of airflow-provider-responses than the workers (the trigger's event "
        f"{problem}). Install the same version everywhere in Airflow; a retry waits for the same batches"
    )


class BatchPoller:
    """
    The state machine of one wait, with its log lines. The caller sends the polls and reads the clock.

    :param logger: gets a line for each change of a status and for each failed poll, and every ten minutes one about
        the progress.
    """

    def __init__(self, wait: BatchWait, *, now: float, draw: float, logger: Any = log) -> None:
        self.wait = wait
        self._state: PollingState = start(wait.batch_ids, settings=wait.settings, now=now, draw=draw)
        self._log = logger
        self._logged_at: float | None = None
        self._error: ResponsesError | None = None

    @property
    def running(self) -> tuple[str, ...]:
        """The ids of the batches that have not ended, as far as is known."""
        return tuple(name for name, batch in self._state.batches.items() if not batch.is_final)

    def options(self, batch_id: str, *, now: float) -> RequestOptions:
        """Return the options of a poll: it is sent once, and ends before the deadline."""
        timeout = POLL_TIMEOUT * 2.0 ** min(self._state.batches[batch_id].failures, 10)
        timeout = min(timeout, LONGEST_POLL_TIMEOUT, max(self.wait.deadline - now, 0.001))
        return RequestOptions(timeout=timeout, max_retries=0, base_url=self.wait.base_url)

    def next_action(self, polls: Mapping[str, Batch | ResponsesError], *, now: float, draw: float) -> Action:
        """
        Return the next action.

        :param polls: the batches, or errors, that the last ``Poll`` has brought.
        :param draw: a random number from 0 to 1.
        """
        observations = [read_poll(name, result) for name, result in polls.items()]
        for observation, result in zip(observations, polls.values(), strict=True):
            if isinstance(result, ResponsesError) and getattr(observation, "kind", None) == "refused":
                self._error = self._error or result
        before = self._state
        self._state, action = observe(before, observations, now=now, draw=draw)
        if polls:
            self._log_changes(before, polls, now)
        return action

    def outcome(self, reason: EventReason) -> WaitOutcome:
        """Return the outcome of the wait."""
        statuses = {name: batch.status for name, batch in self._state.batches.items()}
        error = self._error if reason == "refused" else None
        return WaitOutcome(reason=reason, statuses=statuses, attempt=self.wait.attempt, error=error)

    def _log_changes(self, before: PollingState, polls: Mapping[str, Batch | ResponsesError], now: float) -> None:
        for name, result in polls.items():
            old, new = before.batches[name], self._state.batches[name]
            if new.status != old.status:
                self._log.info("Batch %s: %s (before: %s)", name, new.status or "unknown", old.status or "unknown")
            if isinstance(result, ResponsesError) and not new.is_final:
                next_poll = "" if self._state.reason else f"; its next poll is in {max(new.next_at - now, 0):,.0f} s"
                self._log.warning(
                    "Batch %s could not be polled (%d in a row)%s: %s", name, new.failures, next_poll, result
                )
        if self._logged_at is None or self._state.reason or abs(now - self._logged_at) >= PROGRESS_SECONDS:
            self._logged_at = now
            self._log.info("%s", progress_line(self._state, now))


def progress_line(state: PollingState, now: float) -> str:
    """Return the line about the progress of all batches of a task."""
    batches = state.batches.values()
    statuses = Counter(batch.status or "unknown" for batch in batches)
    counts = ", ".join(f"{number} {status}" for status, number in statuses.items())
    known = [batch for batch in batches if batch.ended is not None and batch.total is not None]
    requests = ""
    if known:
        ended, total = sum(batch.ended or 0 for batch in known), sum(batch.total or 0 for batch in known)
        requests = f" ({ended:,} of {total:,} requests)"
    next_at = None if state.reason else state.next_poll_at
    next_poll = "" if next_at is None else f", next poll in {max(next_at - now, 0):.0f} s"
    noun = "batch" if len(state.batches) == 1 else "batches"
    return f"{len(state.batches)} {noun}: {counts}{requests}{next_poll}"


def read_poll(batch_id: str, result: Batch | ResponsesError) -> Observation:
    """Return the observation of a poll's batch, or of its error."""
    if isinstance(result, ResponsesError):
        return _read_failure(batch_id, result)
    status = result.status
    if status is not None and (len(status) > MAX_STATUS or not status.isprintable()):
        status = None  # no database or log may fail on it
    total, completed, failed = map(_count, result.counts)
    known = [number for number in (completed, failed) if number is not None]
    return Polled(batch_id=batch_id, status=status, ended=sum(known) if known else None, total=total)


def _read_failure(batch_id: str, error: ResponsesError) -> PollFailed:
    status = error.status_code
    if status == 404:
        return PollFailed(batch_id=batch_id, kind="not_found")
    if status == 410:
        return PollFailed(batch_id=batch_id, kind="expired")
    if error.retryable or status in TRANSIENT_STATUSES or (status is not None and status >= 500):
        return PollFailed(batch_id=batch_id, kind="transient", retry_after=error.retry_after)
    return PollFailed(batch_id=batch_id, kind="refused")


def _count(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= MAX_COUNT else None


class GetBatch(Protocol):
    """The method of the client or the hook that reads a batch."""

    def __call__(self, batch_id: str, *, options: RequestOptions) -> Batch: ...


def wait_for_batches(
    wait: BatchWait,
    *,
    get_batch: GetBatch,
    now: Callable[[], float],
    sleep: Callable[[float], Any],
    draw: Callable[[], float],
    check: Callable[[], Any],
) -> WaitOutcome:
    """
    Wait on the worker until a batch has ended early, all have ended, or the deadline has passed.

    :param get_batch: the method of the client or the hook.
    :param now: returns the wall-clock time, in seconds since the epoch.
    :param sleep: waits a number of seconds, at most one.
    :param draw: returns a random number from 0 to 1.
    :param check: is called before every poll and at least once a second; it raises if the task was ended.
    """
    poller = BatchPoller(wait, now=now(), draw=draw())
    polls: dict[str, Batch | ResponsesError] = {}
    while True:
        action = poller.next_action(polls, now=now(), draw=draw())
        polls = {}
        match action:
            case Finish(reason=reason):
                return poller.outcome(reason)
            case Poll(batch_ids=batch_ids):
                for name in batch_ids:
                    check()
                    polls[name] = _poll_once(get_batch, name, poller.options(name, now=now()))
            case Wait(until=until):
                check()
                sleep(min(max(until - now(), 0.0), SLICE_SECONDS))


def _poll_once(get_batch: GetBatch, batch_id: str, options: RequestOptions) -> Batch | ResponsesError:
    try:
        return get_batch(batch_id, options=options)
    except RequestCancelledError:
        raise  # the task was ended
    except ResponsesError as error:
        return error
