"""``limits.max_cost`` of an enrichment in batches: estimates, the pilot batch, and the end of the money."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import APIError, BudgetExceededError, ConfigurationError
from airflow_provider_responses.task.prices import TokenPrice, batch_prices, estimate
from tests.enrich.jobs import table

PRICE = 6.15e-6  # US dollars of a response of the sandbox, at most


class WithoutPrices(ResponsesClient):
    """A client of a server that lists no prices."""

    def get_models(self, **_: Any) -> list[Any]:
        return []


def money(max_cost: float) -> Limits:
    return Limits(max_batch_requests=20, max_cost=max_cost)


def test_a_batch_is_estimated_from_the_listed_price(attempts):
    task = attempts(table(60), limits=money(0.01))
    waiting = task.step()
    assert isinstance(waiting, Unfinished)
    estimates = [record.intent.estimate for record in task.enrichment._journal.records]
    assert sum(estimates) <= 0.01
    assert sum(task.sizes) == int(0.01 / (estimates[0] / task.sizes[0]))
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 60}, "the price of responses is lower than the estimate"
    assert sum(task.sizes) == 60
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_an_unknown_price_is_learned_from_a_pilot_batch(attempts):
    task = attempts(table(60), limits=money(1.0))
    task.make_client = WithoutPrices
    task.step()
    assert task.sizes == [20]
    assert isinstance(task.step(), Unfinished), "the pilot has not ended"
    assert task.sizes == [20]
    assert task.finish()["counts"] == {"ok": 60}
    assert (task.sizes, task.live) == ([20, 20, 20], [])


def test_the_rows_after_a_pilot_go_into_batches_also_below_batch_threshold(attempts):
    task = attempts(table(60), limits=money(1.0), options={"batch_threshold": 500})
    task.make_client = WithoutPrices
    assert task.finish()["counts"] == {"ok": 60}
    assert (task.sizes, task.live) == ([20, 20, 20], [])


def test_nothing_is_submitted_that_does_not_fit_into_max_cost(attempts):
    task = attempts(table(60), limits=money(PRICE / 10))
    with pytest.raises(BudgetExceededError, match="leaves no room for 60 requests"):
        task.step()
    assert task.sizes == []


def test_what_fits_into_max_cost_is_submitted_and_then_the_attempt_fails(attempts):
    task = attempts(table(60), limits=money(30 * PRICE))
    task.make_client = WithoutPrices
    with pytest.raises(BudgetExceededError, match="All responses are saved; raise the limit to continue"):
        task.finish()
    assert 20 < sum(task.sizes) <= 31
    assert task.billed() <= 30 * PRICE
    assert task.enrichment.manifest["counts"]["ok"] == sum(task.sizes)
    done = sum(task.sizes)
    task.given["limits"] = money(1.0)
    task.clear()
    manifest = task.finish()
    assert (manifest["counts"], sum(task.sizes)) == ({"ok": 60}, 60)
    assert manifest["requests_reused"] == done
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_outstanding_batches_count_by_their_estimates_in_the_next_attempt(attempts):
    task = attempts(table(60), limits=money(0.01))
    task.step()
    before = sum(task.sizes)
    task.retry()
    assert isinstance(task.step(), Unfinished)
    assert sum(task.sizes) == before


def test_a_free_model_needs_one_pilot(attempts, monkeypatch):
    from airflow_provider_responses.sandbox.http import batch_outcomes

    monkeypatch.setattr(batch_outcomes, "BATCH_SHARE", 0.0)
    task = attempts(table(60), limits=money(1.0))
    task.make_client = WithoutPrices
    assert task.finish()["counts"] == {"ok": 60}
    assert task.sizes == [20, 20, 20]


def test_max_cost_where_responses_have_no_price(attempts, monkeypatch):
    from airflow_provider_responses.sandbox.http import batch_outcomes

    served = batch_outcomes.ServedRequest
    monkeypatch.setattr(
        batch_outcomes, "ServedRequest", lambda **given: served(**{**given, "priced": False, "stored": False})
    )
    task = attempts(table(60), limits=money(1.0))
    task.make_client = WithoutPrices
    with pytest.raises(ConfigurationError, match=r"limits\.max_cost cannot be observed"):
        task.finish()
    assert (task.sizes, task.live) == ([20], [])
    assert len(task.lines) == 20, "responses that were paid for are saved"


def test_prices_that_cannot_be_listed_are_unknown(attempts):
    class Refused(ResponsesClient):
        def get_models(self, **_: Any) -> list[Any]:
            raise APIError("no list", status_code=404)

    task = attempts(table(60), limits=money(1.0))
    task.make_client = Refused
    task.step()
    assert task.sizes == [20]


def test_prices_of_batches_are_those_of_the_batch_variant():
    models = [
        {"id": "a/b", "pricing": {"prompt": "2", "completion": "4"}},
        {"id": "a/b:batch", "pricing": {"prompt": "1", "completion": "2"}},
        {"id": "a/free:batch", "pricing": {"prompt": "0", "completion": 0}},
        {"id": "a/odd:batch", "pricing": {"prompt": "-1", "completion": "x"}},
        {"id": "a/none:batch", "pricing": None},
        {"id": None},
        {},
    ]
    assert batch_prices(models) == {"a/b": TokenPrice(1.0, 2.0), "a/free": TokenPrice(0.0, 0.0)}


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ('{"input":"x"}', 1000),
        ('{"input":"x","max_output_tokens":7}', 7),
        ('{"input":"\\"max_output_tokens\\":9","max_output_tokens":7}', 7),
        ('{"input":"\\"max_output_tokens\\": 9"}', 1000),
        ('{"input":"x","extra_body":{"max_output_tokens": 5}}', 5),
    ],
)
def test_the_estimate_of_a_request(fields, tokens):
    assert estimate(fields, 300, TokenPrice(0.01, 0.1)) == pytest.approx(1.0 + 0.1 * tokens)
    assert estimate(fields, 300, None) is None
