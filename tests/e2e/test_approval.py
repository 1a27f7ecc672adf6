"""A person approves or rejects: the example runs in a real Airflow, and the test presses its buttons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.conftest import APPROVAL, Case

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
WAITING = ("deferred", "awaiting_input")  # before Airflow 3.3, and later
EXAMPLE = Path(__file__).parents[2] / "dags_examples" / "approve_first.py"
ROWS, PREVIEWED = 60, 10


@pytest.fixture(scope="module")
def approval(cases) -> Case:
    case = cases["worker", APPROVAL]
    source = EXAMPLE.read_text()
    for model in ('model="openai/gpt-4o-mini"', '"model": "openai/gpt-4o-mini"'):
        assert model in source
        connection = model.replace("model", "conn_id", 1).replace("openai/gpt-4o-mini", case.dag_id)
        source = source.replace(model, f"{model}, {connection}")
    case.deployment.write_dag("approve_first", source)
    return case


def decide(case: Case, run_id: str, task_id: str, option: str) -> None:
    airflow = case.deployment
    airflow.wait_for_task("approve_first", run_id, task_id, WAITING)
    # Airflow 3.3.2 fails a task that continues before its scheduler has seen that the worker's process has ended.
    event = re.compile(rf"Received executor event .*task_id='{task_id}', run_id='{run_id}'")
    log = airflow.services["scheduler"].log
    airflow.wait_until(lambda: bool(event.search(log.read_text())), f"{task_id} to have left its worker")
    airflow.respond("approve_first", run_id, task_id, option)


def test_nothing_but_the_preview_is_paid_before_the_approval_and_nothing_after_a_rejection(approval):
    airflow, sandbox = approval.deployment, approval.sandbox
    sandbox.reset()
    approved, rejected = airflow.trigger("approve_first"), airflow.trigger("approve_first")
    for run_id in (approved, rejected):
        airflow.wait_for_task("approve_first", run_id, "approve_cost", WAITING)
        airflow.wait_for_task("approve_first", run_id, "reply")
    # The rows of the second run are other requests: each task and DAG run has its own.
    before = len(sandbox.billed)
    assert before == 2 * PREVIEWED + 2
    decide(approval, approved, "approve_cost", "Approve")
    decide(approval, rejected, "approve_cost", "Reject")
    assert airflow.wait_for_task("approve_first", approved, "label").state == "success"
    ended = ("skipped", "success", "failed")
    assert airflow.wait_for_task("approve_first", rejected, "label", ended).state == "skipped"
    assert len(sandbox.billed) == before + ROWS - PREVIEWED
    manifest = airflow.xcoms("approve_first", approved, "label")["return_value"]
    assert manifest["requests_reused"] == PREVIEWED

    for run_id, option, expected in ((approved, "Approve", "success"), (rejected, "Reject", "skipped")):
        reply = airflow.xcoms("approve_first", run_id, "reply")["return_value"]
        assert reply["confidence"] < 80, "the sandbox is never sure"
        decide(approval, run_id, "approve_reply", option)
        assert airflow.wait_for_task("approve_first", run_id, "use_reply", ended).state == expected
