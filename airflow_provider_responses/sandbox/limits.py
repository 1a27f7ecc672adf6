"""How much a key may ask for in a minute. No clock of its own: who asks says when."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

WINDOW: Final = 60.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Calls and tokens that one key may use in a minute; ``None`` is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (type(value) is not int or value < 0):
                raise ValueError(f"{name}: must be a whole number from 0, or null for no limit, not {value!r}")

    @classmethod
    def parse(cls, given: Any) -> Self:
        """
        Read limits; what is not named has none.

        :raises ValueError: naming what is wrong.
        """
        names = [one.name for one in fields(cls)]
        limits = dict(given) if isinstance(given, Mapping) else None
        if limits is None:
            raise ValueError(f"limits: give an object with {' and '.join(names)}")
        if unknown := sorted(set(limits) - set(names)):
            raise ValueError(f"{unknown[0]!r} is no limit; there are {' and '.join(names)}")
        return cls(**limits)


@dataclass(frozen=True, slots=True)
class Excess:
    """A call too many: which limit (``requests`` or ``tokens``), and when there is room again (seconds)."""

    what: str
    limit: int
    wait: float
    resets_at: float


@dataclass(slots=True)
class _Window:
    """What a key has used since its window began."""

    began: float
    requests: int = 0
    tokens: int = 0


class Meter:
    """
    Counts per key, in windows of a minute that begin with a key's first call.

    ``now`` is in seconds of any clock; :attr:`Excess.resets_at` is in the same. Safe to use from any thread.
    """

    def __init__(self, limits: Limits) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        self.limits = limits

    def set(self, limits: Limits) -> None:
        """Set other limits; all keys begin anew."""
        with self._lock:
            self.limits = limits
            self._windows.clear()

    def admit(self, key: str, tokens: int, *, now: float) -> Excess | None:
        """
        Count a call with so many input tokens, or say why it has to wait; then it is not counted.

        The first call of a window may be larger than the limit of tokens: otherwise it could never be made.
        """
        with self._lock:
            window = self._window(key, now)
            limits, resets_at = self.limits, window.began + WINDOW
            wait = resets_at - now
            if limits.requests_per_minute is not None and window.requests >= limits.requests_per_minute:
                return Excess("requests", limits.requests_per_minute, wait, resets_at)
            most = limits.tokens_per_minute
            if most is not None and (most == 0 or (window.tokens and window.tokens + tokens > most)):
                return Excess("tokens", most, wait, resets_at)
            window.requests += 1
            window.tokens += tokens
            return None

    def add(self, key: str, tokens: int, *, now: float) -> None:
        """Count tokens that were generated."""
        with self._lock:
            self._window(key, now).tokens += tokens

    def _window(self, key: str, now: float) -> _Window:
        found = self._windows.get(key)
        if found is None or now >= found.began + WINDOW:
            found = self._windows[key] = _Window(now)
        return found
