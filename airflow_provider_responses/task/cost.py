"""
The one ledger of cost, for a task, a row of a table and a request of a batch. No I/O and no clock.

Responses are told apart by their ids; one without an id is a response of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.response import Response, Usage
from airflow_provider_responses.task import xcom
from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from airflow_provider_responses.task.outcome import Outcome

Records = Mapping[str, Mapping[str, Any] | None]
_NO_ID: Final = "response without an id "  # a number follows


@dataclass(frozen=True, slots=True)
class Charge:
    """
    One response in an ledger.

    :param source: id of the generation that was paid for; None if the response has no id.
    :param usage: its tokens and price; those of the response that it repeats, if it is cached.
    :param cost: US dollars, None if they are unknown: of a cached response what an earlier send has paid.
    :param is_cached: whether this send cost nothing, since an earlier one has paid.
    """

    source: str | None
    usage: Usage
    cost: float | None
    is_cached: bool


def charges_of(outcome: Outcome) -> list[Charge]:
    """
    Return what the responses of an outcome cost: the last, and the invalid ones before it.

    :param outcome: with the records of :func:`unknown_sources`, as far as they could be had.
    """
    return [_charge(response, outcome.generations) for response in _responses_of(outcome)]


def unknown_sources(response: Response, spent: Mapping[str, float | None]) -> list[str]:
    """
    Return the generations of cached responses, whose tokens and prices must be looked up.

    :param spent: what is known already, by generation.
    """
    cached = [it for it in _invalid_before(response) if it.cached and spent.get(source_of(it) or "") is None]
    found = (source_of(it) for it in (*cached, *([response] if response.cached else [])))
    return list(dict.fromkeys(source for source in found if source))


def source_of(response: Response) -> str | None:
    """Return the id of the generation that made a response, None if it has no id."""
    return response.cache_source_id or _identity(response)


def total(costs: Iterable[float | None]) -> float | None:
    """Return the sum of costs, None if one of them is unknown."""
    known = list(costs)
    return None if any(cost is None for cost in known) else float(sum(cost or 0.0 for cost in known))


def cached_usage(record: Mapping[str, Any]) -> Usage:
    """Return tokens and price of the response that a cached one repeats, whose own counters are all 0."""
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
    What a task has spent since it was last cleared.

    :param spent: generation id → US dollars; what earlier attempts are known to have spent comes in here, and unknown
        prices are None.
    :param complete: whether that is all that earlier attempts have spent.
    """

    spent: dict[str, float | None] = field(default_factory=dict)
    complete: bool = True

    def unknown_sources(self, response: Response) -> list[str]:
        """Return the generations of cached responses, whose tokens and prices must be looked up."""
        return unknown_sources(response, self.spent)

    def usage(self, outcome: Outcome) -> dict[str, Any]:
        """
        Return the XCom ``usage`` of an outcome, and enter its cost.

        :param outcome: with the records of :meth:`unknown_sources`, as far as they could be had.
        """
        response, error = outcome.response, outcome.error
        charges = charges_of(outcome)
        for charge in charges:
            self._enter(charge)
        source = source_of(response) if response is not None and response.cached else None
        # Without a response, a send that may have been billed leaves open what was paid.
        is_open = response is None and error is not None and _is_ambiguous(error)
        usage = xcom.usage_of(
            response=response,
            error=error,
            tokens=charges[-1].usage if charges else None,
            cost=None if is_open or (response is None and not self.complete) else total(self.spent.values()),
            cost_this_attempt=None if is_open else total(charge.cost for charge in charges if not charge.is_cached),
            generation=outcome.generations.get(source) if source else None,
            invalid=outcome.invalid,
            repaired=outcome.repaired,
        )
        return dict(storable(usage))

    def _enter(self, charge: Charge) -> None:
        source = charge.source
        if source is None:
            source = f"{_NO_ID}{sum(name.startswith(_NO_ID) for name in self.spent) + 1}"
        if self.spent.get(source) is None:
            self.spent[source] = charge.cost


def _charge(response: Response, records: Records) -> Charge:
    source = source_of(response)
    if response.cached:
        usage = cached_usage(records.get(source or "") or {})
        return Charge(source, usage, usage.cost, is_cached=True)
    cost = response.usage.cost
    if cost is None and (response.status == "failed" or response.error is not None) and not response.was_made:
        cost = 0.0  # no model has worked for it
    return Charge(source, response.usage, cost, is_cached=False)


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
    """Give an amount of money for a log line."""
    return "unknown" if amount is None else f"${amount:.6f}"
