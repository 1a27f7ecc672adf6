"""Limits, and the pace that keeps them. The time is a number."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.limits import FEWEST_FAILURES, LONGEST_PROBE, Limits, Pace
from airflow_provider_responses.exceptions import RequestValidationError


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("concurrency", 0, "a whole number from 1"),
        ("concurrency", 1.5, "a whole number from 1"),
        ("concurrency", True, "a whole number from 1"),
        ("concurrency", "8", "a whole number from 1"),
        ("max_request_bytes", None, "a whole number from 1"),
        ("requests_per_minute", 0, "a number above 0"),
        ("tokens_per_minute", -1, "a number above 0"),
        ("max_cost", 0.0, "a number above 0"),
        ("max_cost", math.nan, "a number above 0"),
        ("max_cost", math.inf, "a number above 0"),
        ("max_failures", -0.1, "a number from 0"),
        ("max_failures", None, "a number from 0"),
        ("max_failures", 1.0, "a count as a whole number, or a share as a float below 1"),
        ("max_failures", 2.5, "a count as a whole number, or a share as a float below 1"),
        ("max_outage", "10m", "a number from 0"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_by_name(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        Limits.parse({name: value})
    assert str(caught.value) == f"limits.{name} is {value!r}; allowed is {allowed}"
    assert caught.value.fields == (f"limits.{name}",)


def test_limits_are_given_as_such_or_as_a_dict() -> None:
    assert Limits.parse(None) == Limits.parse({}) == Limits()
    limits = Limits(concurrency=3, max_cost=1)
    assert Limits.parse(limits) is limits
    assert Limits.parse({"concurrency": 3, "max_cost": 1}) == limits
    with pytest.raises(RequestValidationError, match=r"limits\.concurency: no such limit; allowed are concurrency, "):
        Limits.parse({"concurency": 3})
    for wrong in (5, "concurrency=3", [1]):
        with pytest.raises(RequestValidationError, match=f"limits is a {type(wrong).__name__}; allowed is Limits"):
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
def test_failures_are_allowed_as_a_count_or_as_a_share(most: float, failed: int, of: int, expected: bool) -> None:
    assert Limits(max_failures=most).allows(failed, of) is expected


@given(st.integers(1, 10_000), st.data())
def test_exactly_the_share_is_allowed(of: int, data: st.DataObject) -> None:
    failed = data.draw(st.integers(0, of - 1))
    limits = Limits(max_failures=failed / of)
    assert limits.allows(failed, of)
    assert not limits.allows(failed + 1, of)


# How many are in flight


def answer_round(pace: Pace) -> None:
    """All that the window allows are in flight, and are answered at the same time."""
    in_flight = next(n for n in range(10_000) if not pace.has_room(n))
    for _ in range(in_flight):
        pace.answered(in_flight=in_flight, tokens=None, taken=0.0)


def sizes(pace: Pace, rounds: int) -> list[int]:
    found = []
    for _ in range(rounds):
        found.append(int(pace.window))
        answer_round(pace)
    return found


def test_the_window_doubles_each_round_up_to_the_limit() -> None:
    assert sizes(Pace(Limits(concurrency=200)), 7) == [8, 16, 32, 64, 128, 200, 200]
    assert sizes(Pace(Limits(concurrency=3)), 2) == [3, 3]
    assert sizes(Pace(Limits(concurrency=1)), 2) == [1, 1]


def test_the_window_does_not_grow_while_it_is_not_used() -> None:
    pace = Pace(Limits(concurrency=64))
    for _ in range(100):
        pace.answered(in_flight=3, tokens=None, taken=0.0)
    assert pace.window == 8


def test_a_busy_service_halves_the_window_once_per_round_and_it_grows_slowly_then() -> None:
    pace = Pace(Limits(concurrency=64))
    sizes(pace, 3)
    assert pace.window == 64
    for started in (9.0, 9.5, 9.9):  # all were in flight when the first of them came back
        pace.busy(now=10.0, started=started, retry_after=None)
    assert pace.window == 32
    pace.busy(now=11.0, started=10.5, retry_after=None)
    assert pace.window == 16
    grown = sizes(pace, 4)
    assert grown == [16, 16, 17, 18]  # about one per round
    for now in range(20, 40, 2):
        pace.busy(now=now, started=now - 1.0, retry_after=None)
    assert pace.window == 1
    assert pace.has_room(0)


# When the next one may go out


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.one_of(st.none(), st.floats(0, 100))),
        max_size=20,
    )
)
def test_nothing_is_sent_before_any_retry_after(events: list[tuple[float, float | None]]) -> None:
    pace, now, held = Pace(Limits()), 0.0, 0.0
    for after, retry_after in events:
        now += after
        pace.busy(now=now, started=now, retry_after=retry_after)  # in flight at the last cut
        held = max(held, now + (retry_after or 0.0))
        assert now + pace.delay(now) >= held - 1e-9
    assert pace.delay(held + LONGEST_PROBE) == 0.0


def most_in_a_minute(events: list[tuple[float, float]]) -> float:
    """The largest sum over any 60 seconds."""
    most = total = 0.0
    first = 0
    for at, size in events:
        total += size
        while events[first][0] <= at - 60.0 + 1e-6:
            total -= events[first][1]
            first += 1
        most = max(most, total)
    return most


def simulate(pace: Pace, count: int, late: list[float], tokens: float = 0.0) -> list[tuple[float, float]]:
    """Send as early as allowed, or later than that; answers come at once."""
    now, sent = 0.0, list[tuple[float, float]]()
    for number in range(count):
        now += late[number % len(late)] if late else 0.0
        while (wait := pace.delay(now)) > 0:
            now += wait
        taken = pace.sent(now, 40)
        sent.append((now, tokens or 1.0))
        pace.answered(in_flight=1, tokens=int(tokens), taken=taken)
    return sent


LATE = st.lists(st.sampled_from([0.0, 0.001, 0.3, 2.0, 70.0]) | st.floats(0, 3), max_size=8)


@given(st.integers(1, 150), LATE)
def test_requests_per_minute_are_kept(limit: int, late: list[float]) -> None:
    sent = simulate(Pace(Limits(requests_per_minute=limit)), 2 * limit + 2, late)
    assert most_in_a_minute(sent) <= limit


@given(st.integers(100, 100_000), st.integers(1, 50_000), LATE)
def test_tokens_per_minute_are_kept(limit: int, tokens: int, late: list[float]) -> None:
    pace = Pace(Limits(tokens_per_minute=limit))
    simulate(pace, 1, [], tokens)  # what an answer takes is known from here on
    sent = simulate(pace, 200, [70.0, *late], tokens)
    assert most_in_a_minute(sent[1:]) <= max(limit, tokens)


@pytest.mark.parametrize(
    "limits", [Limits(requests_per_minute=600), Limits(tokens_per_minute=60_000)], ids=["requests", "tokens"]
)
def test_limits_are_used_up(limits: Limits) -> None:
    sent = simulate(Pace(limits), 1201, [0.02, 0.0], 100)
    assert 120.0 <= sent[-1][0] <= 122.0


def test_estimated_tokens_are_settled_when_the_answer_is_there() -> None:
    pace = Pace(Limits(tokens_per_minute=6000))
    taken = pace.sent(0.0, 4000)
    assert taken == 1000.0  # four bytes each
    assert pace.delay(0.0) > 9.0
    pace.answered(in_flight=1, tokens=10, taken=taken)
    assert pace.delay(0.0) == 0.0
    assert pace.sent(1.0, 4000) == 10.0
    pace.answered(in_flight=1, tokens=0, taken=10.0)  # a kept answer: free, and it tells nothing of the next
    assert pace.sent(2.0, 4000) == 10.0
    pace.answered(in_flight=1, tokens=None, taken=10.0)
    assert pace.sent(3.0, 4000) == 10.0
    pace.answered(in_flight=1, tokens=3000, taken=10.0)
    assert pace.delay(3.0) > 28.0


# A service that is down


def test_a_service_is_taken_to_be_down_after_several_failures_in_a_row_only() -> None:
    pace = Pace(Limits(concurrency=5))
    for now in range(20):
        for _ in range(FEWEST_FAILURES - 1):
            assert not pace.failed(now=now, started=now - 1.0)
        pace.answered(in_flight=1, tokens=None, taken=0.0)
    assert pace.down_since is None
    assert pace.delay(20.0) == 0.0
    verdicts = [pace.failed(now=30.0, started=29.0) for _ in range(FEWEST_FAILURES)]
    assert verdicts == [False] * (FEWEST_FAILURES - 1) + [True]
    assert pace.down_since == 30.0


@pytest.mark.parametrize(("concurrency", "needed"), [(1, 5), (16, 16), (64, 32)])
def test_the_more_in_flight_the_more_failures_it_takes(concurrency: int, needed: int) -> None:
    pace = Pace(Limits(concurrency=concurrency))
    sizes(pace, 4)
    assert [pace.failed(now=0.0, started=0.0) for _ in range(needed)].index(True) == needed - 1


def down(at: float = 0.0) -> Pace:
    pace = Pace(Limits(concurrency=16))
    while not pace.failed(now=at, started=at - 0.5):
        pass
    return pace


def test_one_probe_at_a_time_with_growing_waits() -> None:
    pace, now, waits = down(), 0.0, []
    assert pace.has_room(0)
    assert not pace.has_room(1)
    for _ in range(8):
        assert pace.failed(now=now, started=-0.2)  # a late failure of those before: no probe
        waits.append(pace.delay(now))
        now += waits[-1]
        assert pace.failed(now=now, started=now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    pace.answered(in_flight=1, tokens=None, taken=0.0)
    assert pace.down_since is None
    assert int(pace.window) == 4
    assert down().delay(0.0) == 1.0


@pytest.mark.parametrize("sign", ["answered", "busy", "heard"])
def test_a_service_that_says_anything_is_not_down(sign: str) -> None:
    pace = down()
    if sign == "answered":
        pace.answered(in_flight=1, tokens=None, taken=0.0)
    elif sign == "busy":
        pace.busy(now=1.0, started=0.5, retry_after=None)
    else:
        pace.heard()
    assert pace.down_since is None
    assert not pace.is_over(10_000.0) or sign == "busy"
    assert not pace.failed(now=2.0, started=2.0)  # counted anew


def test_an_outage_is_over_after_max_outage() -> None:
    pace = down(at=100.0)
    assert not pace.is_over(699.0)
    assert pace.is_over(700.0)
    pace.answered(in_flight=1, tokens=None, taken=0.0)
    assert not pace.is_over(700.0)


def test_an_outage_counts_from_its_first_failure() -> None:
    pace = Pace(Limits(concurrency=16))
    for now in range(8):
        pace.failed(now=now * 50.0, started=now * 50.0)
    assert pace.down_since == 350.0
    assert not pace.is_over(599.0)
    assert pace.is_over(600.0)


def test_a_service_that_is_busy_without_any_answer_is_waited_for_as_long() -> None:
    pace = Pace(Limits(concurrency=16))
    pace.busy(now=100.0, started=99.0, retry_after=None)
    while not pace.failed(now=300.0, started=300.0):
        pass
    pace.busy(now=500.0, started=499.0, retry_after=None)
    assert not pace.is_over(699.0)
    assert pace.is_over(700.0)


def test_a_service_that_is_busy_for_all_and_names_no_time_is_asked_less_and_less_often() -> None:
    pace, now, waits = Pace(Limits(concurrency=2)), 0.0, []
    for _ in range(9):
        pace.busy(now=now + 0.1, started=now, retry_after=None)
        waits.append(pace.delay(now + 0.1))
        now += 0.1 + max(waits[-1], 0.1)
    assert waits == pytest.approx([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
    pace.answered(in_flight=1, tokens=None, taken=0.0)
    pace.busy(now=now + 1, started=now + 0.5, retry_after=None)
    assert pace.delay(now + 1) == 0.0
