"""The runner, in virtual time, against a service that is a function."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pytest

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.index import Pending
from airflow_provider_responses.enrich.limits import LONGEST_PROBE, Limits
from airflow_provider_responses.enrich.runner import MOST_BUSY, Answer, Runner
from airflow_provider_responses.exceptions import (
    APIError,
    BudgetExceededError,
    ConfigurationError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    ResponsesError,
    TransportError,
    error_class_for_status,
)
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.runs import Outcome

from . import virtual

CONFIG = ClientConfig(api_key="sk-test")


def response(
    cost: float | None = 0.001, *, tokens: int = 100, status: str = "completed", cached: bool = False
) -> Response:
    raw = {"id": "resp", "status": status, "model": "m", "usage": {"total_tokens": tokens, "cost": cost}}
    return Response(raw=raw, headers={"x-openrouter-cache-status": "HIT"} if cached else {})


def refused(response_: Response) -> Response:
    parts = [{"type": "refusal", "refusal": "no"}]
    response_.raw["output"] = [{"type": "message", "role": "assistant", "content": parts}]
    return response_


def status_error(status: int, **details: Any) -> APIError:
    kind, retryable = error_class_for_status(status)
    return kind(f"status {status}", status_code=status, retryable=retryable, **details)


def refused_connection() -> TransportError:
    return TransportError("connection refused", kind="connect")


def dropped() -> TransportError:
    return TransportError("the server hung up", kind="read", ambiguous=True)


Said = Outcome | ResponsesError | None


class Send(NamedTuple):
    """A request that is sent: of which row, for the nth time (from 1), and when."""

    number: int
    nth: int
    now: float


@dataclass
class Service:
    """
    Answers after a while.

    :param say: what to say to a request; None is a plain answer, an error is raised.
    :param latency: seconds, or what draws them.
    """

    say: Callable[[Send], Said] = lambda _: None
    latency: float | Callable[[], float] = 0.5
    sends: list[tuple[float, int]] = field(default_factory=list)  # when, and which
    tries: Counter[int] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    most: int = 0
    quiet_until: float = 0.0
    too_early: list[float] = field(default_factory=list)

    async def ask(self, pending: Pending) -> Outcome:
        now, number = asyncio.get_running_loop().time(), pending.first
        if now < self.quiet_until - 1e-6:
            self.too_early.append(now)
        self.sends.append((now, number))
        self.tries[number] += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        said = self.say(Send(number, self.tries[number], now))
        try:
            await asyncio.sleep(self.latency() if callable(self.latency) else self.latency)
        finally:
            self.in_flight -= 1
        if isinstance(said, ResponsesError):
            if said.retry_after is not None:
                self.quiet_until = max(self.quiet_until, asyncio.get_running_loop().time() + said.retry_after)
            raise said
        self.answered[number] += 1
        return said or Outcome(response=response(), value=f"answer {number}")

    def sent_between(self, start: float, end: float) -> int:
        return sum(start < at < end for at, _ in self.sends)


@dataclass
class Ended:
    """What a run came to."""

    stopped: BaseException | None
    runner: Runner
    kept: list[Answer]
    seconds: float

    @property
    def statuses(self) -> dict[str, int]:
        return dict(Counter(answer.status for answer in self.kept))

    def of(self, number: int) -> Answer:
        [answer] = [answer for answer in self.kept if answer.pending.first == number]
        return answer


def run(
    service: Service,
    rows: int,
    *,
    config: ClientConfig = CONFIG,
    spent: float = 0.0,
    keep: Callable[[Answer], None] | None = None,
    meanwhile: Callable[[Runner], Any] | None = None,
    **limits: Any,
) -> Ended:
    """Send as many rows, in virtual time."""
    kept: list[Answer] = []
    left = [Pending(number, b"%d" % number, 1, "{}" * 20) for number in range(rows)][::-1]

    async def main() -> Ended:
        loop, chance = asyncio.get_running_loop(), random.Random(1)  # noqa: S311  the same each time
        runner = Runner(
            ask=service.ask,
            take=lambda most: [left.pop() for _ in range(min(most, len(left)))],
            keep=keep or kept.append,
            limits=Limits(**limits),
            config=config,
            spent=spent,
            clock=loop.time,
            sleep=asyncio.sleep,
            draw=chance.random,
        )
        other = asyncio.ensure_future(meanwhile(runner)) if meanwhile else None
        stopped = await runner.run()
        if other is not None:
            await other
        assert service.in_flight == runner.progress.in_flight == 0
        return Ended(stopped, runner, kept, loop.time())

    return virtual.run(main())


# All goes well


@pytest.mark.parametrize("concurrency", [1, 3, 8, 50, 500])
def test_every_row_is_sent_once_within_the_window(concurrency: int) -> None:
    chance = random.Random(2)  # noqa: S311  the same each time
    service = Service(latency=lambda: chance.uniform(0.1, 1))
    ended = run(service, 1200, concurrency=concurrency)
    assert ended.stopped is None
    assert sorted(answer.pending.first for answer in ended.kept) == list(range(1200))
    assert set(service.tries.values()) == {1}
    assert ended.statuses == {"ok": 1200}
    assert service.most <= concurrency
    assert service.most == concurrency
    assert service.sent_between(-1, 0.1) <= 8  # it starts low
    first = ended.of(7)
    assert (first.value, first.error, first.cost, first.tries) == ("answer 7", None, 0.001, 1)
    progress = ended.runner.progress
    assert (progress.done, progress.sent, progress.tokens, progress.unpriced) == (1200, 1200, 120_000, 0)
    assert progress.cost == pytest.approx(1.2)


def test_the_window_doubles_with_every_round_until_the_service_is_used_to_the_full() -> None:
    service = Service(latency=0.5)
    ended = run(service, 10_000, concurrency=256)
    rounds = [service.sent_between(at - 0.25, at + 0.25) for at in (0, 0.5, 1, 1.5, 2, 2.5, 3)]
    assert rounds == [8, 16, 32, 64, 128, 256, 256]
    assert ended.seconds < 10_000 / 256 * 0.5 * 1.15


def test_no_rows_are_no_work() -> None:
    ended = run(Service(), 0)
    assert (ended.stopped, ended.kept, ended.seconds) == (None, [], 0.0)


def test_requests_per_minute_are_kept_and_the_end_is_not_waited_for() -> None:
    service = Service(latency=0.1)
    ended = run(service, 180, requests_per_minute=60)
    times = [at for at, _ in service.sends]
    assert max(sum(start <= at < start + 60 - 1e-6 for at in times) for start in times) == 60
    assert 178 <= times[-1] <= 182
    assert ended.seconds == pytest.approx(times[-1] + 0.1)


def test_tokens_per_minute_are_kept_also_where_answers_are_refused() -> None:
    error = RefusalError("no", response=refused(response(tokens=1000)))
    service = Service(lambda _: Outcome(response=error.response, error=error), latency=0.1)
    run(service, 60, tokens_per_minute=20_000, concurrency=1)
    times = [at for at, _ in service.sends]
    assert max(sum(start <= at < start + 60 for at in times[1:]) for start in times[1:]) == 20


# What came of a request


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (Outcome(response=response(), value="x"), "ok", None),
        (Outcome(response=response(status="incomplete"), value="x"), "incomplete", None),
        (Outcome(response=refused(response()), value="x"), "refused", None),
        (RefusalError("no", response=response()), "refused", "RefusalError: no"),
        (IncompleteResponseError("cut", response=response()), "incomplete", "IncompleteResponseError: cut"),
        (OutputValidationError("bad", response=response()), "unreadable", "OutputValidationError: bad"),
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
def test_what_is_wrong_with_a_row_only_marks_it(outcome: Said, status: str, said: str | None, raised: bool) -> None:
    if isinstance(outcome, ResponsesError) and not raised:
        outcome = Outcome(response=outcome.response, error=outcome)
    service = Service(lambda sent: outcome if sent.number == 3 else None)
    ended = run(service, 20)
    assert ended.stopped is None
    assert ended.statuses == ({"ok": 20} if status == "ok" else {"ok": 19, status: 1})
    assert service.tries[3] == 1
    answer = ended.of(3)
    has_answer = status in ("ok", "incomplete", "refused", "unreadable")
    assert (answer.error, answer.cost, answer.tries) == (said, 0.001 if has_answer else 0.0, 1)
    assert ended.runner.progress.failures.total() == (said is not None)
    assert ended.runner.progress.cost == pytest.approx(0.001 * ended.runner.progress.tokens / 100)


def test_answers_that_were_paid_count_though_the_row_is_sent_again() -> None:
    """An answer was not as typed, and when it was asked for again the service failed."""
    first = response(0.25)
    unreadable = OutputValidationError("bad", response=first)

    def say(sent: Send) -> Said:
        if sent.nth > 1:
            return None
        previous = (unreadable,)
        return Outcome(response=replace(first, previous=previous), error=status_error(500, previous=previous))

    ended = run(Service(say), 1)
    assert ended.statuses == {"ok": 1}
    assert ended.of(0).cost == pytest.approx(0.251)
    assert ended.of(0).tries == 3
    assert ended.runner.progress.cost == pytest.approx(0.251)
    assert ended.runner.progress.tokens == 200


def test_kept_answers_cost_nothing() -> None:
    ended = run(Service(lambda _: Outcome(response=response(0.5, cached=True), value="x")), 5)
    assert ended.runner.progress.cache_hits == 5
    assert ended.runner.progress.cost == 0.0
    assert ended.of(1).cost == 0.0


# A row's own failures


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_row_that_always_fails_uses_up_its_tries_and_no_others(retries: int) -> None:
    service = Service(lambda sent: status_error(500) if sent.number == 5 else None)
    ended = run(service, 300, config=ClientConfig(api_key="sk-test", max_retries=retries))
    assert ended.stopped is None
    assert ended.statuses == {"ok": 299, "failed": 1}
    assert service.tries[5] == ended.of(5).tries == retries + 1
    assert ended.of(5).cost == 0.0


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_what_may_have_been_billed_is_sent_again_only_so_often(retries: int) -> None:
    service = Service(lambda sent: dropped() if sent.number % 10 == 5 else None)
    config = ClientConfig(api_key="sk-test", max_retries=5, max_ambiguous_retries=retries)
    ended = run(service, 100, config=config)
    assert ended.stopped is None
    assert ended.statuses == {"ok": 90, "failed": 10}
    assert {service.tries[number] for number in range(5, 100, 10)} == {retries + 1}
    assert ended.of(5).cost is None


def test_an_outage_in_which_requests_may_be_billed_sends_none_more_often_than_that() -> None:
    service = Service(lambda _: dropped())
    ended = run(service, 100, max_outage=300)
    assert isinstance(ended.stopped, TransportError)
    assert max(service.tries.values()) == 2


def test_a_row_that_is_always_told_to_wait_while_others_come_through_is_given_up() -> None:
    service = Service(lambda sent: status_error(429) if sent.number == 5 else None, latency=0.1)
    ended = run(service, 5000, concurrency=4)
    assert ended.stopped is None
    assert ended.statuses == {"ok": 4999, "failed": 1}
    assert service.tries[5] <= MOST_BUSY + CONFIG.max_retries + 1


# A service that is too busy


@pytest.mark.parametrize("status", [429, 503, 529])
def test_one_rows_retry_after_holds_all_back(status: int) -> None:
    service = Service(
        lambda sent: status_error(status, retry_after=100.0) if (sent.number, sent.nth) == (20, 1) else None
    )
    ended = run(service, 200, concurrency=8)
    assert ended.statuses == {"ok": 200}
    assert service.too_early == []
    [told] = [at + 0.5 for at, number in service.sends if number == 20][:1]
    assert service.sent_between(told, told + 99.9) == 0
    assert service.sent_between(told + 99.9, told + 101) > 0
    assert service.tries[20] == 2
    assert ended.runner.progress.failures.total() == 0


def test_a_wait_longer_than_max_outage_is_left_to_airflow() -> None:
    service = Service(lambda sent: status_error(429, retry_after=601.0) if sent.number == 5 else None)
    ended = run(service, 100, concurrency=8)
    assert isinstance(ended.stopped, APIError)
    assert ended.stopped.retry_after == 601.0
    assert ended.statuses == {"ok": 7}
    assert ended.seconds < 1


def test_the_window_is_halved_while_the_service_is_too_busy() -> None:
    """It serves ten at a time."""
    service = Service()
    service.say = lambda _: status_error(429) if service.in_flight > 10 else None
    ended = run(service, 1000, concurrency=256)
    assert ended.statuses == {"ok": 1000}
    assert len(service.sends) < 1300
    assert ended.seconds < 1000 / 10 * 0.5 * 2


# A service that is down


def outage(start: float, end: float, error: Callable[[], ResponsesError]) -> Callable[[Send], Said]:
    return lambda sent: error() if start <= sent.now < end else None


OUTAGES = [
    pytest.param(refused_connection, id="refused"),
    pytest.param(lambda: status_error(500), id="500"),
    pytest.param(lambda: status_error(502, retry_after=90.0), id="502 with a wait"),
    pytest.param(lambda: status_error(503), id="503"),
    pytest.param(lambda: status_error(429), id="429"),
]


@pytest.mark.parametrize("error", OUTAGES)
@pytest.mark.parametrize("rows", [300, 1000])
def test_an_outage_uses_up_no_tries(
    error: Callable[[], ResponsesError], rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = ClientConfig(api_key="sk-test", max_retries=1)
    service = Service(outage(2.0, 500.0, error), latency=lambda: 0.01 if 2.0 <= virtual_now() < 500.0 else 0.5)
    with caplog.at_level(logging.WARNING):
        ended = run(service, rows, config=config, concurrency=32)
    assert ended.stopped is None
    assert set(ended.statuses) == {"ok"}
    assert set(service.answered.values()) == {1}
    assert service.sent_between(10.0, 500.0) <= 25  # probes
    assert ended.seconds < 560
    warnings = [record for record in caplog.records if "The service is down; waiting up to 600 s" in record.message]
    assert len(warnings) == (error().status_code not in (429, 503))


def test_failures_before_an_outage_was_noticed_are_not_held_against_rows() -> None:
    """Their one retry is still there when they fail for themselves afterwards."""

    def say(sent: Send) -> Said:
        if sent.now < 100:
            return refused_connection()
        own = sent.number < 4 and failed_since[sent.number] == 0
        failed_since[sent.number] += 1
        return status_error(500) if own else None

    failed_since: Counter[int] = Counter()
    ended = run(Service(say), 50, config=ClientConfig(api_key="sk-test", max_retries=1))
    assert (ended.stopped, ended.statuses) == (None, {"ok": 50})


def test_few_rows_are_not_given_up_while_the_service_tells_all_to_wait() -> None:
    service = Service(lambda sent: status_error(429, retry_after=1.0) if sent.now < 300 else None)
    ended = run(service, 2)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 2})
    assert max(service.tries.values()) > MOST_BUSY + CONFIG.max_retries + 1


def virtual_now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("error", OUTAGES)
@pytest.mark.parametrize("rows", [5, 1000])
def test_a_longer_outage_ends_the_run_with_the_services_error(error: Callable[[], ResponsesError], rows: int) -> None:
    service = Service(outage(1.0 if rows > 5 else 0.0, 1e9, error), latency=lambda: 0.1)
    ended = run(service, rows, max_outage=120, config=ClientConfig(api_key="sk-test", max_retries=5))
    assert isinstance(ended.stopped, type(error()))
    assert "no answer for 120 s (limits.max_outage), the last time: " in str(ended.stopped)
    assert ended.stopped.retryable
    assert 120 <= ended.seconds <= 120 + max(LONGEST_PROBE, error().retry_after or 0.0) + 2
    assert "failed" not in ended.statuses
    assert sum(service.answered.values()) == len(ended.kept)


def test_without_max_outage_the_run_ends_at_once() -> None:
    ended = run(Service(lambda _: refused_connection(), latency=0.1), 100, max_outage=0)
    assert isinstance(ended.stopped, TransportError)
    assert ended.seconds < 5


def test_rows_that_are_refused_for_themselves_show_that_the_service_is_there() -> None:
    """Half an hour of bad rows among errors is no outage."""

    def say(sent: Send) -> Said:
        return status_error(500) if sent.number % 50 == 0 and sent.nth == 1 else status_error(400)

    ended = run(Service(say, latency=2.0), 8000, concurrency=8, max_outage=60)
    assert ended.stopped is None
    assert ended.statuses == {"failed": 8000}
    assert ended.seconds > 1800


# What ends a run


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
def test_what_is_hopeless_for_all_ends_the_run_at_once(error: ResponsesError) -> None:
    service = Service(lambda sent: error if sent.number == 20 else None, latency=0.5)
    ended = run(service, 1000, concurrency=8)
    assert ended.stopped is error
    told = next(at for at, number in service.sends if number == 20) + 0.5
    assert service.sent_between(told, 1e9) == 0
    assert len(ended.kept) == sum(service.answered.values()) == len(service.sends) - 1
    assert ended.statuses == {"ok": len(ended.kept)}


def test_an_error_of_our_own_ends_the_run_and_is_not_lost() -> None:
    def keep(answer: Answer) -> None:
        raise KeyError("a column")

    ended = run(Service(), 100, keep=keep)
    assert isinstance(ended.stopped, KeyError)


def test_a_run_that_is_stopped_waits_for_what_is_in_flight() -> None:
    why = RuntimeError("stopped")

    async def stop(runner: Runner) -> None:
        await asyncio.sleep(0.7)
        runner.stop(why)
        runner.stop(RuntimeError("too late"))

    service = Service()
    ended = run(service, 1000, meanwhile=stop)
    assert ended.stopped is why
    assert ended.statuses == {"ok": len(service.sends)}
    assert ended.seconds == 1.0


def test_a_run_that_is_stopped_while_it_waits_ends_at_once() -> None:
    async def stop(runner: Runner) -> None:
        await asyncio.sleep(5)
        runner.stop(RuntimeError("stopped"))

    ended = run(Service(lambda _: status_error(429, retry_after=300.0)), 10, meanwhile=stop)
    assert str(ended.stopped) == "stopped"
    assert ended.seconds == 5.0


def test_a_run_that_is_cancelled_drops_what_is_in_flight() -> None:
    why = RuntimeError("cancelled")

    async def cancel(runner: Runner) -> None:
        await asyncio.sleep(0.7)
        runner.cancel(why)

    service = Service()
    ended = run(service, 1000, meanwhile=cancel)
    assert ended.stopped is why
    assert (len(ended.kept), len(service.sends)) == (8, 24)
    assert ended.seconds == 0.7


# Money


@pytest.mark.parametrize("spent", [0.0, 0.5])
@pytest.mark.parametrize("limit", [0.5005, 0.6, 0.77777])
def test_max_cost_is_kept_with_what_is_in_flight(limit: float, spent: float) -> None:
    service = Service(lambda _: Outcome(response=response(0.01), value="x"))
    ended = run(service, 1000, max_cost=limit, spent=spent, concurrency=64)
    assert isinstance(ended.stopped, BudgetExceededError)
    assert f"limits.max_cost of ${limit:g} is spent" in str(ended.stopped)
    paid = spent + ended.runner.progress.cost
    assert limit - 0.01 < paid <= limit + (0.01 if len(ended.kept) == 1 else 1e-9)
    assert len(ended.kept) == len(service.sends)


def test_a_budget_that_is_spent_already_sends_nothing() -> None:
    service = Service()
    ended = run(service, 10, max_cost=0.5, spent=0.5)
    assert isinstance(ended.stopped, BudgetExceededError)
    assert service.sends == []


def test_a_budget_that_suffices_exactly_does_not_end_the_run() -> None:
    ended = run(Service(lambda _: Outcome(response=response(0.1), value="x")), 3, max_cost=0.3)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 3})


def test_one_dear_answer_is_all_that_max_cost_may_be_exceeded_by() -> None:
    for dear in range(0, 90, 3):
        prices = {dear: 5.0}
        service = Service(
            lambda sent, prices=prices: Outcome(response=response(prices.get(sent.number, 0.01)), value="x")  # type: ignore[misc]
        )
        ended = run(service, 1000, max_cost=1.0, concurrency=64)
        assert isinstance(ended.stopped, BudgetExceededError)
        assert ended.runner.progress.cost <= 1.0 + 5.0


def test_until_a_price_is_known_one_answer_is_waited_for() -> None:
    service = Service(lambda sent: status_error(400) if sent.number < 3 else None)
    ended = run(service, 30, max_cost=100.0)
    assert [at for at, _ in service.sends[:5]] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert service.sends[5][0] == 2.0
    assert ended.stopped is None


def test_free_answers_are_no_reason_to_wait() -> None:
    service = Service(lambda _: Outcome(response=response(0.0), value="x"))
    ended = run(service, 500, max_cost=0.01, concurrency=64)
    assert (ended.stopped, service.most) == (None, 64)


def test_without_prices_max_cost_ends_the_run() -> None:
    service = Service(lambda _: Outcome(response=response(None), value="x"))
    ended = run(service, 100, max_cost=1.0)
    assert isinstance(ended.stopped, ConfigurationError)
    assert "limits.max_cost cannot be kept: the server does not tell what an answer costs" in str(ended.stopped)
    assert len(ended.kept) == len(service.sends) == 1
    assert ended.of(0).cost is None


def test_without_prices_and_max_cost_the_run_goes_on() -> None:
    ended = run(Service(lambda _: Outcome(response=response(None), value="x")), 100)
    assert ended.stopped is None
    assert ended.runner.progress.unpriced == 100


# All at once


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_day(seed: int) -> None:
    """20 % are told to wait, 5 % fail, 2 % come back malformed, and for a minute the service is gone."""
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
    assert sorted(answer.pending.first for answer in ended.kept) == list(range(2000))
    assert service.too_early == []
    assert max(service.answered.values()) == 1
    assert service.sent_between(down_at + 2, down_at + 60) <= 15
    failed = [answer.pending.first for answer in ended.kept if answer.status != "ok"]
    assert all(malformed[number] == 2 for number in failed)
    assert len(failed) <= 10
    assert ended.runner.progress.cost == pytest.approx((2000 - len(failed)) * 0.001)
    assert all(answer.tries == service.tries[answer.pending.first] for answer in ended.kept)
