"""The requests of an enrichment by the model that served them: numbers, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from airflow_provider_responses.task.cost_total import CostTotal


@dataclass(slots=True)
class ModelCounts:
    """The counts of one model."""

    requests: int = 0  # that have ended
    failed: int = 0
    cached: int = 0
    cost: float = 0.0  # US dollars, of all responses with a price
    priced: int = 0
    unpriced: int = 0  # responses without a price, and sends that may have been billed
    input_tokens: int = 0
    output_tokens: int = 0
    with_tokens: int = 0  # responses with a token count
    without_tokens: int = 0

    def add(self, other: ModelCounts) -> None:
        """Add the counts of another attempt."""
        for it in fields(self):
            setattr(self, it.name, getattr(self, it.name) + getattr(other, it.name))

    @property
    def cost_total(self) -> CostTotal:
        """The cost, of which some may be unknown."""
        return CostTotal(self.cost, self.priced, self.unpriced)

    @property
    def tokens(self) -> tuple[int, int] | tuple[None, None]:
        """The tokens in and out; None if no response had a token count."""
        if self.without_tokens and not self.with_tokens:
            return None, None
        return self.input_tokens, self.output_tokens

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the counts from :meth:`to_json`."""
        return cls(**{it.name: data[it.name] for it in fields(cls) if it.name in data})


def total_of(counts: Iterable[ModelCounts]) -> ModelCounts:
    """Return the sum of counts."""
    total = ModelCounts()
    for it in counts:
        total.add(it)
    return total
