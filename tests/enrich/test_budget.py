"""The limit of cost while rows are sent."""

from __future__ import annotations

import pytest

from airflow_provider_responses.exceptions import (
    BudgetExceededError,
    ConfigurationError,
)
from airflow_provider_responses.task.cost_total import short_dollars
from airflow_provider_responses.task.outcome import Outcome
from tests.enrich.service import (
    Service,
    response,
    run,
    status_error,
)


@pytest.mark.parametrize("spent", [0.0, 0.5])
@pytest.mark.parametrize("limit", [0.5005, 0.6, 0.77777])
def test_max_cost_includes_requests_in_flight(limit: float, spent: float) -> None:
    service = Service(lambda _: Outcome(response=response(0.01), value="x"))
    ended = run(service, 1000, max_cost=limit, spent=spent, concurrency=64)
    assert isinstance(ended.stopped, BudgetExceededError)
    assert f"limits.max_cost of {short_dollars(limit)} is spent" in str(ended.stopped)
    paid = spent + ended.sender.progress.cost
    assert limit - 0.01 < paid <= limit + (0.01 if len(ended.outcomes) == 1 else 1e-9)
    assert len(ended.outcomes) == len(service.sends)


def test_nothing_is_sent_if_the_budget_is_spent_already() -> None:
    service = Service()
    ended = run(service, 10, max_cost=0.5, spent=0.5)
    assert isinstance(ended.stopped, BudgetExceededError)
    assert service.sends == []


def test_a_budget_that_suffices_exactly_does_not_end_the_attempt() -> None:
    ended = run(Service(lambda _: Outcome(response=response(0.1), value="x")), 3, max_cost=0.3)
    assert (ended.stopped, ended.statuses) == (None, {"ok": 3})


def test_max_cost_is_exceeded_by_one_expensive_response_at_most() -> None:
    for dear in range(0, 90, 3):
        prices = {dear: 5.0}
        service = Service(
            lambda sent, prices=prices: Outcome(response=response(prices.get(sent.number, 0.01)), value="x")  # type: ignore[misc]
        )
        ended = run(service, 1000, max_cost=1.0, concurrency=64)
        assert isinstance(ended.stopped, BudgetExceededError)
        assert ended.sender.progress.cost <= 1.0 + 5.0


def test_one_request_is_in_flight_until_a_price_is_known() -> None:
    service = Service(lambda sent: status_error(400) if sent.number < 3 else None)
    ended = run(service, 30, max_cost=100.0)
    assert [at for at, _ in service.sends[:5]] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert service.sends[5][0] == 2.0
    assert ended.stopped is None


def test_free_responses_do_not_delay_other_requests() -> None:
    service = Service(lambda _: Outcome(response=response(0.0), value="x"))
    ended = run(service, 500, max_cost=0.01, concurrency=64)
    assert (ended.stopped, service.most) == (None, 64)


def test_max_cost_ends_the_attempt_if_the_server_sends_no_prices() -> None:
    service = Service(lambda _: Outcome(response=response(None), value="x"))
    ended = run(service, 100, max_cost=1.0)
    assert isinstance(ended.stopped, ConfigurationError)
    assert "limits.max_cost cannot be observed: the server sends no price with a response" in str(ended.stopped)
    assert len(ended.outcomes) == len(service.sends) == 1
    assert ended.of(0).cost is None


def test_missing_prices_do_not_matter_without_max_cost() -> None:
    ended = run(Service(lambda _: Outcome(response=response(None), value="x")), 100)
    assert ended.stopped is None
    assert ended.sender.progress.unpriced == 100
