"""The functions of `when` that check the responses of an enrichment."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_responses.enrich.columns import TEXT_COLUMN
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich import jobs
from tests.enrich.tiers import JUDGE, SMALL, Models, score, to_large


def test_the_error_of_a_function_names_the_row_in_each_attempt(tmp_path):
    def check(value: Any) -> bool:
        return value["sure"] if value["mood"].endswith(" 2") else False

    models = Models()
    for _ in range(2):
        with pytest.raises(ConfigurationError) as raised:
            models.enrich(tmp_path, 4, escalate=to_large(when=check), limits=Limits(concurrency=1))
        assert str(raised.value).startswith("row 2 (key r2): escalate: the function test_the_error")
        assert str(raised.value).endswith(
            "raised KeyError: 'sure'. Correct it; a response that is cached or stored is not paid again"
        )
    assert models.sent_to(SMALL) == [0, 1, 2]


@pytest.mark.parametrize("judge", [None, Judge(model=JUDGE, rubric="From 1 (bad) to 5 (good).")], ids=["", "judged"])
def test_a_function_is_not_called_for_stored_responses_that_no_row_of_the_source_can_use(judge, tmp_path):
    seen: list[str] = []

    def is_high(value: str) -> bool:
        seen.append(value)
        return float(value) > 100

    models = Models({SMALL: lambda _: {"text": "hello there"}, JUDGE: lambda _: score(4)})
    request = TaskRequest(fields={}, stream=False, cache=False)
    models.enrich(tmp_path, 3, request=request, judge=judge)
    models.rules[SMALL] = lambda row: {"text": str(row)}

    def number_of(row: dict[str, Any]) -> dict[str, Any]:
        return {"model": SMALL, "input": f"Number of {row['text']}"}

    given = {"request": request, "judge": judge, "row_fields": number_of, "escalate": to_large(when=is_high)}
    told = models.enrich(tmp_path, 3, **given)
    assert (told["counts"], set(seen)) == ({"ok": 3}, {"0", "1", "2"})
    assert [row[TEXT_COLUMN] for row in jobs.result(tmp_path)] == ["0", "1", "2"]
    assert told["cost"] == pytest.approx(models.bill)
