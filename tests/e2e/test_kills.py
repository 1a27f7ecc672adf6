"""Killed processes: a response that was completed before the kill is not paid again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.e2e.conftest import CLEARED_WAITING, IN_TRIGGERER, KILLS, RESUMES, TRIGGERER_KILLS, Case

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# Half a response, and then silence: paid for, and not cached.
WORKING = [{"stall": True}]
# A response that is completed, paid for and cached, but lost on the way; the client's second send hangs.
COMPLETED = [{"drop": "after"}, {"hang": True}]


def start_all(cases: Sequence[Case]) -> None:
    """Start runs, and wait until the script of each is at its end."""
    for case in cases:
        case.start(*(WORKING if case.dag_id.endswith("working") else COMPLETED))
    for case in cases:
        if case.dag_id.endswith("working"):
            case.wait_for_calls("broken")
        else:
            case.wait_for_calls("generated", "running")


def assert_paid_twice(case: Case) -> None:
    """A response that was cut off, and a new one; the task has no record of the first."""
    assert case.outcomes == ["broken", "generated"]
    assert len(case.bodies) == 1
    assert len(case.billed) == 2
    assert case.xcoms["usage"]["cost"] == pytest.approx(case.ledger[1].cost)
    assert not case.xcoms["usage"]["cached"]
    assert case.xcoms["return_value"]


def assert_paid_once(case: Case) -> None:
    """The retry got the cached response at no cost."""
    assert case.outcomes == ["generated", "dropped", "cached"]
    assert len(case.bodies) == 1
    assert len(case.billed) == 1
    assert case.ledger[2].cache_source_id == case.ledger[0].generation_id
    assert case.xcoms["usage"]["cost"] == pytest.approx(case.ledger[0].cost)
    assert case.xcoms["usage"]["cost_this_attempt"] == 0
    assert case.xcoms["usage"]["cached"]
    assert case.xcoms["return_value"]


@pytest.fixture(scope="module")
def killed(cases) -> dict[str, Case]:
    """Kill tasks during their calls, alone or together with their supervisors."""
    chosen = {name: cases["worker", name] for name in KILLS}
    start_all(list(chosen.values()))
    for name, case in chosen.items():
        task, supervisor = case.processes()
        # The supervisor first: it must not notice that its task has died.
        case.deployment.kill([supervisor, task] if "pair" in name else [task])
    return chosen


@pytest.mark.parametrize("name", KILLS)
def test_a_task_killed_with_or_without_its_supervisor_does_not_pay_again_for_a_completed_response(killed, name):
    case = killed[name]

    assert case.wait() == "success"

    assert (case.task.try_number, case.task.max_tries) == (2, 2)
    if name.endswith("working"):
        assert_paid_twice(case)
    else:
        assert_paid_once(case)


@pytest.fixture(scope="module")
def orphaned(cases) -> dict[tuple[str, str], Case]:
    """Kill the triggerer during the calls of its tasks, and start it again."""
    chosen = {(mode, name): cases[mode, name] for mode in IN_TRIGGERER for name in TRIGGERER_KILLS}
    cleared = cases["from_trigger", CLEARED_WAITING]
    cleared.start({"hang": True}, *COMPLETED)
    cleared.wait_for_calls("running")
    cleared.clear()
    start_all(list(chosen.values()))
    cleared.wait_for_calls("dropped", "generated", "running")
    deployment = cleared.deployment
    chosen["from_trigger", CLEARED_WAITING] = cleared
    deployment.kill_service("triggerer")
    deployment.start_service("triggerer")
    return chosen


@pytest.mark.parametrize("mode", IN_TRIGGERER)
@pytest.mark.parametrize("name", TRIGGERER_KILLS)
def test_a_killed_triggerer_uses_up_no_attempt_and_pays_nothing_again_for_a_completed_response(orphaned, mode, name):
    case = orphaned[mode, name]

    assert case.wait() == "success"

    assert (case.task.try_number, case.task.max_tries) == (1, 2)
    if name.endswith("working"):
        assert_paid_twice(case)
    else:
        assert_paid_once(case)


def test_a_task_that_was_cleared_while_it_waited_keeps_its_idempotency_key_when_it_starts_over(orphaned):
    case = orphaned["from_trigger", CLEARED_WAITING]

    assert case.wait() == "success"

    assert case.task.try_number == 2
    assert case.outcomes == ["dropped", "generated", "dropped", "cached"]
    assert len({entry.body_sha256 for entry in case.ledger[1:]}) == 1
    assert case.ledger[0].body["metadata"]["airflow"] != case.ledger[1].body["metadata"]["airflow"]
    assert len(case.billed) == 1
    assert case.xcoms["return_value"]


@pytest.mark.parametrize("mode", IN_TRIGGERER)
@pytest.mark.parametrize("name", RESUMES)
def test_a_task_that_fails_when_it_resumes_does_not_pay_again(cases, mode, name):
    case = cases[mode, name]

    case.start()
    assert case.wait() == "success"

    assert case.task.try_number == 2
    assert case.outcomes == ["generated", "cached"]
    assert len(case.bodies) == 1
    assert len(case.billed) == 1
    assert case.xcoms["usage"]["cost"] == pytest.approx(case.ledger[0].cost)
    assert case.xcoms["return_value"]
