"""Rate limits of each key, in minutes. Nothing here reads a clock: the caller passes the time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from airflow_provider_responses.validation import check_known, check_number, check_type

WINDOW: Final = 60.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimits:
    """Calls and tokens that one key may use in a minute; ``None`` is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_number(name, value, at_least=0, whole=True, optional=True, error=ValueError)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """
        Return limits; one that is not named is no limit.

        :raises ValueError: naming the wrong field.
        """
        names = [field.name for field in fields(cls)]
        check_type("limits", value, Mapping, expected=f"an object with {' and '.join(names)}", error=ValueError)
        check_known("limits", value, names, error=ValueError)
        return cls(**value)


@dataclass(frozen=True, slots=True)
class ExceededLimit:
    """
    The limit that a call exceeds.

    :param unit: ``requests`` or ``tokens``.
    :param retry_after: seconds until the key may send again.
    :param resets_at: that time, in seconds of the caller's clock.
    """

    unit: str
    limit: int
    retry_after: float
    resets_at: float


@dataclass(slots=True)
class _Window:
    """Calls and tokens of a key since its minute began."""

    began: float
    requests: int = 0
    tokens: int = 0


class RateLimiter:
    """
    Counts the calls and tokens of each key, in minutes that begin with the key's first call.

    ``now`` is in seconds of any clock. Safe to use from any thread.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        self.limits = limits

    def set(self, limits: RateLimits) -> None:
        """Set other limits and restart the count of every key."""
        with self._lock:
            self.limits = limits
            self._windows.clear()

    def admit(self, key: str, tokens: int, *, now: float) -> ExceededLimit | None:
        """
        Count a call with ``tokens`` input tokens, or return the limit that it exceeds without counting it.

        The first call of a minute may exceed the limit of tokens: otherwise it could never be sent.
        """
        with self._lock:
            window = self._window(key, now)
            limits, resets_at = self.limits, window.began + WINDOW
            retry_after = resets_at - now
            if limits.requests_per_minute is not None and window.requests >= limits.requests_per_minute:
                return ExceededLimit("requests", limits.requests_per_minute, retry_after, resets_at)
            most = limits.tokens_per_minute
            if most is not None and (most == 0 or (window.tokens and window.tokens + tokens > most)):
                return ExceededLimit("tokens", most, retry_after, resets_at)
            window.requests += 1
            window.tokens += tokens
            return None

    def add(self, key: str, tokens: int, *, now: float) -> None:
        """Count output tokens."""
        with self._lock:
            self._window(key, now).tokens += tokens

    def _window(self, key: str, now: float) -> _Window:
        window = self._windows.get(key)
        if window is None or now >= window.began + WINDOW:
            window = self._windows[key] = _Window(now)
        return window
