"""Larger models and the judge in batch mode: the first step of each row goes into batches, the others are sent live."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import BudgetExceededError, ConfigurationError, ResponsesError
from airflow_provider_responses.task.escalation import Escalation
from tests.enrich import jobs
from tests.enrich.jobs import table

LARGE = "openai/gpt-4o"
JUDGE = "google/gemini-2.5-flash"
TO_LARGE = (Escalation(model=LARGE),)
JUDGED = Judge(model=JUDGE, rubric="From 1 to 5.", min_score=1)


def live_models(task: Any) -> Counter[str]:
    return Counter(entry.body["model"] for entry in task.sandbox.ledger)


def test_rejected_responses_of_a_batch_are_sent_live_to_the_larger_model(attempts):
    task = attempts(table(10), escalate=TO_LARGE)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}, {"refusal": "I cannot."}]})
    told = task.finish()
    assert (task.sizes, task.live) == ([10], ["Mood of hello 0", "Mood of hello 1"])
    assert live_models(task) == {LARGE: 2}
    assert told["counts"] == {"ok": 10}
    assert told["cost"] == pytest.approx(task.billed(), abs=1e-9)
    live = sum(entry.cost for entry in task.sandbox.billed)
    assert [(tier["requests"], tier["escalated"], tier["cost"]) for tier in told["tiers"]] == [
        (10, 2, pytest.approx(task.billed() - live)),
        (2, 0, pytest.approx(live)),
    ]
    assert [row["_row"] for row in task.result if row["_escalated"]] == [0, 1]
    assert [(line["_row"], line["_status"]) for line in task.lines if line.get("_tier")] == [(0, "ok"), (1, "ok")]


def test_responses_of_a_batch_are_judged_live(attempts):
    task = attempts(table(5), judge=JUDGED, escalate=TO_LARGE)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}]})
    told = task.finish()
    assert task.sizes == [5]
    assert live_models(task) == {LARGE: 1, JUDGE: 5}
    assert (told["counts"], told["judge"]["scored"]) == ({"ok": 5}, 5)
    assert all(row["_score"] for row in task.result)
    assert told["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert sum(row["_cost"] for row in task.result) == pytest.approx(told["cost"], abs=1e-9)


@pytest.mark.parametrize(
    "more",
    [{"escalate": (Escalation(model=LARGE, when=lambda _: True),)}, {"judge": Judge(model=LARGE, rubric="1-5.")}],
)
def test_the_price_of_a_batch_is_not_that_of_the_steps_after_it(more, attempts):
    task = attempts(table(60), limits=Limits(max_cost=0.002, concurrency=64, initial_concurrency=64), **more)
    with pytest.raises(BudgetExceededError, match=f"the most expensive response of {LARGE} was"):
        task.finish()
    highest = max(entry.cost for entry in task.sandbox.billed)
    assert 0.002 - highest < task.billed() <= 0.002 + 1e-9
    assert len(task.live) > 1


def test_nothing_is_sent_live_before_all_batches_have_landed(attempts):
    task = attempts(table(10), escalate=TO_LARGE, limits=Limits(max_batch_requests=5))
    task.sandbox.script_batches({"seconds": 10.0, "responses": [{"text": "no JSON"}]})
    assert isinstance(task.step(), Unfinished)
    task.clock.sleep(20.0)
    ended = task.step()
    assert isinstance(ended, Unfinished)
    assert len(ended.batch_ids) == 1
    assert task.live == []
    task.wait()
    told = task.step()
    assert (task.live, told["counts"], task.sizes) == (["Mood of hello 0"], {"ok": 10}, [5, 5])


def test_a_request_that_is_invalid_with_no_larger_model_for_that_goes_into_the_next_batch(attempts):
    task = attempts(table(3), escalate=(Escalation(model=LARGE, when="refused"),))
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}, {"refusal": "I cannot."}]})
    told = task.finish()
    assert (task.sizes, task.live) == ([3, 1], ["Mood of hello 1"])
    assert told["counts"] == {"ok": 3}


def test_the_next_attempt_sends_the_larger_model_that_failed_live_and_submits_nothing(attempts):
    task = attempts(table(6), escalate=TO_LARGE)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}, {"text": "no JSON"}]})
    task.sandbox.script({"status": 402})
    with pytest.raises(ResponsesError, match="402"):
        task.finish()
    statuses = Counter(row["_status"] for row in task.result)
    assert statuses["escalating"] >= 1
    task.retry()
    told = task.finish()
    assert (task.sizes, told["counts"]) == ([6], {"ok": 6})
    assert {entry.body["model"] for entry in task.sandbox.ledger} == {LARGE}
    assert told["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_a_judge_that_is_added_later_submits_nothing(attempts):
    task = attempts(table(4))
    task.finish()
    task.given["judge"] = JUDGED
    task.clear()
    told = task.finish()
    assert (task.sizes, live_models(task)) == ([4], {JUDGE: 4})
    assert told["judge"]["scored"] == 4


def test_auto_counts_only_requests_without_a_response_against_the_threshold(attempts):
    task = attempts(table(4), options={"mode": "live"})
    task.finish()
    task.given["judge"], task.options["mode"], task.options["batch_threshold"] = JUDGED, "auto", 2
    task.clear()
    assert task.finish()["judge"]["scored"] == 4
    assert task.sizes == []


def test_a_function_is_not_called_for_results_of_rows_that_left_the_source(attempts):
    seen: list[Any] = []
    task = attempts(table(4), escalate=(Escalation(model=LARGE, when=lambda value: bool(seen.append(value))),))
    task.step()
    task.wait()
    task.rows = table(2)
    told = task.finish()
    assert (task.sizes, told["counts"], len(seen)) == ([4], {"ok": 2}, 2)
    assert told["cost"] == pytest.approx(task.billed(), abs=1e-9)
    task.rows = table(4)
    task.clear()
    assert (task.finish()["counts"], task.sizes, len(seen)) == ({"ok": 4}, [4], 6)


def test_a_function_that_fails_ends_the_attempt_and_no_response_is_lost(attempts):
    task = attempts(table(3), escalate=(Escalation(model=LARGE, when=lambda _: 1 / 0),))
    with pytest.raises(ConfigurationError, match=r"^row (\d) \(key r\1\): escalate: the function"):
        task.finish()
    task.retry()
    with pytest.raises(ConfigurationError, match="escalate: the function"):
        task.finish()
    task.given["escalate"] = (Escalation(model=LARGE, when=lambda _: False),)
    task.retry()
    told = task.finish()
    assert (task.sizes, told["counts"]) == ([3], {"ok": 3})
    assert told["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_the_counts_of_models_include_the_batches_of_earlier_steps(attempts):
    task = attempts(table(8), escalate=TO_LARGE, limits=Limits(max_batch_requests=4, max_failures=0))
    task.sandbox.script_batches(
        {"seconds": 10.0, "responses": [{"text": "no JSON"}]}, {"responses": [{"refusal": "I cannot."}]}
    )
    task.step()
    task.clock.sleep(20.0)
    task.step()
    task.wait()
    told = task.step()
    assert [(tier["requests"], tier["escalated"]) for tier in told["tiers"]] == [(8, 2), (2, 0)]
    assert json.loads(json.dumps(told)) == jobs.manifest(task.folder)
