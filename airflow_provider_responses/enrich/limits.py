"""How fast rows are sent, and when a run has to stop. No I/O and no clock: the time comes in as an argument."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError

FIRST_WINDOW: Final = 8  # requests in flight until the service has shown that it keeps up
MINUTE: Final = 60.0
BURST: Final = 0.5  # seconds that requests may make up for after they were held up
FIRST_PROBE, LONGEST_PROBE = 1.0, 30.0  # seconds between probes of a service that is down
FEWEST_FAILURES, MOST_FAILURES = 5, 32  # in a row, after which all is down and not single rows


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What a run may take.

    :param concurrency: requests in flight at most; a run starts with fewer and adapts to the service.
    :param requests_per_minute: sends in a minute at most.
    :param tokens_per_minute: tokens, in and out, in a minute at most; those of an answer to come are estimated.
    :param max_cost: US dollars for all rows of an output, over all tries; answers to come are counted as dear as the
        dearest so far.
    :param max_failures: rows that may fail before the task does: a count, or, below 1 and as a float, a share.
    :param max_outage: seconds that a service, or a store, that is down is waited for.
    :param max_request_bytes: the largest request that is sent.
    :param max_unwritten: responses that may wait to be written, which the end of the process would lose; while more
        do, nothing is sent. On local disk there are at most 64.
    :param max_unwritten_seconds: that a response may wait before nothing more is sent.
    :raises RequestValidationError: naming the limit, what was given and what is allowed.
    """

    concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost: float | None = None
    max_failures: float = 0
    max_outage: float = 600.0
    max_request_bytes: int = 1_000_000
    max_unwritten: int = 2000
    max_unwritten_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_request_bytes", "max_unwritten"):
            _check(name, getattr(self, name), whole=True, least=1)
        for name in ("requests_per_minute", "tokens_per_minute", "max_cost"):
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), above=True)
        _check("max_unwritten_seconds", self.max_unwritten_seconds, above=True)
        for name in ("max_failures", "max_outage"):
            _check(name, getattr(self, name))
        if isinstance(self.max_failures, float) and self.max_failures >= 1:
            raise RequestValidationError(
                f"limits.max_failures is {self.max_failures!r}; allowed is a count as a whole number, or a share as a "
                "float below 1",
                fields=("limits.max_failures",),
            )

    @classmethod
    def parse(cls, value: Any) -> Limits:
        """Read limits given as such, as a dict of them, or as None for the defaults."""
        if isinstance(value, Limits):
            return value
        if not isinstance(value, (Mapping, type(None))):
            raise RequestValidationError(f"limits is a {type(value).__name__}; allowed is Limits or a dict of them")
        given = dict(value or {})
        if unknown := sorted(set(given) - {f.name for f in fields(cls)}):
            allowed = ", ".join(f.name for f in fields(cls))
            raise RequestValidationError(f"limits.{unknown[0]}: no such limit; allowed are {allowed}")
        return cls(**given)

    def allows(self, failed: int, of: int) -> bool:
        """Whether so many failures of so many rows are within the limit."""
        if isinstance(self.max_failures, float) and self.max_failures < 1:
            return not failed or failed / of <= self.max_failures
        return failed <= self.max_failures


def _check(name: str, value: Any, *, whole: bool = False, least: float = 0, above: bool = False) -> None:
    kind: Any = int if whole else (int, float)
    fits = isinstance(value, kind) and not isinstance(value, bool) and least <= value < math.inf
    if not fits or (above and value == 0):
        allowed = f"a whole number from {least:g}" if whole else f"a number {'above' if above else 'from'} {least:g}"
        raise RequestValidationError(f"limits.{name} is {value!r}; allowed is {allowed}", fields=(f"limits.{name}",))


class Pace:
    """
    How many requests may be in flight, and when the next one may go out.

    Like TCP: it grows by one with each answer until the service is too busy, halves then, and grows slowly again.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.window: float = min(FIRST_WINDOW, limits.concurrency)
        self.down_since: float | None = None
        self.busy_since: float | None = None
        self._climbing = True  # until the first time that the service was too busy
        self._cut_at = -math.inf
        self._held_until = -math.inf
        self._next_request = self._next_token = -math.inf
        self._tokens_seen, self._answers_seen = 0, 0
        self._failures = 0  # in a row
        self._failing_since = 0.0  # the first of them
        self._probe_wait = FIRST_PROBE

    def delay(self, now: float) -> float:
        """Seconds before which nothing may be sent."""
        until = max(self._held_until, self._next_request - BURST, self._next_token - BURST)
        return max(0.0, until - now)

    def has_room(self, in_flight: int) -> bool:
        """Whether one more may be in flight."""
        return in_flight < (1 if self.down_since is not None else int(self.window))

    def sent(self, now: float, size: int) -> float:
        """
        Take note of a request that goes out.

        :param size: its bytes.
        :returns: the tokens that it is taken to need; give them back to :meth:`answered`.
        """
        if self.limits.requests_per_minute:
            self._next_request = max(now, self._next_request) + (MINUTE + BURST) / self.limits.requests_per_minute
        if not self.limits.tokens_per_minute:
            return 0.0
        # Four bytes are about a token.
        tokens = self._tokens_seen / self._answers_seen if self._answers_seen else size / 4
        self._next_token = max(now, self._next_token) + self._seconds_of(tokens)
        return tokens

    def _seconds_of(self, tokens: float) -> float:
        """How long a request of so many tokens holds the next one back, so that a minute holds only whole ones."""
        limit = self.limits.tokens_per_minute
        if not limit or tokens <= 0:
            return 0.0
        return (MINUTE + BURST) / (limit // tokens or limit / tokens)

    def answered(self, *, in_flight: int, tokens: int | None, taken: float) -> None:
        """Take note of an answer."""
        if self.limits.tokens_per_minute and tokens is not None:
            self._tokens_seen += tokens
            self._answers_seen += tokens > 0  # a kept answer tells nothing of the next
            self._next_token += self._seconds_of(tokens) - self._seconds_of(taken)
        self.busy_since = None
        self.heard()
        if in_flight * 2 > self.window:  # else it is not the window that holds the run back
            step = 1.0 if self._climbing else 1.0 / self.window
            self.window = min(self.window + step, float(self.limits.concurrency))

    def heard(self) -> None:
        """Take note that the service is there, whatever it said."""
        self._failures = 0
        self.down_since = None
        if self.busy_since is None:
            self._probe_wait = FIRST_PROBE

    def busy(self, *, now: float, started: float, retry_after: float | None) -> None:
        """Take note that the service is too busy, as it said to a request that was started then."""
        self.heard()
        if started > self._cut_at:  # what was in flight at the last cut says nothing new
            if self.window <= 1 and self.busy_since is not None and retry_after is None:
                self._wait_longer(now)
            self.window = max(1.0, self.window / 2)
            self._cut_at = now
            self._climbing = False
        self.busy_since = now if self.busy_since is None else self.busy_since
        self.hold(now + (retry_after or 0.0))

    def hold(self, until: float) -> None:
        """Send nothing before."""
        self._held_until = max(self._held_until, until)

    def failed(self, *, now: float, started: float) -> bool:
        """Take note of a failure that is not a row's own; say whether the service is taken to be down."""
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        if self.down_since is not None and started < self.down_since:
            return True  # no probe: it was in flight already
        if self.down_since is None:
            if self._failures < max(FEWEST_FAILURES, min(MOST_FAILURES, int(self.window))):
                return False
            self.down_since = now
            self.window = max(1.0, self.window / 2)
        self._wait_longer(now)
        return True

    def _wait_longer(self, now: float) -> None:
        self.hold(now + self._probe_wait)
        self._probe_wait = min(self._probe_wait * 2, LONGEST_PROBE)

    def is_over(self, now: float) -> bool:
        """Whether the service has been down, or too busy for any answer, for too long."""
        if self.busy_since is not None:
            return now - self.busy_since >= self.limits.max_outage
        return self.down_since is not None and now - self._failing_since >= self.limits.max_outage
