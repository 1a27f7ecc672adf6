"""``ResponsesEnrichOperator(mode="batch")`` in Airflow: deferred, on the worker, and by the decorator."""

from __future__ import annotations

import json

import pytest

from airflow_provider_responses.exceptions import RequestValidationError
from tests.operators.enrichments import enrich

ROWS = [{"id": f"r{n}", "text": f"review {n}"} for n in range(30)]

DAG = """
from airflow.sdk import DAG
from pydantic import BaseModel
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

class Label(BaseModel):
    mood: str

with DAG("enrich_batches"):
    ResponsesEnrichOperator(
        task_id="label",
        source={rows!r},
        key="id",
        input="Mood of: {{{{ row.text }}}}",
        model="openai/gpt-4o-mini",
        output_type=Label,
        output_path={folder!r},
        limits={{"max_batch_requests": 10}},
        {more}
    )
"""


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch):
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    monkeypatch.setenv("AIRFLOW__RESPONSES__MIN_DEFERRAL", "0")


def dag(folder, more):
    text = DAG.format(rows=ROWS, folder=str(folder), more=more)
    try:
        import airflow.sdk  # noqa: F401
    except ImportError:
        return text.replace("from airflow.sdk import DAG", "from airflow.models.dag import DAG")
    return text


def lines(folder):
    return [json.loads(line) for line in (folder / "result.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_table_is_submitted_as_batches_and_its_result_is_that_of_live_requests(
    run_dag, responses_sandbox, tmp_path, deferrable
):
    responses_sandbox.batch_settings = {"seconds": 0.3}
    run = run_dag(dag(tmp_path / "batch", f"mode='batch', deferrable={deferrable}"), "enrich_batches")
    assert run.state == "success"
    batches = responses_sandbox.batches
    assert [len(batch.custom_ids) for batch in batches] == [10, 10, 10]
    assert all(batch.billed for batch in batches)
    manifest = run.xcom("label")
    assert manifest["counts"] == {"ok": 30}
    assert manifest["cost"] == pytest.approx(sum(batch.cost for batch in batches))
    assert [entry["id"] for entry in manifest["batches"]] == [batch.id for batch in batches]

    live = run_dag(dag(tmp_path / "live", "mode='live'"), "enrich_batches")
    assert manifest["cost"] == pytest.approx(live.xcom("label")["cost"] / 2)
    own = {"_response_id", "_cost"}
    assert [{k: v for k, v in row.items() if k not in own} for row in lines(tmp_path / "batch")] == [
        {k: v for k, v in row.items() if k not in own} for row in lines(tmp_path / "live")
    ]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("mode", "batches"),
        ("batch_threshold", -1),
        ("finish_within", 0),
        ("on_batch_failure", "retry"),
        ("on_orphaned_intent", "live"),
        ("delete_after", "yes"),
        ("callback_url", "http://example.org"),
        ("deferrable", "yes"),
    ],
)
def test_a_wrong_argument_about_batches_is_refused_with_its_name(tmp_path, argument, value):
    with pytest.raises(RequestValidationError, match=argument):
        enrich(tmp_path, **{argument: value})
