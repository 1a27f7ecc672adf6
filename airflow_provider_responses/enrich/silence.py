"""The time for which models have been silent: requests are open, and none gets a response. No I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

SHORTEST: Final = 30.0  # seconds that are reported as silence
SLOWER: Final = 2  # times the longest response of the model: it may just be slow


class Silence(NamedTuple):
    """
    The longest silence of any model.

    :param seconds: since its last response, or since its first request.
    :param models: that are silent; none if all are.
    """

    seconds: float
    models: tuple[str, ...]


@dataclass(slots=True)
class _Model:
    open: int = 0  # requests
    silent_from: float | None = None  # None after a response, while nothing is open
    longest: float = 0.0  # seconds that a response took


class SilenceTracker:
    """See the module. Times are seconds as of ``time.monotonic``."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def sent(self, model: str, now: float) -> None:
        """Count a request that is sent."""
        found = self._models.setdefault(model, _Model())
        found.open += 1
        if found.silent_from is None:
            found.silent_from = now

    def responded(self, model: str, now: float) -> None:
        """Note a response to a request that stays open, because it is sent again."""
        self._models[model].silent_from = now

    def ended(self, model: str, now: float, seconds: float | None) -> None:
        """
        Count a request that is no longer open.

        :param seconds: that its response took, whatever it holds; None if there was none.
        """
        found = self._models[model]
        found.open -= 1
        if seconds is not None:
            found.silent_from, found.longest = now if found.open else None, max(found.longest, seconds)

    def current(self, now: float) -> Silence | None:
        """Return the silence that is worth reporting, None if there is none."""
        silent = {
            name: now - model.silent_from
            for name, model in self._models.items()
            if model.open
            and model.silent_from is not None
            and now - model.silent_from >= max(SHORTEST, SLOWER * model.longest)
        }
        if not silent:
            return None
        return Silence(max(silent.values()), () if len(silent) == len(self._models) else tuple(silent))
