"""Other arguments `escalate` and `judge` for a table whose responses are stored: what is requested, and the figures."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import TooManyFailuresError
from airflow_provider_responses.task.escalation import Escalation
from tests.enrich import jobs
from tests.enrich.tiers import (
    INCOMPLETE,
    JUDGE,
    LARGE,
    LARGEST,
    NO_JSON,
    PRICES,
    REFUSAL,
    REJECTED,
    SMALL,
    Models,
    score,
    to_large,
)

LARGEST_ONLY = (Escalation(model=LARGEST),)


def judge(**given: Any) -> Judge:
    return Judge(**{"model": JUDGE, "rubric": "From 1 (bad) to 5 (good).", **given})


def fail(models: Models, folder: Any, rows: int = 2, **given: Any) -> None:
    """Run an attempt in which all rows fail."""
    with pytest.raises(TooManyFailuresError):
        models.enrich(folder, rows, **given)


def sent_by(models: Models, folder: Any, rows: int = 2, **given: Any) -> dict[str, int]:
    """Run an attempt, and return the number of requests that it sent by model."""
    before = len(models.sends)
    models.enrich(folder, rows, **given)
    names = [model for model, _ in models.sends[before:]]
    return {name: names.count(name) for name in PRICES if name in names}


@pytest.mark.parametrize("left", [(), to_large()], ids=["none", "one of two"])
def test_a_response_of_a_model_that_was_removed_is_used_and_judged(left, tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: NO_JSON, JUDGE: lambda _: score(4)})
    models.enrich(tmp_path, 2, escalate=(*to_large(), *LARGEST_ONLY))
    for sent in ({JUDGE: 2}, {}):  # and no more by the attempt after it
        assert sent_by(models, tmp_path, escalate=left, judge=judge()) == sent
        row = jobs.result(tmp_path)[0]
        assert (row["_status"], row["_model"], row["mood"], row["_score"]) == ("ok", LARGEST, f"{LARGEST} 0", 4)
    assert jobs.manifest(tmp_path)["cost"] == pytest.approx(models.bill)


def test_a_low_score_of_a_response_of_a_model_that_was_removed_goes_to_the_next(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, JUDGE: lambda _: score(1 if not models.paid[LARGEST] else 5)})
    models.enrich(tmp_path, 1, escalate=to_large())
    for sent in ({LARGEST: 1, JUDGE: 2}, {}):
        assert sent_by(models, tmp_path, 1, escalate=LARGEST_ONLY, judge=judge(min_score=3)) == sent
        row = jobs.result(tmp_path)[0]
        assert (row["_model"], row["_score"], row["_cost"]) == (LARGEST, 5, pytest.approx(models.bill))


def test_another_model_is_asked_if_that_of_before_was_rejected(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REFUSAL})
    fail(models, tmp_path, escalate=to_large())
    assert sent_by(models, tmp_path, escalate=LARGEST_ONLY, on_changed_request="fail") == {LARGEST: 2}
    assert [row["_model"] for row in jobs.result(tmp_path)] == [LARGEST] * 2


def test_another_model_is_not_asked_if_that_of_before_was_accepted(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON})
    models.enrich(tmp_path, 2, escalate=to_large())
    assert sent_by(models, tmp_path, escalate=LARGEST_ONLY) == {}
    assert [(row["_model"], row["_escalated"]) for row in jobs.result(tmp_path)] == [(LARGE, True)] * 2


def test_a_model_that_is_new_before_another_is_asked_and_the_other_not_again(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REFUSAL})
    models.rules[LARGEST] = lambda row: REFUSAL if row else None
    fail(models, tmp_path, escalate=to_large())
    both = (*LARGEST_ONLY, *to_large())
    for sent in ({LARGEST: 2}, {}):
        assert sent_by(models, tmp_path, escalate=both, limits=Limits(max_failures=1)) == sent
        assert [row["_status"] for row in jobs.result(tmp_path)] == ["ok", "refused"]


def test_a_larger_model_with_another_request_is_asked_again_for_rejected_rows_alone(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda row: INCOMPLETE if row else None})
    models.enrich(tmp_path, 2, escalate=to_large(request={"max_output_tokens": 20}), limits=Limits(max_failures=1))
    del models.rules[LARGE]
    more = to_large(request={"max_output_tokens": 2000})
    assert sent_by(models, tmp_path, escalate=more) == {LARGE: 1}
    assert models.bodies[-1]["max_output_tokens"] == 2000
    assert sent_by(models, tmp_path, escalate=more) == {}


def test_a_model_that_is_twice_in_the_list_is_asked_twice_and_no_more(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REFUSAL})
    fail(models, tmp_path, escalate=to_large() * 2)
    assert len(models.sent_to(LARGE)) == 4
    fail(models, tmp_path, escalate=to_large() * 2)
    assert len(models.sent_to(LARGE)) == 4


def test_a_request_that_failed_at_a_model_that_was_removed_goes_to_the_next(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REJECTED})
    fail(models, tmp_path, escalate=to_large())
    assert sent_by(models, tmp_path, escalate=LARGEST_ONLY) == {LARGEST: 2}


def costs(folder: Any) -> float:
    """Return the sum of the costs of the rows."""
    return sum(row["_cost"] for row in jobs.result(folder))


def test_the_costs_of_rows_are_those_of_all_judges(tmp_path):
    models = Models({JUDGE: lambda _: score(3), LARGEST: lambda _: score(2)})
    first, second = judge(), judge(model=LARGEST)
    for given, expected in ((first, 3), (second, 2), (first, 3), (None, None)):
        told = models.enrich(tmp_path, 2, **({"judge": given} if given else {}))
        assert told["cost"] == pytest.approx(models.bill)
        assert costs(tmp_path) == pytest.approx(models.bill)
        assert [row.get("_score") for row in jobs.result(tmp_path)] == [expected] * 2
        assert [row["_sends"] for row in jobs.result(tmp_path)] == [2 if models.bill < 0.1 else 3] * 2


def test_the_costs_of_rows_are_those_of_all_models_also_of_one_that_was_removed(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REFUSAL})
    fail(models, tmp_path, escalate=to_large())
    models.enrich(tmp_path, 2, escalate=LARGEST_ONLY)
    assert costs(tmp_path) == pytest.approx(models.bill)
    assert [(row["_cost"], row["_sends"], row["_tokens"]) for row in jobs.result(tmp_path)] == [
        (pytest.approx(0.321), 3, 30)
    ] * 2


def test_the_costs_of_rows_have_those_of_a_judge_that_failed_and_was_removed(tmp_path):
    models = Models({JUDGE: lambda _: NO_JSON})
    models.enrich(tmp_path, 2, judge=judge())
    models.enrich(tmp_path, 2)
    assert costs(tmp_path) == pytest.approx(models.bill)


def test_the_manifest_counts_by_model_and_request_also_those_that_were_removed(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REFUSAL})
    fail(models, tmp_path, escalate=to_large())
    told = models.enrich(tmp_path, 2, escalate=LARGEST_ONLY)
    assert told["tiers"] == [
        {"model": SMALL, "requests": 2, "escalated": 2, "cost": pytest.approx(0.002)},
        {"model": LARGEST, "requests": 2, "escalated": 0, "cost": pytest.approx(0.6)},
        {"model": LARGE, "requests": 2, "escalated": 0, "cost": pytest.approx(0.04)},
    ]
    assert sum(tier["cost"] for tier in told["tiers"]) == pytest.approx(told["cost"])


def test_the_manifest_counts_by_model_if_their_order_changes(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REFUSAL})
    fail(models, tmp_path, escalate=to_large())
    told = models.enrich(tmp_path, 2, escalate=(*LARGEST_ONLY, *to_large()))
    found = [(tier["model"], tier["requests"], tier["cost"]) for tier in told["tiers"]]
    assert found == [
        (SMALL, 2, pytest.approx(0.002)),
        (LARGEST, 2, pytest.approx(0.6)),
        (LARGE, 2, pytest.approx(0.04)),
    ]


def test_responses_to_an_old_prompt_that_were_not_sent_on_do_not_count_as_escalated(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON})
    fail(models, tmp_path, 3)
    models.rules.clear()
    other = {"row_fields": lambda row: {"model": SMALL, "input": f"Better {row['text']}"}}
    told = models.enrich(tmp_path, 3, escalate=to_large(), **other)
    assert [(tier["requests"], tier["escalated"]) for tier in told["tiers"]] == [(6, 0), (0, 0)]


def test_requests_that_wait_for_a_larger_model_count_as_escalated_once(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: REJECTED})
    for attempt in (1, 2):
        fail(models, tmp_path, escalate=to_large())
        told = jobs.manifest(tmp_path)
        assert [(it["requests"], it["escalated"]) for it in told["tiers"]] == [(2, 2), (2 * attempt, 0)]
    del models.rules[LARGE]
    told = models.enrich(tmp_path, 2, escalate=to_large())
    assert [(it["requests"], it["escalated"]) for it in told["tiers"]] == [(2, 2), (6, 0)]


def test_the_costs_of_another_judge_are_apart_in_the_manifest(tmp_path):
    models = Models({JUDGE: lambda _: score(3), LARGEST: lambda _: score(2)})
    models.enrich(tmp_path, 2, judge=judge())
    told = models.enrich(tmp_path, 2, judge=judge(model=LARGEST), escalate=to_large())
    found = {name: told["judge"][name] for name in ("model", "requests", "scored", "mean_score")}
    assert found == {"model": LARGEST, "requests": 2, "scored": 2, "mean_score": 2}
    assert told["judge"]["cost"] == pytest.approx(0.6)
    assert told["judge"]["cost_of_other_judges"] == pytest.approx(0.008)
    without = models.enrich(tmp_path, 2, escalate=to_large())
    assert without["tiers"][2] == {"model": None, "requests": 4, "escalated": 0, "cost": pytest.approx(0.608)}
    assert sum(tier["cost"] for tier in without["tiers"]) == pytest.approx(without["cost"])


def test_failed_requests_to_the_judge_are_requests_of_all_attempts(tmp_path):
    models = Models({JUDGE: lambda _: REJECTED})
    told = models.enrich(tmp_path, 2, judge=judge())
    assert (told["judge"]["requests"], told["judge"]["scored"], told["judge"]["failed"]) == (2, 0, 2)
    models.rules[JUDGE] = lambda _: score(4)
    told = models.enrich(tmp_path, 2, judge=judge())
    assert (told["judge"]["requests"], told["judge"]["scored"], told["judge"]["failed"]) == (4, 2, 0)


def test_scores_are_those_of_the_rows_not_of_an_old_prompt(tmp_path):
    models = Models({JUDGE: lambda _: score(1)})
    models.enrich(tmp_path, 4, judge=judge(min_score=1))
    models.rules[JUDGE] = lambda _: score(5)
    other = {"row_fields": lambda row: {"model": SMALL, "input": f"Better {row['text']}"}}
    for _ in range(2):
        told = models.enrich(tmp_path, 4, judge=judge(min_score=1), **other)["judge"]
        assert (told["requests"], told["scored"], told["mean_score"]) == (8, 4, 5)
        assert told["cost"] == pytest.approx(8 * PRICES[JUDGE])


def test_scores_are_those_of_the_last_responses(tmp_path):
    models = Models()
    models.rules[JUDGE] = lambda row: score(1 if models.sent_to(JUDGE).count(row) == 1 else 5)
    for _ in range(2):
        told = models.enrich(tmp_path, 4, judge=judge(min_score=3), escalate=to_large())["judge"]
        found = [told[name] for name in ("requests", "scored", "below_min_score", "mean_score")]
        assert found == [8, 4, 0, 5]


def test_shards_with_other_models_are_merged_by_model(tmp_path):
    from airflow_provider_responses.enrich import merge_shards

    models = Models({SMALL: lambda _: NO_JSON})
    for number, escalate in enumerate((to_large(), LARGEST_ONLY)):
        models.enrich(tmp_path / f"shard-{number:04d}-of-0002", 10, shard=(number, 2), escalate=escalate)
    told = merge_shards(tmp_path)
    found = {tier["model"]: tier["requests"] for tier in told["tiers"]}
    assert found == {SMALL: 10, LARGE: len(models.sent_to(LARGE)), LARGEST: len(models.sent_to(LARGEST))}
    assert sum(tier["cost"] for tier in told["tiers"]) == pytest.approx(told["cost"])


def test_a_smaller_sample_keeps_the_scores_that_are_there(tmp_path):
    models = Models({JUDGE: lambda _: score(2)})
    fail(models, tmp_path, 20, judge=judge(min_score=3))
    fail(models, tmp_path, 20, judge=judge(min_score=3, sample=0.1))
    assert models.paid == {SMALL: 20, JUDGE: 20}
    assert jobs.manifest(tmp_path)["counts"] == {"ok": 0, "low_score": 20}
    told = models.enrich(tmp_path, 20, judge=judge(min_score=2, sample=0.1))
    assert (told["counts"], told["judge"]["scored"]) == ({"ok": 20}, 20)
