"""Faults by chance: a share of the calls fails, and the seed decides which."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from airflow_provider_responses.sandbox.script import Step, step_for_model

DRAWS: Final = 2**64
PROVIDER: Final = "Sandbox"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """
    Which faults happen, and how often.

    :param rates: a fault's name → its share of the calls, from 0 to 1. A name is a status (``"429"``) or that of a
        ``sandbox/...`` model without the vendor (``"truncate"``, ``"failed-server"``).
    """

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.seed) is not int:
            raise ValueError(f"seed: must be a whole number, not {self.seed!r}")
        for name, rate in self.rates.items():
            if step_of_fault(name) is None:
                raise ValueError(f"{name!r} is no fault: name a status (429), or a sandbox/... model (truncate)")
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
                raise ValueError(f"{name}: must be a share of the calls, from 0 to 1, not {rate!r}")
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError(f"the rates add up to {sum(self.rates.values()):g}, which is more than all calls")

    @classmethod
    def parse(cls, given: Any) -> Self:
        """
        Read ``{"seed": 7, "rates": {"429": 0.2}}``; no rates, no faults.

        :raises ValueError: naming what is wrong.
        """
        rates = given.get("rates", {}) if isinstance(given, Mapping) else None
        shares = dict(rates) if isinstance(rates, Mapping) else None
        if shares is None:
            raise ValueError("faults: give an object with `seed` and `rates`, and in `rates` a share for each fault")
        if unknown := sorted(set(given) - {"seed", "rates"}):
            raise ValueError(f"{unknown[0]!r} is no setting of faults; there are seed and rates")
        return cls(seed=given.get("seed", 0), rates=shares)

    def pick(self, body_sha256: str, turn: int) -> Step | None:
        """Give the fault that happens to a body when it is sent for the ``turn``-th time, if one does."""
        digest = hashlib.sha256(f"{self.seed}:{body_sha256}:{turn}".encode()).digest()
        drawn = int.from_bytes(digest[:8]) / DRAWS
        for name in sorted(self.rates):
            drawn -= self.rates[name]
            if drawn < 0:
                return _scattered(step_of_fault(name))
        return None


class Chance:
    """
    Deals faults out. Safe to use from any thread.

    A draw depends on the body and on how often it came before, and not on what came in between: so calls that are
    made at once fail the same way in each run, whoever comes first.
    """

    def __init__(self, faults: Faults) -> None:
        self._lock = threading.Lock()
        self._turns: Counter[str] = Counter()
        self.faults = faults

    def set(self, faults: Faults) -> None:
        """Set other faults, and begin anew."""
        with self._lock:
            self.faults = faults
            self._turns.clear()

    def next(self, body_sha256: str) -> Step | None:
        """Give what happens to the next call with this body; ``None`` for nothing."""
        with self._lock:
            if not self.faults.rates:
                return None
            turn = self._turns[body_sha256]
            self._turns[body_sha256] += 1
            return self.faults.pick(body_sha256, turn)


def _scattered(step: Step | None) -> Step | None:
    """Return a fault that happens to single calls: a 429 is then a provider's, and no limit of the account's."""
    if step is None or step.status != 429:
        return step
    return step.model_copy(update={"metadata": {"provider_name": PROVIDER, **(step.metadata or {})}})


def step_of_fault(name: Any) -> Step | None:
    """Give the step that a fault's name stands for; ``None`` when there is no such fault."""
    if not isinstance(name, str):
        return None
    return step_for_model(f"sandbox/{f'error-{name}' if name.isdecimal() else name}")
