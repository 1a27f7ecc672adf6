"""The limits of an enrichment."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import RequestValidationError


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("concurrency", 0, "a whole number >= 1"),
        ("concurrency", 1.5, "a whole number >= 1"),
        ("concurrency", True, "a whole number >= 1"),
        ("concurrency", "8", "a whole number >= 1"),
        ("max_request_bytes", None, "a whole number >= 1"),
        ("requests_per_minute", 0, "a number > 0"),
        ("tokens_per_minute", -1, "a number > 0"),
        ("max_cost", 0.0, "a number > 0"),
        ("max_cost", math.nan, "a number > 0"),
        ("max_cost", math.inf, "a number > 0"),
        ("max_failures", -0.1, "a number >= 0"),
        ("max_failures", None, "a number >= 0"),
        ("max_failures", 1.0, "a count as a whole number, or a share as a float below 1"),
        ("max_failures", 2.5, "a count as a whole number, or a share as a float below 1"),
        ("max_outage", "10m", "a number >= 0"),
        ("initial_concurrency", 0, "a whole number >= 1"),
        ("initial_concurrency", "auto", "a whole number >= 1"),
        ("initial_concurrency", 65, "a whole number from 1 to limits.concurrency (64)"),
    ],
)
def test_a_wrong_limit_is_refused_by_name(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        Limits.parse({name: value})
    assert str(caught.value) == f"limits.{name} must be {allowed}, got {value!r}"
    assert caught.value.fields == (f"limits.{name}",)


def test_limits_may_be_a_dict() -> None:
    assert Limits.parse(None) == Limits.parse({}) == Limits()
    limits = Limits(concurrency=3, max_cost=1)
    assert Limits.parse(limits) is limits
    assert Limits.parse({"concurrency": 3, "max_cost": 1}) == limits
    with pytest.raises(RequestValidationError) as caught:
        Limits.parse({"concurency": 3})
    known = (
        "limits.concurency is unknown; did you mean 'concurrency'? limits may have concurrency, initial_concurrency, "
    )
    assert str(caught.value).startswith(known)
    for wrong in (5, "concurrency=3", [1]):
        expected = f"limits must be Limits or a dict of them, got {wrong!r}"
        with pytest.raises(RequestValidationError, match=f"^{re.escape(expected)}$"):
            Limits.parse(wrong)


@pytest.mark.parametrize(
    ("most", "failed", "of", "expected"),
    [
        (0, 0, 10, True),
        (0, 1, 10, False),
        (2, 2, 10, True),
        (2, 3, 1000, False),
        (1, 1, 1, True),
        (0.02, 2, 100, True),
        (0.02, 3, 100, False),
        (0.5, 0, 0, True),
        (0.0, 1, 100, False),
    ],
)
def test_max_failures_is_a_count_or_a_share(most: float, failed: int, of: int, expected: bool) -> None:
    assert Limits(max_failures=most).allows(failed, of) is expected


@given(st.integers(1, 10_000), st.data())
def test_max_failures_allows_exactly_the_share(of: int, data: st.DataObject) -> None:
    failed = data.draw(st.integers(0, of - 1))
    limits = Limits(max_failures=failed / of)
    assert limits.allows(failed, of)
    assert not limits.allows(failed + 1, of)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), 64),
        (Limits(concurrency=3), 3),
        (Limits(concurrency=500), 128),
        (Limits(concurrency=500, initial_concurrency=500), 500),
        (Limits(concurrency=500, initial_concurrency=1), 1),
    ],
)
def test_the_first_window_is_concurrency_but_at_most_128(limits: Limits, expected: int) -> None:
    assert limits.first_window == expected
