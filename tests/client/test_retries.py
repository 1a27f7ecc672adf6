"""The decision whether and when a failure is retried, without a clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses import exceptions
from airflow_provider_responses.client.retries import FIRST_BACKOFF, LONGEST_BACKOFF, backoff, next_wait
from airflow_provider_responses.exceptions import (
    APIError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    StreamInterruptedError,
    TransportError,
)

from .wire import config

CONFIG = config()
draws = st.floats(0, 1)
seconds = st.floats(0, 1000)


def wait(error: Any, *, plain: int = 0, ambiguous: int = 0, remaining: float = 600, **settings: Any) -> float | None:
    return next_wait(error, plain=plain, ambiguous=ambiguous, config=config(**settings), remaining=remaining, draw=1.0)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TransportError("no connection"), True),
        (TransportError("broke", kind="read", ambiguous=True), True),
        (StreamInterruptedError("broke", ambiguous=True), True),
        (APIError("no"), False),
        (APIError("yes", retryable=True), True),
        (exceptions.TooManyRequestsResponseError("later"), True),
        (exceptions.TooManyRequestsResponseError("never", retryable=False), False),
        (exceptions.BadRequestResponseError("wrong"), False),
        (exceptions.IncompleteResponseError("cut"), False),
        (exceptions.RefusalError("no"), False),
        (exceptions.OutputValidationError("invalid"), False),
        (RequestValidationError("wrong"), False),
        (RequestCancelledError("killed"), False),
        (ValueError("a bug"), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_retryable_failures_are_retried_within_their_limits(error: Any, again: bool) -> None:
    assert (wait(error) is not None) is again


def test_plain_and_ambiguous_failures_have_limits_of_their_own() -> None:
    plain, ambiguous = TransportError(), TransportError(kind="read", ambiguous=True)
    assert wait(plain, plain=2) is not None
    assert wait(plain, plain=3) is None
    assert wait(ambiguous, ambiguous=0) is not None
    assert wait(ambiguous, ambiguous=1) is None
    assert wait(plain, plain=2, ambiguous=1) is not None
    assert wait(ambiguous, plain=3, ambiguous=0) is not None
    assert wait(plain, max_retries=0) is None
    assert wait(ambiguous, max_retries=0) is not None
    assert wait(ambiguous, max_ambiguous_retries=0) is None


@given(st.integers(0, 10_000), draws)
def test_backoff_stays_within_its_bounds(retry: int, draw: float) -> None:
    assert 0 <= backoff(retry, draw) <= LONGEST_BACKOFF


def test_backoff_doubles_from_its_first_to_its_longest_wait() -> None:
    assert [backoff(retry, 1.0) for retry in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff(3, 0.5) == 2
    assert backoff(0, 1.0) == FIRST_BACKOFF


@given(
    retry_after=st.none() | seconds,
    is_ambiguous=st.booleans(),
    plain=st.integers(0, 5),
    ambiguous=st.integers(0, 5),
    remaining=st.floats(-10, 1000),
    draw=draws,
)
def test_a_wait_is_never_too_short_nor_too_long(
    retry_after: float | None, is_ambiguous: bool, plain: int, ambiguous: int, remaining: float, draw: float
) -> None:
    error = ResponsesError("x", retryable=True, ambiguous=is_ambiguous, retry_after=retry_after)
    wait = next_wait(error, plain=plain, ambiguous=ambiguous, config=CONFIG, remaining=remaining, draw=draw)
    if (ambiguous >= 1) if is_ambiguous else (plain >= 3):
        assert wait is None
    if retry_after is not None and retry_after > CONFIG.max_retry_wait:
        assert wait is None
    if wait is not None:
        assert 0 <= wait < remaining
        assert wait >= (retry_after or 0)


@given(st.floats(0, 20), st.integers(0, 9), draws)
def test_no_backoff_is_longer_than_max_retry_wait(longest: float, plain: int, draw: float) -> None:
    settings = config(max_retry_wait=longest, max_retries=10)
    wait = next_wait(TransportError(), plain=plain, ambiguous=0, config=settings, remaining=600, draw=draw)
    assert wait is None or wait <= longest


@given(draws)
def test_the_wait_that_the_server_names_is_spread_a_little(draw: float) -> None:
    error = ResponsesError("x", retryable=True, retry_after=7)
    wait = next_wait(error, plain=0, ambiguous=0, config=CONFIG, remaining=600, draw=draw)
    assert wait is not None
    assert 7 <= wait <= 7 + FIRST_BACKOFF
