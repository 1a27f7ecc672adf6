"""The number of requests to one model that may be in flight. No I/O and no clock: the time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LARGE_SHARE: Final = 0.25  # of recent sends: if more are refused, the service as a whole is too busy
ALWAYS_LARGE_SHARE: Final = 0.5  # the same, however few sends there were
RECENT_SENDS: Final = 32  # sends that count as recent, or one window of them, if that is more
PRIOR_SENDS: Final = 8  # accepted sends that are assumed before there are any
RESPONSES_PER_REFUSAL: Final = 4.0  # that make up for a refusal, before the window grows quickly again
MAX_DECREASE: Final = 1 / 8  # of the window, in one round of responses
SEND_LAG: Final = 0.05  # seconds that spread sends may make up for
FIRST_CLIMB, MAX_CLIMB = 10.0, 60.0  # seconds after a cut until the window grows quickly again
FIRST_PROBE, MAX_PROBE = 1.0, 30.0  # seconds between two probes of a service that is down
MIN_FAILURES: Final = 5  # in a row, before they are the service's and not those of single rows


@dataclass(slots=True)
class Ticket:
    """A request in flight."""

    number: int
    model: ModelThrottle
    started: float
    tokens: float  # that it was expected to use


@dataclass(slots=True)
class ModelThrottle:
    """
    See the module.

    It works like TCP. The window grows by one with each response until the service is too busy; then it is halved.
    After that it changes slowly: it shrinks by one with each refusal, and grows by one with each window of responses.
    Now and then it grows quickly again, in case the service has more room than before. If fewer requests in flight do
    not reduce the share of refusals, these do not depend on the load, and the window grows again as well.
    """

    window: float
    max_window: int
    in_flight: int = 0  # without requests from before an outage
    held_until: float = -math.inf
    busy_since: float | None = None  # no response has arrived since
    bound: float = LARGE_SHARE
    response_time: float = 0.0  # seconds, a moving average
    _next_at: float = -math.inf
    _refusals_in_a_row: int = 0
    _last_in_flight: int = 0  # in flight after the last send
    _sent: float = 1.0  # recent sends; older ones count less and less
    _refused: float = 0.0  # recent sends that were refused
    _counted_from: int = 0  # number of the first send after the last cut
    _counted: int = 0  # sends since then
    _is_climbing: bool = True  # whether the window grows quickly
    _climb_at: float = math.inf
    _climb_wait: float = FIRST_CLIMB
    _climbed_at: float = -math.inf
    _climbed_from: float = 0.0
    _debt: float = 0.0  # responses that refusals still need to be made up for
    _before_cut: float = 0.0  # the window
    _after_cut: float = 0.0
    _round_from: int = 0  # number of the first send of the next round
    _decrease_left: float = 0.0  # by which the window may still shrink in this round
    _is_halved: bool = False  # whether the window has shrunk to half of that after the cut
    _probe_wait: float = FIRST_PROBE

    def __post_init__(self) -> None:
        self._sent = min(PRIOR_SENDS, self.window)

    @property
    def refused_share(self) -> float:
        """The share of recent sends that were refused."""
        return self._refused / self._sent

    def has_room(self) -> bool:
        """Return whether one more request may be in flight."""
        return self.in_flight < int(self.window)

    def allowed_from(self) -> float:
        """Return the time before which nothing may be sent."""
        return self.held_until if self._is_climbing else max(self.held_until, self._next_at)

    def note_send(self, now: float) -> None:
        """Count a send."""
        self.in_flight += 1
        self._last_in_flight = self.in_flight
        if not self._is_climbing:  # sends are spread, since a rate limiter may not allow bursts
            self._next_at = max(now - SEND_LAG, self._next_at) + self.response_time / self.window
        self._counted += 1
        decay = 1 - 1 / max(RECENT_SENDS, self.window)
        self._sent = self._sent * decay + 1
        self._refused *= decay

    def note_response(self, now: float, seconds: float) -> None:
        """Count a response, and the seconds that it took."""
        self.response_time += (seconds - self.response_time) / RECENT_SENDS if self.response_time else seconds
        self.busy_since = None
        self._probe_wait = FIRST_PROBE
        if not self._is_climbing and now >= self._climb_at:
            self._is_climbing, self._climbed_at, self._climbed_from = True, now, self.window
        if self._is_climbing and self._debt > 0:
            self._debt -= 1
        elif self._last_in_flight * 2 > self.window:  # otherwise it is not the window that limits the rate
            step = 1.0 if self._is_climbing else 1.0 / self.window
            self.window = min(self.window + step, float(self.max_window))
        if self._counted >= RECENT_SENDS and self.refused_share < LARGE_SHARE / 2:
            self.bound = LARGE_SHARE

    def note_refusal(
        self, ticket: Ticket, now: float, next_number: int, *, retry_after: float | None, is_of_account: bool
    ) -> bool:
        """
        Count a request that the service was too busy for; return whether it is too busy for others as well.

        :param next_number: the number of the next send.
        :param is_of_account: whether the service reported that a limit of the account is used up.
        """
        first = self.busy_since is None
        self.busy_since = now if first else self.busy_since
        if ticket.number < self._counted_from:  # it was in flight at the last cut
            return False
        self._refused += 1
        self._refusals_in_a_row = 1 if first else self._refusals_in_a_row + 1
        is_general = int(self.window) <= 1 or self._refusals_in_a_row >= max(MIN_FAILURES, self.in_flight + 1)
        if is_general and not first and retry_after is None:
            self.held_until = max(self.held_until, now + self._probe_wait)
            self._probe_wait = min(self._probe_wait * 2, MAX_PROBE)
        is_large = self._counted >= max(RECENT_SENDS, self.window) and self.refused_share > self.bound
        is_very_large = self.refused_share > max(ALWAYS_LARGE_SHARE, self.bound)
        if is_general or is_of_account or is_very_large or (is_large and self._is_climbing):
            self._cut(now, next_number)
            return True
        if self._is_climbing:
            self._debt = min(self._debt + RESPONSES_PER_REFUSAL, self.window)
        elif self.window <= self._after_cut / 2 and not self._is_halved:
            self._restart_counts(next_number)
            self._is_halved = True
        elif self.window <= self._after_cut / 2 and is_large:
            self._restore(next_number)  # fewer requests in flight did not reduce the share of refusals
        else:
            self._shrink(ticket, next_number)
        return False

    def _shrink(self, ticket: Ticket, next_number: int) -> None:
        """Shrink the window by one, within the limit for one round of responses."""
        if ticket.number >= self._round_from:
            self._round_from, self._decrease_left = next_number, max(1.0, self.window * MAX_DECREASE)
        if self._decrease_left > 0:
            self._is_halved = self._is_halved and self.window <= self._after_cut / 2
            self.window, self._decrease_left = max(1.0, self.window - 1), self._decrease_left - 1

    def _cut(self, now: float, next_number: int) -> None:
        known = 0.0  # the window before it last grew quickly, if that has found no more room
        if self._is_climbing:
            is_early = now - self._climbed_at < self._climb_wait
            self._climb_wait = min(self._climb_wait * 2, MAX_CLIMB) if is_early else FIRST_CLIMB
            known = self._climbed_from if is_early else 0.0
            self._before_cut = self.window
        self.window = max(self.window / 2, min(known, self.window - 1), 1.0)
        self._after_cut = self.window
        self._is_climbing, self._climb_at = False, now + self._climb_wait
        self._restart_counts(next_number)

    def _restore(self, next_number: int) -> None:
        self.bound, self.window, self._is_climbing = self.refused_share + LARGE_SHARE, self._before_cut, True
        self._restart_counts(next_number)

    def _restart_counts(self, next_number: int) -> None:
        self._counted_from, self._counted, self._debt, self._is_halved = next_number, 0, 0.0, False
        self._sent, self._refused = min(PRIOR_SENDS, self.window), 0.0

    def halve(self) -> None:
        """Halve the window."""
        self.window = max(1.0, self.window / 2)
