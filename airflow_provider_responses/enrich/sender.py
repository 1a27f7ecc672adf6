"""
Sends the requests of all rows: bounded, adapting to the service, and never one more than is needed.

One coroutine decides what is sent next; each request in flight is a task. No Airflow, and no clock of its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_responses.enrich.budget import Budget
from airflow_provider_responses.enrich.failure_policy import (
    Action,
    Decision,
    Kind,
    State,
    decide,
    is_refused,
    kind_of,
)
from airflow_provider_responses.enrich.index import FAILED, OK, Pending
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.progress import INCOMPLETE, LONGEST_ERROR, REFUSED, UNREADABLE, Answer, Progress
from airflow_provider_responses.enrich.silence import SilenceTracker
from airflow_provider_responses.enrich.throttle import Throttle, Ticket
from airflow_provider_responses.enrich.waiting import Sending, Waiting, model_of
from airflow_provider_responses.exceptions import (
    APIError,
    RefusalError,
    RequestCancelledError,
    ResponsesError,
    TransportError,
)
from airflow_provider_responses.task.outcome import Outcome

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.models.response import Response

log = logging.getLogger(__name__)

HUNG: Final = (
    "no response before the service was down, and none since: the request was dropped. It may have been billed"
)

Turn = Callable[[Pending, float | None], Awaitable[None]]


class Room(Protocol):
    """Bounds the responses that are not written."""

    def is_full(self) -> bool:
        """Return whether nothing may be sent."""

    async def has_room(self) -> None:
        """Wait until something may be sent."""


class Sender:
    """
    See the module.

    :param ask: sends a request and returns its outcome, which may have an error, or raises one; it waits for the
        :meth:`turn` that it is given before it sends once more.
    :param take: gives the next requests to send, at most as many as it is told; none when there are no more.
    :param keep: takes an answer; it must be quick.
    :param budget: what may be spent.
    :param progress: what is done so far; both are kept up to date here.
    :param room: says while nothing may be sent, since too many responses are not written.
    :param clock: seconds, as of ``time.monotonic``.
    :param draw: a random number from 0 to 1.
    :param initial_window: ``throttle.window`` at the end of the attempt before; by default what the limits say.
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
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
        room: Room,
        initial_window: float | None = None,
    ) -> None:
        self.throttle, self.silence = Throttle(limits, initial_window), SilenceTracker()
        self.progress, self._budget = progress, budget
        self._ask, self._keep = ask, keep
        self._config, self._limits, self._room = config, limits, room
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._waiting = Waiting(take)
        self._streak: list[Sending] = []  # that failed in a row, though nothing is wrong with them
        self._flights: dict[asyncio.Task[None], tuple[Sending, Ticket]] = {}
        self._hung: list[asyncio.Task[None]] = []  # in flight since before an outage that is over
        self._last: ResponsesError | None = None  # why the service is taken to be down or too busy
        self._wake = asyncio.Event()
        self._alarm: asyncio.Future[None] | None = None
        self._alarm_at = math.inf
        self._stop: BaseException | None = None
        self._is_over = False  # the service was down for too long

    async def run(self) -> BaseException | None:
        """Send all; give why it stopped before the end, if it did. What was in flight then has been waited for."""
        try:
            while self._stop is None and (self._flights or self._waiting):
                now = self._clock()
                self._drop_hung(now)
                if now >= self.throttle.over_at() and not self._room.is_full():
                    self._give_up()
                elif (job := self._next(now)) is not None:
                    self._start(job, now)
                    if self.progress.sent % 32 == 0:
                        await asyncio.sleep(0)  # responses are read in between
                elif self._stop is None:
                    await self._something(now)
            while self._flights:
                await asyncio.wait(self._flights)
        finally:
            ending = [*self._flights, *([] if self._alarm is None else [self._alarm])]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            for job in self._waiting.started():
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
        for task in self._flights:
            task.cancel()

    def _affords(self) -> bool:
        try:
            return self._budget.affords(len(self._flights))
        except ResponsesError as error:
            self.stop(error)
            return False

    def _next(self, now: float) -> Sending | None:
        throttle = self.throttle
        may = throttle.has_room(now) and not self._room.is_full()
        if throttle.delay(now) or not may or not self._affords():
            return None
        return self._waiting.next(now, throttle.may_send)

    def _start(self, job: Sending, now: float) -> None:
        job.sends += 1
        self.progress.sent += 1
        ticket = self.throttle.sent(now, len(job.pending.fields), job.model)
        self.silence.sent(job.model, now)
        task = asyncio.create_task(self._one(job, ticket))
        self._flights[task] = job, ticket
        self.progress.in_flight = len(self._flights)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._flights[task]
        self.progress.in_flight = len(self._flights)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error)
        self._wake.set()

    async def _something(self, now: float) -> None:
        """Wait until something ends, or until the time for the next request."""
        self._wake.clear()
        if not self._room.is_full():  # else only what is written makes room
            at = min(self.throttle.next_change(now), self._next_hung(now))
            if (due := self._waiting.next_due()) > now:
                at = min(at, due)
            self._wake_at(at, now)
        await self._wake.wait()

    def _wake_at(self, at: float, now: float) -> None:
        """Look again then, at the latest: an alarm that is set may ring sooner."""
        if at >= self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = asyncio.ensure_future(self._ring(max(at - now, 0.001)))

    async def _ring(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._alarm, self._alarm_at = None, math.inf
        self._wake.set()

    async def turn(self, pending: Pending, paid: float | None) -> None:
        """
        Wait until a request that is in flight may be sent once more.

        :param paid: US dollars, for the answer that would not do.
        :raises RequestCancelledError: if the run has stopped, or has no money for it.
        """
        model = model_of(pending.fields)
        self.silence.responded(model, self._clock())
        self._budget.hold(pending.first, paid)
        if not self._budget.has_room(len(self._flights)):
            raise RequestCancelledError("its response was invalid, and limits.max_cost leaves no room for another")
        while (wait := self.throttle.delay(self._clock(), model)) and self._stop is None:
            await self._sleep(min(wait, 1.0))
        await self._room.has_room()
        if self._stop is not None:
            raise RequestCancelledError("the run stopped before this request was sent once more")
        self.throttle.spend(self._clock(), len(pending.fields))

    async def _one(self, job: Sending, ticket: Ticket) -> None:
        try:
            outcome = await self._ask(job.pending, self.turn)
        except ResponsesError as raised:
            outcome = Outcome(error=raised, response=raised.response)
        except asyncio.CancelledError:
            job.paid.add(paid := self._budget.release(job.pending.first))
            hung = TransportError(HUNG, kind="read", ambiguous=True)
            if not job.is_hung or self._stop is not None:
                if self._is_over:
                    job.error, job.paid.unknown = hung, job.paid.unknown + 1
                self._drop(job)
                self.silence.ended(job.model, self._clock(), None)
                raise
            self.progress.cost += paid  # for an invalid response before
            outcome = Outcome(error=hung)
        self._budget.release(job.pending.first)
        now = self._clock()
        self.throttle.ended(ticket, now)
        error, response, value = outcome.error, outcome.response, outcome.value
        has_response = response is not None or isinstance(error, APIError)
        self.silence.ended(job.model, now, now - ticket.started if has_response else None)
        self._pay(job, outcome)
        if error is not None:
            self._failed(job, error, response, ticket, now)
            return
        assert response is not None  # noqa: S101  an outcome has one of both
        self._came(response, ticket, now)
        self._mark(outcome, response)
        status = OK if response.status == "completed" else INCOMPLETE
        if status == OK and outcome.invalid:
            status = UNREADABLE
        if response.refusal is not None:
            status = REFUSED
        self._finish(job, status, value=value, response=response, accepted=outcome.accepted)

    def _mark(self, outcome: Outcome, response: Response) -> None:
        self.progress.repaired += outcome.repaired
        self.progress.maybe_truncated += response.maybe_truncated
        self.progress.inconsistent += response.inconsistent

    def _came(self, response: Response, ticket: Ticket, now: float) -> None:
        self._streak.clear()
        was_down, counted_from = self.throttle.down_since is not None, self.throttle.counted_from
        self.throttle.accepted(ticket, now, response.usage.total_tokens)
        self._note_service(was_down=was_down)
        if not was_down and self.throttle.counted_from != counted_from:
            self._hung = self._from_before()
            log.warning(
                "%d requests have had no response for longer than any other took, and new ones get theirs: these do "
                "not wait for them any more",
                len(self._hung),
            )

    def _failed(
        self, job: Sending, error: ResponsesError, response: Response | None, ticket: Ticket, now: float
    ) -> None:
        job.error = error
        job.paid.unknown += error.ambiguous and response is None
        if error.response is not None:  # one came
            self._came(error.response, ticket, now)
        state = self._state(job, error, ticket, now)
        decision = decide(error, state)
        if decision.hold:
            self.throttle.hold(now + decision.hold, None if decision.of_all else job.model)
        if decision.action is Action.FINISH:
            self._finish(job, decision.status, error=error, response=response)
        elif decision.action is Action.STOP:
            self.stop(error)
            self._drop(job)
        elif decision.action is Action.CANCEL:
            self._drop(job)
            self._give_up()
        else:
            self._again(job, error, decision, now)

    def _state(self, job: Sending, error: ResponsesError, ticket: Ticket, now: float) -> State:
        """Let the throttle take note of a failure, and return what is known then."""
        kind, throttle = kind_of(error), self.throttle
        was_down, is_overloaded = throttle.down_since is not None, False
        if job.is_hung:
            job.is_hung = False  # that the service was down is known
        elif kind is Kind.BUSY:
            self._streak.clear()
            self._last = error
            is_overloaded = throttle.busy(ticket, now, error.retry_after, is_of_account=error.account_reset is not None)
            job.busy += ticket.lane.busy_since == now  # others came through since the last time
        elif kind is Kind.FAILING:
            self._last = error
            self._streak.append(job)
            if throttle.failed(ticket, now, is_refused=is_refused(error)):
                for waiting in self._streak:  # no row is to blame: their retries are not used up
                    waiting.plain = 0
                self._streak.clear()
        elif kind is Kind.ROW and isinstance(error, APIError):
            self._streak.clear()
            throttle.heard(ticket)
        self._note_service(was_down=was_down)
        return State(
            config=self._config,
            max_outage=self._limits.max_outage,
            plain=job.plain,
            ambiguous=job.ambiguous,
            busy=job.busy,
            is_overloaded=is_overloaded,
            is_down=throttle.down_since is not None,
            is_over=now >= throttle.over_at(),
            draw=self._draw(),
        )

    def _note_service(self, *, was_down: bool) -> None:
        """Take note of whether the service went down, or came back."""
        self.progress.down_since = self.throttle.down_since
        is_down = self.throttle.down_since is not None
        if is_down and not was_down:
            log.warning("The service is down; waiting up to %g s for it. %s", self._limits.max_outage, self._last)
        elif was_down and not is_down:
            self._hung = self._from_before()
            log.info("The service is back; %d requests from before are still open", len(self._hung))

    def _from_before(self) -> list[asyncio.Task[None]]:
        now_ended = asyncio.current_task()
        flights = ((task, ticket) for task, (_, ticket) in self._flights.items() if task is not now_ended)
        return [task for task, ticket in flights if self.throttle.is_from_before(ticket)]

    def _drop_hung(self, now: float) -> None:
        """Send again what has been in flight since before an outage, and longer than any response took."""
        if not self._hung:
            return
        left = []
        for task in self._hung:
            job, ticket = self._flights.get(task, (None, None))
            if job is None or ticket is None or not self._may_send_hung(job):
                continue
            if now < self.throttle.overdue_at(ticket):
                left.append(task)
            elif task.cancel():
                job.is_hung = True
        self._hung = left

    def _may_send_hung(self, job: Sending) -> bool:
        """Whether a request may be sent again though its send from before an outage may be billed."""
        return job.ambiguous < self._config.max_ambiguous_retries

    def _next_hung(self, now: float) -> float:
        tickets = (self._flights[task][1] for task in self._hung if task in self._flights)
        return min((at for ticket in tickets if (at := self.throttle.overdue_at(ticket)) > now), default=math.inf)

    def _give_up(self) -> None:
        """End the run: the service was down, or too busy for any response, for as long as is allowed."""
        self._is_over = True
        why = self._last or TransportError("all requests are open, and none gets a response")
        self.cancel(why.about(f"no response for {self._limits.max_outage:g} s (limits.max_outage), the last time"))

    def _again(self, job: Sending, error: ResponsesError, decision: Decision, now: float) -> None:
        """Send a failed request again later."""
        if error.ambiguous:
            job.ambiguous += 1
        elif not decision.is_free:
            job.plain += 1
        code = error.status_code if isinstance(error, APIError) else None
        self.progress.again[str(code or type(error).__name__)] += 1
        self._waiting.put(job, now + decision.wait)

    def _drop(self, job: Sending) -> None:
        """Give a request up for this try; what it has paid is told."""
        if job.paid.cost != 0.0 or job.paid.unknown:
            error = job.error or RequestCancelledError("the run stopped before there was a response")
            self._finish(job, FAILED, error=error)

    def _finish(
        self,
        job: Sending,
        status: str,
        *,
        value: Any = None,
        error: ResponsesError | None = None,
        response: Response | None = None,
        accepted: ResponsesError | None = None,
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
                error=None if (said := error or accepted) is None else _said(said)[:LONGEST_ERROR],
                response=response,
                cost=None if is_unknown else job.paid.cost,
                known=job.paid.known,
                unknown=job.paid.unknown,
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
