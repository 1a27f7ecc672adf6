"""Reports about larger models and the judge: progress, estimates and previews; and requests with files."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.content.parts import part_by_content
from airflow_provider_responses.content.reader import FileReader
from airflow_provider_responses.content.row_files import RowFiles
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.estimate import Estimate, describe_estimate
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.preview import Preview
from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.task.prices import TokenPrice
from airflow_provider_responses.task.request import TaskRequest
from tests.content import samples
from tests.enrich import jobs
from tests.enrich.tiers import JUDGE, LARGE, NO_JSON, SERVER, SMALL, Models, score, to_large

TYPED = TaskRequest(fields={}, output_type=jobs.Label, stream=False, cache=False)
JUDGED = Judge(model=JUDGE, rubric="From 1 to 5.")
PRICES = {SMALL: TokenPrice(1e-6, 1e-6), LARGE: TokenPrice(1e-3, 1e-3)}


def every_fifth(row: int) -> Any:
    return NO_JSON if row % 5 == 0 else None


def job(folder: Path, rows: int, **given: Any) -> Any:
    return jobs.job(SERVER, folder, jobs.table(rows), **{"request": TYPED, **given})


def test_progress_has_the_number_of_escalated_requests(tmp_path, caplog):
    figures: list[Any] = []
    models = Models({SMALL: every_fifth})
    with caplog.at_level(logging.INFO):
        models.enrich(
            tmp_path, 10, {"progress_seconds": 0.0, "report": figures.append, "tick": 0.001}, escalate=to_large()
        )
    assert (figures[-1]["escalated"], figures[-1]["done"], figures[-1]["failed"]) == (2, 10, 0)
    enrichment = Enrichment(job(tmp_path / "b", 1, escalate=to_large()))
    enrichment.report.pending, enrichment.report.progress.done, enrichment.report.progress.escalated = 10, 8, 3
    assert "0 failed, 3 escalated, 0 resent" in enrichment.report.line(8)
    without = Enrichment(job(tmp_path / "c", 1))
    assert "escalated" not in without.report.line(8)
    assert "escalated" not in without.report.figures()


def test_each_model_counts_its_own_responses(tmp_path):
    models = Models({SMALL: every_fifth, JUDGE: lambda _: score(4)})
    enrichment = Enrichment(job(tmp_path, 10, escalate=to_large(), judge=JUDGED), models.environment())
    enrichment.run()
    found = enrichment.report.progress.models
    assert {name: (it.requests, it.cost) for name, it in found.items()} == {
        SMALL: (10, pytest.approx(0.01)),
        LARGE: (2, pytest.approx(0.04)),
        JUDGE: (10, pytest.approx(0.04)),
    }


def test_costs_of_a_server_without_prices_are_unknown(tmp_path):
    with Sandbox(dialect="open") as server:
        config = jobs.connect(server.base_url)
        told = jobs.enrich(
            server, tmp_path, jobs.table(3), config=replace(config, dialect="open"), escalate=to_large(), judge=JUDGED
        )
    assert [tier["cost"] for tier in told["tiers"]] == [None, 0.0]
    assert (told["judge"]["scored"], told["judge"]["cost"], told["cost"]) == (3, None, None)
    assert jobs.result(tmp_path)[0]["_cost"] is None


def test_an_estimate_covers_the_first_model_and_says_so(tmp_path):
    given = {"escalate": to_large(), "judge": JUDGED}
    enrichment = Enrichment(job(tmp_path, 4, **given))
    found = enrichment.examine(lambda index, report: Estimate(index, report, enrichment.job, PRICES).to_dict())
    assert (found["requests"], found["without"], found["later_requests"]) == (4, ["escalate", "judge"], 0)
    assert list(found["models"]) == [SMALL]
    assert describe_estimate(found)[2].endswith(", without the larger models and the judge")

    plain = Enrichment(job(tmp_path, 4))
    found = plain.examine(lambda index, report: Estimate(index, report, plain.job, PRICES).to_dict())
    assert not {"without", "later_requests"} & set(found)
    assert "without the" not in describe_estimate(found)[2]


def test_an_estimate_counts_requests_that_wait_for_a_larger_model_at_its_price(tmp_path):
    models = Models({SMALL: every_fifth})
    models.enrich(tmp_path, 10, limits=Limits(max_failures=2), request=TYPED)
    enrichment = Enrichment(job(tmp_path, 12, escalate=to_large()))
    found = enrichment.examine(lambda index, report: Estimate(index, report, enrichment.job, PRICES).to_dict())
    assert (found["requests"], found["later_requests"], found["requests_reused"]) == (2, 2, 8)
    assert {name: it["requests"] for name, it in found["models"].items()} == {SMALL: 2, LARGE: 2}
    assert found["models"][LARGE]["cost"] > 100 * found["models"][SMALL]["cost"]
    assert found["requests_in_batches"] == 0
    assert ", without the larger models but for 2 requests to them" in describe_estimate(found)[2]


def test_a_preview_sends_all_steps_and_its_costs_include_them(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, JUDGE: lambda _: score(4)})
    preview = Preview(job(tmp_path, 100, escalate=to_large(), judge=JUDGED), models.environment(), count=10)
    found = preview.run()
    assert models.paid == {SMALL: 10, LARGE: 10, JUDGE: 10}
    assert (found["sent"], found["failed"]) == (10, 0)
    assert [row["cost"] for row in found["sample"]] == [pytest.approx(0.025)] * 10
    assert [row["tokens"] for row in found["sample"]] == [30] * 10
    assert found["cost_of_preview"] == pytest.approx(models.bill)
    assert found["cost"] == pytest.approx(100 * 0.025)
    assert found["seconds"] is not None

    told = models.enrich(tmp_path, 100, escalate=to_large(), judge=JUDGED, request=TYPED)
    assert models.paid == {SMALL: 100, LARGE: 100, JUDGE: 100}
    assert told["requests_sent"] == 270


def test_a_preview_of_rows_without_a_score_has_not_failed(tmp_path):
    models = Models({JUDGE: lambda _: {"http": 400}})
    found = Preview(job(tmp_path, 5, judge=JUDGED), models.environment(), count=5).run()
    assert (found["sent"], found["failed"]) == (5, 0)


def test_the_larger_model_and_the_judge_get_the_files_of_the_row(responses_sandbox, tmp_path):
    (tmp_path / "photo.png").write_bytes(samples.PNG)
    responses_sandbox.script(*[{"text": "no JSON"}, {}, {}] * 2)

    def fields(row: dict[str, Any]) -> dict[str, Any]:
        parts = [{"type": "input_text", "text": row["text"]}, part_by_content("photo.png")]
        return {"model": SMALL, "input": [{"type": "message", "role": "user", "content": parts}]}

    given = {
        "row_fields": fields,
        "files": RowFiles(FileReader(Path, root=str(tmp_path))),
        "limits": Limits(concurrency=1),
        "escalate": to_large(),
        "judge": JUDGED,
    }
    told = jobs.enrich(responses_sandbox, tmp_path / "out", jobs.table(2), **given)
    bodies = [entry.body for entry in responses_sandbox.ledger]
    assert [body["model"] for body in bodies] == [SMALL, LARGE, JUDGE] * 2
    encoded = base64.b64encode(samples.PNG).decode()
    assert all(encoded in json.dumps(body["input"]) for body in bodies)
    assert "The response to judge" in bodies[2]["input"][-1]["content"]
    assert (told["counts"], told["judge"]["scored"]) == ({"ok": 2}, 2)
