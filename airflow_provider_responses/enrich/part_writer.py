"""
Writes responses to the parts, and bounds those that are not written: what the end of the process would lose.

Writing has a thread of its own, so that a slow store holds up nothing but itself.
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

from airflow_provider_responses.enrich.answers import line_of, text_of
from airflow_provider_responses.enrich.bounded_calls import HURRIED_SECONDS
from airflow_provider_responses.enrich.daemon_thread import DaemonThread
from airflow_provider_responses.enrich.sources import CHUNK_SIZE
from airflow_provider_responses.exceptions import ResponsesError, StorageError
from airflow_provider_responses.task.cost import dollars

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.enrich.progress import Answer

log = logging.getLogger(__name__)

APPENDED_AT_ONCE: Final = 32  # responses; on local disk
MOST_UNAPPENDED: Final = 64
APPEND_SECONDS: Final = 1.0
FIRST_WAIT, LONGEST_WAIT = 1.0, 15.0  # seconds between two tries to write a part


class Stoppable(Protocol):
    """What sends."""

    def stop(self, why: BaseException) -> None:
        """Send no more."""

    def wake(self) -> None:
        """Look again whether something may be sent."""


@dataclass(frozen=True, slots=True)
class Part:
    """Responses that are written together, also if it takes several tries."""

    lines: list[str]
    known: list[tuple[bytes, str, str]]  # for the index


class PartWriter:
    """
    See the module. What is kept is written by :meth:`run` until :meth:`finish`.

    :param folder: where parts are written.
    :param index: of the rows; it is given what is written.
    :param fields: the columns that hold what the model responded.
    :param typed: whether a value has a field for each of them.
    :param prompt: the fingerprint of what all rows are asked by.
    :param limits: how much may be unwritten, and how long a store that is down is waited for.
    :param clock: seconds, as of ``time.monotonic``.
    :param tick: seconds between looks at what is due.
    :param part_rows: in a part at most.
    :param part_size: characters of a part, about.
    :param flush_seconds: after which few responses are a part as well.
    """

    def __init__(
        self,
        folder: OutputStore,
        index: Index,
        fields: tuple[str, ...],
        *,
        typed: bool,
        prompt: str | None = None,
        limits: Limits,
        clock: Callable[[], float],
        tick: float,
        part_rows: int,
        flush_seconds: float,
        part_size: int = CHUNK_SIZE,
    ) -> None:
        self._folder, self._index, self._fields, self._typed = folder, index, fields, typed
        self._prompt = prompt
        self._clock, self._tick, self._max_outage = clock, tick, limits.max_outage
        self._most, self._longest = limits.max_unwritten, limits.max_unwritten_seconds
        self._part_rows, self._part_size = min(part_rows, max(self._most // 2, 1)), part_size
        self._flush_seconds = min(flush_seconds, self._longest / 2)
        if folder.can_append:  # what is written has no price there
            self._most = min(self._most, MOST_UNAPPENDED)
            self._part_rows = min(self._part_rows, APPENDED_AT_ONCE)
            self._flush_seconds = min(self._flush_seconds, APPEND_SECONDS)
        self._unwritten: deque[tuple[float, Answer]] = deque()  # with the time
        self._due = 0  # of them, that are to be written now
        self._part: Part | None = None  # the first of them, once they are being written
        self._in_thread: Future[None] | None = None
        self._thread = DaemonThread("part-writer")
        self._wake, self._written = asyncio.Event(), asyncio.Event()
        self._is_ending = self._is_hurried = False
        self._hurried_at = 0.0
        self._failing_since: float | None = None
        self._tries = 0
        self._next_try = 0.0
        self._given_up: BaseException | None = None  # why nothing more is written
        self._index_error: sqlite3.OperationalError | None = None

    def keep(self, answer: Answer) -> None:
        """Take what came of a request."""
        self._unwritten.append((self._clock(), answer))
        if len(self._unwritten) >= self._part_rows:
            self._wake.set()

    def is_full(self) -> bool:
        """Return whether so much is unwritten that nothing may be sent."""
        if len(self._unwritten) >= self._most:
            return True
        return bool(self._unwritten) and self._clock() - self._unwritten[0][0] > self._longest

    async def has_room(self) -> None:
        """Wait until something may be sent, or the store is given up."""
        while self.is_full() and self._given_up is None:
            self._written.clear()
            await self._written.wait()

    async def run(self, sender: Stoppable) -> None:
        """
        Write until the end, and then what is left; :meth:`close` has to follow.

        :param sender: is stopped when nothing can be written any more.
        """
        while not (self._is_ending and not self._unwritten) and self._given_up is None:
            if self._is_due():
                await self._write(sender)
            else:
                await self._something()

    def finish(self, *, hurried: bool = False) -> None:
        """
        Let :meth:`run` end: nothing more is kept.

        :param hurried: whether there is no time to wait for a store that is down.
        """
        self._is_ending, self._is_hurried, self._hurried_at = True, hurried, self._clock()
        self._wake.set()

    def close(self) -> None:
        """
        End the thread; write what is left, if :meth:`run` was ended before its time.

        :raises StorageError: retryable, naming the responses that could not be written.
        """
        try:
            while self._unwritten and self._given_up is None:
                part = self._next_part()
                if self._in_thread is None or self._in_thread.cancelled():
                    self._in_thread = self._thread.submit(partial(self.store, part.lines))
                try:
                    if self._in_thread.exception(HURRIED_SECONDS) is None:
                        self._is_written()
                        continue
                    self._in_thread.result()
                except TimeoutError as error:
                    self._given_up = error if self._in_thread.done() else self._silence(HURRIED_SECONDS)
                except (OSError, ResponsesError) as error:
                    self._given_up = error
        finally:
            # What hangs is left to itself.
            self._thread.end(0.0 if self._in_thread is not None and not self._in_thread.done() else None)
        self._raise()

    def store(self, lines: list[str]) -> None:
        """Store the lines of a part: one flush. It runs on the writer's thread."""
        if self._folder.can_append:
            self._folder.append(lines)
        else:
            self._folder.write_part(lines)

    def _is_due(self) -> bool:
        if not self._unwritten:
            return False
        now, size = self._clock(), len(self._unwritten)
        if self._failing_since is not None and now < self._next_try and not self._is_hurried:
            return False
        if self._is_ending or now - self._unwritten[0][0] >= self._flush_seconds:
            self._due = size
        elif self._due <= 0:
            self._due = size - size % self._part_rows  # the rest may wait, and so makes no small part
        return self._due > 0

    async def _something(self) -> None:
        """Wait until something may be due."""
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), self._tick)
        except TimeoutError:
            return

    async def _write(self, sender: Stoppable) -> None:
        try:
            await self._stored(self._next_part().lines)
        except (OSError, ResponsesError) as error:
            self._failed(error)
            if self._given_up is not None:
                sender.stop(self._given_up)
        else:
            self._is_written()
            if self._index_error is not None:
                sender.stop(self._index_error)
        self._written.set()
        sender.wake()

    async def _stored(self, lines: list[str]) -> None:
        """
        Store the lines of a part.

        :raises StorageError: if the store hangs for as long as one that is down is waited for.
        """
        self._in_thread = self._thread.submit(partial(self.store, lines))
        future, began, is_reported = asyncio.wrap_future(self._in_thread), self._clock(), False
        while not (await asyncio.wait({future}, timeout=self._tick))[0]:
            now = self._clock()
            if self._is_hurried and now - max(began, self._hurried_at) >= HURRIED_SECONDS:
                raise self._silence(now - began)
            since = began if self._failing_since is None else self._failing_since
            if now - since >= max(self._max_outage, self._longest):
                self._failing_since = since
                raise self._silence(now - began)
            if now - began >= self._longest and not is_reported:
                is_reported = True
                log.warning(
                    "%s: %d responses wait to be written, since the store has given no response for %.0f s; waiting "
                    "up to %g s for it (limits.max_outage)",
                    self._folder.path,
                    len(self._unwritten),
                    now - began,
                    max(self._max_outage, self._longest),
                )
        self._in_thread = None
        future.result()

    def _silence(self, seconds: float) -> StorageError:
        path = str(self._folder.path)
        return StorageError(f"{path}: the store gave no response for {seconds:.0f} s", path=path)

    def _next_part(self) -> Part:
        """Return the part that is written next; after a failure it is the same again."""
        if self._part is None:
            lines: list[str] = []
            known = []
            size = 0
            for _, answer in islice(self._unwritten, self._part_rows):
                text = text_of(answer, self._fields, typed=self._typed)
                known.append((answer.pending.fingerprint, answer.status, text))
                lines.append(line_of(self._index, answer, text, self._prompt))
                size += len(lines[-1])
                if size >= self._part_size:
                    break
            self._part = Part(lines, known)
        return self._part

    def _is_written(self) -> None:
        part = self._next_part()
        for _ in part.lines:  # first of all: else they would be written twice
            self._unwritten.popleft()
        self._due -= len(part.lines)
        self._part = self._in_thread = None
        if self._failing_since is not None:
            log.info("Responses can be written to %s again", self._folder.path)
        self._failing_since, self._tries = None, 0
        if self._index_error is None:
            try:
                self._index.know(part.known)
            except sqlite3.OperationalError as error:
                self._index_error = error  # it has no more room; what was paid is written all the same

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
            log.warning(
                "%s: %d responses cannot be written; trying again for up to %g s (limits.max_outage). %s",
                self._folder.path,
                len(self._unwritten),
                self._max_outage,
                error,
            )
        is_final = isinstance(error, ResponsesError) and not error.retryable
        if is_final or self._is_hurried or now - self._failing_since >= self._max_outage:
            self._given_up = error
            return
        self._next_try = now + min(FIRST_WAIT * 2.0**self._tries, LONGEST_WAIT)
        self._tries += 1

    def _raise(self) -> None:
        if self._given_up is not None and self._unwritten:
            cost = _cost(answer.cost for _, answer in self._unwritten)
            raise StorageError(
                f"output_path {str(self._folder.path)!r}: {len(self._unwritten)} responses ({cost}) could not be "
                "written, and are lost unless the server has them in its cache. What was written before stays, and a "
                f"retry sends the rest. {self._given_up}",
                path=str(self._folder.path),
                retryable=True,
            ) from self._given_up
        if self._index_error is not None:
            raise self._index_error


def _cost(costs: Iterable[float | None]) -> str:
    every = list(costs)
    known = [cost for cost in every if cost is not None]
    if not known:
        return "cost unknown"
    return dollars(sum(known)) if len(known) == len(every) else f"at least {dollars(sum(known))}"
