"""
Decides how many requests may be in flight, when the next one may be sent, and whether the service is down.

No I/O and no clock: the time is an argument, in seconds as of ``time.monotonic``.
"""

from __future__ import annotations

import math
from typing import Final

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.model_throttle import (
    FIRST_PROBE,
    MAX_PROBE,
    MIN_FAILURES,
    ModelThrottle,
    Ticket,
)
from airflow_provider_responses.enrich.rate_limits import RateLimits

MAX_PROBE_UNCONNECTED: Final = 5.0  # seconds between two probes while connections are refused: these cost nothing
MAX_FAILURES: Final = 32  # in a row, after which the service is down, however many requests are in flight
FIRST_SILENCE, MIN_SILENCE = 60.0, 1.0  # seconds without a response, before an extra request checks the service
MIN_EXTRA_RESPONSES: Final = 5  # to extra requests, after which the silent ones no longer count as in flight
OVERDUE_FACTOR: Final = 2  # times the longest response time: a request that takes longer is overdue


class Throttle:
    """
    See the module. Each send has a ticket, with which its end and its outcome are reported.

    While all requests in flight are silent, extra requests beyond the window find out whether the service responds.

    :param limits: of which ``concurrency``, the limits per minute and ``max_outage`` are used.
    :param initial_window: the ``window`` at the end of an earlier attempt, by default that of the limits.
    """

    def __init__(self, limits: Limits, initial_window: float | None = None) -> None:
        self._limits = limits
        self._first_window = float(limits.first_window if initial_window is None else max(1.0, initial_window))
        self._first_window = min(self._first_window, float(limits.concurrency))
        self._models: dict[str, ModelThrottle] = {}
        self._rate_limits = RateLimits(limits)
        self.down_since: float | None = None  # time of the first failure, while the service is down
        self.busy_since: float | None = None  # no response has arrived since
        self._held_until = -math.inf
        self._number = 0  # of the next send
        self._counted_from = 0  # number of the first send after the last outage or silence
        self._in_flight = 0  # without sends before that
        self._sent_at = -math.inf
        self._ended_at = -math.inf
        self._extra: int | None = None  # number of the extra request in flight
        self._first_extra: int | None = None  # while all requests before it are silent
        self._extra_responses = 0
        self._silent_until = 0  # sends before this number were silent, while extra requests got responses
        self._longest = 0.0  # seconds that a response took
        self._failures = 0  # in a row
        self._failing_since = 0.0
        self._failures_needed = MIN_FAILURES
        self._probe_wait = FIRST_PROBE

    @property
    def window(self) -> float:
        """Number of requests that may be in flight; of several models, the largest of their windows."""
        return max((model.window for model in self._models.values()), default=self._first_window)

    def model(self, name: str) -> ModelThrottle:
        """Return the throttle of a model."""
        if (model := self._models.get(name)) is None:
            model = self._models[name] = ModelThrottle(window=self._first_window, max_window=self._limits.concurrency)
        return model

    def delay(self, now: float, model: str | None = None) -> float:
        """Return the seconds before which nothing may be sent, or nothing to a model."""
        until = max(self._held_until, self._rate_limits.allowed_from())
        if model is not None:
            until = max(until, self.model(model).allowed_from())
        return max(0.0, until - now)

    def has_room(self, now: float) -> bool:
        """Return whether one more request may be in flight, to whatever model."""
        if self.down_since is not None:
            return self._in_flight == 0 or now >= self._sent_at + MAX_PROBE
        return self._in_flight < self._limits.concurrency or self._may_send_extra(now)

    def may_send(self, now: float, model: str) -> bool:
        """Return whether one more request to a model may be in flight, provided that :meth:`has_room` is true."""
        throttle = self.model(model)
        if throttle.allowed_from() > now:
            return False
        return self.down_since is not None or throttle.has_room() or self._may_send_extra(now)

    def _may_send_extra(self, now: float) -> bool:
        return self._extra is None and (self._first_extra is not None or now >= self._silent_from())

    def _silent_from(self) -> float:
        patience = max(MIN_SILENCE, OVERDUE_FACTOR * self._longest) if self._longest else FIRST_SILENCE
        return max(self._sent_at, self._ended_at) + patience

    def next_change(self, now: float) -> float:
        """Return the next time at which something may be sent, or the attempt gives up, even without a response."""
        times = [self._held_until, self._rate_limits.allowed_from(), self.gives_up_at()]
        times += [model.allowed_from() for model in self._models.values()]
        if self.down_since is not None:
            times.append(self._sent_at + MAX_PROBE)
        elif self._extra is None and self._in_flight:
            times.append(self._silent_from())
        return min((time for time in times if time > now), default=math.inf)

    def gives_up_at(self) -> float:
        """Return the time at which the service has been down, silent, or too busy for any response, for too long."""
        if self.busy_since is not None:
            return self.busy_since + self._limits.max_outage
        if self.down_since is not None:
            return self.down_since + self._limits.max_outage
        if self._first_extra is None or not self._longest:
            return math.inf
        return max(self._ended_at + self._limits.max_outage, self._silent_from())  # extra requests are silent, too

    def hold(self, until: float, model: str | None = None) -> None:
        """Send nothing before a time, or nothing to a model."""
        if model is None:
            self._held_until = max(self._held_until, until)
        else:
            throttle = self.model(model)
            throttle.held_until = max(throttle.held_until, until)

    def count_resend(self, now: float, size: int) -> float:
        """Count the resend of a request in flight, of a number of bytes, in the limits per minute."""
        return self._rate_limits.count_send(now, size)

    def note_send(self, now: float, size: int, model: str = "") -> Ticket:
        """
        Count a request that is sent.

        :param size: bytes of the request.
        """
        throttle, number = self.model(model), self._number
        self._number += 1
        if self.down_since is None and not (throttle.has_room() and self._in_flight < self._limits.concurrency):
            self._extra = number
            self._first_extra = number if self._first_extra is None else self._first_extra
        self._in_flight += 1
        self._sent_at = now
        throttle.note_send(now)
        return Ticket(number, throttle, now, self._rate_limits.count_send(now, size))

    def note_end(self, ticket: Ticket, now: float) -> None:
        """Count a request that is no longer in flight. A call for its outcome follows."""
        self._ended_at = now
        if ticket.number == self._extra:
            self._extra = None
        elif self._first_extra is not None and ticket.number < self._first_extra and not self.predates_outage(ticket):
            self._first_extra, self._extra_responses = None, 0
        if not self.predates_outage(ticket):
            self._in_flight -= 1
            ticket.model.in_flight -= 1

    @property
    def counted_from(self) -> int:
        """Number of the first send that counts as in flight."""
        return self._counted_from

    def predates_outage(self, ticket: Ticket) -> bool:
        """Return whether a request was sent before the service went down, came back or fell silent."""
        return ticket.number < self._counted_from

    def overdue_at(self, ticket: Ticket) -> float:
        """Return the time from which a request from before an outage is sent again."""
        # A request that was only silent while others got responses may take longer than those, and be billed.
        return math.inf if ticket.number < self._silent_until else ticket.started + OVERDUE_FACTOR * self._longest

    def note_response(self, ticket: Ticket, now: float, tokens: int | None) -> None:
        """Count a response."""
        self._rate_limits.correct_tokens(tokens, ticket.tokens)
        self.busy_since = None
        self.note_contact(ticket)
        seconds = now - ticket.started
        self._longest = max(self._longest, seconds)
        if self.down_since is None:
            ticket.model.note_response(now, seconds)
            if self._first_extra is not None and ticket.number >= self._first_extra:
                self._extra_responses += 1
                if self._extra_responses >= MIN_EXTRA_RESPONSES:
                    self._silent_until = self._first_extra
                    self._count_from_here()

    def note_contact(self, ticket: Ticket) -> None:
        """Note that the service is up, whatever it returned. A request from before an outage does not prove that."""
        if self.down_since is not None:
            if self.predates_outage(ticket):
                return
            self.down_since = None
            self._count_from_here()  # other probes, which are still silent, do not count
        self._failures = 0
        if self.busy_since is None:
            self._probe_wait = FIRST_PROBE

    def note_busy(
        self, ticket: Ticket, now: float, retry_after: float | None = None, *, is_of_account: bool = False
    ) -> bool:
        """
        Count a request that the service was too busy for; return whether it is too busy for others as well.

        :param retry_after: seconds that the service named.
        :param is_of_account: whether it reported that a limit of the account is used up.
        """
        self.note_contact(ticket)
        self.busy_since = now if self.busy_since is None else self.busy_since
        return ticket.model.note_refusal(
            ticket, now, self._number, retry_after=retry_after, is_of_account=is_of_account
        )

    def note_failure(self, ticket: Ticket, now: float, *, is_unconnected: bool = False) -> bool:
        """
        Count a failure of the service or the connection; return whether the service is down.

        :param is_unconnected: whether there was no connection.
        """
        if self.predates_outage(ticket):
            return self.down_since is not None  # it is no probe, and its connection is older than the outage
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
            self._failures_needed = max(MIN_FAILURES, min(MAX_FAILURES, self._in_flight + 1))
        if self.down_since is None:
            is_extra = self._first_extra is not None and ticket.number >= self._first_extra
            if not is_extra and self._failures < self._failures_needed:
                return False
            self.down_since = self._failing_since
            self._count_from_here()
            for model in self._models.values():
                model.halve()
        max_wait = MAX_PROBE_UNCONNECTED if is_unconnected else MAX_PROBE
        self.hold(now + min(self._probe_wait, max_wait))
        self._probe_wait = min(self._probe_wait * 2, max_wait)
        return True

    def _count_from_here(self) -> None:
        self._counted_from, self._in_flight = self._number, 0
        self._extra = self._first_extra = None
        self._extra_responses = 0
        for model in self._models.values():
            model.in_flight = 0
