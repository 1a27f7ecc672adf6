"""
Writes responses to the parts, and bounds the number of unwritten ones, which the end of the process would lose.

It writes on a thread of its own, so that a slow store does not hold up requests, lease renewals and progress lines.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_responses.enrich.bounded_calls import HURRIED_SECONDS
from airflow_provider_responses.enrich.daemon_thread import DaemonThread
from airflow_provider_responses.enrich.sources import CHUNK_SIZE
from airflow_provider_responses.exceptions import ResponsesError, StorageError
from airflow_provider_responses.task.cost import dollars

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index, IndexedOutcome
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.enrich.outcome_json import OutcomeForms
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.enrich.row_outcome import RowOutcome

log = logging.getLogger(__name__)

APPEND_ROWS: Final = 32  # responses that are appended at once on local disk
MAX_UNAPPENDED: Final = 64  # responses that may be unwritten on local disk
APPEND_SECONDS: Final = 1.0  # after which fewer are appended
FIRST_WAIT, MAX_WAIT = 1.0, 15.0  # seconds before a failed write is repeated


class StoppableSender(Protocol):
    """The sender, which sends nothing while too much is unwritten."""

    def stop(self, reason: BaseException) -> None:
        """Send nothing more."""

    def wake(self) -> None:
        """Check again whether something may be sent."""


@dataclass(frozen=True, slots=True)
class Part:
    """Responses that are written together, however often the write is repeated."""

    lines: list[str]
    outcomes: list[IndexedOutcome]


class PartWriter:
    """
    See the module. :meth:`run` writes the outcomes that :meth:`add` receives, until :meth:`finish`.

    :param store: of the output.
    :param index: of the rows; written outcomes are added to it.
    :param forms: of outcomes, in the parts and in the index.
    :param limits: how much may be unwritten, and how long to wait for a store that is down.
    :param clock: seconds, as of ``time.monotonic``.
    :param tick: seconds between two checks whether a part is due.
    :param part_rows: maximum number of rows of a part.
    :param part_size: characters of a part, about.
    :param flush_seconds: after which a smaller part is written.
    """

    # Many arguments: each is a part of the engine, or a time, that tests replace.
    def __init__(
        self,
        store: OutputStore,
        index: Index,
        forms: OutcomeForms,
        *,
        limits: Limits,
        clock: Callable[[], float],
        tick: float,
        part_rows: int,
        flush_seconds: float,
        part_size: int = CHUNK_SIZE,
    ) -> None:
        self._store, self._index, self._forms = store, index, forms
        self._clock, self._tick, self._max_outage = clock, tick, limits.max_outage
        self._max_unwritten, self._max_seconds = limits.max_unwritten, limits.max_unwritten_seconds
        self._part_rows, self._part_size = min(part_rows, max(self._max_unwritten // 2, 1)), part_size
        self._flush_seconds = min(flush_seconds, self._max_seconds / 2)
        if store.can_append:  # small writes are cheap there
            self._max_unwritten = min(self._max_unwritten, MAX_UNAPPENDED)
            self._part_rows = min(self._part_rows, APPEND_ROWS)
            self._flush_seconds = min(self._flush_seconds, APPEND_SECONDS)
        self._unwritten: deque[tuple[float, RowOutcome]] = deque()  # with the time of each
        self._due = 0  # number of those that are to be written now
        self._part: Part | None = None  # of the first ones, while it is being written
        self._write_call: Future[None] | None = None
        self._thread = DaemonThread("part-writer")
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._is_ending = self._is_hurried = False
        self._hurried_at = 0.0
        self._failing_since: float | None = None
        self._failures = 0  # in a row
        self._next_write = 0.0
        self._final_error: BaseException | None = None  # why nothing more is written
        self._index_error: sqlite3.OperationalError | None = None

    def add(self, outcome: RowOutcome) -> None:
        """Add an outcome, which is written later."""
        self._unwritten.append((self._clock(), outcome))
        if len(self._unwritten) >= self._part_rows:
            self._wake.set()

    def is_full(self) -> bool:
        """Return whether nothing may be sent, because too much is unwritten."""
        if len(self._unwritten) >= self._max_unwritten:
            return True
        return bool(self._unwritten) and self._clock() - self._unwritten[0][0] > self._max_seconds

    async def wait_for_room(self) -> None:
        """Wait until something may be sent, or the store is given up."""
        while self.is_full() and self._final_error is None:
            self._room.clear()
            await self._room.wait()

    async def run(self, sender: StoppableSender) -> None:
        """
        Write until :meth:`finish`, and then the rest. Call :meth:`close` afterwards.

        :param sender: is stopped when nothing can be written any more.
        """
        while not (self._is_ending and not self._unwritten) and self._final_error is None:
            if self._is_due():
                await self._write(sender)
            else:
                await self._wait_until_due()

    def finish(self, *, hurried: bool = False) -> None:
        """
        Let :meth:`run` end: no outcomes follow.

        :param hurried: whether there is no time to wait for a store that is down.
        """
        self._is_ending, self._is_hurried, self._hurried_at = True, hurried, self._clock()
        self._wake.set()

    def close(self) -> None:
        """
        End the thread, and write the rest if :meth:`run` was cancelled.

        :raises StorageError: retryable, with the number and cost of the responses that could not be written.
        """
        try:
            while self._unwritten and self._final_error is None:
                part = self._next_part()
                if self._write_call is None or self._write_call.cancelled():
                    self._write_call = self._thread.submit(partial(self.store, part.lines))
                try:
                    if self._write_call.exception(HURRIED_SECONDS) is None:
                        self._note_written()
                        continue
                    self._write_call.result()
                except TimeoutError as error:
                    self._final_error = error if self._write_call.done() else self._silence_error(HURRIED_SECONDS)
                except (OSError, ResponsesError) as error:
                    self._final_error = error
        finally:
            # A call that hangs is not waited for.
            self._thread.end(0.0 if self._write_call is not None and not self._write_call.done() else None)
        self._raise()

    def store(self, lines: list[str]) -> None:
        """Store the lines of a part. It runs on the writer's thread."""
        if self._store.can_append:
            self._store.append(lines)
        else:
            self._store.write_part(lines)

    def _is_due(self) -> bool:
        if not self._unwritten:
            return False
        now, size = self._clock(), len(self._unwritten)
        if self._failing_since is not None and now < self._next_write and not self._is_hurried:
            return False
        if self._is_ending or now - self._unwritten[0][0] >= self._flush_seconds:
            self._due = size
        elif self._due <= 0:
            self._due = size - size % self._part_rows  # the rest waits, so that parts are not small
        return self._due > 0

    async def _wait_until_due(self) -> None:
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), self._tick)
        except TimeoutError:
            return

    async def _write(self, sender: StoppableSender) -> None:
        try:
            await self._store_lines(self._next_part().lines)
        except (OSError, ResponsesError) as error:
            self._note_failure(error)
            if self._final_error is not None:
                sender.stop(self._final_error)
        else:
            self._note_written()
            if self._index_error is not None:
                sender.stop(self._index_error)
        self._room.set()
        sender.wake()

    async def _store_lines(self, lines: list[str]) -> None:
        """
        Store the lines of a part.

        :raises StorageError: if the store gives no response for too long.
        """
        self._write_call = self._thread.submit(partial(self.store, lines))
        future, began, is_reported = asyncio.wrap_future(self._write_call), self._clock(), False
        while not (await asyncio.wait({future}, timeout=self._tick))[0]:
            now = self._clock()
            if self._is_hurried and now - max(began, self._hurried_at) >= HURRIED_SECONDS:
                raise self._silence_error(now - began)
            since = began if self._failing_since is None else self._failing_since
            if now - since >= max(self._max_outage, self._max_seconds):
                self._failing_since = since
                raise self._silence_error(now - began)
            if now - began >= self._max_seconds and not is_reported:
                is_reported = True
                log.warning(
                    "%s: %d responses wait to be written: the store has given no response for %.0f s; waiting up to "
                    "%g s (limits.max_outage)",
                    self._store.path,
                    len(self._unwritten),
                    now - began,
                    max(self._max_outage, self._max_seconds),
                )
        self._write_call = None
        future.result()

    def _silence_error(self, seconds: float) -> StorageError:
        path = str(self._store.path)
        return StorageError(f"{path}: the store gave no response for {seconds:.0f} s", path=path)

    def _next_part(self) -> Part:
        """Return the part that is written next, after a failure the same one."""
        if self._part is None:
            lines: list[str] = []
            outcomes = []
            size = 0
            for _, outcome in islice(self._unwritten, self._part_rows):
                columns = self._forms.columns(outcome)
                outcomes.append(self._forms.indexed(outcome, columns))
                lines.append(self._forms.line_of_first_row(self._index, outcome, columns))
                size += len(lines[-1])
                if size >= self._part_size:
                    break
            self._part = Part(lines, outcomes)
        return self._part

    def _note_written(self) -> None:
        part = self._next_part()
        for _ in part.lines:  # before anything can fail, or they would be written twice
            self._unwritten.popleft()
        self._due -= len(part.lines)
        self._part = self._write_call = None
        if self._failing_since is not None:
            log.info("Responses can be written to %s again", self._store.path)
        self._failing_since, self._failures = None, 0
        if self._index_error is None:
            try:
                self._index.add_outcomes(part.outcomes)
            except sqlite3.OperationalError as error:
                self._index_error = error  # its disk is full; responses are written all the same

    def _note_failure(self, error: Exception) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
            log.warning(
                "%s: %d responses cannot be written; trying again for up to %g s (limits.max_outage). %s",
                self._store.path,
                len(self._unwritten),
                self._max_outage,
                error,
            )
        is_final = isinstance(error, ResponsesError) and not error.retryable
        if is_final or self._is_hurried or now - self._failing_since >= self._max_outage:
            self._final_error = error
            return
        self._next_write = now + min(FIRST_WAIT * 2.0**self._failures, MAX_WAIT)
        self._failures += 1

    def _raise(self) -> None:
        if self._final_error is not None and self._unwritten:
            cost = _format_cost(outcome.cost for _, outcome in self._unwritten)
            raise StorageError(
                f"output_path {str(self._store.path)!r}: {len(self._unwritten)} responses ({cost}) could not be "
                "written, and are lost unless the server has cached them. Those written before are saved, and a retry "
                f"sends the rest. {self._final_error}",
                path=str(self._store.path),
                retryable=True,
            ) from self._final_error
        if self._index_error is not None:
            raise self._index_error


def _format_cost(costs: Iterable[float | None]) -> str:
    every = list(costs)
    known = [cost for cost in every if cost is not None]
    if not known:
        return "cost unknown"
    return dollars(sum(known)) if len(known) == len(every) else f"at least {dollars(sum(known))}"
