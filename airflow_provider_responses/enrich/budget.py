"""The cost of an attempt so far, and whether one more response fits into ``limits.max_cost``. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_responses.exceptions import BudgetExceededError, ConfigurationError
from airflow_provider_responses.task.cost import Charge, charges_of, dollars, total_cost
from airflow_provider_responses.task.cost_total import short_dollars
from airflow_provider_responses.task.outcome import Outcome

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.enrich.model_counts import ModelCounts
    from airflow_provider_responses.enrich.progress import Progress


@dataclass(slots=True)
class RequestCost:
    """The cost of all sends of one request."""

    cost: float | None = 0.0  # US dollars, of all responses; None if unknown
    tokens: int | None = None  # of the last response
    generations: tuple[str, ...] = ()  # ids of the responses that `cost` includes
    unknown: int = 0  # failures that may have been billed
    known: float = 0.0  # US dollars, of the responses with a price

    def add(self, charge: Charge) -> None:
        """Add the charge for a response."""
        self.add_known(charge.cost)
        self.generations += () if charge.generation is None else (charge.generation,)

    def add_known(self, cost: float | None) -> None:
        """Add US dollars, None if unknown."""
        self.cost = total_cost((self.cost, cost))
        self.known += cost or 0.0


class Budget:
    """
    See the module.

    :param limits: of which ``max_cost`` is used.
    :param progress: the counts of the attempt, to which this adds costs and tokens.
    :param spent: US dollars that earlier attempts have spent.
    :param counted_generations: ids of responses that ``spent`` includes, though their requests are sent again.
    """

    def __init__(
        self,
        limits: Limits,
        progress: Progress,
        *,
        spent: float = 0.0,
        counted_generations: frozenset[str] = frozenset(),
    ) -> None:
        self._limit = limits.max_cost
        self._progress, self._spent, self._counted = progress, spent, counted_generations
        self._held: dict[int, float] = {}  # US dollars that requests in flight have paid for invalid responses

    def allows_send(self, in_flight: Mapping[int, int], kind: int = 0) -> bool:
        """
        Return whether one more response fits into the budget, beside those that are in flight.

        The price of the first response of a kind is the estimate for the others, so until it is known, only one
        request without it is in flight.

        :param in_flight: number of requests by ``Step.price_kind``, without zeros.
        :param kind: of the request to send.
        """
        if self._limit is None:
            return True
        priced = self._progress.priced_kinds
        if kind not in priced and any(it not in priced for it in in_flight):
            return False
        return self.has_room(in_flight, kind)

    def exceeded(self, kind: int = 0, model: str = "") -> BudgetExceededError:
        """
        Return the error of an attempt that can send nothing more.

        :param kind: of a request that does not fit, though none is in flight.
        :param model: of that request.
        """
        highest, whose = self._progress.highest_prices.get(kind, 0.0), f" of {model}" if model else ""
        return BudgetExceededError(
            f"limits.max_cost of {short_dollars(self._limit or 0.0)} is spent: {dollars(self._total())} so far, and "
            f"the most expensive response{whose} was {dollars(highest)}. All responses are saved; raise the limit to "
            "continue from there"
        )

    def has_room(self, in_flight: Mapping[int, int], *more: int) -> bool:
        """
        Return whether responses fit in, each at the price of the most expensive one of its kind so far.

        :param in_flight: number of them by kind.
        :param more: kinds of further ones.
        """
        if (limit := self._limit) is None:
            return True
        spent, highest = self._total(), self._progress.highest_prices
        expected = sum(highest.get(kind, 0.0) * count for kind, count in in_flight.items())
        expected += sum(highest.get(kind, 0.0) for kind in more)
        return spent < limit and spent + expected <= limit * (1 + 1e-9)

    def _total(self) -> float:
        return self._spent + self._progress.cost + self._progress.cached_cost + sum(self._held.values())

    def hold(self, row: int, cost: float | None, kind: int = 0) -> None:
        """Count the price of an invalid response while the request of a row is still in flight."""
        self._held[row] = self._held.get(row, 0.0) + (cost or 0.0)
        self._progress.note_price(kind, cost or 0.0)

    def release(self, row: int) -> float:
        """Return the amount that was held for a row, and hold it no longer: :meth:`record` counts it at the end."""
        return self._held.pop(row, 0.0)

    def record(self, request_cost: RequestCost, outcome: Outcome, kind: int = 0) -> None:
        """
        Add the cost of one send, or of several, if the first responses were invalid.

        :param kind: ``Step.price_kind`` of the request.
        :raises ConfigurationError: if ``max_cost`` cannot be observed, since the server sends no prices.
        """
        progress, is_unknown = self._progress, False
        for charge in charges_of(outcome):
            of_model = progress.of_model(outcome.response)
            request_cost.tokens = charge.usage.total_tokens
            if charge.is_cached:
                progress.cache_hits += 1
                of_model.cached += 1
                request_cost.unknown = 0  # the cached response is what the failed sends have led to
                if charge.generation in request_cost.generations or charge.generation in self._counted:
                    continue
                progress.cached_cost += charge.cost or 0.0
            else:
                progress.tokens += charge.usage.total_tokens or 0
                progress.with_tokens += charge.usage.total_tokens is not None
                progress.without_tokens += charge.usage.total_tokens is None
                progress.cost += charge.cost or 0.0
            request_cost.add(charge)
            _count(of_model, charge)
            progress.note_price(kind, charge.cost or 0.0)
            if charge.usage.cost is not None:
                progress.priced_kinds.add(kind)
            progress.priced_responses += charge.usage.cost is not None
            progress.priced_cached += charge.usage.cost is not None and charge.is_cached
            progress.unpriced += charge.cost is None
            progress.unpriced_cached += charge.cost is None and charge.is_cached
            is_unknown = is_unknown or (charge.cost is None and not charge.is_cached)
        if is_unknown and self._limit is not None:
            raise ConfigurationError(
                "limits.max_cost cannot be observed: the server sends no price with a response; omit the limit, or "
                "set limits.tokens_per_minute and a limit of the key"
            )


def _count(counts: ModelCounts, charge: Charge) -> None:
    usage = charge.usage
    counts.cost += charge.cost or 0.0
    counts.priced += charge.cost is not None
    counts.unpriced += charge.cost is None
    if usage.input_tokens is None and usage.output_tokens is None:
        counts.without_tokens += 1
        return
    counts.with_tokens += 1
    counts.input_tokens += usage.input_tokens or 0
    counts.output_tokens += usage.output_tokens or 0
