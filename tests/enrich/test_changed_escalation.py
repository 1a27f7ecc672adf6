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
    assert sent_by(models, tmp_path, escalate=LARGEST_ONLY) == {LARGEST: 2}
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
