"""Task loops: every iteration has the same DAG, task, run and map index, and a request of its own."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from airflow_provider_responses.task.idempotency import idempotency_key_of
from tests.airflow_fakes import TaskInstance

ROUNDS = 3
DAG = f"""
import datetime

from airflow.sdk import DAG, task_group

from airflow_provider_responses.operators.responses import ResponsesOperator


def ask(task_id, **arguments):
    return ResponsesOperator(task_id=task_id, input=task_id, model="vendor/m", **arguments)


@task_group
def again():
    mapped = ResponsesOperator.partial(task_id="mapped", model="vendor/m").expand(input=["one", "two"])
    ask("on_worker") >> ask("deferred", deferrable=True) >> mapped >> ask("started", start_from_trigger=True)


with DAG("loops", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    again.loop(max_iterations={ROUNDS})
"""


@pytest.mark.timeout(300)
def test_no_iteration_gets_the_cached_response_of_another(run_dag, responses_sandbox):
    ran = run_dag(DAG, "loops")
    assert ran.state == "success"
    asked = Counter(entry.body["input"] for entry in responses_sandbox.ledger)
    tasks = {"again.on_worker", "again.deferred", "again.started", "one", "two"}
    assert {name.removeprefix("again.") for name in asked} == {name.removeprefix("again.") for name in tasks}
    assert set(asked.values()) == {ROUNDS}
    assert len(responses_sandbox.billed) == len(tasks) * ROUNDS
    assert len({entry.metadata["airflow"] for entry in responses_sandbox.ledger}) == len(tasks) * ROUNDS


OF_ROWS = f"""
import datetime

from airflow.sdk import DAG, task, task_group

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator


def ask(task_id, rows, folder):
    known = dict(input="{{{{ row.text }}}}", model="vendor/m", retries=0)
    return ResponsesEnrichOperator(task_id=task_id, source=rows, output_path="FOLDER/" + folder, **known)


@task
def rows(ti=None):
    return [dict(text=f"row {{ti.region_index}}")]


@task_group
def again():
    found = rows()
    ask("apart", found, "apart/{{{{ ti.region_index }}}}") >> ask("together", found, "together")


with DAG("loops_of_rows", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    again.loop(max_iterations={ROUNDS})
"""


@pytest.mark.timeout(300)
def test_no_iteration_replaces_the_rows_of_another(run_dag, responses_sandbox, tmp_path):
    ran = run_dag(OF_ROWS.replace("FOLDER", str(tmp_path)), "loops_of_rows")
    results = {path.parent: path.read_text() for path in tmp_path.rglob("result.jsonl")}
    # The second iteration fails, and a loop ends with it.
    assert set(results) == {tmp_path / "together", tmp_path / "apart" / "0", tmp_path / "apart" / "1"}
    assert '"row 0"' in results[tmp_path / "together"]
    assert ran.state == "failed"


def idempotency_key(region_id, region_index, map_index=-1):
    ti = TaskInstance(map_index=map_index)
    ti.region_id, ti.region_index = region_id, region_index
    return idempotency_key_of(ti, clearing_id="2/2")


def test_a_task_in_no_loop_has_the_key_that_it_has_on_older_versions():
    plain = idempotency_key_of(TaskInstance(), clearing_id="2/2")
    assert idempotency_key(None, None) == idempotency_key(uuid.UUID(int=0), -1) == plain


def test_an_iteration_has_a_key_of_its_own_and_its_retry_has_the_same():
    region = uuid.uuid4()
    assert (
        len(
            {
                idempotency_key(region, 0),
                idempotency_key(region, 1),
                idempotency_key(uuid.uuid4(), 1),
                idempotency_key(None, None),
            }
        )
        == 4
    )
    assert idempotency_key(region, 1) == idempotency_key(uuid.UUID(str(region)), 1)
