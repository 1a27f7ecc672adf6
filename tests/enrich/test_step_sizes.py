"""``limits.max_request_bytes``: requests to larger models and to the judge are larger than those of the small model."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from tests.enrich import jobs
from tests.enrich.tiers import JUDGE, LARGE, NO_JSON, SMALL, Models, score, to_large

ROWS = [{"id": "long", "text": f"hello 0 {'x' * 2000}"}, {"id": "short", "text": "hello 1"}]
LIMITS = Limits(max_request_bytes=3000, max_failures=1)
RUBRIC = f"From 1 (bad) to 5 (good). {'y' * 800}"


def enrich(models: Models, folder: Any, **given: Any) -> dict[str, Any]:
    return models.enrich(folder, ROWS, **{"limits": LIMITS, **given})


def test_a_request_that_is_too_large_for_the_larger_model_fails_and_nothing_is_sent(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON})
    escalate = to_large(request={"instructions": "z" * 1000})
    for sent in (3, 0):  # the next attempt tries nothing else
        told = enrich(models, tmp_path, escalate=escalate)
        assert (told["counts"], told["requests_sent"]) == ({"ok": 1, "failed": 1}, sent)
    assert (models.sent_to(SMALL), models.sent_to(LARGE)) == ([0, 1], [1])
    long, short = jobs.result(tmp_path)
    assert long["_error"].startswith(f"RequestValidationError: the request to {LARGE} has ")
    assert long["_error"].endswith(" bytes, and limits.max_request_bytes is 3000, so it is not sent")
    assert (long["_sends"], long["_cost"], short["_sends"]) == (1, pytest.approx(0.001), 2)
    told = enrich(models, tmp_path, escalate=escalate, limits=Limits())
    assert (told["counts"], told["requests_sent"], models.sent_to(SMALL)) == ({"ok": 2}, 1, [0, 1])


@pytest.mark.parametrize(("min_score", "status"), [(None, "ok"), (3, "failed")])
def test_a_request_that_is_too_large_for_the_judge_is_not_sent_and_the_judge_has_failed(min_score, status, tmp_path):
    models = Models({JUDGE: lambda _: score(4)})
    judge = Judge(model=JUDGE, rubric=RUBRIC, min_score=min_score)
    told = enrich(models, tmp_path, judge=judge)
    assert (told["requests_sent"], models.sent_to(JUDGE)) == (3, [1])
    assert (told["judge"]["scored"], told["judge"]["failed"]) == (1, 1)
    long, short = jobs.result(tmp_path)
    assert (long["_status"], long["_score"], long["_sends"], short["_score"]) == (status, None, 1, 4)
    assert long["_error"].startswith(f"judge: RequestValidationError: the request to {JUDGE} has ")
    told = enrich(models, tmp_path, judge=judge, limits=Limits())
    assert (told["counts"], told["requests_sent"]) == ({"ok": 2}, 1)
