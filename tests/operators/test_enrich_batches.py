"""``ResponsesEnrichOperator(mode="batch")`` in Airflow: deferred, on the worker, and by the decorator."""

from __future__ import annotations

import json
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_responses.batch.waiting import write_batch_event
from airflow_provider_responses.exceptions import (
    RequestCancelledError,
    RequestValidationError,
    UnauthorizedResponseError,
)
from airflow_provider_responses.sandbox import Sandbox
from tests.airflow_fakes import TaskInstance, context
from tests.operators.enrichments import enrich

ROWS = [{"id": f"r{n}", "text": f"review {n}"} for n in range(200)]

DAG = """
from airflow.sdk import DAG
from pydantic import BaseModel
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

class Label(BaseModel):
    mood: str

with DAG("enrich_batches", schedule=None):
    ResponsesEnrichOperator(
        task_id="label",
        source={rows!r},
        key="id",
        input="Mood of: {{{{ row.text }}}}",
        model="openai/gpt-4o-mini",
        output_type=Label,
        output_path={folder!r},
        limits={{"max_batch_requests": 80}},
        {more}
    )
"""


@pytest.fixture(autouse=True)
def _poll_often(monkeypatch):
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    monkeypatch.setenv("AIRFLOW__RESPONSES__MIN_DEFERRAL", "0")


OLD_IMPORTS = "from airflow.decorators import task\nfrom airflow.models.dag import DAG"


def has_sdk():
    try:
        import airflow.sdk  # noqa: F401
    except ImportError:
        return False
    return True


def dag(folder, more):
    text = DAG.format(rows=ROWS, folder=str(folder), more=more)
    return text if has_sdk() else text.replace("from airflow.sdk import DAG", "from airflow.models.dag import DAG")


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
    assert [len(batch.custom_ids) for batch in batches] == [80, 80, 40]
    assert all(batch.billed for batch in batches)
    manifest = run.xcom("label")
    assert manifest["counts"] == {"ok": 200}
    assert manifest["cost"] == pytest.approx(sum(batch.cost for batch in batches))
    assert [entry["id"] for entry in manifest["batches"]] == [batch.id for batch in batches]

    live = run_dag(dag(tmp_path / "live", "mode='live'"), "enrich_batches")
    assert manifest["cost"] == pytest.approx(live.xcom("label")["cost"] / 2)
    own = {"_response_id", "_cost"}
    assert [{k: v for k, v in row.items() if k not in own} for row in lines(tmp_path / "batch")] == [
        {k: v for k, v in row.items() if k not in own} for row in lines(tmp_path / "live")
    ]


def let_batches_end(sandbox):
    sandbox.batch_settings = {"hold": None}


DECORATED = """
from airflow.sdk import DAG, task

with DAG("decorated_batches", schedule=None):
    @task.responses_enrich(
        source={rows!r}, key="id", output_path={folder!r}, mode="batch", model="openai/gpt-4o-mini", columns=["id"]
    )
    def label(row, question="Mood of:"):
        return f"{{question}} {{row['text']}}"

    label()
"""


def test_a_decorated_function_builds_the_requests_again_when_the_task_resumes(run_dag, responses_sandbox, tmp_path):
    responses_sandbox.batch_settings = {"seconds": 0.3}
    source = DECORATED.format(rows=ROWS[:20], folder=str(tmp_path))
    if not has_sdk():
        source = source.replace("from airflow.sdk import DAG, task", OLD_IMPORTS)
    run = run_dag(source, "decorated_batches")
    assert run.state == "success"
    assert run.xcom("label")["counts"] == {"ok": 20}
    assert [row["id"] for row in lines(tmp_path)] == [row["id"] for row in ROWS[:20]]
    assert len(responses_sandbox.batches) == 1
    assert responses_sandbox.ledger == []


def waiting_task(folder, **kwargs):
    """Return a task that waits for its batch on the worker."""
    return enrich(folder, mode="batch", deferrable=False, key="id", **kwargs)


def test_a_task_that_is_ended_while_it_waits_on_the_worker_logs_the_batches_that_run_on(
    responses_sandbox, tmp_path, caplog, monkeypatch
):
    responses_sandbox.batch_settings = {"hold": "in_progress"}
    task = waiting_task(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda _: task.on_kill())
    with pytest.raises(RequestCancelledError, match="its batches run on"):
        task.execute(context())
    (batch,) = responses_sandbox.batches
    assert f"run on and are billed: {batch.id}" in caplog.text

    monkeypatch.setattr(time, "sleep", lambda _: let_batches_end(responses_sandbox))
    manifest = waiting_task(tmp_path).execute(context(TaskInstance(try_number=2)))
    assert manifest["counts"] == {"ok": 5}
    assert len(responses_sandbox.batches) == 1


def test_a_worker_waits_for_batches_whose_ids_are_too_long_for_a_trigger(
    responses_sandbox, tmp_path, caplog, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__RESPONSES__MAX_TRIGGER_BYTES", "100")
    responses_sandbox.batch_settings = {"seconds": 0.1}
    manifest = enrich(tmp_path, mode="batch", key="id").execute(context())
    assert manifest["counts"] == {"ok": 5}
    assert "Not deferred: the ids of 1 batches have" in caplog.text


def test_a_wait_that_the_server_refuses_fails_the_task_and_logs_the_batches(responses_sandbox, tmp_path, caplog):
    event = write_batch_event(
        "refused", {"batch_1": "in_progress"}, {}, UnauthorizedResponseError("the key is wrong", status_code=401)
    )
    with pytest.raises(AirflowFailException, match="the key is wrong"):
        enrich(tmp_path, mode="batch").execute_complete(context(), event)
    assert "run on and are billed: batch_1" in caplog.text


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_table_is_submitted_as_batches_of_openais_api(run_dag, monkeypatch, tmp_path, deferrable):
    with Sandbox(dialect="open", batch_seconds=0.3) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(sandbox.connection))
        run = run_dag(dag(tmp_path, f"mode='batch', deferrable={deferrable}, delete_after=True"), "enrich_batches")
        assert run.state == "success"
        batches = sandbox.batches
        assert [len(batch.custom_ids) for batch in batches] == [80, 80, 40]
        assert all(batch.billed for batch in batches)
        assert sandbox.ledger == []
    assert run.xcom("label")["counts"] == {"ok": 200}
    assert [row["id"] for row in lines(tmp_path)] == [row["id"] for row in ROWS]


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


def test_the_check_of_the_keys_limit_leaves_the_requests_of_a_failed_batch_to_be_submitted_again(
    responses_sandbox, tmp_path
):
    responses_sandbox.key = {"limit": 10.0, "limit_remaining": 9.0}
    responses_sandbox.batch_settings = {"seconds": 0.2}
    responses_sandbox.script_batches({"ending": "failed", "seconds": 0.001})
    given = {"source": ROWS[:40], "key": "id", "mode": "batch", "deferrable": False, "batch_threshold": 0}
    with pytest.raises(TaskDeferred):
        enrich(tmp_path, **given | {"deferrable": True}).execute(context())
    manifest = enrich(tmp_path, **given).execute(context(TaskInstance(try_number=2)))
    assert manifest["counts"] == {"ok": 40}
    assert [batch.status for batch in responses_sandbox.batches] == ["failed", "completed"]
