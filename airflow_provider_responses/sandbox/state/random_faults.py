"""Faults at random: a share of all calls fails, and a seed decides which."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from airflow_provider_responses.sandbox.state.script import Step, step_for_model
from airflow_provider_responses.validation import check_known, check_number, wrong_value

DRAWS: Final = 2**64
PROVIDER: Final = "Sandbox"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """
    The share of the calls that each fault happens to.

    :param rates: a fault's name → its share of the calls, from 0 to 1. A name is a status (``"429"``) or that of a
        ``sandbox/...`` model without the vendor (``"truncate"``, ``"failed-server"``).
    """

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("seed", self.seed, whole=True, error=ValueError)
        for name, rate in self.rates.items():
            if step_of_fault(name) is None:
                raise ValueError(f"{name!r} is not a fault: name a status (429), or a sandbox/... model (truncate)")
            check_number(f"rates.{name}", rate, at_least=0, at_most=1, error=ValueError)
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError(f"the rates must add up to at most 1, got {sum(self.rates.values()):g}")

    @classmethod
    def parse(cls, value: Any) -> Self:
        """
        Return the faults of ``{"seed": 7, "rates": {"429": 0.2}}``; without rates, no faults.

        :raises ValueError: naming the wrong field.
        """
        rates = value.get("rates", {}) if isinstance(value, Mapping) else None
        if not isinstance(rates, Mapping):
            expected = "an object with `seed` and with `rates`, a share for each fault"
            raise wrong_value("faults", expected, value, error=ValueError)
        check_known("faults", value, ("seed", "rates"), error=ValueError)
        return cls(seed=value.get("seed", 0), rates=dict(rates))

    def pick(self, body_sha256: str, turn: int) -> Step | None:
        """Return the fault that happens when a body is sent for the ``turn``-th time, or ``None``."""
        digest = hashlib.sha256(f"{self.seed}:{body_sha256}:{turn}".encode()).digest()
        drawn = int.from_bytes(digest[:8]) / DRAWS
        for name in sorted(self.rates):
            drawn -= self.rates[name]
            if drawn < 0:
                return _of_a_provider(step_of_fault(name))
        return None


class FaultSampler:
    """
    Draws a fault for each call. Safe to use from any thread.

    A draw depends on the body and on how often it was sent before, and not on the calls in between. So calls that are
    sent at the same time fail the same way each time, whichever comes first.
    """

    def __init__(self, faults: Faults) -> None:
        self._lock = threading.Lock()
        self._turns: Counter[str] = Counter()
        self.faults = faults

    def set(self, faults: Faults) -> None:
        """Set other faults and forget how often each body was sent."""
        with self._lock:
            self.faults = faults
            self._turns.clear()

    def next(self, body_sha256: str) -> Step | None:
        """Return the fault of the next call with this body; ``None`` for no fault."""
        with self._lock:
            if not self.faults.rates:
                return None
            turn = self._turns[body_sha256]
            self._turns[body_sha256] += 1
            return self.faults.pick(body_sha256, turn)


def _of_a_provider(step: Step | None) -> Step | None:
    """Return the step of a fault; its 429 is one provider's, since a limit of the key would fail all calls."""
    if step is None or step.status != 429:
        return step
    return step.model_copy(update={"metadata": {"provider_name": PROVIDER, **(step.metadata or {})}})


def step_of_fault(name: Any) -> Step | None:
    """Return the step that a fault's name stands for; ``None`` if there is no such fault."""
    if not isinstance(name, str):
        return None
    return step_for_model(f"sandbox/{f'error-{name}' if name.isdecimal() else name}")
