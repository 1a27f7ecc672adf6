"""
Sends the requests of all rows: bounded, adapting to the service, and never one more than is needed.

One coroutine decides what is sent next; each request in flight is a task. No Airflow, and no clock of its own.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.client.retries import next_wait
from airflow_provider_responses.enrich.index import FAILED, OK, Pending
from airflow_provider_responses.enrich.limits import Limits, Pace
from airflow_provider_responses.exceptions import (
    APIError,
    BudgetExceededError,
    ConfigurationError,
    ForbiddenResponseError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestCancelledError,
    ResponsesError,
)
from airflow_provider_responses.runs import Outcome, dollars, kept_usage, source_of

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.models.response import Response

log = logging.getLogger(__name__)

BUSY: Final = frozenset({429, 503, 529})
HOPELESS: Final = frozenset({401, 402, 404})  # for one row as for all
OF_THE_ROW: Final = frozenset({"guardrail-blocked", "moderation"})
_IMAGES: Final = frozenset({"image_not_found", "image_file_not_found"})  # also a 404
REFUSED, INCOMPLETE, UNREADABLE = "refused", "incomplete", "unreadable"
READ_AHEAD: Final = 100  # requests
LONGEST_ERROR: Final = 1000  # characters
MOST_BUSY: Final = 50  # times that a row is told to wait; others come through meanwhile


@dataclass(slots=True)
class Job:
    """A request, and how often it was sent."""

    pending: Pending
    plain: int = 0  # failures that billed nothing
    ambiguous: int = 0  # failures that may have been billed
    busy: int = 0  # times that the service was too busy for it, though not for others
    sends: int = 0
    paid: float | None = 0.0  # US dollars, of all answers; None is unknown
    tokens: int | None = None  # of the last answer
    generations: tuple[str, ...] = ()  # ids of its answers that are counted in `paid`
    unknown: int = 0  # failures of which nobody can tell whether they were billed
    error: ResponsesError | None = None  # of the last send


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    pending: Pending
    status: str
    value: Any = None
    error: str | None = None
    response: Response | None = None
    cost: float | None = 0.0  # US dollars, of all sends together, and of a kept answer; None is unknown
    tokens: int | None = None
    generations: tuple[str, ...] = ()  # ids of the answers that are counted in `cost`
    tries: int = 1


@dataclass
class Progress:
    """What a try has done so far; costs in US dollars."""

    done: int = 0  # requests
    sent: int = 0
    cost: float = 0.0
    kept_cost: float = 0.0  # of answers that came out of the cache: an earlier send had paid for them, and got lost
    unpriced: int = 0  # answers whose price the server did not tell, and sends that may have been billed
    tokens: int = 0
    cache_hits: int = 0
    repaired: int = 0  # responses whose JSON had to be repaired
    maybe_truncated: int = 0  # and those that bear the marks of `Response`
    inconsistent: int = 0
    in_flight: int = 0
    hopeful: int = 0  # requests that failed, and that another try may answer
    failures: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)  # why requests are sent again: a status, or an error's class
    dearest: float = 0.0
    priced: bool = False  # whether an answer has told what one costs


class Runner:
    """
    See the module.

    :param ask: sends a request and reads its answer; an outcome with an error, or raises one.
    :param take: gives the next requests to send, at most as many as it is told; none when there are no more.
    :param keep: takes an answer; it must be quick.
    :param spent: US dollars that earlier tries have spent, and of these
    :param dearest: for one answer.
    :param known: ids of answers that are counted in ``spent``, though their rows are asked about again.
    :param clock: seconds, as of ``time.monotonic``.
    :param draw: a random number from 0 to 1.
    """

    def __init__(
        self,
        *,
        ask: Callable[[Pending], Awaitable[Outcome]],
        take: Callable[[int], list[Pending]],
        keep: Callable[[Answer], None],
        limits: Limits,
        config: ClientConfig,
        spent: float,
        dearest: float = 0.0,
        known: frozenset[str] = frozenset(),
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self.pace = Pace(limits)
        self.progress = Progress(dearest=dearest, priced=dearest > 0)
        self._ask, self._take, self._keep = ask, take, keep
        # A long wait is one for all rows, and max_outage bounds it.
        self._config = replace(config, max_retry_wait=max(config.max_retry_wait, limits.max_outage))
        self._limits, self._spent, self._known = limits, spent, known
        self._held: dict[int, float] = {}  # US dollars that requests in flight have paid for answers that would not do
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._fresh: list[Pending] = []  # in reverse
        self._exhausted = False
        self._later: list[tuple[float, int, Job]] = []  # when, a number that breaks ties, and what
        self._streak: list[Job] = []  # jobs that failed in a row, though nothing is wrong with them
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
                may = self.pace.has_room(len(self._tasks)) and self._affords()
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

    def cancel(self, why: BaseException) -> None:
        """Send no more, and drop what is in flight."""
        self.stop(why)
        for task in self._tasks:
            task.cancel()

    def _affords(self) -> bool:
        """Whether one more answer fits into the budget, with those that are in flight."""
        limit = self._limits.max_cost
        if limit is None:
            return True
        if self._tasks and not self.progress.priced:
            return False  # one answer tells what the others may cost
        if self._has_room(len(self._tasks) + 1):
            return True
        if not self._tasks:
            self.stop(
                BudgetExceededError(
                    f"limits.max_cost of ${limit:g} is spent: {dollars(self._total())} so far, and the dearest answer "
                    f"was {dollars(self.progress.dearest)}. What is done stays; raise the limit to go on from there"
                )
            )
        return False

    def _has_room(self, answers: int) -> bool:
        """Whether so many more answers fit into the budget."""
        limit, spent = self._limits.max_cost, self._total()
        return limit is None or (spent < limit and spent + self.progress.dearest * answers <= limit * (1 + 1e-9))

    def _total(self) -> float:
        return self._spent + self.progress.cost + self.progress.kept_cost + sum(self._held.values())

    def _read(self) -> bool:
        if not self._fresh and not self._exhausted:
            self._fresh = self._take(READ_AHEAD)[::-1]
            self._exhausted = not self._fresh
        return bool(self._fresh)

    def _next(self, now: float) -> Job | None:
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        return Job(self._fresh.pop()) if self._read() else None

    def _start(self, job: Job, now: float) -> None:
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
        self._held[pending.first] = self._held.get(pending.first, 0.0) + (paid or 0.0)
        self.progress.dearest = max(self.progress.dearest, paid or 0.0)
        if not self._has_room(len(self._tasks)):
            raise RequestCancelledError(
                f"its answer was not as typed, and limits.max_cost of ${self._limits.max_cost:g} leaves no room to ask "
                "again"
            )
        while (wait := self.pace.delay(self._clock())) and self._stop is None:
            await self._sleep(min(wait, 1.0))
        if self._stop is not None:
            raise RequestCancelledError("the run stopped before this request was sent once more")
        self.pace.sent(self._clock(), len(pending.fields))

    async def _one(self, job: Job, started: float, tokens: float) -> None:
        try:
            outcome = await self._ask(job.pending)
        except ResponsesError as raised:
            outcome = Outcome(error=raised, response=raised.response)
        except asyncio.CancelledError:
            if job.paid is not None:
                job.paid += self._held.get(job.pending.first, 0.0)
            self._drop(job)
            raise
        finally:
            self._held.pop(job.pending.first, None)
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
        self, job: Job, error: ResponsesError, response: Response | None, started: float, tokens: float
    ) -> None:
        now = self._clock()
        code = error.status_code if isinstance(error, APIError) else None
        job.error = error
        job.unknown += error.ambiguous and response is None
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

    def _again(self, job: Job, error: ResponsesError, response: Response | None, now: float) -> None:
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

    def _drop(self, job: Job) -> None:
        """Give a request up for this try; what it has paid is told."""
        if job.paid != 0.0 or job.unknown:
            error = job.error or RequestCancelledError("the run stopped before it was answered")
            self._finish(job, FAILED, error=error)

    def _finish(
        self,
        job: Job,
        status: str,
        *,
        value: Any = None,
        error: ResponsesError | None = None,
        response: Response | None = None,
    ) -> None:
        progress = self.progress
        progress.done += 1
        progress.unpriced += job.unknown
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
                cost=None if is_unknown else job.paid,
                tokens=job.tokens if response else None,
                generations=job.generations,
                tries=job.sends,
            )
        )

    def _pay(self, job: Job, outcome: Outcome) -> None:
        """Take note of what came of one send, or of two, if the first answer would not do."""
        response, progress = outcome.response, self.progress
        if response is None:
            return
        job.sends += len(response.previous)
        progress.sent += len(response.previous)
        for answer in _answers(response):
            usage = answer.usage
            source = source_of(answer)
            if answer.cached:
                progress.cache_hits += 1
                job.unknown = 0  # this is what came of it
                usage = kept_usage(outcome.generations.get(source) or {})
                if source in job.generations or source in self._known:  # it is counted
                    job.tokens = usage.total_tokens
                    continue
                progress.kept_cost += usage.cost or 0.0
            else:
                progress.tokens += usage.total_tokens or 0
                progress.cost += usage.cost or 0.0
            job.tokens = usage.total_tokens
            job.generations += (source,)
            progress.dearest = max(progress.dearest, usage.cost or 0.0)
            progress.priced = progress.priced or usage.cost is not None
            if usage.cost is None and (answer.status == "failed" or answer.error is not None):
                continue  # it was not billed
            job.paid = None if job.paid is None or usage.cost is None else job.paid + usage.cost
            if usage.cost is None:
                progress.unpriced += 1
                if self._limits.max_cost is not None and not answer.cached:
                    self.stop(
                        ConfigurationError(
                            "limits.max_cost cannot be kept: the server does not tell what an answer costs; leave the "
                            "limit out, or set limits.tokens_per_minute and a limit of the key"
                        )
                    )


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


def _answers(response: Response) -> list[Response]:
    """Give an answer and those before it that would not do, each once."""
    before = [e.response for e in response.previous if isinstance(e, ResponsesError) and e.response is not None]
    return list({answer.generation_id or answer.id or id(answer): answer for answer in (*before, response)}.values())
