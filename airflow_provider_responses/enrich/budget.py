"""What an attempt has spent, and whether one more response fits into ``limits.max_cost``. No I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_responses.enrich.amounts import short
from airflow_provider_responses.exceptions import BudgetExceededError, ConfigurationError
from airflow_provider_responses.task.cost import Charge, charges_of, dollars, total_cost
from airflow_provider_responses.task.outcome import Outcome

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.enrich.progress import Progress


@dataclass(slots=True)
class Paid:
    """What the sends of one request have cost."""

    cost: float | None = 0.0  # US dollars, of all responses; None is unknown
    tokens: int | None = None  # of the last response
    generations: tuple[str, ...] = ()  # ids of its responses that are counted in `cost`
    unknown: int = 0  # failures of which nobody can tell whether they were billed
    known: float = 0.0  # US dollars, of those responses whose price is known

    def enter(self, charge: Charge) -> None:
        """Count a response."""
        self.cost = total_cost((self.cost, charge.cost))
        self.known += charge.cost or 0.0
        self.generations += () if charge.generation is None else (charge.generation,)

    def add(self, cost: float) -> None:
        """Count what is known of a request that was dropped."""
        self.cost = total_cost((self.cost, cost))
        self.known += cost


class Budget:
    """
    See the module.

    :param limits: of which ``max_cost`` is kept.
    :param progress: what the attempt has done so far; what it spends is entered here.
    :param spent: US dollars that earlier attempts have spent.
    :param known: ids of responses that are counted in ``spent``, though their rows are sent again.
    """

    def __init__(
        self, limits: Limits, progress: Progress, *, spent: float = 0.0, known: frozenset[str] = frozenset()
    ) -> None:
        self._limit = limits.max_cost
        self._progress, self._spent, self._known = progress, spent, known
        self._held: dict[int, float] = {}  # US dollars that requests in flight have paid for invalid responses

    def affords(self, in_flight: int) -> bool:
        """
        Return whether one more response fits in, with those that are in flight.

        :raises BudgetExceededError: if none ever will.
        """
        if self._limit is None:
            return True
        if in_flight and not self._progress.priced:
            return False  # one response shows what the others may cost
        if self.has_room(in_flight + 1):
            return True
        if not in_flight:
            highest = dollars(self._progress.most_expensive)
            raise BudgetExceededError(
                f"limits.max_cost of {short(self._limit)} is spent: {dollars(self._total())} so far, and the most "
                f"expensive response was {highest}. What is done stays; raise the limit to go on from there"
            )
        return False

    def has_room(self, responses: int) -> bool:
        """Return whether this number of responses fits in, each at the price of the most expensive so far."""
        limit, spent = self._limit, self._total()
        return limit is None or (
            spent < limit and spent + self._progress.most_expensive * responses <= limit * (1 + 1e-9)
        )

    def _total(self) -> float:
        return self._spent + self._progress.cost + self._progress.kept_cost + sum(self._held.values())

    def hold(self, request: int, cost: float | None) -> None:
        """Count what a request in flight has paid for an invalid response, before it ends."""
        self._held[request] = self._held.get(request, 0.0) + (cost or 0.0)
        self._progress.most_expensive = max(self._progress.most_expensive, cost or 0.0)

    def release(self, request: int) -> float:
        """Forget what a request had paid while it was in flight, and return it: its end brings the account."""
        return self._held.pop(request, 0.0)

    def pay(self, paid: Paid, outcome: Outcome) -> None:
        """
        Enter what one send came to, or several, if the first responses were invalid.

        :raises ConfigurationError: if ``max_cost`` cannot be kept, since the server gives no price.
        """
        progress, is_unknown = self._progress, False
        for charge in charges_of(outcome):
            paid.tokens = charge.usage.total_tokens
            if charge.is_cached:
                progress.cache_hits += 1
                paid.unknown = 0  # this is what came of it
                if charge.generation in paid.generations or charge.generation in self._known:
                    continue  # it is counted
                progress.kept_cost += charge.cost or 0.0
            else:
                progress.tokens += charge.usage.total_tokens or 0
                progress.counted += charge.usage.total_tokens is not None
                progress.uncounted += charge.usage.total_tokens is None
                progress.cost += charge.cost or 0.0
            paid.enter(charge)
            progress.most_expensive = max(progress.most_expensive, charge.cost or 0.0)
            progress.priced = progress.priced or charge.usage.cost is not None
            progress.priced_responses += charge.usage.cost is not None
            progress.priced_cached += charge.usage.cost is not None and charge.is_cached
            progress.unpriced += charge.cost is None
            progress.unpriced_cached += charge.cost is None and charge.is_cached
            is_unknown = is_unknown or (charge.cost is None and not charge.is_cached)
        if is_unknown and self._limit is not None:
            raise ConfigurationError(
                "limits.max_cost cannot be kept: the server gives no price with a response; leave the limit out, or "
                "set limits.tokens_per_minute and a limit of the key"
            )
