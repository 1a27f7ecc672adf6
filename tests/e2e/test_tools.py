"""A loop of five steps with a side-effecting tool, killed in its third step, with Airflow's task state store."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import DEFERRED_TOOL_STEPS, TOOL_STEPS, TOOLS, Case
from tests.usage import check_xcom

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
KILLED_IN = 3


@pytest.fixture(scope="module")
def runs(cases) -> dict[str, Case]:
    """Start all DAG runs at once; each test waits for its own."""
    chosen = {name: cases["tools", name] for name in TOOLS}
    for case in chosen.values():
        case.start()
    return chosen


def effects(case: Case) -> list[str]:
    """The calls of the tool that took effect."""
    return (case.deployment.dags / f"tools.{case.dag_id}").read_text().splitlines()


@pytest.mark.parametrize("name", [name for name in TOOLS if name not in {"in_call_fail", "cleared"}])
def test_a_killed_loop_pays_each_response_once_and_repeats_no_recorded_call(runs, name):
    case = runs[name]
    steps = DEFERRED_TOOL_STEPS if name == "deferred" else TOOL_STEPS

    assert case.wait() == "success"

    assert case.task.try_number == 2
    assert len(case.billed) == steps + 1
    usage = case.xcoms["usage"]
    check_xcom("usage", usage)
    assert usage["cost"] == pytest.approx(sum(entry.cost for entry in case.billed))
    assert len(usage["steps"]) == steps + 1
    assert case.xcoms["return_value"]
    found = effects(case)
    assert len(found) == steps + (name == "in_call_repeat")
    assert len(set(found)) == steps  # a repeated call has the same idempotency key
    sent_again = {"after_send", "before_record", "deferred"}
    assert case.outcomes.count("cached") == (name in sent_again)


def test_a_call_that_was_interrupted_fails_the_task_without_a_further_call(runs):
    case = runs["in_call_fail"]

    assert case.wait() == "failed"

    assert case.task.try_number == 2
    assert len(effects(case)) == KILLED_IN
    assert len(case.ledger) == KILLED_IN
    assert "tool charge was interrupted in step 3: an earlier attempt" in case.deployment.logs(case.dag_id, case.run_id)


def test_a_cleared_loop_begins_again(runs):
    case = runs["cleared"]
    assert case.wait() == "success"

    case.clear()

    assert case.wait() == "success"
    assert len(case.billed) == 2 * (TOOL_STEPS + 1)
    assert len(set(effects(case))) == len(effects(case)) == 2 * TOOL_STEPS
