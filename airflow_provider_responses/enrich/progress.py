"""The counts of an attempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_responses.enrich.model_counts import ModelCounts

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response


@dataclass
class Progress:
    """The counts of an attempt so far; costs in US dollars."""

    done: int = 0  # requests
    escalated: int = 0  # requests, each time that they were sent on to a larger model
    sent: int = 0
    cost: float = 0.0
    cached_cost: float = 0.0  # of cached responses that an earlier send paid for, and whose price was never recorded
    unpriced: int = 0  # responses without a price, and sends that may have been billed
    unpriced_cached: int = 0  # the cached responses among them
    priced_responses: int = 0
    priced_cached: int = 0
    tokens: int = 0
    with_tokens: int = 0  # responses with a token count
    without_tokens: int = 0
    cache_hits: int = 0
    repaired: int = 0  # responses whose JSON had to be repaired
    maybe_truncated: int = 0  # responses with these marks of `Response`
    inconsistent: int = 0
    in_flight: int = 0
    down_since: float | None = None  # on the clock of the attempt, while the service is down
    retryable_failures: int = 0  # requests that failed, and may get a response in another attempt
    failures: Counter[str] = field(default_factory=Counter)  # by error class
    resent: Counter[str] = field(default_factory=Counter)  # by HTTP status or error class
    highest_prices: dict[int, float] = field(default_factory=dict)  # of a response, by `Step.price_kind`
    priced_kinds: set[int] = field(default_factory=set)  # of which any response had a price
    models: dict[str, ModelCounts] = field(default_factory=dict)  # by the model that served, "" without a response

    def of_model(self, response: Response | None) -> ModelCounts:
        """Return the counts of the model that has served a response, of requests without one for None."""
        name = "" if response is None else response.model or ""
        counts = self.models.get(name)
        if counts is None:
            counts = self.models[name] = ModelCounts()
        return counts

    def note_price(self, kind: int, price: float) -> None:
        """Note the price of a response of a kind of step, if it is the highest so far."""
        self.highest_prices[kind] = max(self.highest_prices.get(kind, 0.0), price)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON, without those of the moment."""
        counters: dict[str, Any] = {"failures": dict(self.failures), "resent": dict(self.resent)}
        counters["models"] = {name: counts.to_json() for name, counts in self.models.items()}
        counters["highest_prices"] = {str(kind): price for kind, price in self.highest_prices.items()}
        counters["priced_kinds"] = sorted(self.priced_kinds)
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, **counters, "in_flight": 0, "down_since": None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the counts from :meth:`to_json`."""
        counters: dict[str, Any] = {name: Counter(data[name]) for name in ("failures", "resent")}
        counters["models"] = {name: ModelCounts.from_json(it) for name, it in data.get("models", {}).items()}
        counters["highest_prices"] = {int(kind): price for kind, price in data.get("highest_prices", {}).items()}
        counters["priced_kinds"] = set(data.get("priced_kinds", ()))
        known = {f.name for f in fields(cls)}  # an earlier release of this package may have written others
        return cls(**{name: value for name, value in {**data, **counters}.items() if name in known})
