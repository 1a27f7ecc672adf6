"""Sums of costs that may be unknown."""

from __future__ import annotations

import pytest

from airflow_provider_responses.task.cost_total import CostTotal, short_dollars


@pytest.mark.parametrize(
    ("amount", "total", "said"),
    [
        (CostTotal(), 0.0, "$0.00"),
        (CostTotal(0.0084, priced=200), 0.0084, "$0.0084"),
        (CostTotal(0.0, unpriced=3), None, "unknown"),
        (CostTotal(0.5, priced=1, unpriced=3), 0.5, "at least $0.50"),
        (CostTotal(0.0, priced=1, unpriced=3), 0.0, "at least $0.00"),
        (CostTotal(0.0, unpriced=1) + CostTotal(1.5, priced=2), 1.5, "at least $1.50"),
    ],
)
def test_unknown_costs_are_shown_as_unknown_or_as_a_minimum(amount, total, said):
    assert (amount.total, str(amount)) == (total, said)


@pytest.mark.parametrize(
    ("dollars", "said"),
    [(0.0, "$0.00"), (1e-9, "<$0.000001"), (0.000025, "$0.000025"), (0.5, "$0.50"), (1234.567, "$1,234.57")],
)
def test_an_amount_has_only_the_decimals_that_it_needs(dollars, said):
    assert short_dollars(dollars) == said
