"""XComs, states, attempts and bills of a task, in each execution mode."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from tests.e2e.conftest import ITERATIONS, LOOPED, MODES, SINGLE_REQUESTS, TASK, TEXT, Case
from tests.usage import check_xcom

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.parametrize("mode", MODES)]
SCRIPTS = {
    "rate_limited": [{"status": 429, "retry_after": 5}],
    "sent_away": [{"status": 429, "retry_after": 61}],
    # The response is made and gets lost; the client's own retries find the server unable, Airflow's finds the response.
    "retried": [{"drop": "after"}, *[{"status": 503, "retry_after": 0}] * 4],
    "out_of_credits": [{"status": 402}],
    "refused": [{"refusal": "I would rather not."}],
    "marked_failed": [{"hang": True}],
}


@pytest.fixture(scope="module")
def runs(cases) -> dict[tuple[str, str], Case]:
    """Start all DAG runs at once; each test waits for its own."""
    chosen = {
        (mode, name): case for (mode, name), case in cases.items() if mode in MODES and name in SINGLE_REQUESTS + LOOPED
    }
    for (_, name), case in chosen.items():
        case.start(*SCRIPTS.get(name, []))
    return chosen


def test_a_response_is_paid_once_and_its_cost_is_known(runs, mode):
    case = runs[mode, "plain"]

    assert case.wait() == "success"

    assert case.outcomes == ["generated"]
    assert case.ledger[0].body["input"] == TEXT
    metadata = case.ledger[0].body["metadata"]
    assert list(metadata) == ["zeta", "alpha", "airflow"]
    assert metadata["zeta"] == case.run_id
    assert case.task.try_number == 1
    assert case.xcoms["return_value"]
    check_xcom("usage", case.xcoms["usage"])
    assert case.xcoms["usage"]["status"] == "completed"
    assert case.xcoms["usage"]["generation_id"] == case.ledger[0].generation_id
    assert case.xcoms["usage"]["cost"] == pytest.approx(case.ledger[0].cost)
    assert case.ledger[0].cost > 0


def test_a_worker_runs_only_what_needs_one(runs, mode):
    plain, typed = runs[mode, "plain"], runs[mode, "typed"]

    assert (plain.wait(), typed.wait()) == ("success", "success")

    # A class of the DAG file is read on a worker; all else of a start in the triggerer needs none.
    assert (plain.task.pid is None) is (mode == "from_trigger")
    assert typed.task.pid is not None


@pytest.mark.parametrize(("name", "keys"), [("typed", {"zeta", "alpha"}), ("whole", {"id", "output", "usage"})])
def test_an_object_is_an_object_for_the_next_task(runs, mode, name, keys):
    case = runs[mode, name]

    assert case.wait() == "success"

    assert keys <= set(case.xcoms["return_value"])
    assert len(case.billed) == 1
    if name == "typed":
        schema = case.ledger[0].body["text"]["format"]["schema"]
        assert list(schema["properties"]) == ["zeta", "alpha"]


def test_a_rate_limit_is_waited_out_for_the_seconds_of_retry_after(runs, mode):
    case = runs[mode, "rate_limited"]

    assert case.wait() == "success"

    first, second = case.ledger
    assert (first.status, second.status) == (429, 200)
    assert second.time - first.time >= 5
    assert len(case.bodies) == 1
    assert [entry.billed for entry in case.ledger] == [False, True]
    first_send, second_send = case.xcoms["usage"]["sends"]
    assert first_send["cause"] == {"error": "TooManyRequestsResponseError", "status": 429}
    assert first_send["wait"] >= 5
    assert second_send["cause"] is None
    assert case.xcoms["usage"]["cost"] == pytest.approx(second.cost)
    assert case.task.try_number == 1


def test_a_long_wait_holds_no_worker_and_from_airflow_3_4_on_uses_up_no_retry(runs, mode):
    case = runs[mode, "sent_away"]

    assert case.wait() == "success"

    first, second = case.ledger
    assert (first.status, second.status) == (429, 200)
    assert second.time - first.time >= 61
    assert len(case.bodies) == 1
    assert case.task.try_number == (1 if AIRFLOW_V_3_4_PLUS else 2)
    assert case.xcoms["return_value"]


def test_a_retry_sends_the_same_bytes_and_gets_the_cached_response(runs, mode):
    case = runs[mode, "retried"]

    assert case.wait() == "success"

    assert case.task.try_number == 2
    assert case.outcomes[-1] == "cached"
    assert len(case.ledger) == 6
    assert len(case.bodies) == 1
    assert len(case.billed) == 1
    assert case.xcoms["usage"]["cost"] == pytest.approx(case.ledger[0].cost)
    assert case.xcoms["usage"]["cost_this_attempt"] == 0


@pytest.mark.skipif(not LOOPED, reason="Airflow has task loops from 3.4 on")
def test_no_iteration_of_a_loop_gets_the_cached_response_of_another(runs, mode):
    case = runs[mode, "looped"]

    assert case.wait() == "success"

    assert case.outcomes == ["generated"] * ITERATIONS
    assert len({entry.metadata["airflow"] for entry in case.ledger}) == ITERATIONS
    pushed = case.deployment.all_xcoms(case.dag_id, case.run_id, f"again.{TASK}", "usage")
    assert sorted(usage["generation_id"] for usage in pushed) == sorted(entry.generation_id for entry in case.ledger)


def test_spent_credits_fail_the_task_at_once(runs, mode):
    case = runs[mode, "out_of_credits"]

    assert case.wait() == "failed"

    assert (case.task.state, case.task.try_number, case.task.max_tries) == ("failed", 1, 2)
    assert [entry.status for entry in case.ledger] == [402]
    assert case.billed == []
    check_xcom("usage", case.xcoms["usage"])
    assert (case.xcoms["usage"]["status"], case.xcoms["usage"]["cost"]) == ("failed", 0.0)
    assert "return_value" not in case.xcoms


def test_a_refusal_fails_the_task_at_once_and_its_cost_is_known(runs, mode):
    case = runs[mode, "refused"]

    assert case.wait() == "failed"

    assert (case.task.state, case.task.try_number, case.task.max_tries) == ("failed", 1, 2)
    assert case.outcomes == ["generated"]
    assert case.xcoms["usage"]["status"] == "refused"
    assert case.xcoms["usage"]["cost"] == pytest.approx(case.ledger[0].cost)
    assert "return_value" not in case.xcoms


def test_a_template_with_an_undefined_name_sends_nothing_and_airflow_retries_it(runs, mode):
    case = runs[mode, "undefined"]

    assert case.wait() == "failed"

    assert (case.task.state, case.task.try_number, case.task.max_tries) == ("failed", 3, 2)
    assert case.ledger == []


def test_a_cleared_task_pays_for_a_new_response(runs, mode):
    case = runs[mode, "cleared"]
    assert case.wait() == "success"
    first = case.xcoms

    case.clear()
    assert case.wait() == "success"

    assert case.outcomes == ["generated", "generated"]
    assert len(case.billed) == 2
    assert len({entry.metadata["airflow"] for entry in case.ledger}) == 2
    assert case.xcoms["usage"]["generation_id"] == case.ledger[1].generation_id != first["usage"]["generation_id"]
    assert case.xcoms["usage"]["cost"] == pytest.approx(case.ledger[1].cost)


def test_a_task_that_a_user_marks_as_failed_drops_its_connection(runs, mode):
    case = runs[mode, "marked_failed"]
    case.wait_for_calls("running")

    case.mark_failed()

    case.wait_for_calls("dropped")
    assert case.wait() == "failed"
    assert (case.task.state, case.task.try_number) == ("failed", 1)
    assert case.billed == []
