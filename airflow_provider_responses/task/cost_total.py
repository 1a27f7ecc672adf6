"""A sum of US dollars, of which some may be unknown, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CostTotal:
    """
    The cost of a number of responses.

    :param known: US dollars, of all responses with a price.
    :param priced: number of responses with a price.
    :param unpriced: number of responses without one, and of sends that may have been billed.
    """

    known: float = 0.0
    priced: int = 0
    unpriced: int = 0

    def __add__(self, other: CostTotal) -> CostTotal:
        return CostTotal(self.known + other.known, self.priced + other.priced, self.unpriced + other.unpriced)

    def __sub__(self, other: CostTotal) -> CostTotal:
        return CostTotal(self.known - other.known, self.priced - other.priced, self.unpriced - other.unpriced)

    @property
    def total(self) -> float | None:
        """US dollars; None if no response had a price, and some may have been billed."""
        return None if self.unpriced and not self.priced else round(self.known, 9)

    @property
    def is_minimum(self) -> bool:
        """Whether some prices are known, and others are not."""
        return bool(self.unpriced and self.priced)

    def __str__(self) -> str:
        if (total := self.total) is None:
            return "unknown"
        return f"at least {short_dollars(total)}" if self.is_minimum else short_dollars(total)


def short_dollars(amount: float) -> str:
    """Return an amount with two decimals from a dollar on, and below it with as many as it needs, up to six."""
    if amount >= 1:
        return f"${amount:,.2f}"
    if 0 < amount < 1e-6:
        return "<$0.000001"
    whole, _, part = f"{amount:.6f}".partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"
