"""
Decides when the batches of one task are polled, and when the wait for them ends. No I/O and no clock.

The caller begins with :func:`start`, and then repeats: call :func:`observe` with the observations since the last call
(none at first), and do the action that it returns. Times are wall-clock times in seconds since the epoch, since the
wait may continue in another process. The clock may jump: that moves a poll, but never adds more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from airflow_provider_responses.models.batch import FINISHED_STATUSES
from airflow_provider_responses.task.attempt import MAX_RETRY_AFTER

POLL_INTERVAL: Final = 30.0  # seconds: the default of `poll_interval`, and its bounds
MIN_POLL_INTERVAL: Final = 0.01
MAX_POLL_INTERVAL: Final = 86_400.0
BACKOFF_LIMIT: Final = 20  # times `poll_interval`: the longest interval
NEAR_END_LIMIT: Final = 4  # times `poll_interval`: the longest interval near the end
NEAR_END_SHARE: Final = 0.9  # of the requests that have ended
ENDING_STATUSES: Final = frozenset({"finalizing", "cancelling"})
JITTER: Final = 0.25  # of an interval, by which a wait is longer
LONGEST_WAIT: Final = 60.0  # seconds after which the clock is read again: timers stand still while a machine sleeps

COMPLETED: Final = "completed"
GONE: Final = "gone"  # stands for the status of a batch that the server no longer has

# transient: the next poll may succeed. not_found: a 404. expired: a 410. refused: no poll of this task can succeed.
FailureKind = Literal["transient", "not_found", "expired", "refused"]
# finished: all batches have ended. ended_early: one ended without being completed, and others run on. deadline: it has
# passed. refused: polling cannot succeed.
FinishReason = Literal["finished", "ended_early", "deadline", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """
    A poll that succeeded.

    :param ended: number of requests that have succeeded or failed; None if unknown.
    :param total: number of all requests; None if unknown.
    """

    batch_id: str
    status: str | None
    ended: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFailed:
    """
    A poll that failed.

    :param retry_after: seconds that the server asked to wait.
    """

    batch_id: str
    kind: FailureKind
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """Poll these batches now, each once."""

    batch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until this time."""

    until: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The wait has ended."""

    reason: FinishReason


Observation = Polled | PollFailed
Action = Poll | Wait | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSettings:
    """
    Settings of the wait of one task.

    :param deadline: when the wait ends at the latest, in seconds since the epoch.
    :param poll_interval: seconds between two polls of a batch, at first.
    """

    deadline: float
    poll_interval: float = POLL_INTERVAL

    @property
    def max_poll_interval(self) -> float:
        """The interval, in seconds, at which the back-off ends."""
        return self.poll_interval * BACKOFF_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """
    One batch.

    :param status: the last known one, :data:`GONE` if the server no longer has the batch, None before the first poll.
    :param failures: number of polls that have failed in a row.
    :param was_not_found: whether the last poll was a 404.
    :param interval: seconds; what the next wait is computed from.
    :param next_at: when the next poll is due.
    :param wait: seconds before ``next_at`` when that was set.
    :param first_at: when the number of ended requests was first known, and
    :param first_ended: that number.
    """

    status: str | None = None
    ended: int | None = None
    total: int | None = None
    failures: int = 0
    was_not_found: bool = False
    interval: float
    next_at: float
    wait: float
    first_at: float = 0.0
    first_ended: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether the batch is never polled again."""
        return self.status == GONE or self.status in FINISHED_STATUSES

    def due_in(self, wait: float, now: float) -> BatchState:
        """Return the batch with its next poll after a wait."""
        return replace(self, next_at=now + wait, wait=wait)

    def within_wait(self, now: float) -> BatchState:
        """Return the batch with a wait that a clock set back has not made longer."""
        return self.due_in(self.wait, now) if self.next_at > now + self.wait else self


@dataclass(frozen=True, slots=True, kw_only=True)
class PollingState:
    """
    All batches of one task.

    :param batches: by id.
    :param reason: why the wait has ended; None while it lasts.
    """

    settings: PollSettings
    batches: Mapping[str, BatchState]
    reason: FinishReason | None = None

    @property
    def next_poll_at(self) -> float | None:
        """When the next poll is due; None if no batch is left."""
        return min((batch.next_at for batch in self.batches.values() if not batch.is_final), default=None)


def start(batch_ids: Iterable[str], *, settings: PollSettings, now: float, draw: float) -> PollingState:
    """
    Return the state before the first poll, which is due after one interval: earlier polls may be unknown here.

    :param draw: a random number from 0 to 1.
    """
    interval = settings.poll_interval
    first = BatchState(interval=interval, next_at=now, wait=0.0).due_in(_with_jitter(interval, draw), now)
    return PollingState(settings=settings, batches=dict.fromkeys(batch_ids, first))


def observe(
    state: PollingState, observations: Iterable[Observation], *, now: float, draw: float
) -> tuple[PollingState, Action]:
    """
    Return the state after polls, and the next action.

    A batch in ``Poll`` counts as polled, even if no observation of it follows.

    :param draw: a random number from 0 to 1, which spreads the polls.
    """
    if state.reason is not None:
        return state, Finish(state.reason)
    settings, is_refused = state.settings, False
    batches = {name: batch.within_wait(now) for name, batch in state.batches.items()}
    for observation in observations:
        batch = batches.get(observation.batch_id)
        if batch is None or batch.is_final:
            continue
        is_refused |= isinstance(observation, PollFailed) and observation.kind == "refused"
        batches[observation.batch_id] = _after(batch, observation, settings, now=now, draw=draw)
    reason: FinishReason | None = "refused" if is_refused else _reason(batches, settings, now)
    if reason is not None:
        return replace(state, batches=batches, reason=reason), Finish(reason)
    due = tuple(name for name, batch in batches.items() if not batch.is_final and batch.next_at <= now)
    for name in due:
        batches[name] = batches[name].due_in(_with_jitter(batches[name].interval, draw), now)
    state = replace(state, batches=batches)
    if due:
        return state, Poll(due)
    return state, Wait(min(state.next_poll_at or now, settings.deadline, now + LONGEST_WAIT))


def _reason(batches: Mapping[str, BatchState], settings: PollSettings, now: float) -> FinishReason | None:
    if all(batch.is_final for batch in batches.values()):
        return "finished"
    if any(batch.is_final and batch.status != COMPLETED for batch in batches.values()):
        return "ended_early"
    return "deadline" if now >= settings.deadline else None


def _after(
    batch: BatchState, observation: Observation, settings: PollSettings, *, now: float, draw: float
) -> BatchState:
    """Return a batch after a poll, with its next one."""
    if isinstance(observation, Polled):
        batch = _after_success(batch, observation, settings, now)
        return batch.due_in(_with_jitter(batch.interval, draw), now)
    if observation.kind == "expired" or (observation.kind == "not_found" and batch.was_not_found):
        return replace(batch, status=GONE)
    is_not_found = observation.kind == "not_found"
    batch = replace(
        batch,
        failures=batch.failures + 1,
        was_not_found=is_not_found,
        # A 404 may be a mistake of a proxy, or come from a copy that lags behind: another poll confirms it, soon.
        interval=settings.poll_interval if is_not_found else min(batch.interval * 2, settings.max_poll_interval),
    )
    wait = _with_jitter(batch.interval, draw)
    return batch.due_in(max(wait, min(observation.retry_after or 0.0, MAX_RETRY_AFTER)), now)


def _after_success(batch: BatchState, polled: Polled, settings: PollSettings, now: float) -> BatchState:
    is_new = polled.status != batch.status
    has_progress = is_new or polled.ended != batch.ended
    if polled.ended is not None and batch.first_ended is None:
        batch = replace(batch, first_at=now, first_ended=polled.ended)
    batch = replace(
        batch, status=polled.status, ended=polled.ended, total=polled.total, failures=0, was_not_found=False
    )
    longest = settings.max_poll_interval
    if _is_near_end(batch):
        longest = settings.poll_interval * (1 if has_progress else NEAR_END_LIMIT)
    elif is_new:
        longest = settings.poll_interval
    left = _seconds_left(batch, now)
    if left is not None:
        longest = min(longest, max(left, settings.poll_interval))
    return replace(batch, interval=min(batch.interval * 2, longest))


def _is_near_end(batch: BatchState) -> bool:
    if batch.status in ENDING_STATUSES:
        return True
    return bool(batch.total and batch.ended is not None and batch.ended >= NEAR_END_SHARE * batch.total)


def _seconds_left(batch: BatchState, now: float) -> float | None:
    """Return the seconds until all requests have ended, by the rate so far; None if that is unknown."""
    seconds = now - batch.first_at
    if batch.ended is None or batch.total is None or batch.first_ended is None or seconds <= 0:
        return None
    done = batch.ended - batch.first_ended
    return None if done <= 0 else max(batch.total - batch.ended, 0) * (seconds / done)


def _with_jitter(interval: float, draw: float) -> float:
    return interval * (1 + JITTER * draw)
