"""Limits per minute. The time is a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.rate_limits import RateLimits


def most_in_a_minute(events: list[tuple[float, float]]) -> float:
    """Return the largest sum over any 60 seconds."""
    most = total = 0.0
    first = 0
    for at, size in events:
        total += size
        while events[first][0] <= at - 60.0 + 1e-6:
            total -= events[first][1]
            first += 1
        most = max(most, total)
    return most


def simulate(rates: RateLimits, count: int, late: list[float], tokens: float = 0.0) -> list[tuple[float, float]]:
    """Send as early as allowed, or later than that; responses come at once."""
    now, sent = 0.0, list[tuple[float, float]]()
    for number in range(count):
        now += late[number % len(late)] if late else 0.0
        now = max(now, rates.allowed_from())
        expected = rates.count_send(now, 40)
        sent.append((now, tokens or 1.0))
        rates.correct_tokens(int(tokens), expected)
    return sent


LATE = st.lists(st.sampled_from([0.0, 0.001, 0.3, 2.0, 70.0]) | st.floats(0, 3), max_size=8)


@given(st.integers(1, 150), LATE)
def test_requests_per_minute_are_not_exceeded(limit: int, late: list[float]) -> None:
    sent = simulate(RateLimits(Limits(requests_per_minute=limit)), 2 * limit + 2, late)
    assert most_in_a_minute(sent) <= limit


@given(st.integers(100, 100_000), st.integers(1, 50_000), LATE)
def test_tokens_per_minute_are_not_exceeded(limit: int, tokens: int, late: list[float]) -> None:
    rates = RateLimits(Limits(tokens_per_minute=limit))
    simulate(rates, 1, [], tokens)  # the tokens of a response are known from here on
    sent = simulate(rates, 200, [70.0, *late], tokens)
    assert most_in_a_minute(sent[1:]) <= max(limit, tokens)


@pytest.mark.parametrize(
    "limits", [Limits(requests_per_minute=600), Limits(tokens_per_minute=60_000)], ids=["requests", "tokens"]
)
def test_the_limits_are_used_fully(limits: Limits) -> None:
    sent = simulate(RateLimits(limits), 1201, [0.02, 0.0], 100)
    assert 120.0 <= sent[-1][0] <= 122.0


def test_estimated_tokens_are_corrected_by_the_response() -> None:
    rates = RateLimits(Limits(tokens_per_minute=6000))
    expected = rates.count_send(0.0, 4000)
    assert expected == 1000.0  # four bytes each
    assert rates.allowed_from() > 9.0
    rates.correct_tokens(10, expected)
    assert rates.allowed_from() <= 0.0
    assert rates.count_send(1.0, 4000) == 10.0
    rates.correct_tokens(0, 10.0)  # a cached response uses none, which says nothing about the next
    assert rates.count_send(2.0, 4000) == 10.0
    rates.correct_tokens(None, 10.0)
    assert rates.count_send(3.0, 4000) == 10.0
    rates.correct_tokens(3000, 10.0)
    assert rates.allowed_from() > 31.0
