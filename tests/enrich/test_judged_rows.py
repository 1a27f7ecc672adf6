"""The judge of an enrichment: a second request for each sampled row, whose scores are columns of the result."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

import pytest

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.shard_merge import merge_shards
from airflow_provider_responses.exceptions import (
    BudgetExceededError,
    RequestValidationError,
    TooManyFailuresError,
)
from airflow_provider_responses.task.escalation import Escalation
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich import jobs
from tests.enrich.tiers import (
    BUSY,
    JUDGE,
    LARGE,
    NO_JSON,
    REFUSAL,
    REJECTED,
    SMALL,
    Models,
    mood,
    score,
    to_large,
)

RUBRIC = "Is the mood right? From 1 (wrong) to 5 (right)."


def judge(**given: Any) -> Judge:
    return Judge(**{"model": JUDGE, "rubric": RUBRIC, **given})


def scores(low: range | list[int] = [], low_score: int = 1) -> Any:  # noqa: B006
    """Return a rule of the judge: rows with a low score, and 4 for the others."""
    return lambda row: score(low_score if row in low else 4, f"reason {row}")


def test_scores_and_reasons_are_columns_and_the_manifest_has_their_mean(responses_sandbox, tmp_path):
    told = jobs.enrich(responses_sandbox, tmp_path, jobs.table(20), judge=judge())
    ledger = [entry for entry in responses_sandbox.ledger if entry.billed]
    costs = {model: sum(entry.cost for entry in ledger if entry.body["model"] == model) for model in (SMALL, JUDGE)}
    assert Counter(entry.body["model"] for entry in ledger) == {SMALL: 20, JUDGE: 20}
    rows = jobs.result(tmp_path)
    assert list(rows[0])[-2:] == ["_score", "_score_reason"]
    assert all(1 <= row["_score"] <= 5 and row["_score_reason"] for row in rows)
    assert told["judge"] == {
        "model": JUDGE,
        "requests": 20,
        "scored": 20,
        "failed": 0,
        "below_min_score": 0,
        "mean_score": pytest.approx(sum(row["_score"] for row in rows) / 20, abs=1e-6),
        "cost": pytest.approx(costs[JUDGE]),
    }
    assert told["cost"] == pytest.approx(costs[SMALL] + costs[JUDGE])
    assert sum(row["_cost"] for row in rows) == pytest.approx(told["cost"])
    assert {row["_sends"] for row in rows} == {2}
    assert all(row["_model"].startswith(SMALL) for row in rows)
    assert (told["counts"], "tiers" in told) == ({"ok": 20}, False)


def test_the_judge_gets_the_request_the_response_and_its_rubric(tmp_path):
    models = Models({JUDGE: scores()})
    models.enrich(tmp_path, 1, judge=judge(request={"temperature": 0}))
    [body] = [body for body in models.bodies if body["model"] == JUDGE]
    assert "Mood of hello 0" in body["input"]
    assert json.loads(body["input"].partition("The response to judge:\n")[2]) == json.loads(mood(SMALL, 0)["text"])
    assert RUBRIC in body["instructions"]
    assert body["temperature"] == 0
    assert body["text"]["format"]["schema"]["properties"]["score"] == {"type": "integer", "minimum": 1, "maximum": 5}


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_a_sample_is_judged_which_is_the_same_in_each_attempt(output_format, tmp_path):
    models = Models({JUDGE: scores()})
    for rubric in (RUBRIC, f"{RUBRIC} Be strict."):
        given = judge(sample=0.2, rubric=rubric)
        told = models.enrich(tmp_path, 200, judge=given, output_format=output_format)
    sampled = models.sent_to(JUDGE)
    assert Counter(sampled) == dict.fromkeys(sampled, 2)
    assert 20 <= len(set(sampled)) <= 60
    if output_format == "parquet":
        from pyarrow import parquet

        table = parquet.read_table(tmp_path / "result.parquet")
        assert {name: str(table.schema.field(name).type) for name in ("_score", "_score_reason")} == {
            "_score": "double",
            "_score_reason": "string",
        }
        rows = table.to_pylist()
    else:
        rows = jobs.result(tmp_path)
    assert {row["_row"] for row in rows if row["_score"] is not None} == set(sampled)
    assert {row["_status"] for row in rows} == {"ok"}
    assert told["judge"]["scored"] == len(set(sampled))


def test_a_parquet_result_without_any_score_has_the_types_of_scores(tmp_path):
    from pyarrow import parquet

    models = Models()
    models.enrich(tmp_path, 2, judge=judge(sample=1e-9), output_format="parquet")
    schema = parquet.read_table(tmp_path / "result.parquet").schema
    assert [str(schema.field(name).type) for name in ("_score", "_score_reason")] == ["double", "string"]


def test_a_score_below_min_score_fails_its_row(tmp_path):
    models = Models({JUDGE: scores([3])})
    told = models.enrich(tmp_path, 10, judge=judge(min_score=3), limits=Limits(max_failures=1))
    assert told["counts"] == {"ok": 9, "low_score": 1}
    assert told["judge"] | {"cost": 0} == {
        "model": JUDGE,
        "requests": 10,
        "scored": 10,
        "failed": 0,
        "below_min_score": 1,
        "mean_score": 3.7,
        "cost": 0,
    }
    row = jobs.result(tmp_path)[3]
    assert (row["_status"], row["_score"], row["_score_reason"]) == ("low_score", 1, "reason 3")
    assert (row["_error"], row["mood"]) == ("judge: the score 1 is below min_score, 3", f"{SMALL} 3")
    with pytest.raises(
        TooManyFailuresError, match=r"1 low_score.*The first, row 3 .*the score 1 is below min_score, 3"
    ):
        models.enrich(tmp_path, 10, judge=judge(min_score=3))
    assert len(models.sends) == 20


def test_a_low_score_is_sent_on_and_the_larger_model_is_judged_again(tmp_path):
    seen = Counter[int]()

    def rule(row: int) -> Any:
        seen[row] += 1
        return score(2 if row == 6 or (row % 3 == 0 and seen[row] == 1) else 5)

    models = Models({JUDGE: rule})
    given = {"judge": judge(min_score=3), "escalate": to_large(when="low_score")}
    told = models.enrich(tmp_path, 9, limits=Limits(max_failures=1), **given)
    assert models.paid == {SMALL: 9, JUDGE: 12, LARGE: 3}
    assert told["counts"] == {"ok": 8, "low_score": 1}
    assert [(tier["requests"], tier["escalated"]) for tier in told["tiers"]] == [(9, 3), (3, 0)]
    assert (told["judge"]["scored"], told["judge"]["below_min_score"]) == (9, 1)
    assert told["judge"]["requests"] == 12
    assert [tier["cost"] for tier in told["tiers"]] == [pytest.approx(0.009), pytest.approx(0.06)]
    assert told["judge"]["cost"] == pytest.approx(0.048)
    rows = jobs.result(tmp_path)
    assert [row["_row"] for row in rows if row["_escalated"]] == [0, 3, 6]
    assert (rows[3]["_score"], rows[3]["mood"], rows[3]["_sends"]) == (5, f"{LARGE} 3", 4)
    assert rows[3]["_cost"] == pytest.approx(0.001 + 0.004 + 0.02 + 0.004)
    assert rows[6]["_status"] == "low_score"
    assert list(rows[0])[-3:] == ["_escalated", "_score", "_score_reason"]
    assert models.enrich(tmp_path, 9, limits=Limits(max_failures=1), **given)["requests_sent"] == 0


def test_a_rejected_response_is_not_judged(tmp_path):
    models = Models({SMALL: lambda row: REFUSAL if row == 1 else None, JUDGE: scores()})
    told = models.enrich(tmp_path, 3, judge=judge(), limits=Limits(max_failures=1))
    assert sorted(models.sent_to(JUDGE)) == [0, 2]
    assert told["counts"] == {"ok": 2, "refused": 1}


@pytest.mark.parametrize(
    "reply", [REJECTED, REFUSAL, NO_JSON, score(7), BUSY], ids=["400", "refusal", "text", "7", "429"]
)
def test_without_min_score_a_row_whose_judge_fails_is_ok_and_judged_again_by_the_next_attempt(reply, tmp_path, caplog):
    failing = {4}
    models = Models({JUDGE: lambda row: reply if row in failing else score(4)})
    if reply is BUSY:
        models.rules[JUDGE] = lambda row: {"http": 500} if row in failing else score(4)
    with caplog.at_level(logging.WARNING):
        told = models.enrich(tmp_path, 6, judge=judge())
    assert told["counts"] == {"ok": 6}
    assert (told["judge"]["scored"], told["judge"]["failed"], told["judge"]["requests"]) == (5, 1, 6)
    row = jobs.result(tmp_path)[4]
    assert (row["_status"], row["_score"], row["mood"]) == ("ok", None, f"{SMALL} 4")
    assert row["_error"].startswith("judge: ")
    assert "I will not" not in row["_error"]
    [warning] = [it.getMessage() for it in caplog.records if "have no score" in it.getMessage()]
    assert warning.startswith("1 rows have no score")
    assert "'r4'" in warning
    sent = Counter(models.sent_to(JUDGE))[4]
    assert sent == (2 if reply in (NO_JSON, score(7)) else sent)  # once more within the attempt

    failing.clear()
    told = models.enrich(tmp_path, 6, judge=judge())
    assert (told["requests_sent"], told["counts"], told["cost"]) == (1, {"ok": 6}, pytest.approx(models.bill))
    assert (told["judge"]["scored"], told["judge"]["failed"]) == (6, 0)
    row = jobs.result(tmp_path)[4]
    assert (row["_score"], row["_error"], row["mood"]) == (4, None, f"{SMALL} 4")
    assert models.paid[SMALL] == 6


def test_with_min_score_a_row_whose_judge_fails_has_failed_and_only_the_judge_is_sent_again(tmp_path):
    failing = {4}
    models = Models({JUDGE: lambda row: REJECTED if row in failing else score(4)})
    with pytest.raises(TooManyFailuresError, match="judge: BadRequestResponseError"):
        models.enrich(tmp_path, 6, judge=judge(min_score=3))
    row = jobs.result(tmp_path)[4]
    assert (row["_status"], row["_score"], row["mood"]) == ("failed", None, f"{SMALL} 4")
    failing.clear()
    told = models.enrich(tmp_path, 6, judge=judge(min_score=3))
    assert (told["requests_sent"], models.paid[SMALL], told["counts"]) == (1, 6, {"ok": 6})
    assert jobs.result(tmp_path)[4]["_score"] == 4


def test_a_busy_judge_gets_the_request_again(tmp_path):
    busy = Counter[int]()

    def rule(row: int) -> Any:
        busy[row] += 1
        return BUSY if busy[row] < 3 else score(3)

    models = Models({JUDGE: rule})
    told = models.enrich(tmp_path, 5, judge=judge())
    assert (models.paid, told["judge"]["failed"]) == ({SMALL: 5, JUDGE: 5}, 0)
    assert len(models.sent_to(SMALL)) == 5


def test_a_judge_that_is_added_later_gets_only_its_own_requests(tmp_path):
    models = Models({JUDGE: scores([2])})
    models.enrich(tmp_path, 5)
    told = models.enrich(tmp_path, 5, judge=judge())
    assert models.paid == {SMALL: 5, JUDGE: 5}
    assert (told["requests_sent"], told["judge"]["scored"]) == (5, 5)
    assert [row["_score"] for row in jobs.result(tmp_path)] == [4, 4, 1, 4, 4]
    assert jobs.result(tmp_path)[0]["_cost"] == pytest.approx(0.005)

    told = models.enrich(tmp_path, 5, judge=judge(min_score=2), limits=Limits(max_failures=1))
    assert (told["requests_sent"], told["counts"]) == (0, {"ok": 4, "low_score": 1})

    models.rules[JUDGE] = scores()
    told = models.enrich(tmp_path, 5, judge=judge(min_score=2), escalate=to_large())
    assert (models.paid, told["counts"]) == ({SMALL: 5, JUDGE: 6, LARGE: 1}, {"ok": 5})


def test_without_the_judge_the_responses_that_are_there_count_and_nothing_is_sent(tmp_path):
    models = Models({JUDGE: lambda row: score(1) if row == 2 else REJECTED if row == 3 else score(4)})
    with pytest.raises(TooManyFailuresError):
        models.enrich(tmp_path, 5, judge=judge(min_score=3))
    sent = len(models.sends)
    told = models.enrich(tmp_path, 5)
    assert (told["counts"], len(models.sends), told["cost"]) == ({"ok": 5}, sent, pytest.approx(models.bill))
    assert "judge" not in told
    assert not {"_score", "_score_reason"} & set(jobs.result(tmp_path)[0])
    assert [row["_error"] for row in jobs.result(tmp_path)] == [None] * 5


def test_a_lower_min_score_accepts_rows_without_a_request(tmp_path):
    models = Models({JUDGE: scores([0, 1], 2)})
    with pytest.raises(TooManyFailuresError):
        models.enrich(tmp_path, 5, judge=judge(min_score=3))
    told = models.enrich(tmp_path, 5, judge=judge(min_score=2))
    assert (told["requests_sent"], told["counts"]) == (0, {"ok": 5})
    assert {row["_error"] for row in jobs.result(tmp_path)} == {None}


def test_a_row_that_waits_for_its_score_is_judging_in_the_result_and_the_next_attempt_continues(tmp_path):
    models = Models({JUDGE: lambda _: {"http": 402}})
    with pytest.raises(Exception, match="402"):
        models.enrich(tmp_path, 3, judge=judge(min_score=3), limits=Limits(concurrency=1))
    assert jobs.manifest(tmp_path)["counts"] == {"ok": 0, "judging": 1, "missing": 2}
    assert jobs.result(tmp_path)[0]["mood"] == f"{SMALL} 0"
    models.rules[JUDGE] = scores()
    assert models.enrich(tmp_path, 3, judge=judge(min_score=3))["counts"] == {"ok": 3}
    assert models.paid == {SMALL: 3, JUDGE: 3}


def test_without_min_score_a_row_that_waits_for_its_score_is_ok(tmp_path):
    models = Models({JUDGE: lambda _: {"http": 402}})
    with pytest.raises(Exception, match="402"):
        models.enrich(tmp_path, 3, judge=judge(), limits=Limits(concurrency=1))
    assert jobs.manifest(tmp_path)["counts"] == {"ok": 1, "missing": 2}
    models.rules[JUDGE] = scores()
    told = models.enrich(tmp_path, 3, judge=judge())
    assert (told["counts"], told["judge"]["scored"]) == ({"ok": 3}, 3)
    assert models.paid == {SMALL: 3, JUDGE: 3}


def test_the_budget_counts_the_judge(tmp_path):
    models = Models({JUDGE: scores()})
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 10, judge=judge(min_score=1), limits=Limits(max_cost=0.02, concurrency=1))
    assert 0.01 < models.bill <= 0.02
    assert jobs.manifest(tmp_path)["cost"] == pytest.approx(models.bill)
    told = models.enrich(tmp_path, 10, judge=judge(min_score=1), limits=Limits(max_cost=1.0))
    assert (models.paid, told["counts"]) == ({SMALL: 10, JUDGE: 10}, {"ok": 10})


def test_rows_with_the_same_request_share_the_score(tmp_path):
    rows = [{"id": f"r{number}", "text": f"hello {number % 2}"} for number in range(6)]
    models = Models({JUDGE: lambda row: score(row + 3, f"reason {row}")})
    models.enrich(tmp_path, rows, judge=judge())
    assert models.paid == {SMALL: 2, JUDGE: 2}
    found = jobs.result(tmp_path)
    assert [row["_score"] for row in found] == [3, 4, 3, 4, 3, 4]
    assert [row["_cost"] for row in found] == [pytest.approx(0.005), pytest.approx(0.005), 0, 0, 0, 0]


def test_another_form_of_the_result_is_requested_and_judged_again(tmp_path):
    models = Models({JUDGE: scores()})
    for result in ("text", "response", "response"):
        request = TaskRequest(fields={}, stream=False, cache=False, result=result)
        told = models.enrich(tmp_path, 2, judge=judge(), request=request)
    assert models.paid == {SMALL: 4, JUDGE: 4}
    assert told["cost"] == pytest.approx(models.bill)
    row = jobs.result(tmp_path)[1]
    assert (row["output"]["model"], row["_score"]) == (SMALL, 4)
    judged = [body["input"] for body in models.bodies if body["model"] == JUDGE]
    assert all(
        text.endswith(f"The response to judge:\n{mood(SMALL, int('1' in text[:40]))['text']}") for text in judged
    )


def test_a_text_is_judged_as_it_is(tmp_path):
    models = Models({SMALL: lambda _: {"text": "Fine."}, JUDGE: scores()})
    models.enrich(tmp_path, 1, judge=judge(), request=TaskRequest(fields={}, stream=False, cache=False))
    [body] = [body for body in models.bodies if body["model"] == JUDGE]
    assert body["input"].endswith("The response to judge:\nFine.")
    assert jobs.result(tmp_path)[0]["output"] == "Fine."


def test_a_wrong_request_of_the_judge_is_found_before_anything_is_sent(tmp_path):
    models = Models()
    with pytest.raises(RequestValidationError, match=r"judge: .*max_output_tokens must be"):
        models.enrich(tmp_path, 3, judge=judge(request={"max_output_tokens": "many"}))
    assert models.sends == []


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_shards_are_merged_with_the_counts_of_their_models_and_judges(output_format, tmp_path):
    models = Models({SMALL: lambda row: NO_JSON if row % 5 == 0 else None, JUDGE: lambda row: score(row % 5 + 1)})
    for number in range(3):
        models.enrich(
            tmp_path / f"shard-{number}-of-3", 30, shard=(number, 3), escalate=to_large(), judge=judge(sample=0.5)
        )
    merged = merge_shards(tmp_path, output_format=output_format)
    assert merged["tiers"] == [
        {"model": SMALL, "requests": 30, "escalated": 6, "cost": pytest.approx(0.03)},
        {"model": LARGE, "requests": 6, "escalated": 0, "cost": pytest.approx(0.12)},
    ]
    judged = models.sent_to(JUDGE)
    assert merged["judge"] == {
        "model": JUDGE,
        "requests": len(judged),
        "scored": len(judged),
        "failed": 0,
        "below_min_score": 0,
        "mean_score": pytest.approx(sum(row % 5 + 1 for row in judged) / len(judged), abs=1e-5),
        "cost": pytest.approx(0.004 * len(judged)),
    }
    assert merged["cost"] == pytest.approx(models.bill)
    if output_format == "parquet":
        from pyarrow import parquet

        schema = parquet.read_table(tmp_path / "result.parquet").schema
        assert str(schema.field("_score").type) == "double"
        assert str(schema.field("_escalated").type) == "bool"
    else:
        assert [row["_row"] for row in jobs.result(tmp_path) if row["_score"] is not None] == sorted(judged)


def test_the_scores_of_another_rubric_are_not_mixed_in(tmp_path):
    models = Models({JUDGE: scores()})
    models.enrich(tmp_path, 3, judge=judge())
    models.rules[JUDGE] = lambda _: score(9)
    other = judge(rubric="Is it polite? From 0 to 10.")
    told = models.enrich(tmp_path, 3, judge=other)
    assert models.paid == {SMALL: 3, JUDGE: 6}
    assert [row["_score"] for row in jobs.result(tmp_path)] == [9, 9, 9]
    assert (told["judge"]["mean_score"], told["cost"]) == (9, pytest.approx(models.bill))
    assert models.enrich(tmp_path, 3, judge=other)["requests_sent"] == 0


def test_a_larger_model_by_function_and_the_judge_together(tmp_path):
    models = Models({JUDGE: scores()})
    escalate = (Escalation(model=LARGE, when=lambda value: value["mood"].endswith(" 1")),)
    models.enrich(tmp_path, 3, judge=judge(), escalate=escalate)
    assert models.paid == {SMALL: 3, LARGE: 1, JUDGE: 3}
    assert [row["_model"] for row in jobs.result(tmp_path)] == [SMALL, LARGE, SMALL]
