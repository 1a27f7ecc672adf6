"""The functions of `when` that check the responses of an enrichment."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from airflow_provider_responses.enrich.columns import TEXT_COLUMN
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich import jobs
from tests.enrich.tiers import JUDGE, SMALL, Models, score, to_large


class Tagged(BaseModel):
    tags: list[str]


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


@pytest.mark.parametrize("result", ["text", "response"])
def test_a_function_that_changes_its_value_changes_no_response(result, tmp_path):
    def drops_tags(value: dict[str, Any]) -> bool:
        assert value["tags"] == ["a", "b"]
        value["tags"].clear()
        return False

    models = Models({SMALL: lambda _: {"text": '{"tags": ["a", "b"]}'}})
    request = TaskRequest(fields={}, output_type=Tagged, stream=False, cache=False, result=result)
    escalate = (*to_large(when=[drops_tags, drops_tags]), *to_large(when=drops_tags))
    results = []
    for _ in range(2):
        told = models.enrich(tmp_path, 1, request=request, escalate=escalate)
        assert told["counts"] == {"ok": 1}
        results.append(jobs.result(tmp_path))
    assert results[0] == results[1]
    assert len(models.sends) == 1
    if result == "text":
        assert results[0][0]["tags"] == ["a", "b"]


@pytest.mark.parametrize("damaged", ['"_tier":"1"', '"_tier":{}', '"_tier":null'])
def test_a_line_with_a_damaged_tier_is_sent_again_like_other_damaged_lines(damaged, tmp_path):
    models = Models({SMALL: lambda _: {"text": "no JSON"}})
    models.enrich(tmp_path, 2, escalate=to_large())
    for part in jobs.parts(tmp_path):
        part.write_text(part.read_text().replace('"_tier":1', damaged))
    told = models.enrich(tmp_path, 2, escalate=to_large())
    assert told["counts"] == {"ok": 2}
    assert [row["_escalated"] for row in jobs.result(tmp_path)] == [True, True]
