"""A service that is too busy or down: which rows wait, and how long."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.failure_policy import MAX_BUSY
from airflow_provider_responses.enrich.index import PendingRequest
from airflow_provider_responses.enrich.sender import ResendTurn, Sender
from airflow_provider_responses.enrich.throttle import MAX_PROBE
from airflow_provider_responses.exceptions import (
    APIError,
    ResponsesError,
    TransportError,
)
from airflow_provider_responses.task.outcome import Outcome
from tests.enrich.service import (
    CONFIG,
    FOREVER,
    Said,
    Send,
    Service,
    refused_connection,
    run,
    status_error,
)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_scattered_refusal_delays_only_its_row(status: int) -> None:
    service = Service(
        lambda sent: status_error(status, retry_after=100.0) if (sent.number, sent.nth) == (20, 1) else None
    )
    ended = run(service, 2000, concurrency=8)
    assert ended.statuses == {"ok": 2000}
    assert service.too_early == []
    assert ended.seconds == 125.5  # as on a good day
    assert service.sends_of[20] == 2
    assert ended.sender.throttle.window == 8
    assert ended.sender.progress.failures.total() == 0


@pytest.mark.parametrize("status", [429, 503, 529])
def test_refusals_of_many_requests_delay_all_rows(status: int) -> None:
    service = Service(lambda sent: status_error(status, retry_after=100.0) if 5 <= sent.now < 6 else None)
    ended = run(service, 1000, concurrency=32)
    assert ended.statuses == {"ok": 1000}
    assert service.too_early == []
    assert service.sent_between(6.5, 105) == 0
    assert service.sent_between(5.4, 6.5) <= 32  # in the second before most were known to be refused
    assert service.sent_between(105, 106.2) > 0


@pytest.mark.parametrize("is_of_account", [True, False])
def test_a_used_up_limit_of_the_account_delays_all_rows_at_once(is_of_account: bool) -> None:
    def say(sent: Send) -> Said:
        if (sent.number, sent.nth) != (20, 1):
            return None
        error = status_error(429, retry_after=100.0)
        error.account_reset = 100.0 if is_of_account else None
        return error

    service = Service(say)
    ended = run(service, 200, concurrency=8, models=["a", "b"])
    assert ended.statuses == {"ok": 200}
    [told] = [at + 0.5 for at, number in service.sends if number == 20][:1]
    assert (service.sent_between(told, told + 99.9) == 0) is is_of_account


def test_a_wait_longer_than_max_outage_is_left_to_airflow() -> None:
    service = Service(lambda sent: status_error(429, retry_after=601.0) if sent.number == 5 else None)
    ended = run(service, 100, concurrency=8)
    assert isinstance(ended.stopped, APIError)
    assert ended.stopped.retry_after == 601.0
    assert ended.statuses == {"ok": 7}
    assert ended.seconds < 1


def test_the_window_is_halved_while_the_service_is_too_busy() -> None:
    """The service handles ten requests at a time."""
    service = Service(refusal=0.01)
    service.say = lambda _: status_error(429) if service.in_flight > 10 else None
    ended = run(service, 1000, concurrency=256)
    assert ended.statuses == {"ok": 1000}
    assert len(service.sends) < 1350
    assert ended.seconds < 1000 / 10 * 0.5 * 2


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
def test_an_outage_uses_no_retries(
    error: Callable[[], ResponsesError], rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    config = ClientConfig(api_key="sk-test", max_retries=1)
    service = Service(outage(2.0, 500.0, error), latency=lambda: 0.01 if 2.0 <= virtual_now() < 500.0 else 0.5)
    with caplog.at_level(logging.WARNING):
        ended = run(service, rows, config=config, concurrency=32)
    assert ended.stopped is None
    assert set(ended.statuses) == {"ok"}
    assert set(service.responded.values()) == {1}
    probes = [at for at, _ in service.sends if 10.0 < at < 500.0]
    if isinstance(error(), TransportError):  # a connection that is refused costs nothing
        assert max(later - earlier for earlier, later in pairwise(probes)) < 5.1
        assert len(probes) < 490 / 5 + 5
    else:
        assert len(probes) <= 25
    assert ended.seconds < 560
    warnings = [record for record in caplog.records if "The service is down; waiting up to 600 s" in record.message]
    assert len(warnings) == (error().status_code not in (429, 503))


def test_failures_before_an_outage_was_noticed_use_no_retries() -> None:
    """Each row still has its one retry when it fails afterwards."""

    def say(sent: Send) -> Said:
        if sent.now < 100:
            return refused_connection()
        own = sent.number < 4 and failed_since[sent.number] == 0
        failed_since[sent.number] += 1
        return status_error(500) if own else None

    failed_since: Counter[int] = Counter()
    ended = run(Service(say), 50, config=ClientConfig(api_key="sk-test", max_retries=1))
    assert (ended.stopped, ended.statuses) == (None, {"ok": 50})


def test_rows_are_not_given_up_while_the_service_refuses_all() -> None:
    service = Service(lambda sent: status_error(429, retry_after=1.0) if sent.now < 300 else None)
    ended = run(service, 2)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 2})
    assert max(service.sends_of.values()) > MAX_BUSY + CONFIG.max_retries + 1


def virtual_now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("error", OUTAGES)
@pytest.mark.parametrize("rows", [5, 1000])
def test_a_longer_outage_ends_the_attempt_with_the_services_error(
    error: Callable[[], ResponsesError], rows: int
) -> None:
    service = Service(outage(1.0 if rows > 5 else 0.0, 1e9, error), latency=lambda: 0.1)
    ended = run(service, rows, max_outage=120, config=ClientConfig(api_key="sk-test", max_retries=5))
    assert isinstance(ended.stopped, type(error()))
    assert "no response for 120 s (limits.max_outage), the last time: " in str(ended.stopped)
    assert ended.stopped.retryable
    assert 120 <= ended.seconds <= 120 + max(MAX_PROBE, error().retry_after or 0.0) + 2
    assert "failed" not in ended.statuses
    assert sum(service.responded.values()) == len(ended.outcomes)


def test_with_max_outage_0_the_attempt_ends_at_once() -> None:
    ended = run(Service(lambda _: refused_connection(), latency=0.1), 100, max_outage=0)
    assert isinstance(ended.stopped, TransportError)
    assert ended.seconds < 5


def test_rows_that_fail_with_400_show_that_the_service_is_up() -> None:
    """Half an hour of bad rows among errors is no outage."""

    def say(sent: Send) -> Said:
        return status_error(500) if sent.number % 50 == 0 and sent.nth == 1 else status_error(400)

    ended = run(Service(say, latency=2.0), 8000, concurrency=8, max_outage=60)
    assert ended.stopped is None
    assert ended.statuses == {"failed": 8000}
    assert ended.seconds > 1800


# A server that is shut down, and leaves requests in flight open without a response


def shut_down(start: float, end: float) -> Callable[[Send], Said]:
    """Responses in half a second, but none to requests in flight at the shutdown."""

    def say(sent: Send) -> Said:
        if start - 0.5 <= sent.now < start:
            return FOREVER
        return refused_connection() if start <= sent.now < end else None

    return say


@pytest.mark.parametrize("jitter", [0.0, 0.3], ids=["all silent at once", "one after the other"])
def test_a_new_server_is_found_while_old_requests_hang(jitter: float) -> None:
    chance = random.Random(1)  # noqa: S311  the same each time
    service = Service(shut_down(3.0, 20.0), latency=lambda: chance.uniform(0.5 - jitter, 0.5), refusal=0.001)
    ended = run(service, 2000, concurrency=64)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 2000})
    assert set(service.responded.values()) == {1}
    assert service.sent_between(20.0, 26.0) > 64, "work goes on: probes are at most 5 s apart"
    assert service.sent_between(6.0, 20.0) <= 6
    assert ended.sender.progress.unpriced > 0, "what hung may have been billed"


def test_silent_requests_do_not_hold_up_others() -> None:
    """Behind a load balancer the new server is there at once; or the requests are only slow."""
    service = Service(lambda sent: 200.0 if 2.5 <= sent.now < 3.0 else None, refusal=0.001)
    ended = run(service, 2000, concurrency=64)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 2000})
    assert service.sent_between(3.0, 13.0) > 5 * 64
    assert len(service.sends) == 2000, "what may just be slow is not paid again"


def test_max_outage_ends_an_attempt_in_which_all_requests_are_silent() -> None:
    service = Service(lambda sent: FOREVER if sent.now >= 2.5 else None, refusal=0.001)
    ended = run(service, 2000, concurrency=64, max_outage=120)
    assert "no response for 120 s (limits.max_outage)" in str(ended.stopped)
    assert 120 <= ended.seconds <= 125
    assert isinstance(ended.stopped, TransportError)
    assert ended.stopped.retryable


def test_hung_requests_are_sent_again_within_max_ambiguous_retries() -> None:
    """Without such retries a request is left to its own timeout, and takes no room from others."""

    def latency() -> float:
        return 200.0 if 2.5 <= virtual_now() < 3.0 else 0.5

    down = outage(3.0, 20.0, refused_connection)
    service = Service(down, latency=latency, refusal=0.001)
    config = ClientConfig(api_key="sk-test", max_ambiguous_retries=0)
    ended = run(service, 2000, concurrency=64, config=config)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 2000})
    slow = [outcome for outcome in ended.outcomes if outcome.sends == 1]
    assert len(slow) > 1000
    assert ended.sender.progress.unpriced == 0
    assert service.sent_between(40.0, 1e9) == 0, "all others were done by then"
    assert ended.seconds > 200


def test_requests_within_the_usual_time_are_not_dropped_after_an_outage() -> None:
    """A gateway restarts for three seconds; the requests behind it take up to a minute."""
    chance = random.Random(1)  # noqa: S311  the same each time
    service = Service(outage(100.0, 103.0, refused_connection), latency=lambda: chance.uniform(5, 60), refusal=0.001)
    ended = run(service, 1000, concurrency=64)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 1000})
    assert ended.sender.progress.unpriced == 0


@pytest.mark.parametrize("probes", ["refused", "hang"])
def test_max_outage_ends_an_attempt_whose_probes_hang(probes: str) -> None:
    def say(sent: Send) -> Said:
        if 2.5 <= sent.now < 3.0:
            return FOREVER
        if sent.now < 3.0:
            return None
        return FOREVER if probes == "hang" and sent.now > 5.0 else refused_connection()

    service = Service(say, refusal=0.001)
    ended = run(service, 2000, concurrency=64, max_outage=120)
    assert "no response for 120 s (limits.max_outage), the last time: connection refused" in str(ended.stopped)
    assert 120 <= ended.seconds <= 125
    hung = [outcome for outcome in ended.outcomes if outcome.status == "failed"]
    assert hung
    assert all(outcome.cost is None for outcome in hung), "they may have been billed"
    assert isinstance(ended.stopped, TransportError)
    assert ended.stopped.retryable


def test_the_progress_has_the_time_since_which_the_service_is_down() -> None:
    seen: list[float | None] = []

    async def look(sender: Sender) -> None:
        for _ in range(3):
            await asyncio.sleep(10)
            seen.append(sender.progress.down_since)

    run(Service(shut_down(3.0, 20.0), refusal=0.001), 5000, concurrency=64, meanwhile=look)
    assert seen[0] == pytest.approx(3.5, abs=2.0)
    assert seen[2] is None


def test_a_last_row_does_not_fail_while_connections_are_refused() -> None:
    service = Service(outage(0.0, 30.0, refused_connection), refusal=0.001)
    ended = run(service, 1, config=ClientConfig(api_key="sk-test", max_retries=0))
    assert (ended.stopped, ended.statuses) == (None, {"ok": 1})


# One model of two


def test_refusals_of_one_model_do_not_slow_down_another() -> None:
    chance = random.Random(1)  # noqa: S311  the same each time

    def say(sent: Send) -> Said:
        return status_error(429, retry_after=1.0) if sent.number % 2 and chance.random() < 0.3 else None

    service = Service(say, refusal=0.01)
    ended = run(service, 3000, concurrency=256, models=["fine", "refused"])
    assert ended.statuses == {"ok": 3000}
    last = max(at for at, number in service.sends if number % 2 == 0)
    assert 1500 / last > 200


def test_the_cost_of_an_invalid_output_is_counted_if_the_resend_hangs() -> None:
    """The first output was invalid, and the server was shut down during the resend."""

    class Invalid(Service):
        async def send(self, pending: PendingRequest, turn: ResendTurn) -> Outcome:
            if (pending.first_row, self.sends_of[7]) == (7, 0):
                self.sends_of[7] += 1
                await turn(pending, 0.25)
                await asyncio.Event().wait()
            return await super().send(pending, turn)

    service = Invalid(outage(3.0, 20.0, refused_connection), refusal=0.001)
    ended = run(service, 2000, concurrency=64, max_cost=100.0)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 2000})
    assert ended.of(7).cost == pytest.approx(0.251)
    assert ended.sender.progress.cost == pytest.approx(2.25)
