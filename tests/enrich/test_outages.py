"""A service that is too busy, or down: what the runner waits for, and how long."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import pytest

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.limits import LONGEST_PROBE
from airflow_provider_responses.enrich.sender import MOST_BUSY
from airflow_provider_responses.exceptions import (
    APIError,
    ResponsesError,
    TransportError,
)
from tests.enrich.service import (
    CONFIG,
    Said,
    Send,
    Service,
    refused_connection,
    run,
    status_error,
)


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
