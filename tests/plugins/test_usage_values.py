"""Any task can push any XCom named ``usage``: no value is an error, and none makes a sum wrong."""

from __future__ import annotations

import datetime
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_responses.enrich.model_counts import ModelCounts
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.enrich.usage import usage_of_enrichment as pushed_by_enrichment
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.plugins.spend import Filters, Spend, SpendRow
from airflow_provider_responses.plugins.usage_values import clean_usage, cost_of, count, is_usage, parts_of
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.xcom import EnrichmentUsageXCom, UsageXCom
from airflow_provider_responses.tools.usage import step_usage, sum_steps
from tests.plugins.seed import usage_of_enrichment, usage_of_request
from tests.usage import check_xcom

DAY = datetime.date(2026, 3, 2)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 10**400, 1e308, -0.0, 5e-324, "", "0.5", "=1", "\ud800"])
    | st.floats()
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["model", "requests", "failed", "cost", "error", "status"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)
NAMES = [*EnrichmentUsageXCom.__annotations__, "unknown", "unpriced"]
changed = st.builds(
    lambda base, changes, dropped: {k: v for k, v in (base | changes).items() if k not in dropped},
    st.sampled_from([usage_of_request(), usage_of_enrichment()]),
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    st.sets(st.sampled_from(NAMES), max_size=3),
)


def summed(*usages, filters=None):
    spend = Spend((DAY, DAY), filters or Filters())
    for n, usage in enumerate(usages):
        spend.add(SpendRow("d", "t", f"r{n}", -1, 1, DAY, None, parts_of(usage)))
    return spend.to_json()


@given(st.lists(changed, max_size=4))
def test_any_usage_is_summed_to_numbers_and_all_groups_agree(usages):
    ours = [it for it in usages if is_usage(it)]
    found = summed(*ours)
    json.dumps(found, allow_nan=False)
    total = found["totals"]
    assert total["task_instances"] == len(ours)
    assert total["cost"] is None or 0 <= total["cost"] < math.inf
    for name in ("by_dag", "by_task", "by_model", "by_day", "top_runs"):
        for field in ("requests", "failed", "cached", "unpriced"):
            assert sum(it[field] for it in found[name]) == total[field]
            assert total[field] >= 0
        assert sum(it["cost"] or 0 for it in found[name]) == pytest.approx(total["cost"] or 0)


@given(changed)
def test_any_usage_is_shown_with_values_of_the_documented_types(usage):
    if not is_usage(usage):
        return
    shown = clean_usage(usage)
    json.dumps(shown, allow_nan=False)
    assert shown.keys() <= EnrichmentUsageXCom.__annotations__.keys()
    for name in ("cost", "cost_this_attempt"):
        assert shown.get(name) is None or shown[name] >= 0
    for send in shown["sends"]:
        assert set(send) - {"model", "escalated_to"} == {"cause", "ambiguous", "wait"}
        assert ("model" in send) == ("escalated_to" in send)


@pytest.mark.parametrize("larger", [None, 5, "", {}])
def test_a_send_that_was_not_escalated_has_no_larger_model(larger):
    send = {"cause": {"error": "RefusalError", "status": None}, "ambiguous": False, "wait": 0.0}
    (shown,) = clean_usage(usage_of_request(sends=[send | {"model": "vendor/small", "escalated_to": larger}]))["sends"]
    assert shown == send


@given(values)
def test_any_value_is_ours_or_not(value):
    assert is_usage(value) is False


@pytest.mark.parametrize("wrong", [None, -1, -0.5, "0.1", True, float("nan"), float("inf"), 10**400, 1e300, [], {}])
def test_a_value_that_is_no_price_is_unknown(wrong):
    assert cost_of(wrong) is None
    assert summed(usage_of_request(cost=wrong))["totals"]["cost"] is None


@pytest.mark.parametrize("wrong", [None, -1, 1.5, "3", True, 10**30])
def test_a_value_that_is_no_number_of_tokens_is_unknown(wrong):
    assert count(wrong) is None
    assert summed(usage_of_request(input_tokens=wrong))["totals"]["input_tokens"] is None


@pytest.mark.parametrize("status", ["failed", "incomplete", "refused", "invalid_output"])
def test_a_response_that_is_not_usable_has_failed(status):
    assert summed(usage_of_request(status=status))["totals"]["failed"] == 1
    assert summed(usage_of_request(status="completed"))["totals"]["failed"] == 0


def test_an_enrichment_without_its_models_is_counted_by_its_sums():
    total = summed(usage_of_enrichment(models=None))["totals"]
    assert (total["requests"], total["cached"], total["failed"], total["cost"]) == (20, 2, 1, 0.002)


def test_responses_without_a_price_are_counted_beside_those_with_one():
    models = [usage_of_enrichment()["models"][0] | {"unpriced": 3}]
    total = summed(usage_of_enrichment(models=models))["totals"]
    assert (total["unpriced"], total["cost_is_minimum"], total["cost"]) == (3, True, 0.002)


def test_a_preview_that_sent_nothing_counts_as_a_task_instance_at_no_cost():
    total = summed(usage_of_enrichment(models=[], requests=0, requests_cached=0, requests_failed=0, cost=0.0))["totals"]
    assert (total["task_instances"], total["requests"], total["cost"], total["unpriced"]) == (1, 0, 0.0, 0)


class TestPushed:
    """What the operators push is read as it was meant."""

    def test_a_request(self):
        usage = CostLedger().usage(Outcome(), "5f2b0a9c1d3e4f60")
        assert is_usage(usage)
        assert clean_usage(usage) == usage
        assert set(usage) == set(UsageXCom.__annotations__)

    def test_the_steps_of_a_task_with_tools(self):
        outcome = Outcome(response=Response(raw={"id": "resp_1", "model": "a", "usage": {"cost": 0.5}}))
        usage = CostLedger().usage(outcome, "5f2b0a9c1d3e4f60")
        step = step_usage(usage, outcome) | {"calls": [{"name": "charge", "status": "failed", "seconds": 0.25}]}
        summed_up = sum_steps(usage, [step], outcome)
        check_xcom("usage", summed_up)
        assert clean_usage(summed_up) == summed_up
        assert clean_usage(summed_up | {"steps": [step | {"calls": 7, "cost": "x"}, 7]})["steps"][0]["calls"] == []

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.dictionaries(
            st.sampled_from(["", "a", "b"]),
            st.builds(
                ModelCounts,
                requests=st.integers(0, 9),
                failed=st.integers(0, 9),
                cached=st.integers(0, 9),
                cost=st.floats(0, 9),
                priced=st.integers(0, 2),
                unpriced=st.integers(0, 2),
                input_tokens=st.integers(0, 9),
                with_tokens=st.integers(0, 2),
                without_tokens=st.integers(0, 2),
            ),
        )
    )
    def test_an_enrichment(self, models):
        usage = pushed_by_enrichment(Progress(models=models), earlier={}, status="completed", rows=3)
        check_xcom("usage", usage)
        assert clean_usage(usage) == usage
        total = summed(usage)["totals"]
        for name, of_usage in (("requests", "requests"), ("cached", "requests_cached"), ("failed", "requests_failed")):
            assert total[name] == usage[of_usage]
        known = [it["cost"] for it in usage["models"] if it["cost"] is not None]
        assert (total["cost"] or 0.0) == pytest.approx(sum(known))


def test_an_unknown_cost_of_an_enrichment_is_counted_beside_what_its_models_have_cost():
    found = summed(usage_of_enrichment(cost=None))["totals"]
    assert (found["cost"], found["unpriced"], found["cost_is_minimum"]) == (0.002, 1, True)
    assert (found["requests"], found["task_instances"]) == (20, 1)


def test_an_unknown_cost_is_counted_once():
    models = [it | {"unpriced": 3} for it in usage_of_enrichment()["models"]]
    assert summed(usage_of_enrichment(cost=None, models=models))["totals"]["unpriced"] == 3


def test_a_request_that_was_refused_before_it_was_sent_is_none():
    refused = dict.fromkeys(("model", "provider", "response_id", "cached", "input_tokens", "output_tokens"))
    found = summed(usage_of_request(**refused, status="failed", sends=[], cost=0.0))["totals"]
    assert (found["requests"], found["failed"], found["cost"], found["task_instances"]) == (0, 0, 0.0, 1)
    send = {"cause": {"error": "ReadTimeoutError", "status": None}, "ambiguous": True, "wait": None}
    found = summed(usage_of_request(**refused, status="failed", sends=[send]))["totals"]
    assert (found["requests"], found["failed"]) == (1, 1)
