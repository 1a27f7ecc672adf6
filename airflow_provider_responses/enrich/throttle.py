"""
How many requests may be in flight, when the next one may go out, and whether the service is down.

No I/O and no clock: the time is an argument, in seconds as of ``time.monotonic``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.rates import Rates

SIZABLE: Final = 0.25  # of recent sends: with more of them refused, the service as a whole is too busy
RECENT: Final = 32  # sends that count as recent, or a window's worth if that is more
PRIOR: Final = 8  # sends that are taken to have been accepted before there is any
MOST: Final = 0.5  # the same, however few sends there were
DEBT: Final = 4.0  # responses that a request that is refused takes to make up for, before the window grows quickly
LESS: Final = 1 / 8  # of the window: that it may become less in one round of responses
LAG: Final = 0.05  # seconds that spread sends may make up for
FIRST_CLIMB, LONGEST_CLIMB = 10.0, 60.0  # seconds after a cut, until it is tried whether more is possible again
FIRST_PROBE, LONGEST_PROBE = 1.0, 30.0  # seconds between probes of a service that is down
LONGEST_REFUSED: Final = 5.0  # the same, where connections are refused: such a probe costs nothing
FEWEST_FAILURES, MOST_FAILURES = 5, 32  # in a row, after which the service is down and it is not single rows
FIRST_SILENCE, SILENCE = 60.0, 1.0  # seconds without any response, before it is tried whether the service is there
FEWEST_BEYOND: Final = 5  # responses to those that look, after which the silent ones take no room from others
OVERDUE: Final = 2  # times that the longest response took: the same, and what is still open after an outage is dropped


@dataclass(slots=True)
class Ticket:
    """A request that was sent, from its start to its end."""

    number: int
    lane: Lane
    started: float
    tokens: float  # that it was expected to need


@dataclass(slots=True)
class Lane:
    """
    The requests of one model.

    Like TCP: the window grows by one with each response until the service is too busy, and halves then. From there on
    it looks for the edge: one less with each request that is refused, one more with each window of responses. Now and
    then it grows quickly again, in case that the service has more room than it had. Where less in flight does not bring
    more of it through, what is refused does not depend on it: then it grows as well.
    """

    window: float
    most: int
    in_flight: int = 0  # without those from before an outage
    held_until: float = -math.inf
    busy_since: float | None = None  # nothing has come through since
    bound: float = SIZABLE
    usual: float = 0.0  # seconds that a response takes
    _next_at: float = -math.inf
    _in_a_row: int = 0  # sends that were refused, and none was accepted in between
    _filled: int = 0  # in flight after the last send
    _sent: float = 1.0  # recent sends; older ones count less and less
    _refused: float = 0.0  # those of them that were refused
    _since: int = 0  # the number of the first send after the last cut
    _count: int = 0  # sends since then
    _is_climbing: bool = True
    _climb_at: float = math.inf
    _climb_wait: float = FIRST_CLIMB
    _climbed_at: float = -math.inf
    _climbed_from: float = 0.0
    _debt: float = 0.0
    _before_cut: float = 0.0  # the window
    _after_cut: float = 0.0
    _less_from: int = 0  # the number of the first send of the next round
    _less: float = 0.0  # that it may still become less in this one
    _is_halved: bool = False  # whether it is only half of that by now
    _probe_wait: float = FIRST_PROBE

    def __post_init__(self) -> None:
        self._sent = min(PRIOR, self.window)

    @property
    def share(self) -> float:
        """The share of recent sends that were refused."""
        return self._refused / self._sent

    def has_room(self) -> bool:
        """Whether one more may be in flight."""
        return self.in_flight < int(self.window)

    def opens_at(self) -> float:
        """Return the time before which nothing may be sent."""
        return self.held_until if self._is_climbing else max(self.held_until, self._next_at)

    def sent(self, now: float) -> None:
        """Take note of a send."""
        self.in_flight += 1
        self._filled = self.in_flight
        if not self._is_climbing:  # where the edge is looked for, sends are spread: a limiter may not bear bursts
            self._next_at = max(now - LAG, self._next_at) + self.usual / self.window
        self._count += 1
        kept = 1 - 1 / max(RECENT, self.window)
        self._sent = self._sent * kept + 1
        self._refused *= kept

    def accepted(self, now: float, taken: float) -> None:
        """
        Take note of a response.

        :param taken: seconds.
        """
        self.usual += (taken - self.usual) / RECENT if self.usual else taken
        self.busy_since = None
        self._probe_wait = FIRST_PROBE
        if not self._is_climbing and now >= self._climb_at:
            self._is_climbing, self._climbed_at, self._climbed_from = True, now, self.window
        if self._is_climbing and self._debt > 0:
            self._debt -= 1
        elif self._filled * 2 > self.window:  # else it is not the window that holds the run back
            step = 1.0 if self._is_climbing else 1.0 / self.window
            self.window = min(self.window + step, float(self.most))
        if self._count >= RECENT and self.share < SIZABLE / 2:
            self.bound = SIZABLE

    def refused(
        self, ticket: Ticket, now: float, following: int, *, retry_after: float | None, is_decided: bool
    ) -> bool:
        """
        Take note that the service was too busy for a request; return whether it is too busy for more than this one.

        :param following: the number of the next send.
        :param is_decided: whether the service said so.
        """
        first = self.busy_since is None
        self.busy_since = now if first else self.busy_since
        if ticket.number < self._since:  # what was in flight at the last cut says nothing new
            return False
        self._refused += 1
        self._in_a_row = 1 if first else self._in_a_row + 1
        for_all = int(self.window) <= 1 or self._in_a_row >= max(FEWEST_FAILURES, self.in_flight + 1)
        if for_all and not first and retry_after is None:
            self.held_until = max(self.held_until, now + self._probe_wait)
            self._probe_wait = min(self._probe_wait * 2, LONGEST_PROBE)
        is_sizable = self._count >= max(RECENT, self.window) and self.share > self.bound
        if for_all or is_decided or self.share > max(MOST, self.bound) or (is_sizable and self._is_climbing):
            self._cut(now, following)
            return True
        if self._is_climbing:
            self._debt = min(self._debt + DEBT, self.window)
        elif self.window <= self._after_cut / 2 and not self._is_halved:
            self._look_again(following)
            self._is_halved = True
        elif self.window <= self._after_cut / 2 and is_sizable:
            self._restore(following)  # less in flight did not bring more of it through
        else:
            self._have_less(ticket, following)
        return False

    def _have_less(self, ticket: Ticket, following: int) -> None:
        """Have one less in flight; of the requests of one round, only a part counts."""
        if ticket.number >= self._less_from:
            self._less_from, self._less = following, max(1.0, self.window * LESS)
        if self._less > 0:
            self._is_halved = self._is_halved and self.window <= self._after_cut / 2
            self.window, self._less = max(1.0, self.window - 1), self._less - 1

    def _cut(self, now: float, following: int) -> None:
        known = 0.0  # what was in flight before the last climb, if that has found no more room
        if self._is_climbing:
            is_early = now - self._climbed_at < self._climb_wait
            self._climb_wait = min(self._climb_wait * 2, LONGEST_CLIMB) if is_early else FIRST_CLIMB
            known = self._climbed_from if is_early else 0.0
            self._before_cut = self.window
        self.window = max(self.window / 2, min(known, self.window - 1), 1.0)
        self._after_cut = self.window
        self._is_climbing, self._climb_at = False, now + self._climb_wait
        self._look_again(following)

    def _restore(self, following: int) -> None:
        self.bound, self.window, self._is_climbing = self.share + SIZABLE, self._before_cut, True
        self._look_again(following)

    def _look_again(self, following: int) -> None:
        self._since, self._count, self._debt, self._is_halved = following, 0, 0.0, False
        self._sent, self._refused = min(PRIOR, self.window), 0.0

    def halve(self) -> None:
        """Have half as many in flight."""
        self.window = max(1.0, self.window / 2)


class Throttle:
    """
    See the module. Each send has a ticket, which is given back with what came of it.

    :param limits: of which ``concurrency``, the limits per minute and ``max_outage`` are kept here.
    :param initial_window: the ``window`` that an earlier attempt had in the end; by default what the limits say.
    """

    def __init__(self, limits: Limits, initial_window: float | None = None) -> None:
        self._limits = limits
        self._first = float(limits.first_window if initial_window is None else max(1.0, initial_window))
        self._first = min(self._first, float(limits.concurrency))
        self._lanes: dict[str, Lane] = {}
        self._rates = Rates(limits)
        self.down_since: float | None = None  # the first failure of an outage that is not over
        self.busy_since: float | None = None  # nothing has come through since
        self._held_until = -math.inf
        self._number = 0  # of the next send
        self._counted_from = 0  # sends before it count no more: the service went down, or came back, after them
        self._in_flight = 0
        self._sent_at = -math.inf
        self._heard_at = -math.inf
        self._beyond: int | None = None  # the send beyond the window that is in flight
        self._stalled_from: int | None = None  # the first of those, while all sends before it are silent
        self._beyond_heard = 0  # responses to those
        self._silent_until = 0  # sends before it were silent for so long that later ones did not wait for them
        self._longest = 0.0  # seconds that a response took
        self._failures = 0  # in a row
        self._failing_since = 0.0
        self._needed = FEWEST_FAILURES
        self._probe_wait = FIRST_PROBE

    @property
    def window(self) -> float:
        """Requests that may be in flight; of several models, those of the one that may have most."""
        return max((lane.window for lane in self._lanes.values()), default=self._first)

    def lane(self, model: str) -> Lane:
        """Return what is known of a model's requests."""
        if (lane := self._lanes.get(model)) is None:
            lane = self._lanes[model] = Lane(window=self._first, most=self._limits.concurrency)
        return lane

    def delay(self, now: float, model: str | None = None) -> float:
        """Return the seconds before which nothing may be sent, or nothing to a model."""
        until = max(self._held_until, self._rates.allowed_from())
        if model is not None:
            until = max(until, self.lane(model).opens_at())
        return max(0.0, until - now)

    def has_room(self, now: float) -> bool:
        """Return whether one more may be in flight, of whatever model."""
        if self.down_since is not None:
            return self._in_flight == 0 or now >= self._sent_at + LONGEST_PROBE
        return self._in_flight < self._limits.concurrency or self._may_go_beyond(now)

    def may_send(self, now: float, model: str) -> bool:
        """Return whether one more request of a model may be in flight, where :meth:`has_room` says so of all."""
        lane = self.lane(model)
        if lane.opens_at() > now:
            return False
        return self.down_since is not None or lane.has_room() or self._may_go_beyond(now)

    def _may_go_beyond(self, now: float) -> bool:
        """Return whether all are silent, so that one more than the window may find out if the service is there."""
        return self._beyond is None and (self._stalled_from is not None or now >= self._silent_from())

    def _silent_from(self) -> float:
        patience = max(SILENCE, OVERDUE * self._longest) if self._longest else FIRST_SILENCE
        return max(self._sent_at, self._heard_at) + patience

    def next_change(self, now: float) -> float:
        """Return the time at which something may be sent, or the wait is over, though no response comes until then."""
        times = [self._held_until, self._rates.allowed_from(), *(lane.opens_at() for lane in self._lanes.values())]
        times += [self.over_at()]
        if self.down_since is not None:
            times.append(self._sent_at + LONGEST_PROBE)
        elif self._beyond is None and self._in_flight:
            times.append(self._silent_from())
        return min((time for time in times if time > now), default=math.inf)

    def over_at(self) -> float:
        """Return the time at which a service has been down, silent, or too busy for any response, for too long."""
        if self.busy_since is not None:
            return self.busy_since + self._limits.max_outage
        if self.down_since is not None:
            return self.down_since + self._limits.max_outage
        if self._stalled_from is None or not self._longest:
            return math.inf
        return max(self._heard_at + self._limits.max_outage, self._silent_from())  # all are silent, also who looks

    def hold(self, until: float, model: str | None = None) -> None:
        """Send nothing before, or nothing to a model."""
        if model is None:
            self._held_until = max(self._held_until, until)
        else:
            lane = self.lane(model)
            lane.held_until = max(lane.held_until, until)

    def spend(self, now: float, size: int) -> float:
        """Count a send of this number of bytes in the limits per minute; return the tokens that it is to need."""
        return self._rates.spend(now, size)

    def sent(self, now: float, size: int, model: str = "") -> Ticket:
        """
        Take note of a request that goes out.

        :param size: its bytes.
        """
        lane, number = self.lane(model), self._number
        self._number += 1
        if self.down_since is None and not (lane.has_room() and self._in_flight < self._limits.concurrency):
            self._beyond = number
            self._stalled_from = number if self._stalled_from is None else self._stalled_from
        self._in_flight += 1
        self._sent_at = now
        lane.sent(now)
        return Ticket(number, lane, now, self._rates.spend(now, size))

    def ended(self, ticket: Ticket, now: float) -> None:
        """Take note that a request is no longer in flight; what came of it is a call of its own."""
        self._heard_at = now
        if ticket.number == self._beyond:
            self._beyond = None
        elif self._stalled_from is not None and ticket.number < self._stalled_from and not self.is_from_before(ticket):
            self._stalled_from, self._beyond_heard = None, 0
        if not self.is_from_before(ticket):
            self._in_flight -= 1
            ticket.lane.in_flight -= 1

    @property
    def counted_from(self) -> int:
        """The number of the first send that takes room from others."""
        return self._counted_from

    def is_from_before(self, ticket: Ticket) -> bool:
        """Return whether a request was sent before the service went down, or came back, or fell silent."""
        return ticket.number < self._counted_from

    def overdue_at(self, ticket: Ticket) -> float:
        """Return the time from which a request from before an outage is not worth a wait any more."""
        # That others got a response is no sign of an outage: these may take longer than those, and be paid.
        return math.inf if ticket.number < self._silent_until else ticket.started + OVERDUE * self._longest

    def accepted(self, ticket: Ticket, now: float, tokens: int | None) -> None:
        """Take note of a response."""
        self._rates.settle(tokens, ticket.tokens)
        self.busy_since = None
        self.heard(ticket)
        taken = now - ticket.started
        self._longest = max(self._longest, taken)
        if self.down_since is None:
            ticket.lane.accepted(now, taken)
            if self._stalled_from is not None and ticket.number >= self._stalled_from:
                self._beyond_heard += 1
                if self._beyond_heard >= FEWEST_BEYOND:
                    self._silent_until = self._stalled_from
                    self._start_counting()

    def heard(self, ticket: Ticket) -> None:
        """Take note that the service is there, whatever it said; an old connection says nothing of new ones."""
        if self.down_since is not None:
            if self.is_from_before(ticket):
                return
            self.down_since = None
            self._start_counting()  # other probes, which are still silent, do not count
        self._failures = 0
        if self.busy_since is None:
            self._probe_wait = FIRST_PROBE

    def busy(
        self, ticket: Ticket, now: float, retry_after: float | None = None, *, is_of_account: bool = False
    ) -> bool:
        """
        Take note that the service was too busy; return whether it is so for more than this request.

        :param retry_after: seconds that it named.
        :param is_of_account: whether it reported that a limit of the account is used up.
        """
        self.heard(ticket)
        self.busy_since = now if self.busy_since is None else self.busy_since
        return ticket.lane.refused(ticket, now, self._number, retry_after=retry_after, is_decided=is_of_account)

    def failed(self, ticket: Ticket, now: float, *, is_refused: bool = False) -> bool:
        """
        Take note of a failure that is not a row's own; return whether the service is down.

        :param is_refused: whether there was no connection.
        """
        if self.is_from_before(ticket):
            return self.down_since is not None  # it is no probe, and an old connection says nothing of new ones
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
            self._needed = max(FEWEST_FAILURES, min(MOST_FAILURES, self._in_flight + 1))
        if self.down_since is None:
            is_probe = self._stalled_from is not None and ticket.number >= self._stalled_from
            if not is_probe and self._failures < self._needed:
                return False
            self.down_since = self._failing_since
            self._start_counting()
            for lane in self._lanes.values():
                lane.halve()
        longest = LONGEST_REFUSED if is_refused else LONGEST_PROBE
        self.hold(now + min(self._probe_wait, longest))
        self._probe_wait = min(self._probe_wait * 2, longest)
        return True

    def _start_counting(self) -> None:
        self._counted_from, self._in_flight = self._number, 0
        self._beyond = self._stalled_from = None
        self._beyond_heard = 0
        for lane in self._lanes.values():
            lane.in_flight = 0
