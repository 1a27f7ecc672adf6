"""
Sends the requests of all rows: bounded, adapting to the service, and never one more than is needed.

One coroutine decides what is sent next; each request in flight is a task. No Airflow, and no clock of its own.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_responses.client.retries import next_wait
from airflow_provider_responses.enrich.budget import Budget, Paid
from airflow_provider_responses.enrich.index import FAILED, OK, Pending
from airflow_provider_responses.enrich.limits import Limits, Pace
from airflow_provider_responses.enrich.progress import INCOMPLETE, LONGEST_ERROR, REFUSED, UNREADABLE, Answer, Progress
from airflow_provider_responses.exceptions import (
    APIError,
    ConfigurationError,
    ForbiddenResponseError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestCancelledError,
    ResponsesError,
)
from airflow_provider_responses.runs import Outcome

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.models.response import Response

log = logging.getLogger(__name__)

BUSY: Final = frozenset({429, 503, 529})
HOPELESS: Final = frozenset({401, 402, 404})  # for one row as for all
OF_THE_ROW: Final = frozenset({"guardrail-blocked", "moderation"})
_IMAGES: Final = frozenset({"image_not_found", "image_file_not_found"})  # also a 404
READ_AHEAD: Final = 100  # requests
MOST_BUSY: Final = 50  # times that a row is told to wait; others come through meanwhile

Turn = Callable[[Pending, float | None], Awaitable[None]]


class Room(Protocol):
    """Bounds the responses that are not written."""

    def is_full(self) -> bool:
        """Return whether nothing may be sent."""

    async def has_room(self) -> None:
        """Wait until something may be sent."""


@dataclass(slots=True)
class Sending:
    """A request, and how often it was sent."""

    pending: Pending
    plain: int = 0  # failures that billed nothing
    ambiguous: int = 0  # failures that may have been billed
    busy: int = 0  # times that the service was too busy for it, though not for others
    sends: int = 0
    paid: Paid = field(default_factory=Paid)
    error: ResponsesError | None = None  # of the last send


class Sender:
    """
    See the module.

    :param ask: sends a request and returns its outcome, which may have an error, or raises one; it waits for the
        :meth:`turn` that it is given before it sends once more.
    :param take: gives the next requests to send, at most as many as it is told; none when there are no more.
    :param keep: takes an answer; it must be quick.
    :param room: for responses that are not written yet.
    :param initial_window: requests in flight that the last attempt ended with.
    :param budget: what may be spent.
    :param progress: what is done so far; both are kept up to date here.
    :param clock: seconds, as of ``time.monotonic``.
    :param draw: a random number from 0 to 1.
    """

    def __init__(
        self,
        *,
        ask: Callable[[Pending, Turn], Awaitable[Outcome]],
        take: Callable[[int], list[Pending]],
        keep: Callable[[Answer], None],
        limits: Limits,
        config: ClientConfig,
        budget: Budget,
        progress: Progress,
        room: Room,
        initial_window: float | None = None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self.pace = Pace(limits)
        if initial_window is not None:
            self.pace.window = max(1.0, min(initial_window, float(limits.concurrency)))
        self.progress, self._budget = progress, budget
        self._ask, self._take, self._keep = ask, take, keep
        # A long wait is one for all rows, and max_outage bounds it.
        self._config = replace(config, max_retry_wait=max(config.max_retry_wait, limits.max_outage))
        self._limits, self._room = limits, room
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._fresh: list[Pending] = []  # in reverse
        self._exhausted = False
        self._later: list[tuple[float, int, Sending]] = []  # when, a number that breaks ties, and what
        self._streak: list[Sending] = []  # jobs that failed in a row, though nothing is wrong with them
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stop: BaseException | None = None
        self._number = 0

    async def run(self) -> BaseException | None:
        """Send all; give why it stopped before the end, if it did. What was in flight then has been waited for."""
        try:
            while self._stop is None and (self._tasks or self._later or self._read()):
                now = self._clock()
                wait = self.pace.delay(now)
                may = self.pace.has_room(len(self._tasks)) and not self._room.is_full() and self._affords()
                if may and not wait and (job := self._next(now)) is not None:
                    self._start(job, now)
                    if self.progress.sent % 32 == 0:
                        await asyncio.sleep(0)  # answers are read in between
                elif self._stop is None:
                    await self._something(wait, now, may=may)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for _, _, job in self._later:
                self._drop(job)
        return self._stop

    def stop(self, why: BaseException) -> None:
        """Send no more; the first reason counts."""
        self._stop = self._stop or why
        self._wake.set()

    def wake(self) -> None:
        """Look again whether something may be sent."""
        self._wake.set()

    def cancel(self, why: BaseException) -> None:
        """Send no more, and drop what is in flight."""
        self.stop(why)
        for task in self._tasks:
            task.cancel()

    def _affords(self) -> bool:
        try:
            return self._budget.affords(len(self._tasks))
        except ResponsesError as error:
            self.stop(error)
            return False

    def _read(self) -> bool:
        if not self._fresh and not self._exhausted:
            self._fresh = self._take(READ_AHEAD)[::-1]
            self._exhausted = not self._fresh
        return bool(self._fresh)

    def _next(self, now: float) -> Sending | None:
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        return Sending(self._fresh.pop()) if self._read() else None

    def _start(self, job: Sending, now: float) -> None:
        job.sends += 1
        self.progress.sent += 1
        tokens = self.pace.sent(now, len(job.pending.fields))
        task = asyncio.create_task(self._one(job, now, tokens))
        self._tasks.add(task)
        self.progress.in_flight = len(self._tasks)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.progress.in_flight = len(self._tasks)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error)
        self._wake.set()

    async def _something(self, wait: float, now: float, *, may: bool) -> None:
        """Wait until an answer comes, or, if one more may be in flight, the time for the next request."""
        self._wake.clear()
        times = [wait] if wait and may else []
        if self._later and may:
            times.append(max(wait, self._later[0][0] - now))
        if not times:
            await self._wake.wait()
            return
        woken, slept = (asyncio.ensure_future(it) for it in (self._wake.wait(), self._sleep(max(min(times), 0.001))))
        try:
            await asyncio.wait((woken, slept), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (woken, slept):
                waiting.cancel()

    async def turn(self, pending: Pending, paid: float | None) -> None:
        """
        Wait until a request that is in flight may be sent once more.

        :param paid: US dollars, for the answer that would not do.
        :raises RequestCancelledError: if the run has stopped, or has no money for it.
        """
        self._budget.hold(pending.first, paid)
        if not self._budget.has_room(len(self._tasks)):
            raise RequestCancelledError(
                f"its answer was not as typed, and limits.max_cost of ${self._limits.max_cost:g} leaves no room to ask "
                "again"
            )
        while (wait := self.pace.delay(self._clock())) and self._stop is None:
            await self._sleep(min(wait, 1.0))
        await self._room.has_room()
        if self._stop is not None:
            raise RequestCancelledError("the run stopped before this request was sent once more")
        self.pace.sent(self._clock(), len(pending.fields))

    async def _one(self, job: Sending, started: float, tokens: float) -> None:
        try:
            outcome = await self._ask(job.pending, self.turn)
        except ResponsesError as raised:
            outcome = Outcome(error=raised, response=raised.response)
        except asyncio.CancelledError:
            job.paid.add(self._budget.release(job.pending.first))
            self._drop(job)
            raise
        self._budget.release(job.pending.first)
        error, response, value = outcome.error, outcome.response, outcome.value
        self._pay(job, outcome)
        if error is not None:
            self._failed(job, error, response, started, tokens)
            return
        assert response is not None  # noqa: S101  an outcome has one of both
        self._came(response, tokens)
        self._mark(outcome, response)
        status = OK if response.status == "completed" else INCOMPLETE
        if response.refusal is not None:
            status = REFUSED
        self._finish(job, status, value=value, response=response)

    def _mark(self, outcome: Outcome, response: Response) -> None:
        self.progress.repaired += outcome.repaired
        self.progress.maybe_truncated += response.maybe_truncated
        self.progress.inconsistent += response.inconsistent

    def _came(self, response: Response, taken: float) -> None:
        self._streak.clear()
        self.pace.answered(in_flight=len(self._tasks), tokens=response.usage.total_tokens, taken=taken)

    def _failed(
        self, job: Sending, error: ResponsesError, response: Response | None, started: float, tokens: float
    ) -> None:
        now = self._clock()
        code = error.status_code if isinstance(error, APIError) else None
        job.error = error
        job.paid.unknown += error.ambiguous and response is None
        if error.response is not None:  # an answer came
            self._came(error.response, tokens)
        if isinstance(error, (RefusalError, IncompleteResponseError, OutputValidationError)):
            kinds = {RefusalError: REFUSED, IncompleteResponseError: INCOMPLETE, OutputValidationError: UNREADABLE}
            self._finish(job, kinds[type(error)], error=error, response=response)
            return
        # Airflow can wait long without holding a worker.
        is_long = error.retryable and (error.retry_after or 0.0) > self._limits.max_outage
        if is_long or _is_hopeless(error, code):
            self.stop(error)
            self._drop(job)
            return
        if code in BUSY:
            self._streak.clear()
            self.pace.busy(now=now, started=started, retry_after=error.retry_after)
            self._give_up_if_over(error, now)
            job.busy += self.pace.busy_since == now  # others came through since the last time
        elif error.retryable:
            self._streak.append(job)
            self.pace.hold(now + (error.retry_after or 0.0))
            was_up = self.pace.down_since is None
            if self.pace.failed(now=now, started=started):
                self._wait_for_service(error, now, is_new=was_up)
        elif code is not None:  # the row's own
            self._streak.clear()
            self.pace.heard()
        self._again(job, error, response, now)

    def _wait_for_service(self, error: ResponsesError, now: float, *, is_new: bool) -> None:
        """The service is down, and no row is to blame: their tries are not used up."""
        for waiting in self._streak:
            waiting.plain = 0
        self._streak.clear()
        if is_new:
            log.warning("The service is down; waiting up to %g s for it. %s", self._limits.max_outage, error)
        self._give_up_if_over(error, now)

    def _give_up_if_over(self, error: ResponsesError, now: float) -> None:
        if self.pace.is_over(now):
            self.stop(error.about(f"no answer for {self._limits.max_outage:g} s (limits.max_outage), the last time"))

    def _again(self, job: Sending, error: ResponsesError, response: Response | None, now: float) -> None:
        """Send a failed request again later, if it may get better."""
        wait = next_wait(
            error,
            plain=job.plain,
            ambiguous=job.ambiguous,
            config=self._config,
            remaining=float("inf"),
            draw=self._draw(),
        )
        code = error.status_code if isinstance(error, APIError) else None
        busy = code in BUSY and job.busy < MOST_BUSY
        down = self.pace.down_since is not None and error.retryable
        # Neither is the row's fault, and both are waited out for all rows together.
        free = (busy or down) and not error.ambiguous
        if wait is None and not free:
            self._finish(job, FAILED, error=error, response=response)
            return
        if error.ambiguous:
            job.ambiguous += 1
        elif not free:
            job.plain += 1
        self.progress.again[str(code or type(error).__name__)] += 1
        self._number += 1
        heapq.heappush(self._later, (now + (wait or 0.0), self._number, job))

    def _drop(self, job: Sending) -> None:
        """Give a request up for this try; what it has paid is told."""
        if job.paid.cost != 0.0 or job.paid.unknown:
            error = job.error or RequestCancelledError("the run stopped before it was answered")
            self._finish(job, FAILED, error=error)

    def _finish(
        self,
        job: Sending,
        status: str,
        *,
        value: Any = None,
        error: ResponsesError | None = None,
        response: Response | None = None,
    ) -> None:
        progress = self.progress
        progress.done += 1
        progress.unpriced += job.paid.unknown
        is_unknown = response is None and error is not None and error.ambiguous
        if error is not None:
            progress.failures[type(error).__name__] += 1
            progress.hopeful += status == FAILED and error.retryable
        self._keep(
            Answer(
                pending=job.pending,
                status=status,
                value=value,
                error=None if error is None else _said(error)[:LONGEST_ERROR],
                response=response,
                cost=None if is_unknown else job.paid.cost,
                tokens=job.paid.tokens if response else None,
                generations=job.paid.generations,
                tries=job.sends,
            )
        )

    def _pay(self, job: Sending, outcome: Outcome) -> None:
        """Enter what came of one send, or of several, if the first responses were invalid."""
        again = 0 if outcome.response is None else len(outcome.response.previous)
        job.sends += again
        self.progress.sent += again
        try:
            self._budget.pay(job.paid, outcome)
        except ResponsesError as error:
            self.stop(error)


def _said(error: ResponsesError) -> str:
    """Give what is wrong with a row; of a refusal the model's words, which are nowhere else."""
    if isinstance(error, RefusalError) and error.response is not None and error.response.refusal:
        return f"RefusalError: {error.response.refusal}"
    return f"{type(error).__name__}: {error}"


def _is_hopeless(error: ResponsesError, code: int | None) -> bool:
    if isinstance(error, ForbiddenResponseError):
        return error.kind not in OF_THE_ROW
    of_an_image = error.error_type in _IMAGES or error.code in _IMAGES
    return (code in HOPELESS and not of_an_image) or isinstance(error, ConfigurationError)
