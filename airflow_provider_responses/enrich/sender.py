"""
Sends the requests of all rows, as fast as the service and the limits allow.

One coroutine decides which request is sent next; each request in flight is a task. No Airflow, and no clock of its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_responses.enrich.budget import Budget
from airflow_provider_responses.enrich.failure_policy import (
    Action,
    Decision,
    Kind,
    State,
    decide,
    is_unconnected,
    kind_of,
)
from airflow_provider_responses.enrich.hung_requests import HungRequests, hung_error
from airflow_provider_responses.enrich.index import PendingRequest
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.model_throttle import Ticket
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.enrich.request_queue import Lane, QueuedRequest, RequestQueue
from airflow_provider_responses.enrich.row_outcome import RowOutcome, count_marks, end_step, status_of
from airflow_provider_responses.enrich.silence import SilenceTracker
from airflow_provider_responses.enrich.statuses import FAILED
from airflow_provider_responses.enrich.throttle import Throttle
from airflow_provider_responses.exceptions import (
    APIError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    TransportError,
)
from airflow_provider_responses.task.outcome import Outcome

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.enrich.row_steps import RowSteps
    from airflow_provider_responses.models.response import Response

log = logging.getLogger(__name__)

# Waits until a request in flight may be sent again. It is given the price of the invalid output.
ResendTurn = Callable[[PendingRequest, float | None], Awaitable[None]]


class Backlog(Protocol):
    """Bounds the number of unwritten responses."""

    def is_full(self) -> bool:
        """Return whether nothing may be sent."""

    async def wait_for_room(self) -> None:
        """Wait until something may be sent."""


class Sender:
    """
    See the module.

    :param send: sends a request and returns its outcome, which may have an error, or raises one. It awaits the
        :meth:`resend_turn` that it is given before it sends the request again.
    :param read: returns the next requests, at most the given number; none when there are no more.
    :param steps: of the requests.
    :param on_outcome: is called with each outcome of a step, and must be quick. If there is a next step, it returns
        the request for that.
    :param budget: the costs so far and their limit.
    :param progress: the counts of the attempt; the sender updates both.
    :param backlog: the unwritten responses.
    :param clock: seconds, as of ``time.monotonic``.
    :param draw: returns a random number from 0 to 1.
    :param initial_window: ``throttle.window`` at the end of the attempt before, by default that of the limits.
    """

    # Many arguments: each is a part of the engine, or a clock, that tests replace.
    def __init__(
        self,
        *,
        send: Callable[[PendingRequest, ResendTurn], Awaitable[Outcome]],
        read: Callable[[int], list[PendingRequest]],
        steps: RowSteps,
        on_outcome: Callable[[RowOutcome], PendingRequest | None],
        limits: Limits,
        config: ClientConfig,
        budget: Budget,
        progress: Progress,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
        backlog: Backlog,
        initial_window: float | None = None,
    ) -> None:
        self.throttle, self.silence = Throttle(limits, initial_window), SilenceTracker()
        self.progress, self._budget = progress, budget
        self._send, self._on_outcome = send, on_outcome
        self._config, self._limits, self._backlog = config, limits, backlog
        self._clock, self._sleep, self._draw = clock, sleep, draw
        self._steps, self._queue = steps, RequestQueue(read, steps.model_of)
        self._failing: list[QueuedRequest] = []  # that failed in a row because of the service
        self._flights: dict[asyncio.Task[None], tuple[QueuedRequest, Ticket]] = {}
        self._in_flight: Counter[int] = Counter()  # number of flights by `Step.price_kind`
        self._hung = HungRequests(self.throttle, self._flights, config.max_ambiguous_retries)
        self._last_error: ResponsesError | None = None  # why the service is considered down or too busy
        self._wake = asyncio.Event()
        self._alarm: asyncio.Future[None] | None = None
        self._alarm_at = math.inf
        self._stop_reason: BaseException | None = None
        self._is_given_up = False  # because the service was down for too long

    async def run(self) -> BaseException | None:
        """Send all requests, and wait for those in flight; return why it stopped early, if it did."""
        try:
            while self._stop_reason is None and (self._flights or self._queue):
                now = self._clock()
                self._hung.cancel_overdue(now)
                if now >= self.throttle.gives_up_at() and not self._backlog.is_full():
                    self._give_up()
                elif (request := self._next(now)) is not None:
                    self._start(request, now)
                    if self.progress.sent % 32 == 0:
                        await asyncio.sleep(0)  # let responses be read
                elif self._stop_reason is None:
                    await self._wait_for_change(now)
            while self._flights:
                await asyncio.wait(self._flights)
        finally:
            ending = [*self._flights, *([] if self._alarm is None else [self._alarm])]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            for request in self._queue.resends():
                self._drop(request)
        return self._stop_reason

    def stop(self, reason: BaseException) -> None:
        """Send nothing more. The first reason counts."""
        self._stop_reason = self._stop_reason or reason
        self._wake.set()

    def wake(self) -> None:
        """Check again whether something may be sent."""
        self._wake.set()

    def cancel(self, reason: BaseException) -> None:
        """Send nothing more, and drop the requests in flight."""
        self.stop(reason)
        for task in self._flights:
            task.cancel()

    def _next(self, now: float) -> QueuedRequest | None:
        throttle = self.throttle
        if throttle.delay(now) or not throttle.has_room(now) or self._backlog.is_full():
            return None
        if not self._steps.is_single:
            return self._next_of_kinds(now)
        if self._budget.allows_send(self._in_flight):
            return self._queue.next(now, throttle.may_send)
        if not self._flights:
            self.stop(self._budget.exceeded())
        return None

    def _next_of_kinds(self, now: float) -> QueuedRequest | None:
        """Return the next request for which the budget has room; those of other kinds wait, or end the attempt."""
        waits = False  # whether there are requests that may be sent later
        unpayable: list[Lane] = []

        def may_send(now: float, model: str) -> bool:
            nonlocal waits
            allowed = self.throttle.may_send(now, model)
            waits = waits or not allowed
            return allowed

        def may_pay(lane: Lane) -> bool:
            allowed = self._budget.allows_send(self._in_flight, lane.price_kind)
            if not allowed:
                unpayable.append(lane)
            return allowed

        request = self._queue.next(now, may_send, may_pay)
        if request is None and unpayable and not (waits or self._flights) and self._queue.next_due() == math.inf:
            prices = self.progress.highest_prices
            highest = max(unpayable, key=lambda lane: prices.get(lane.price_kind, 0.0))
            self.stop(self._budget.exceeded(highest.price_kind, highest.model))
        return request

    def _start(self, request: QueuedRequest, now: float) -> None:
        request.sends += 1
        self.progress.sent += 1
        ticket = self.throttle.note_send(now, len(request.pending.fields), request.model)
        self.silence.sent(request.model, now)
        task = asyncio.create_task(self._send_and_handle(request, ticket))
        self._flights[task] = request, ticket
        self._in_flight[request.pending.step.price_kind] += 1
        self.progress.in_flight = len(self._flights)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        kind = self._flights.pop(task)[0].pending.step.price_kind
        self._in_flight[kind] -= 1
        if not self._in_flight[kind]:
            del self._in_flight[kind]
        self.progress.in_flight = len(self._flights)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error)
        self._wake.set()

    async def _wait_for_change(self, now: float) -> None:
        """Wait until a request ends, or until the time at which the next one may be sent."""
        self._wake.clear()
        if not self._backlog.is_full():  # otherwise only a write makes room
            at = min(self.throttle.next_change(now), self._hung.next_overdue(now))
            if (due := self._queue.next_due()) > now:
                at = min(at, due)
            self._wake_at(at, now)
        await self._wake.wait()

    def _wake_at(self, at: float, now: float) -> None:
        """Wake up at a time at the latest; an alarm that is set may be earlier."""
        if at >= self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = asyncio.ensure_future(self._wake_later(max(at - now, 0.001)))

    async def _wake_later(self, seconds: float) -> None:
        await self._sleep(seconds)
        self._alarm, self._alarm_at = None, math.inf
        self._wake.set()

    async def resend_turn(self, pending: PendingRequest, cost: float | None) -> None:
        """
        Wait until a request in flight may be sent again.

        :param cost: US dollars, of its invalid output.
        :raises RequestCancelledError: if the attempt has stopped, or the budget has no room for another response.
        """
        model = self._steps.model_of(pending)
        self.silence.responded(model, self._clock())
        self._budget.hold(pending.first_row, cost, pending.step.price_kind)
        if not self._budget.has_room(self._in_flight):
            raise RequestCancelledError(
                "its output was invalid, and limits.max_cost leaves no room for another response"
            )
        while (wait := self.throttle.delay(self._clock(), model)) and self._stop_reason is None:
            await self._sleep(min(wait, 1.0))
        await self._backlog.wait_for_room()
        if self._stop_reason is not None:
            raise RequestCancelledError("the attempt stopped before this request was sent again")
        self.throttle.count_resend(self._clock(), len(pending.fields))

    async def _send_and_handle(self, request: QueuedRequest, ticket: Ticket) -> None:
        """Send a request, and act on its outcome."""
        try:
            outcome = await self._send(request.pending, self.resend_turn)
        except RequestValidationError as raised:  # nothing was sent
            request.sends -= 1
            self.progress.sent -= 1
            outcome = Outcome(error=raised)
        except ResponsesError as raised:
            outcome = Outcome(error=raised, response=raised.response)
        except asyncio.CancelledError:
            request.cost.add_known(held := self._budget.release(request.pending.first_row))
            hung = hung_error()
            if not request.is_hung or self._stop_reason is not None:
                if self._is_given_up:
                    request.error, request.cost.unknown = hung, request.cost.unknown + 1
                self._drop(request)
                self.silence.ended(request.model, self._clock(), None)
                raise
            self.progress.cost += held  # of an invalid output before
            of_none = self.progress.of_model(None)
            of_none.cost, of_none.priced = of_none.cost + held, of_none.priced + (held > 0)
            outcome = Outcome(error=hung)
        self._budget.release(request.pending.first_row)
        now = self._clock()
        self.throttle.note_end(ticket, now)
        error, response, value = outcome.error, outcome.response, outcome.value
        has_response = response is not None or isinstance(error, APIError)
        self.silence.ended(request.model, now, now - ticket.started if has_response else None)
        self._record_cost(request, outcome)
        if error is not None:
            self._handle_failure(request, error, response, ticket, now)
            return
        assert response is not None  # noqa: S101  an outcome has one of both
        self._note_response(response, ticket, now)
        count_marks(self.progress, outcome)
        self._finish(request, status_of(outcome), value=value, response=response, accepted=outcome.accepted)

    def _note_response(self, response: Response, ticket: Ticket, now: float) -> None:
        self._failing.clear()
        was_down, counted_from = self.throttle.down_since is not None, self.throttle.counted_from
        self.throttle.note_response(ticket, now, response.usage.total_tokens)
        self._log_outage(was_down=was_down)
        if not was_down and self.throttle.counted_from != counted_from:
            self._hung.note_silence()

    def _handle_failure(
        self, request: QueuedRequest, error: ResponsesError, response: Response | None, ticket: Ticket, now: float
    ) -> None:
        request.error = error
        request.cost.unknown += error.ambiguous and response is None
        if error.response is not None:
            self._note_response(error.response, ticket, now)
        state = self._state_after(request, error, ticket, now)
        decision = decide(error, state)
        if decision.hold:
            self.throttle.hold(now + decision.hold, None if decision.all_models else request.model)
        if decision.action is Action.FINISH:
            self._finish(request, decision.status, error=error, response=response)
        elif decision.action is Action.STOP:
            self.stop(error)
            self._drop(request)
        elif decision.action is Action.CANCEL:
            self._drop(request)
            self._give_up()
        else:
            self._send_again(request, error, decision, now)

    def _state_after(self, request: QueuedRequest, error: ResponsesError, ticket: Ticket, now: float) -> State:
        """Report a failure to the throttle, and return the state after it."""
        kind, throttle = kind_of(error), self.throttle
        was_down, is_overloaded = throttle.down_since is not None, False
        if request.is_hung:
            request.is_hung = False  # the outage is over
        elif kind is Kind.BUSY:
            self._failing.clear()
            self._last_error = error
            of_account = error.account_reset is not None
            is_overloaded = throttle.note_busy(ticket, now, error.retry_after, is_of_account=of_account)
            request.busy += ticket.model.busy_since == now  # others got responses since the last time
        elif kind is Kind.FAILING:
            self._last_error = error
            self._failing.append(request)
            if throttle.note_failure(ticket, now, is_unconnected=is_unconnected(error)):
                for failing in self._failing:  # because of the service: their retries are given back
                    failing.retries = 0
                self._failing.clear()
        elif kind is Kind.ROW and isinstance(error, APIError):
            self._failing.clear()
            throttle.note_contact(ticket)
        self._log_outage(was_down=was_down)
        return State(
            config=self._config,
            max_outage=self._limits.max_outage,
            retries=request.retries,
            ambiguous_retries=request.ambiguous_retries,
            busy=request.busy,
            is_overloaded=is_overloaded,
            is_down=throttle.down_since is not None,
            is_over=now >= throttle.gives_up_at(),
            draw=self._draw(),
        )

    def _log_outage(self, *, was_down: bool) -> None:
        """Log the beginning and the end of an outage."""
        self.progress.down_since = self.throttle.down_since
        is_down = self.throttle.down_since is not None
        if is_down and not was_down:
            log.warning("The service is down; waiting up to %g s for it. %s", self._limits.max_outage, self._last_error)
        elif was_down and not is_down:
            self._hung.note_end_of_outage()

    def _give_up(self) -> None:
        """Cancel the attempt: the service was down, or too busy for any response, for too long."""
        self._is_given_up = True
        error = self._last_error or TransportError("all requests are open, and none gets a response")
        self.cancel(error.about(f"no response for {self._limits.max_outage:g} s (limits.max_outage), the last time"))

    def _send_again(self, request: QueuedRequest, error: ResponsesError, decision: Decision, now: float) -> None:
        if error.ambiguous:
            request.ambiguous_retries += 1
        elif not decision.is_free:
            request.retries += 1
        status = error.status_code if isinstance(error, APIError) else None
        self.progress.resent[str(status or type(error).__name__)] += 1
        self._queue.put(request, now + decision.wait)

    def _drop(self, request: QueuedRequest) -> None:
        """Drop a request for this attempt. Its cost is reported, if there is any."""
        if request.cost.cost != 0.0 or request.cost.unknown:
            error = request.error or RequestCancelledError("the attempt stopped before there was a response")
            self._finish(request, FAILED, error=error)

    def _finish(
        self,
        request: QueuedRequest,
        status: str,
        *,
        value: Any = None,
        error: ResponsesError | None = None,
        response: Response | None = None,
        accepted: ResponsesError | None = None,
    ) -> None:
        outcome = end_step(
            self.progress,
            self._steps,
            request.pending,
            request.cost,
            status=status,
            sends=request.sends,
            value=value,
            error=error,
            response=response,
            accepted=accepted,
        )
        following = self._on_outcome(outcome)
        if following is not None:
            self._queue.put_next_step(following, request.cost.generations)
        if outcome.fatal is not None:
            self.stop(outcome.fatal)

    def _record_cost(self, request: QueuedRequest, outcome: Outcome) -> None:
        """Count the cost of one send, or of several, if the first outputs were invalid."""
        resends = 0 if outcome.response is None else len(outcome.response.previous)
        request.sends += resends
        self.progress.sent += resends
        try:
            self._budget.record(request.cost, outcome, request.pending.step.price_kind)
        except ResponsesError as error:
            self.stop(error)
