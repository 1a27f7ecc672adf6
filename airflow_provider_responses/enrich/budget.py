"""What an attempt has spent, and whether one more response fits into ``limits.max_cost``. No I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_responses.exceptions import BudgetExceededError, ConfigurationError, ResponsesError
from airflow_provider_responses.runs import Outcome, dollars, kept_usage, source_of

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.enrich.progress import Progress
    from airflow_provider_responses.models.response import Response


@dataclass(slots=True)
class Paid:
    """What the sends of one request have cost."""

    cost: float | None = 0.0  # US dollars, of all responses; None is unknown
    tokens: int | None = None  # of the last response
    generations: tuple[str, ...] = ()  # ids of its responses that are counted in `cost`
    unknown: int = 0  # failures of which nobody can tell whether they were billed

    def add(self, cost: float) -> None:
        """Count what is known of a request that was dropped."""
        if self.cost is not None:
            self.cost += cost


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
            raise BudgetExceededError(
                f"limits.max_cost of ${self._limit:g} is spent: {dollars(self._total())} so far, and the dearest "
                f"answer was {dollars(self._progress.dearest)}. What is done stays; raise the limit to go on from there"
            )
        return False

    def has_room(self, responses: int) -> bool:
        """Return whether this number of responses fits in, each at the price of the most expensive so far."""
        limit, spent = self._limit, self._total()
        return limit is None or (spent < limit and spent + self._progress.dearest * responses <= limit * (1 + 1e-9))

    def _total(self) -> float:
        return self._spent + self._progress.cost + self._progress.kept_cost + sum(self._held.values())

    def hold(self, request: int, cost: float | None) -> None:
        """Count what a request in flight has paid for an invalid response, before it ends."""
        self._held[request] = self._held.get(request, 0.0) + (cost or 0.0)
        self._progress.dearest = max(self._progress.dearest, cost or 0.0)

    def release(self, request: int) -> float:
        """Forget what a request had paid while it was in flight, and return it: its end brings the account."""
        return self._held.pop(request, 0.0)

    def pay(self, paid: Paid, outcome: Outcome) -> None:
        """
        Enter what one send came to, or several, if the first responses were invalid.

        :raises ConfigurationError: if ``max_cost`` cannot be kept, since the server gives no price.
        """
        response, progress = outcome.response, self._progress
        if response is None:
            return
        is_unknown = False
        for answer in _answers(response):
            usage = answer.usage
            source = source_of(answer)
            if answer.cached:
                progress.cache_hits += 1
                paid.unknown = 0  # this is what came of it
                usage = kept_usage(outcome.generations.get(source) or {})
                if source in paid.generations or source in self._known:  # it is counted
                    paid.tokens = usage.total_tokens
                    continue
                progress.kept_cost += usage.cost or 0.0
            else:
                progress.tokens += usage.total_tokens or 0
                progress.cost += usage.cost or 0.0
            paid.tokens = usage.total_tokens
            paid.generations += (source,)
            progress.dearest = max(progress.dearest, usage.cost or 0.0)
            progress.priced = progress.priced or usage.cost is not None
            if usage.cost is None and (answer.status == "failed" or answer.error is not None):
                continue  # it was not billed
            paid.cost = None if paid.cost is None or usage.cost is None else paid.cost + usage.cost
            if usage.cost is None:
                progress.unpriced += 1
                is_unknown = is_unknown or not answer.cached
        if is_unknown and self._limit is not None:
            raise ConfigurationError(
                "limits.max_cost cannot be kept: the server does not tell what an answer costs; leave the limit "
                "out, or set limits.tokens_per_minute and a limit of the key"
            )


def _answers(response: Response) -> list[Response]:
    """Return a response and the invalid ones before it, each once."""
    before = [e.response for e in response.previous if isinstance(e, ResponsesError) and e.response is not None]
    return list({answer.generation_id or answer.id or id(answer): answer for answer in (*before, response)}.values())
