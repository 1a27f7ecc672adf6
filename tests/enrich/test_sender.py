"""The sender: sends, outcomes, and reasons to stop."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.failure_policy import MAX_BUSY
from airflow_provider_responses.enrich.row_outcome import RowOutcome
from airflow_provider_responses.enrich.sender import Sender
from airflow_provider_responses.exceptions import (
    BadRequestResponseError,
    ConfigurationError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    ResponsesError,
    TransportError,
)
from airflow_provider_responses.task.cost import paid_generation
from airflow_provider_responses.task.outcome import Outcome
from tests.enrich.service import (
    CONFIG,
    Said,
    Send,
    Service,
    dropped,
    refused,
    refused_connection,
    response,
    run,
    status_error,
)


@pytest.mark.parametrize("concurrency", [1, 3, 8, 50, 500])
def test_every_row_is_sent_once_within_the_window(concurrency: int) -> None:
    chance = random.Random(2)  # noqa: S311  the same each time
    service = Service(latency=lambda: chance.uniform(0.1, 1))
    ended = run(service, 1200, concurrency=concurrency)
    assert ended.stopped is None
    assert sorted(outcome.request.first_row for outcome in ended.outcomes) == list(range(1200))
    assert set(service.sends_of.values()) == {1}
    assert ended.statuses == {"ok": 1200}
    assert service.most <= concurrency
    assert service.most == concurrency
    assert service.sent_between(-1, 0.1) == min(concurrency, 128)
    first = ended.of(7)
    assert (first.value, first.error, first.cost, first.sends) == ("response 7", None, 0.001, 1)
    progress = ended.sender.progress
    assert (progress.done, progress.sent, progress.tokens, progress.unpriced) == (1200, 1200, 120_000, 0)
    assert progress.cost == pytest.approx(1.2)


def test_the_window_doubles_each_round_until_the_service_is_used_fully() -> None:
    service = Service(latency=0.5)
    ended = run(service, 10_000, concurrency=256, initial_concurrency=8)
    rounds = [service.sent_between(at - 0.25, at + 0.25) for at in (0, 0.5, 1, 1.5, 2, 2.5, 3)]
    assert rounds == [8, 16, 32, 64, 128, 256, 256]
    assert ended.seconds < 10_000 / 256 * 0.5 * 1.15


def test_a_slow_service_is_used_fully_from_the_second_round_on() -> None:
    """One GPU, 256 in flight, 7 s a response: growing from a window of 8 took 35 s."""
    service = Service(latency=7.0)
    ended = run(service, 679, concurrency=256)
    assert [service.sent_between(at - 3, at + 3) for at in (0, 7, 14)] == [128, 256, 256]
    assert ended.seconds == 28.0


@pytest.mark.parametrize(("window", "first"), [(1.0, 1), (40.7, 40), (256.0, 256), (900.0, 256)])
def test_an_attempt_starts_with_the_window_that_the_last_one_ended_with(window: float, first: int) -> None:
    service = Service()
    run(service, 1000, concurrency=256, initial_concurrency=8, initial_window=window)
    assert service.sent_between(-1, 0.1) == first


def test_an_empty_queue_ends_at_once() -> None:
    ended = run(Service(), 0)
    assert (ended.stopped, ended.outcomes, ended.seconds) == (None, [], 0.0)


def test_requests_per_minute_are_not_exceeded_and_do_not_delay_the_end() -> None:
    service = Service(latency=0.1)
    ended = run(service, 180, requests_per_minute=60)
    times = [at for at, _ in service.sends]
    assert max(sum(start <= at < start + 60 - 1e-6 for at in times) for start in times) == 60
    assert 178 <= times[-1] <= 182
    assert ended.seconds == pytest.approx(times[-1] + 0.1)


def test_tokens_per_minute_include_refused_responses() -> None:
    error = RefusalError("no", response=refused(response(tokens=1000)))
    service = Service(lambda _: Outcome(response=error.response, error=error), latency=0.1)
    run(service, 60, tokens_per_minute=20_000, concurrency=1)
    times = [at for at, _ in service.sends]
    assert max(sum(start <= at < start + 60 for at in times[1:]) for start in times[1:]) == 20


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (Outcome(response=response(), value="x"), "ok", None),
        (Outcome(response=response(status="incomplete"), value="x"), "incomplete", None),
        (Outcome(response=refused(response()), value="x"), "refused", None),
        (RefusalError("no", response=response()), "refused", "RefusalError: no"),
        (IncompleteResponseError("cut", response=response()), "incomplete", "IncompleteResponseError: cut"),
        (OutputValidationError("bad", response=response()), "invalid_output", "OutputValidationError: bad"),
        (status_error(400), "failed", "BadRequestResponseError: status 400"),
        (status_error(413), "failed", "PayloadTooLargeResponseError: status 413"),
        (status_error(422), "failed", "UnprocessableEntityResponseError: status 422"),
        (status_error(403, metadata={"reasons": ["x"]}), "failed", "ForbiddenResponseError: status 403"),
        (status_error(403, metadata={"patterns": ["x"]}), "failed", "ForbiddenResponseError: status 403"),
        (status_error(404, error_type="image_not_found"), "failed", "NotFoundResponseError: status 404"),
    ],
    ids=str,
)
@pytest.mark.parametrize("raised", [True, False])
def test_a_failure_of_one_row_only_marks_that_row(outcome: Said, status: str, said: str | None, raised: bool) -> None:
    if isinstance(outcome, ResponsesError) and not raised:
        outcome = Outcome(response=outcome.response, error=outcome)
    service = Service(lambda sent: outcome if sent.number == 3 else None)
    ended = run(service, 20)
    assert ended.stopped is None
    assert ended.statuses == ({"ok": 20} if status == "ok" else {"ok": 19, status: 1})
    assert service.sends_of[3] == 1
    marked = ended.of(3)
    has_response = status in ("ok", "incomplete", "refused", "invalid_output")
    assert (marked.error, marked.cost, marked.sends) == (said, 0.001 if has_response else 0.0, 1)
    assert ended.sender.progress.failures.total() == (said is not None)
    assert ended.sender.progress.cost == pytest.approx(0.001 * ended.sender.progress.tokens / 100)


def test_the_marks_of_responses_are_counted() -> None:
    marked = replace(response(), maybe_truncated=True, inconsistent=True)
    outcomes = {1: Outcome(response=marked, value="x", repaired=True), 2: Outcome(response=marked, value="x")}
    progress = run(Service(lambda sent: outcomes.get(sent.number)), 5).sender.progress
    assert (progress.repaired, progress.maybe_truncated, progress.inconsistent) == (1, 2, 2)


def test_an_error_is_cut_after_1000_characters() -> None:
    service = Service(lambda _: BadRequestResponseError("no" * 1000, status_code=400))
    error = run(service, 1).of(0).error
    assert error is not None
    assert len(error) == 1000
    assert error.startswith("BadRequestResponseError: nono")


def test_paid_responses_count_although_the_row_is_sent_again() -> None:
    """An output was invalid, and the service failed when the request was sent again."""
    first = response(0.25)
    invalid = OutputValidationError("bad", response=first)

    def say(sent: Send) -> Said:
        if sent.nth > 1:
            return None
        previous = (invalid,)
        return Outcome(response=replace(first, previous=previous), error=status_error(500, previous=previous))

    ended = run(Service(say), 1)
    assert ended.statuses == {"ok": 1}
    assert ended.of(0).cost == pytest.approx(0.251)
    assert ended.of(0).sends == 3
    assert ended.sender.progress.cost == pytest.approx(0.251)
    assert ended.sender.progress.tokens == 200


def test_cached_responses_have_their_original_cost_once() -> None:
    kept = response(0.5, cached=True)
    found = {paid_generation(kept): {"total_cost": 0.25}}
    ended = run(Service(lambda _: Outcome(response=kept, value="x", generations=found)), 5)
    progress = ended.sender.progress
    assert (progress.cache_hits, progress.cost, progress.cached_cost, progress.unpriced) == (5, 0.0, 1.25, 0)
    assert ended.of(1).cost == 0.25


def test_a_cached_response_without_a_price_does_not_end_an_attempt_with_a_budget() -> None:
    kept = Outcome(response=response(0.5, cached=True), value="x")
    ended = run(Service(lambda sent: kept if sent.number == 3 else None), 5, max_cost=100.0)
    assert ended.stopped is None
    assert (ended.sender.progress.cache_hits, ended.sender.progress.unpriced) == (1, 1)
    assert ended.of(3).cost is None


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_row_that_always_fails_uses_its_own_retries(retries: int) -> None:
    service = Service(lambda sent: status_error(500) if sent.number == 5 else None)
    ended = run(service, 300, config=ClientConfig(api_key="sk-test", max_retries=retries))
    assert ended.stopped is None
    assert ended.statuses == {"ok": 299, "failed": 1}
    assert service.sends_of[5] == ended.of(5).sends == retries + 1
    assert ended.of(5).cost == 0.0


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_sends_that_may_have_been_billed_are_repeated_within_their_limit(retries: int) -> None:
    service = Service(lambda sent: dropped() if sent.number % 10 == 5 else None)
    config = ClientConfig(api_key="sk-test", max_retries=5, max_ambiguous_retries=retries)
    ended = run(service, 100, config=config)
    assert ended.stopped is None
    assert ended.statuses == {"ok": 90, "failed": 10}
    assert {service.sends_of[number] for number in range(5, 100, 10)} == {retries + 1}
    assert ended.of(5).cost is None


def test_ambiguous_failures_in_an_outage_use_their_retries() -> None:
    service = Service(lambda _: dropped())
    ended = run(service, 100, max_outage=300)
    assert isinstance(ended.stopped, TransportError)
    assert max(service.sends_of.values()) == 2


def test_a_row_that_is_always_refused_while_others_succeed_is_given_up() -> None:
    service = Service(lambda sent: status_error(429) if sent.number == 5 else None, latency=0.1)
    ended = run(service, 5000, concurrency=4)
    assert ended.stopped is None
    assert ended.statuses == {"ok": 4999, "failed": 1}
    assert service.sends_of[5] <= MAX_BUSY + CONFIG.max_retries + 1


@pytest.mark.parametrize(
    "error",
    [
        status_error(401),
        status_error(402),
        status_error(404),
        status_error(403, metadata={"limit": "key"}),
        ConfigurationError("no such proxy"),
    ],
    ids=str,
)
def test_a_failure_of_all_rows_ends_the_attempt_at_once(error: ResponsesError) -> None:
    service = Service(lambda sent: error if sent.number == 20 else None, latency=0.5)
    ended = run(service, 1000, concurrency=8)
    assert ended.stopped is error
    told = next(at for at, number in service.sends if number == 20) + 0.5
    assert service.sent_between(told, 1e9) == 0
    assert len(ended.outcomes) == sum(service.responded.values()) == len(service.sends) - 1
    assert ended.statuses == {"ok": len(ended.outcomes)}


def test_an_unexpected_exception_ends_the_attempt_and_is_raised() -> None:
    def keep(outcome: RowOutcome) -> None:
        raise KeyError("a column")

    ended = run(Service(), 100, on_outcome=keep)
    assert isinstance(ended.stopped, KeyError)


def test_a_stopped_sender_waits_for_requests_in_flight() -> None:
    why = RuntimeError("stopped")

    async def stop(sender: Sender) -> None:
        await asyncio.sleep(0.7)
        sender.stop(why)
        sender.stop(RuntimeError("too late"))

    service = Service()
    ended = run(service, 1000, meanwhile=stop)
    assert ended.stopped is why
    assert ended.statuses == {"ok": len(service.sends)}
    assert ended.seconds == 1.0


def test_a_sender_that_is_stopped_while_it_waits_ends_at_once() -> None:
    async def stop(sender: Sender) -> None:
        await asyncio.sleep(5)
        sender.stop(RuntimeError("stopped"))

    ended = run(Service(lambda _: status_error(429, retry_after=300.0)), 10, meanwhile=stop)
    assert str(ended.stopped) == "stopped"
    assert ended.seconds == 5.0


def test_a_cancelled_sender_drops_requests_in_flight() -> None:
    why = RuntimeError("cancelled")

    async def cancel(sender: Sender) -> None:
        await asyncio.sleep(0.7)
        sender.cancel(why)

    service = Service()
    ended = run(service, 1000, meanwhile=cancel)
    assert ended.stopped is why
    assert (len(ended.outcomes), len(service.sends)) == (64, 128)
    assert ended.seconds == 0.7


@pytest.mark.parametrize("seed", range(4))
def test_all_rows_end_on_a_day_with_every_kind_of_failure(seed: int) -> None:
    """20 % get 429, 5 % fail, 2 % come back malformed, and the service is down for a minute."""
    chance = random.Random(seed)  # noqa: S311  the same each time
    down_at = chance.uniform(5, 60)
    malformed: Counter[int] = Counter()

    def say(sent: Send) -> Said:
        if down_at <= sent.now < down_at + 60:
            return refused_connection()
        draw = chance.random()
        if draw < 0.20:
            return status_error(429, retry_after=chance.choice([None, 0.2, 1.0, 3.0]))
        if draw < 0.25:
            return status_error(chance.choice([500, 502, 524]))
        if draw < 0.27:
            malformed[sent.number] += 1
            return dropped()
        return None

    service = Service(say, latency=lambda: chance.uniform(0.05, 0.5))
    ended = run(service, 2000, concurrency=256)
    assert ended.stopped is None
    assert sorted(outcome.request.first_row for outcome in ended.outcomes) == list(range(2000))
    assert service.too_early == []
    assert max(service.responded.values()) == 1
    assert service.sent_between(down_at + 2, down_at + 60) <= 15
    failed = [outcome.request.first_row for outcome in ended.outcomes if outcome.status != "ok"]
    assert all(malformed[number] == 2 for number in failed)
    assert len(failed) <= 10
    assert ended.sender.progress.cost == pytest.approx((2000 - len(failed)) * 0.001)
    assert all(outcome.sends == service.sends_of[outcome.request.first_row] for outcome in ended.outcomes)
