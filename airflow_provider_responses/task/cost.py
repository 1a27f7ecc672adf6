"""
The cost of responses, for a task, a row of a table and a request of a batch. No I/O and no clock.

Responses with the same id are one response; each response without an id counts by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.task import xcom
from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response, Usage
    from airflow_provider_responses.task.outcome import Outcome

Records = Mapping[str, Mapping[str, Any] | None]
_NO_ID: Final = "response without an id "  # a number follows


@dataclass(frozen=True, slots=True)
class Charge:
    """
    The cost of one response.

    :param generation: id of the generation that was paid for; None if the response has no id.
    :param usage: its tokens and price; of a cached response, those of the response that was paid for.
    :param cost: US dollars, None if unknown; of a cached response, the amount that an earlier send paid.
    :param is_cached: whether this send cost nothing, since an earlier one paid.
    """

    generation: str | None
    usage: Usage
    cost: float | None
    is_cached: bool


def charges_of(outcome: Outcome) -> list[Charge]:
    """
    Return the charges of an outcome's responses: the last one, and the invalid ones before it.

    :param outcome: with the records of :func:`unpriced_generations`, as far as they could be looked up.
    """
    return [_charge(response, outcome.generations) for response in _responses_of(outcome)]


def unpriced_generations(response: Response, spent: Mapping[str, float | None]) -> list[str]:
    """
    Return the generations that cached responses repeat, whose tokens and prices must be looked up.

    :param spent: the prices that are known already, by generation.
    """
    cached = [it for it in _invalid_before(response) if it.cached and spent.get(paid_generation(it) or "") is None]
    found = (paid_generation(it) for it in (*cached, *([response] if response.cached else [])))
    return list(dict.fromkeys(generation for generation in found if generation))


def paid_generation(response: Response) -> str | None:
    """Return the id of the generation that was paid for to make a response, None if it has no id."""
    return response.cache_source_id or _identity(response)


def paid_for(response: Response) -> float | None:
    """Return the US dollars that the send of a response cost; None if that is unknown or the response was cached."""
    return None if response.cached else response.usage.cost


def total_cost(costs: Iterable[float | None]) -> float | None:
    """Return the sum of costs, None if one of them is unknown."""
    known = list(costs)
    return None if any(cost is None for cost in known) else float(sum(cost or 0.0 for cost in known))


def usage_from_record(record: Mapping[str, Any]) -> Usage:
    """Return the tokens and the price in a generation's record: the counters of a cached response are all 0."""
    from airflow_provider_responses.models.response import Usage

    tokens_in, tokens_out = (_tokens(record, kind) for kind in ("prompt", "completion"))
    return replace(
        Usage.from_raw({**record, "cost": record.get("total_cost")}),
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=None if tokens_in is None or tokens_out is None else tokens_in + tokens_out,
        cached_tokens=_integer(record.get("native_tokens_cached")),
        reasoning_tokens=_integer(record.get("native_tokens_reasoning")),
    )


@dataclass
class CostLedger:
    """
    The money that a task has spent since it was last cleared, and the model that it has come to.

    :param spent: generation id → US dollars, None if unknown; at first those of earlier attempts.
    :param complete: whether ``spent`` holds all costs of earlier attempts.
    :param ambiguous: number of sends of earlier attempts that may have been billed, and whose price is unknown. It is
        counted for tasks with a limit of cost alone.
    :param tier: of the model that gets the next request; see ``task.escalation``.
    :param escalated: number of times that a larger model got the request.
    """

    spent: dict[str, float | None] = field(default_factory=dict)
    complete: bool = True
    ambiguous: int = 0
    tier: int = 0
    escalated: int = 0

    def at_most(self, worst_case: float) -> float:
        """
        Return the US dollars that earlier attempts have spent at most.

        :param worst_case: the highest price of one send.
        """
        known = sum(worst_case if cost is None else cost for cost in self.spent.values())
        return known + self.ambiguous * worst_case

    def note_ambiguous(self, outcome: Outcome) -> None:
        """Count a send that may have been billed; a cached response is what such sends have led to."""
        if outcome.response is not None and outcome.response.cached:
            self.ambiguous = 0
        elif outcome.response is None and outcome.error is not None and _is_ambiguous(outcome.error):
            self.ambiguous += 1

    def unpriced_generations(self, response: Response) -> list[str]:
        """Return the generations that cached responses repeat, whose tokens and prices must be looked up."""
        return unpriced_generations(response, self.spent)

    def usage(self, outcome: Outcome, prompt_fingerprint: str | None = None) -> dict[str, Any]:
        """
        Enter the cost of an outcome, and return the XCom ``usage``.

        :param outcome: with the records of :meth:`unpriced_generations`, as far as they could be looked up.
        :param prompt_fingerprint: of the request; None if it is unknown.
        """
        response, error = outcome.response, outcome.error
        charges = charges_of(outcome)
        for charge in charges:
            self._enter(charge)
        self.tier = max(self.tier, outcome.tier)
        self.escalated += outcome.escalated
        generation = paid_generation(response) if response is not None and response.cached else None
        # Without a response, the price of a send that may have been billed is unknown.
        is_unknown = response is None and error is not None and _is_ambiguous(error)
        usage = xcom.usage_of(
            response=response,
            error=error,
            tokens=charges[-1].usage if charges else None,
            cost=None if is_unknown or (response is None and not self.complete) else total_cost(self.spent.values()),
            cost_this_attempt=None if is_unknown else total_cost(it.cost for it in charges if not it.is_cached),
            generation=outcome.generations.get(generation) if generation else None,
            invalid=outcome.invalid,
            repaired=outcome.repaired,
            prompt_fingerprint=prompt_fingerprint,
            escalated=self.escalated,
            price_of=lambda it: _price_of(_charge(it, outcome.generations)),
        )
        return dict(storable(usage))

    def running_usage(self, outcome: Outcome) -> dict[str, Any]:
        """
        Return the XCom ``usage`` of an attempt that runs, for tasks that share its budget; enter nothing.

        :param outcome: the last response that is not entered yet, if any.
        """
        return {**replace(self, spent=dict(self.spent)).usage(outcome), "status": "in_progress"}

    def with_outcome(self, outcome: Outcome) -> CostLedger:
        """Return a copy in which an outcome is entered."""
        copy = replace(self, spent=dict(self.spent))
        copy.usage(outcome)
        return copy

    def _enter(self, charge: Charge) -> None:
        generation = charge.generation
        if generation is None:
            generation = f"{_NO_ID}{sum(name.startswith(_NO_ID) for name in self.spent) + 1}"
        if self.spent.get(generation) is None:
            self.spent[generation] = charge.cost


def _price_of(charge: Charge) -> tuple[float | None, Usage]:
    return charge.cost, charge.usage


def _charge(response: Response, records: Records) -> Charge:
    generation = paid_generation(response)
    if response.cached:
        usage = usage_from_record(records.get(generation or "") or {})
        return Charge(generation, usage, usage.cost, is_cached=True)
    cost = response.usage.cost
    if cost is None and (response.status == "failed" or response.error is not None) and not response.was_generated:
        cost = 0.0  # no model has worked for it
    return Charge(generation, response.usage, cost, is_cached=False)


def _responses_of(outcome: Outcome) -> list[Response]:
    """Return the responses of an outcome, oldest first, each once."""
    response, error = outcome.response, outcome.error
    if response is None:
        return []
    found = _invalid_before(response)
    if not found or error is None or error.response is not None:
        found.append(response)  # else the last send brought none, and this is one of those before it
    return list({_identity(it) or str(id(it.raw)): it for it in found}.values())


def _invalid_before(response: Response) -> list[Response]:
    return [it.response for it in response.previous if isinstance(it, ResponsesError) and it.response is not None]


def _identity(response: Response) -> str | None:
    return response.generation_id or response.id


def _is_ambiguous(error: ResponsesError) -> bool:
    return any(isinstance(it, ResponsesError) and it.ambiguous for it in (error, *error.previous))


def _tokens(record: Mapping[str, Any], kind: str) -> int | None:
    native = _integer(record.get(f"native_tokens_{kind}"))
    return native if native is not None else _integer(record.get(f"tokens_{kind}"))


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def dollars(amount: float | None) -> str:
    """Return an amount of money as text."""
    return "unknown" if amount is None else f"${amount:.6f}"
