"""Batches and their lifecycle. Nothing here reads a clock: the store gets one, a batch gets the time."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from airflow_provider_responses.sandbox.state.batch_script import BatchEnding, BatchSettings, BatchStatus
from airflow_provider_responses.sandbox.state.prices import Bill

# The phases of a batch, in shares of the seconds that it takes.
VALIDATED: Final = 0.1
GENERATED: Final = 0.9
CANCELLING: Final = 0.1
TERMINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    The outcome of one request of a batch.

    :param result: the result as JSON, or a line of a file.
    :param extra: the result belongs to no request: it repeats another one, or its ``custom_id`` is unknown.
    """

    custom_id: str
    result: bytes
    bill: Bill = field(default_factory=Bill)
    failed: bool = False
    extra: bool = False


@dataclass(frozen=True, kw_only=True)
class Submission:
    """
    A batch as it was submitted, and everything that will come of it.

    :param created_at: seconds since 1970.
    :param raw: the bytes that hold the requests: the body, or the lines of a file if ``is_lines``.
    :param custom_ids: in the order of the requests.
    :param outcomes: in the order in which the requests end.
    :param rejection: why the validation fails, which comes after the submission; ``None`` if it does not.
    :param errors: the problem of each line, for a service that lists them.
    :param details: fields that only one of the services has.
    """

    id: str
    key: str
    created_at: float
    endpoint: str
    model: str
    raw: bytes
    body_sha256: str
    is_lines: bool = False
    custom_ids: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    rejection: str | None = None
    errors: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class BatchEntry:
    """
    One batch in the ledger; ``cost`` is in US dollars.

    :param time: of the submission, in seconds since 1970.
    :param polls: the times at which the batch was read, in seconds since 1970.
    :param billed: a batch is billed once, when it ends with at least one response.
    """

    id: str
    time: float
    key: str
    model: str
    endpoint: str
    status: BatchStatus
    custom_ids: list[str]
    completed: int
    failed: int
    billed: bool
    cost: float
    input_tokens: int
    output_tokens: int
    error: str | None
    deleted: bool
    polls: list[float]
    body_sha256: str
    details: dict[str, Any]


@dataclass(kw_only=True)
class _Ending:
    """An early end, when the batch has run for ``at`` seconds."""

    status: BatchEnding
    at: float
    message: str | None = None


@dataclass(kw_only=True)
class Batch:
    """
    A batch that runs for ``seconds``.

    Its status depends on ``elapsed`` alone: the seconds that it has run, without those for which it was held.
    """

    submission: Submission
    seconds: float
    seen_at: float
    elapsed: float = 0.0
    ending: _Ending | None = None
    expired_results: bool = False
    deleted: bool = False
    polls: list[float] = field(default_factory=list)
    entered: dict[str, float] = field(default_factory=dict)

    def phases(self) -> list[tuple[BatchStatus, float]]:
        """Return each status of the batch, in order, with the seconds at which it begins."""
        validated, ending = VALIDATED * self.seconds, self.ending
        planned: list[tuple[BatchStatus, float]] = [("validating", 0.0)]
        if self.submission.rejection is not None:
            planned.append(("failed", validated))
        else:
            planned += [
                ("in_progress", validated),
                ("finalizing", GENERATED * self.seconds),
                ("completed", self.seconds),
            ]
        if ending is None or planned[-1][1] <= ending.at:
            return planned
        reached = [phase for phase in planned if phase[1] < ending.at or phase[0] == "validating"]
        if ending.status == "cancelled":
            return [*reached, ("cancelling", ending.at), ("cancelled", ending.at + CANCELLING * self.seconds)]
        return [*reached, (ending.status, ending.at)]

    @property
    def status(self) -> BatchStatus:
        """The status that the batch has reached."""
        return [status for status, begins in self.phases() if begins <= self.elapsed][-1]

    @property
    def is_terminal(self) -> bool:
        """Whether the batch has ended."""
        return self.status in TERMINAL

    @property
    def done(self) -> tuple[Outcome, ...]:
        """The outcomes of the requests that have ended."""
        if self.submission.rejection is not None:
            return ()
        until = self.elapsed if self.ending is None else min(self.elapsed, self.ending.at)
        span = (GENERATED - VALIDATED) * self.seconds
        share = min(1.0, max(0.0, (until - VALIDATED * self.seconds) / span))
        return self.submission.outcomes[: int(share * len(self.submission.outcomes) + 1e-9)]

    @property
    def error(self) -> str | None:
        """Why the batch did not complete."""
        if self.status == "failed" and self.submission.rejection is not None:
            return self.submission.rejection
        if self.status in TERMINAL and self.ending is not None and self.ending.status == self.status:
            return self.ending.message
        return None

    @property
    def bill(self) -> Bill:
        """The bill for the requests that have ended."""
        bills = [outcome.bill for outcome in self.done if not outcome.failed]
        return Bill(
            sum(bill.input_tokens for bill in bills),
            sum(bill.output_tokens for bill in bills),
            sum(bill.reasoning_tokens for bill in bills),
            round(sum(bill.input_cost for bill in bills), 12),
            round(sum(bill.output_cost for bill in bills), 12),
        )

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of requests: in total, completed and failed."""
        ended = [outcome for outcome in self.done if not outcome.extra]
        failed = sum(outcome.failed for outcome in ended)
        return {"total": len(self.submission.custom_ids), "completed": len(ended) - failed, "failed": failed}

    @property
    def is_billed(self) -> bool:
        """Whether the batch has ended with at least one response."""
        return self.is_terminal and any(not outcome.failed for outcome in self.done)

    def advance(self, now: float, *, hold: str | None) -> None:
        """Run until ``now``, but not beyond the status ``hold``."""
        before, after = self.elapsed, self.elapsed + max(0.0, now - self.seen_at)
        phases = self.phases()
        ends = {status: phases[index + 1][1] for index, (status, _) in enumerate(phases[:-1])}
        if hold in ends and before < ends[hold] <= after:
            after = math.nextafter(ends[hold], 0.0)
        for status, begins in phases:
            if begins <= after and status not in self.entered:
                self.entered[status] = self.seen_at + max(0.0, begins - before)
        self.elapsed, self.seen_at = after, now

    def end(self, status: BatchEnding, message: str | None) -> None:
        """End now; a cancelled batch is ``cancelling`` first."""
        self.ending = _Ending(status=status, at=self.elapsed, message=message)
        self.entered.setdefault("cancelling" if status == "cancelled" else status, self.seen_at)


class BatchStore:
    """
    All batches, oldest first. Safe to use from any thread.

    :param clock: returns seconds; those since 1970 are ``clock_offset`` more.
    """

    def __init__(
        self, settings: BatchSettings, clock: Callable[[], float], lock: threading.RLock, clock_offset: float
    ) -> None:
        self._lock = lock
        self._clock = clock
        self._clock_offset = clock_offset
        self._settings = settings
        self._batches: dict[str, Batch] = {}

    @property
    def settings(self) -> BatchSettings:
        """The settings of all batches."""
        return self._settings

    def set(self, settings: BatchSettings) -> None:
        """Set other settings; ``seconds`` and ``failing`` hold for batches that are submitted from now on."""
        with self._lock:
            self._advance_all()
            self._settings = settings

    @property
    def count(self) -> int:
        """The number of batches that were submitted."""
        return len(self._batches)

    def time(self) -> float:
        """Return the seconds since 1970, to the microsecond."""
        return round(self._clock() + self._clock_offset, 6)

    def add(
        self,
        submission: Submission,
        *,
        seconds: float | None = None,
        ending: BatchEnding | None = None,
        ending_share: float = 0.0,
        message: str | None = None,
    ) -> Batch:
        """Add a batch, which ends early, with ``ending``, once ``ending_share`` of its requests have ended."""
        with self._lock:
            lasts = seconds or self._settings.seconds
            batch = Batch(submission=submission, seconds=lasts, seen_at=self._clock())
            if ending is not None:
                at = (VALIDATED + ending_share * (GENERATED - VALIDATED)) * lasts
                batch.ending = _Ending(status=ending, at=at, message=message)
            batch.advance(batch.seen_at, hold=None)
            self._batches[submission.id] = batch
            return batch

    def find(self, batch_id: str, key: str) -> Batch | None:
        """Return the batch of a key, as it is now, unless it was deleted."""
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None or batch.submission.key != key or batch.deleted:
                return None
            self._advance(batch)
            return batch

    def newest_first(self, key: str) -> list[Batch]:
        """Return the batches of a key, as they are now, without those that were deleted."""
        with self._lock:
            self._advance_all()
            batches = reversed(self._batches.values())
            return [batch for batch in batches if batch.submission.key == key and not batch.deleted]

    def has_expired_results(self, batch: Batch) -> bool:
        """Whether the results of a batch are no longer there."""
        if batch.expired_results:
            return True
        ended_at = batch.entered.get(batch.status)
        return (
            batch.is_terminal and ended_at is not None and self._clock() - ended_at >= self._settings.retention_seconds
        )

    def entered_at(self, batch: Batch, status: str) -> int | None:
        """Return when a batch reached a status, in whole seconds since 1970."""
        entered = batch.entered.get(status)
        return None if entered is None else int(entered + self._clock_offset)

    def end(self, batch_id: str, status: BatchEnding, message: str | None = None) -> None:
        """
        End a batch now.

        :raises ValueError: if there is no such batch, or it has ended.
        """
        with self._lock:
            batch = self._get(batch_id)
            if batch.is_terminal:
                raise ValueError(f"batch {batch_id!r} has ended already: it is {batch.status}")
            batch.end(status, message)

    def expire_results(self, batch_id: str) -> None:
        """
        Make the results of a batch expire now.

        :raises ValueError: if there is no such batch, or it has not ended.
        """
        with self._lock:
            batch = self._get(batch_id)
            if not batch.is_terminal:
                raise ValueError(f"batch {batch_id!r} has not ended: it is {batch.status}")
            batch.expired_results = True

    def requests(self, batch_id: str) -> list[Any]:
        """
        Return the requests of a batch, as they were submitted.

        :raises ValueError: if there is no such batch, or its file is not JSON Lines.
        """
        with self._lock:
            submission = self._get(batch_id).submission
        if submission.is_lines:
            return [json.loads(line) for line in submission.raw.splitlines() if line.strip()]
        requests: list[Any] = json.loads(submission.raw)["requests"]
        return requests

    def entries(self) -> list[BatchEntry]:
        """Return the entries of all batches, as they are now, oldest first."""
        with self._lock:
            self._advance_all()
            return [_entry(batch) for batch in self._batches.values()]

    def report(self) -> dict[str, Any]:
        """Return the entries and the totals of those that were billed, as JSON."""
        entries = self.entries()
        billed = [entry for entry in entries if entry.billed]
        return {
            "batches": [asdict(entry) for entry in entries],
            "billed_batches": {
                "batches": len(billed),
                "requests": sum(entry.completed for entry in billed),
                "cost": round(sum(entry.cost for entry in billed), 12),
            },
        }

    def clear(self) -> None:
        """Remove all batches."""
        with self._lock:
            self._batches = {}

    def _get(self, batch_id: str) -> Batch:
        if batch_id not in self._batches:
            raise ValueError(f"no batch has the id {batch_id!r}")
        self._advance(self._batches[batch_id])
        return self._batches[batch_id]

    def _advance_all(self) -> None:
        for batch in self._batches.values():
            self._advance(batch)

    def _advance(self, batch: Batch) -> None:
        if not batch.is_terminal:
            batch.advance(self._clock(), hold=self._settings.hold)


def _entry(batch: Batch) -> BatchEntry:
    submission, bill, counts = batch.submission, batch.bill, batch.counts
    billed = batch.is_billed
    return BatchEntry(
        id=submission.id,
        time=submission.created_at,
        key=submission.key,
        model=submission.model,
        endpoint=submission.endpoint,
        status=batch.status,
        custom_ids=list(submission.custom_ids),
        completed=counts["completed"],
        failed=counts["failed"],
        billed=billed,
        cost=bill.cost if billed else 0.0,
        input_tokens=bill.input_tokens if billed else 0,
        output_tokens=bill.output_tokens if billed else 0,
        error=batch.error,
        deleted=batch.deleted,
        polls=list(batch.polls),
        body_sha256=submission.body_sha256,
        details=dict(submission.details),
    )
