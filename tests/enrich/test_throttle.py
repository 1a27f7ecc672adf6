"""The number of requests in flight, and when the service is down. The time is a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.throttle import MAX_PROBE, MIN_FAILURES, Throttle, Ticket
from tests.enrich.limiters import Bucket, FixedWindow, Random, Simulated, SlidingWindow, simulate


def fill(throttle: Throttle, now: float = 0.0, model: str = "") -> list[Ticket]:
    """Send as many requests as may be in flight."""
    sent = []
    while throttle.has_room(now) and throttle.may_send(now, model) and len(sent) < 10_000:
        sent.append(throttle.note_send(now, 40, model))
    return sent


def respond(throttle: Throttle, sent: list[Ticket], now: float) -> None:
    for ticket in sent:
        throttle.note_end(ticket, now)
        throttle.note_response(ticket, now, None)


def refuse(throttle: Throttle, sent: list[Ticket], now: float, retry_after: float | None = None) -> list[bool]:
    said = []
    for ticket in sent:
        throttle.note_end(ticket, now)
        said.append(throttle.note_busy(ticket, now, retry_after))
    return said


def fail(throttle: Throttle, sent: list[Ticket], now: float, *, is_unconnected: bool = False) -> list[bool]:
    said = []
    for ticket in sent:
        throttle.note_end(ticket, now)
        said.append(throttle.note_failure(ticket, now, is_unconnected=is_unconnected))
    return said


def sizes(throttle: Throttle, rounds: int, start: float = 0.0) -> list[int]:
    """Return the number of requests in flight in each round of responses."""
    found = []
    for number in range(rounds):
        sent = fill(throttle, start + number)
        found.append(len(sent))
        respond(throttle, sent, start + number + 0.5)
    return found


def test_the_window_doubles_each_round_up_to_the_limit() -> None:
    assert sizes(Throttle(Limits(concurrency=200, initial_concurrency=8)), 7) == [8, 16, 32, 64, 128, 200, 200]
    assert sizes(Throttle(Limits(concurrency=300)), 4) == [128, 256, 300, 300]
    assert sizes(Throttle(Limits(concurrency=3)), 2) == [3, 3]
    assert sizes(Throttle(Limits(concurrency=1)), 2) == [1, 1]


@pytest.mark.parametrize(("given_", "first"), [(None, 8), (0.5, 1), (17.9, 17), (64, 64), (900, 64)])
def test_the_first_window_is_that_of_the_attempt_before(given_: float | None, first: int) -> None:
    throttle = Throttle(Limits(concurrency=64, initial_concurrency=8), given_)
    assert int(throttle.window) == len(fill(throttle)) == first


def test_the_window_does_not_grow_while_it_is_not_used() -> None:
    throttle = Throttle(Limits(concurrency=64, initial_concurrency=8))
    for now in range(100):
        respond(throttle, [throttle.note_send(now, 40) for _ in range(3)], now + 0.5)
    assert throttle.window == 8


@pytest.mark.parametrize("first", [8, 64])
def test_refusals_of_all_requests_halve_the_window_once_a_round(first: int) -> None:
    throttle = Throttle(Limits(concurrency=64, initial_concurrency=first))
    sent = fill(throttle)
    said = refuse(throttle, sent, 1.0, 1.0)
    assert said.count(True) == 1, "all were in flight when it became known"
    assert throttle.window == first / 2
    throttle.hold(2.0, "")
    assert fill(throttle, 1.5) == []
    assert throttle.next_change(1.5) == 2.0


def test_a_single_refusal_does_not_affect_others() -> None:
    throttle = Throttle(Limits(concurrency=64))
    first, *others = fill(throttle)
    assert refuse(throttle, [first], 1.0, 30.0) == [False]
    assert (throttle.window, throttle.delay(1.0, "")) == (64, 0.0)
    assert len(fill(throttle, 1.0)) == 1
    respond(throttle, others, 1.5)


def test_a_limit_of_the_account_cuts_the_window_at_once() -> None:
    throttle = Throttle(Limits(concurrency=64))
    first, second, *_ = fill(throttle)
    for ticket, expected in ((first, True), (second, False)):
        throttle.note_end(ticket, 1.0)
        assert throttle.note_busy(ticket, 1.0, 30.0, is_of_account=True) is expected
        assert throttle.window == 32


def test_after_a_cut_the_window_loses_one_with_each_refusal_and_grows_slowly() -> None:
    throttle = Throttle(Limits(concurrency=64))
    refuse(throttle, fill(throttle), 1.0)
    assert throttle.window == 32
    sent = [throttle.note_send(2.0, 40) for _ in range(32)]
    assert refuse(throttle, sent[:3], 2.1) == [False] * 3
    assert throttle.window == 29
    respond(throttle, sent[3:], 2.5)
    assert 29.9 < throttle.window < 30.1


def test_a_window_that_was_cut_grows_quickly_again_after_a_time() -> None:
    throttle = Throttle(Limits(concurrency=64))
    refuse(throttle, fill(throttle), 1.0)
    sent = [throttle.note_send(20.0, 40) for _ in range(32)]
    respond(throttle, sent, 20.5)
    assert throttle.window == 64


@given(st.lists(st.tuples(st.floats(0, 5), st.one_of(st.none(), st.floats(0, 100))), max_size=20))
def test_a_hold_is_never_shortened(events: list[tuple[float, float | None]]) -> None:
    throttle, now, held = Throttle(Limits()), 0.0, 0.0
    for after, retry_after in events:
        now += after
        ticket = throttle.note_send(now, 40)
        throttle.note_end(ticket, now)
        throttle.note_busy(ticket, now, retry_after)
        throttle.hold(now + (retry_after or 0.0), "")
        held = max(held, now + (retry_after or 0.0))
        assert now + throttle.delay(now, "") >= held - 1e-9
    assert throttle.delay(held + MAX_PROBE, "") == 0.0


def test_holding_one_model_does_not_hold_another() -> None:
    throttle = Throttle(Limits(concurrency=64))
    assert True in refuse(throttle, [throttle.note_send(0.0, 40, "a") for _ in range(32)], 0.5, 30.0)
    throttle.hold(30.5, "a")
    assert not throttle.may_send(1.0, "a")
    assert len(fill(throttle, 1.0, "b")) == 64
    assert throttle.delay(1.0) == 0.0
    throttle.hold(40.0)
    assert throttle.delay(30.0, "b") == 10.0


# Against rate limiters


SIMULATED = [
    pytest.param(Bucket(100, burst=100), 85, 1.07, id="bucket"),
    pytest.param(SlidingWindow(100), 80, 1.07, id="sliding window"),
    pytest.param(FixedWindow(100), 80, 1.07, id="fixed window"),
]


@pytest.mark.parametrize(("limiter", "rate", "sends"), SIMULATED)
def test_a_rate_limiter_is_used_fully_with_few_refusals(limiter: Simulated, rate: float, sends: float) -> None:
    found = simulate(limiter, 3000, concurrency=256)
    assert found.rate >= rate
    assert found.sends <= sends * 3000
    long = simulate(limiter.again(), 20_000, concurrency=256)
    assert long.rate >= rate
    assert long.sends <= sends * 20_000


def test_scattered_refusals_do_not_stop_a_table() -> None:
    good = simulate(Random(), 3000, concurrency=256)
    mixed = simulate(Random(refused=0.05, failed=0.05), 3000, concurrency=256)
    few = simulate(Random(refused=0.01), 20_000, concurrency=256)
    assert mixed.rate >= 0.7 * good.rate
    assert mixed.sends <= 1.13 * 3000
    assert mixed.throttle.window > 200
    assert few.rate >= 0.9 * good.rate


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_refusals_that_do_not_depend_on_the_load_do_not_close_the_window(share: float) -> None:
    found = simulate(Random(refused=share), 10_000, concurrency=256)
    assert found.rate >= 100
    assert found.sends <= 10_000 / (1 - share) * 1.05


def test_refusals_of_one_model_do_not_slow_down_another() -> None:
    alone = simulate(Random(), 1500, concurrency=256)
    both = simulate(Random(refused=0.3, models={"a"}), 3000, concurrency=256, models=("a", "b"))
    assert both.rate_of("b") >= 0.7 * alone.rate
    assert both.rate_of("a") >= 30


# A service that is down


def test_a_service_is_down_only_after_several_failures_in_a_row() -> None:
    throttle = Throttle(Limits(concurrency=5))
    for now in range(20):
        first, *others = fill(throttle, now)
        assert not any(fail(throttle, others, now + 0.5))
        respond(throttle, [first], now + 0.6)
    assert throttle.down_since is None
    assert throttle.delay(20.0) == 0.0
    assert fail(throttle, fill(throttle, 30.0), 30.5) == [False] * (MIN_FAILURES - 1) + [True]
    assert throttle.down_since == 30.5


@pytest.mark.parametrize(("in_flight", "needed"), [(1, 5), (16, 16), (64, 32)])
def test_more_requests_in_flight_need_more_failures(in_flight: int, needed: int) -> None:
    throttle = Throttle(Limits(concurrency=64))
    said: list[bool] = []
    while len(said) < needed:
        said += fail(throttle, [throttle.note_send(0.0, 40) for _ in range(in_flight)], 0.1)
    assert said.index(True) == needed - 1


def down(at: float = 0.0, concurrency: int = 16) -> Throttle:
    throttle = Throttle(Limits(concurrency=concurrency))
    fail(throttle, fill(throttle, at - 0.5), at)
    assert throttle.down_since == at
    return throttle


@pytest.mark.parametrize(
    ("is_unconnected", "expected"),
    [(False, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]), (True, [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0])],
)
def test_one_probe_at_a_time_with_growing_waits(*, is_unconnected: bool, expected: list[float]) -> None:
    throttle = Throttle(Limits(concurrency=16))
    fail(throttle, fill(throttle), 0.5, is_unconnected=is_unconnected)
    now, waits = 0.5, []
    while len(waits) < len(expected):
        waits.append(throttle.delay(now))
        now += waits[-1]
        [probe] = fill(throttle, now)
        assert fail(throttle, [probe], now, is_unconnected=is_unconnected) == [True]
    assert waits == expected


def test_requests_from_before_an_outage_do_not_count_against_the_probe() -> None:
    throttle = Throttle(Limits(concurrency=64))
    sent = fill(throttle)
    fail(throttle, sent[:40], 1.0)
    hanging = sent[40:]
    [probe] = fill(throttle, 2.0)
    assert fail(throttle, hanging[:1], 2.1) == [True]
    assert fill(throttle, 2.2) == [], "that one was no probe"
    assert fail(throttle, [probe], 2.3) == [True]
    assert [throttle.predates_outage(ticket) for ticket in (*hanging, probe)] == [True] * 24 + [False]


@pytest.mark.parametrize("sign", ["response", "busy", "row"])
def test_a_response_over_an_old_connection_does_not_end_an_outage(sign: str) -> None:
    throttle = Throttle(Limits(concurrency=64))
    sent = fill(throttle)
    fail(throttle, sent[:40], 1.0)
    old, probe = sent[40], fill(throttle, 2.0)[0]
    for ticket, expected in ((old, 1.0), (probe, None)):
        throttle.note_end(ticket, 3.0)
        if sign == "response":
            throttle.note_response(ticket, 3.0, None)
        elif sign == "busy":
            throttle.note_busy(ticket, 3.0)
        else:
            throttle.note_contact(ticket)
        assert throttle.down_since == expected
    assert len(fill(throttle, 3.0)) >= 32, "those from before take no room"


def test_a_probe_that_hangs_is_followed_by_another() -> None:
    throttle = down()
    [hanging] = fill(throttle, 1.0)
    assert throttle.next_change(1.0) == 1.0 + MAX_PROBE
    [second] = fill(throttle, 31.0)
    respond(throttle, [second], 31.5)
    assert throttle.down_since is None
    assert throttle.predates_outage(hanging)


def test_a_request_from_before_an_outage_is_overdue_after_twice_the_longest_response() -> None:
    throttle = Throttle(Limits(concurrency=64))
    ticket = throttle.note_send(0.0, 40)
    assert throttle.overdue_at(ticket) == 0.0
    respond(throttle, [throttle.note_send(1.0, 40)], 4.0)
    respond(throttle, [throttle.note_send(5.0, 40)], 6.0)
    assert throttle.overdue_at(ticket) == 6.0


def test_an_extra_request_is_sent_while_all_are_silent() -> None:
    throttle = Throttle(Limits(concurrency=16))
    respond(throttle, fill(throttle), 2.0)
    silent = fill(throttle, 2.0)
    assert throttle.next_change(2.0) == 6.0  # twice the longest response
    assert fill(throttle, 5.9) == []
    [probe] = fill(throttle, 6.0)
    assert fail(throttle, [probe], 6.1, is_unconnected=True) == [True]
    assert throttle.down_since == 6.1
    assert all(throttle.predates_outage(ticket) for ticket in silent)


def test_before_the_first_response_an_extra_request_is_sent_after_a_minute() -> None:
    throttle = Throttle(Limits(concurrency=16))
    fill(throttle)
    assert fill(throttle, 59.0) == []
    assert len(fill(throttle, 60.0)) == 1
    assert fill(throttle, 200.0) == []


def test_after_a_response_to_an_extra_request_the_next_is_sent_at_once() -> None:
    throttle = Throttle(Limits(concurrency=16))
    respond(throttle, fill(throttle), 0.5)
    silent = fill(throttle, 0.5)
    for now in (2.0, 2.1, 2.2):
        [more] = fill(throttle, now)
        respond(throttle, [more], now + 0.1)
    respond(throttle, silent[:1], 3.0)
    assert len(fill(throttle, 3.0)) == 1, "in its place"


def test_after_a_few_responses_to_extra_requests_silent_ones_no_longer_count() -> None:
    throttle = Throttle(Limits(concurrency=16))
    respond(throttle, fill(throttle), 0.5)
    silent = fill(throttle, 0.5)
    for number in range(5):
        [more] = fill(throttle, 2.0 + number / 10)
        respond(throttle, [more], 2.1 + number / 10)
    assert len(fill(throttle, 3.0)) == 16
    assert throttle.overdue_at(silent[0]) == math.inf, "they may just be slow"
    assert fail(throttle, silent, 60.5) == [False] * 16, "nor does their end say that the service is down"
    assert throttle.down_since is None


def test_an_outage_is_over_after_max_outage() -> None:
    throttle = down(at=100.0)
    assert throttle.gives_up_at() == 700.0
    assert throttle.next_change(699.0) == 700.0
    [probe] = fill(throttle, 699.0)
    respond(throttle, [probe], 699.5)
    assert throttle.gives_up_at() == math.inf


def test_an_outage_counts_from_its_first_failure() -> None:
    throttle = Throttle(Limits(concurrency=16))
    for now in range(0, 400, 50):
        fail(throttle, [throttle.note_send(now, 40)], now)
    assert throttle.down_since == 0.0
    assert throttle.gives_up_at() == 600.0


def test_a_service_that_refuses_everything_is_given_up_after_max_outage() -> None:
    throttle = Throttle(Limits(concurrency=16))
    refuse(throttle, fill(throttle), 100.0)
    fail(throttle, fill(throttle, 300.0), 300.0)
    refuse(throttle, fill(throttle, 500.0), 500.0)
    assert throttle.gives_up_at() == 700.0


def test_without_retry_after_a_busy_service_gets_fewer_and_fewer_requests() -> None:
    throttle, now, waits = Throttle(Limits(concurrency=1)), 0.0, []
    for _ in range(9):
        refuse(throttle, fill(throttle, now), now + 0.1)
        waits.append(throttle.delay(now + 0.1, ""))
        now += 0.1 + max(waits[-1], 0.1)
    assert waits == pytest.approx([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
    respond(throttle, fill(throttle, now), now + 0.5)
    refuse(throttle, fill(throttle, now + 1), now + 1)
    assert throttle.delay(now + 1, "") == 0.0
