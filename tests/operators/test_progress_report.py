"""Progress is written to the task state store, and a slow store does not delay the task."""

from __future__ import annotations

import json
import threading

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.operators.progress_report import STATE_KEY, ProgressReport
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.operators.enrichments import enrich

FIGURES = {
    "total": 5,
    "done": 3,
    "left": 2,
    "rate": 1.5,
    "seconds_left": 1.3,
    "cost": None,
    "failed": 1,
    "failures": {"BadGatewayResponseError": 1},
    "batches": 0,
    "resent": 0,
    "in_flight": 2,
}


def test_the_last_figures_of_a_task_are_in_its_store(tmp_path, responses_sandbox):
    store = TaskStateStore()
    manifest = enrich(tmp_path).execute(context(task_state_store=store))
    figures = store[STATE_KEY]
    assert set(figures) == {*FIGURES, "try_number", "max_tries"}
    assert (figures["try_number"], figures["max_tries"]) == (1, 2)
    assert (figures["total"], figures["done"], figures["left"], figures["failed"]) == (5, 5, 0, 0)
    assert (figures["failures"], figures["batches"], figures["seconds_left"]) == ({}, 0, 0.0)
    assert figures["cost"] == pytest.approx(manifest["cost"])


def test_the_last_figures_are_in_the_store_also_when_the_task_fails(tmp_path, responses_sandbox):
    responses_sandbox.script({"status": 400, "times": 5})
    store = TaskStateStore()
    with pytest.raises(Exception, match="5 of 5 rows failed"):
        enrich(tmp_path).execute(context(task_state_store=store))
    assert (store[STATE_KEY]["failed"], store[STATE_KEY]["cost"]) == (5, 0.0)
    assert store[STATE_KEY]["failures"] == {"BadRequestResponseError": 5}


def test_a_task_that_waits_for_batches_leaves_their_number_and_its_figures_in_the_store(
    tmp_path, responses_sandbox, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    responses_sandbox.batch_settings = {"seconds": 0.1}
    store, waiting = TaskStateStore(), []
    task = enrich(tmp_path, mode="batch", deferrable=False, key="id", limits={"max_batch_requests": 2})
    monkeypatch.setattr(task, "_check_killed", lambda: waiting.append(dict(store[STATE_KEY])))
    task.execute(context(task_state_store=store))
    assert {(it["batches"], it["done"], it["total"]) for it in waiting} == {(3, 0, 5)}
    assert (store[STATE_KEY]["batches"], store[STATE_KEY]["done"]) == (0, 5)


def test_nothing_is_written_beside_the_xcom_of_a_task_that_fails(tmp_path, responses_sandbox):
    # Two threads in a conversation with Airflow: `dag.test()` loses its supervisor by it.
    responses_sandbox.script({"status": 400, "times": 5})
    writers = []

    class Pushing(TaskInstance):
        def xcom_push(self, key, value):
            writers.extend(thread.name for thread in threading.enumerate() if thread.name == "progress")
            super().xcom_push(key, value)

    ti = Pushing()
    with pytest.raises(Exception, match="5 of 5 rows failed"):
        enrich(tmp_path).execute(context(ti, task_state_store=TaskStateStore()))
    assert ti.xcoms["return_value"]["counts"]["failed"] == 5
    assert not writers


def test_an_unknown_figure_is_null_in_the_store_and_not_sent_as_a_metric(monkeypatch):
    from airflow.providers.common.compat.sdk import Stats

    sent = []
    monkeypatch.setattr(Stats, "gauge", lambda name, value, **_: sent.append((name.rpartition(".")[2], value)))
    store = TaskStateStore()
    report = ProgressReport({}, store)
    report(FIGURES)
    report.close()
    assert store[STATE_KEY] == FIGURES
    assert dict(sent) == {name: value for name, value in FIGURES.items() if name not in {"cost", "failures"}}


def test_a_slow_store_gets_the_latest_figures_and_delays_nothing():
    begun, may_end, written = threading.Event(), threading.Event(), []

    class Slow:
        def set(self, key, value):
            begun.set()
            may_end.wait()
            written.append(value["done"])

    report = ProgressReport({}, Slow())
    report({"done": 0})
    begun.wait()
    for done in range(1, 100):  # none of them waits for the store
        report({"done": done})
    may_end.set()
    report.close()
    assert written == [0, 99]


def test_a_store_that_fails_is_logged_once(caplog):
    class Broken:
        def set(self, key, value):
            raise RuntimeError("no such table")

    report = ProgressReport({}, Broken())
    for done in range(3):
        report({"done": done})
    report.close()
    assert caplog.messages == ["The progress cannot be written to the task state store: no such table"]


def test_no_thread_is_started_without_a_store():
    before = threading.active_count()
    report = ProgressReport({})
    report(FIGURES)
    report.close()
    assert threading.active_count() == before


DAG = """
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

with DAG("progress", schedule=None):
    ResponsesEnrichOperator(
        task_id="label",
        source=[{"text": "a"}, {"text": "b"}],
        input="{{ row.text }}",
        model="vendor/m",
        output_path="FOLDER",
    )
"""


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow has task state stores from 3.3 on")
def test_airflow_stores_the_figures_of_a_real_run(run_dag, tmp_path, responses_sandbox):
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    assert run_dag(DAG.replace("FOLDER", str(tmp_path)), "progress").state == "success"
    query = select(TaskStateStoreModel).where(
        TaskStateStoreModel.dag_id == "progress", TaskStateStoreModel.key == STATE_KEY
    )
    with create_session() as session:
        (row,) = session.scalars(query).all()
        record = json.loads(row.value)
        assert (record["done"], record["try_number"], record["max_tries"]) == (2, 1, 0)
