"""A table in three batches, whose processes are killed: each batch is submitted and billed once, each row is there."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from airflow_provider_responses.sandbox import BatchEntry
from tests.e2e.conftest import BATCH_ROWS, BATCH_SIZE, PART_ROWS, Case

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HELD = {"hold": "in_progress", "seconds": 0.01}
RELEASED = {"hold": None}
FAST = {"hold": None, "seconds": 0.01}
RUN_ON = "A user ended the task, but not its batches, which run on and are billed: "
CANCELLED = "is being cancelled"
CLEARED = "The task was cleared, or waits in another triggerer"
KILLED = ("killed_before_post", "killed_after_post_running", "killed_after_post_finished", "killed_while_landing")
WAITING = (
    ("batches", "triggerer_killed"),
    ("batches", "marked_failed"),
    ("openai_batches", "marked_failed"),
    ("openai_batches", "cleared"),
)


def folder(case: Case) -> Path:
    return case.deployment.home / "enriched" / case.dag_id


def rows_in(*paths: Path) -> list[dict]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def start(case: Case, **settings: object) -> None:
    case.sandbox.batch_settings = settings
    case.start()


def batches(case: Case) -> list[BatchEntry]:
    return case.sandbox.batches


def wait_until(case: Case, condition, what: str) -> None:
    case.deployment.wait_until(
        condition,
        f"{what} ({case.dag_id})",
        details=lambda: f"{batches(case)}\n{case.deployment.logs(case.dag_id, case.run_id)}",
    )


def wait_for_polls(*cases: Case) -> None:
    """Wait until the triggerer has polled each batch, or polled it again."""
    for case in cases:
        wait_until(case, lambda case=case: len(batches(case)) == 3, "three batches")
    before = {entry.id: len(entry.polls) for case in cases for entry in batches(case)}
    for case in cases:
        wait_until(
            case,
            lambda case=case: all(len(entry.polls) > before[entry.id] for entry in batches(case)),
            "polls of each batch",
        )


def wait_for_log(case: Case, text: str) -> None:
    wait_until(case, lambda: text in log_of(case), f"the log to have {text!r}")


def log_of(case: Case) -> str:
    return case.deployment.task_log(case.dag_id, case.run_id)


def assert_paid_once(case: Case) -> None:
    """Three batches were submitted, each is billed once, and each row is in one of them and in the result."""
    found = batches(case)
    assert [len(entry.custom_ids) for entry in found] == [BATCH_SIZE] * 3
    assert [(entry.status, entry.billed, entry.completed) for entry in found] == [("completed", True, BATCH_SIZE)] * 3
    fingerprints = {custom_id.rpartition("-")[0] for entry in found for custom_id in entry.custom_ids}
    assert len(fingerprints) == BATCH_ROWS
    assert case.ledger == []
    result = rows_in(folder(case) / "result.jsonl")
    assert [row["id"] for row in result] == list(range(BATCH_ROWS))
    assert {row["_status"] for row in result} == {"ok"}
    manifest = case.xcoms["return_value"]
    assert manifest["counts"] == {"ok": BATCH_ROWS}
    if case.sandbox.connection["extra"].get("dialect") != "open":  # other servers do not report costs
        assert manifest["cost"] == pytest.approx(sum(entry.cost for entry in found))
        assert sum(row["_cost"] for row in result) == pytest.approx(manifest["cost"])


@pytest.fixture(scope="module")
def started(cases) -> dict[tuple[str, str], Case]:
    """Start all tasks: those that kill themselves, and those that wait for batches until these are released."""
    chosen = {names: cases[names] for names in (*(("batches", name) for name in KILLED), *WAITING)}
    for (_, name), case in chosen.items():
        start(case, **(HELD if name not in KILLED or "running" in name else FAST))
    return chosen


@pytest.fixture(scope="module")
def waiting(started) -> dict[tuple[str, str], Case]:
    """
    Wait until the triggerer polls the batches, and let users end or clear tasks.

    After that, the triggerer is stopped, started, killed, and started again, while it polls.
    """
    chosen = {names: started[names] for names in WAITING}
    wait_for_polls(*chosen.values())
    for (_, name), case in chosen.items():
        if name == "marked_failed":
            case.mark_failed()
        elif name == "cleared":
            case.clear()
    wait_for_log(chosen["batches", "marked_failed"], RUN_ON)
    wait_for_log(chosen["openai_batches", "marked_failed"], CANCELLED)
    wait_for_log(chosen["openai_batches", "cleared"], CLEARED)
    polled = chosen["batches", "triggerer_killed"], chosen["openai_batches", "cleared"]
    deployment = polled[0].deployment
    for end in (deployment.stop_service, deployment.kill_service):
        wait_for_polls(*polled)
        end("triggerer")
        deployment.start_service("triggerer")
    wait_for_polls(*polled)
    return chosen


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_worker_submits_no_batch_twice_and_loses_no_row(started, name):
    case = started["batches", name]
    if "running" in name:
        # The server shows only at its end which batch the lost one is: until then, nothing takes its place.
        wait_for_log(case, "may have been submitted. It is one of")
        wait_for_polls(case)
        case.sandbox.batch_settings = RELEASED
    assert case.wait() == "success"
    assert case.task.try_number == 2
    assert_paid_once(case)
    log = log_of(case)
    assert ("was never submitted: the server does not list it" in log) == (name == "killed_before_post")
    assert ("was found again" in log) == ("after_post" in name)


def test_the_attempt_after_a_killed_landing_writes_only_the_rows_that_are_missing(started):
    case = started["batches", "killed_while_landing"]
    assert case.wait() == "success"
    written: Counter[int] = Counter()
    for path in folder(case).rglob("part-*"):
        written[int(re.search(r"-t(\d+)-", path.name)[1])] += len(rows_in(path))
    assert written == {1: PART_ROWS, 2: BATCH_ROWS - PART_ROWS}


def test_a_triggerer_that_is_stopped_or_killed_polls_on_and_uses_up_no_attempt(waiting):
    case = waiting["batches", "triggerer_killed"]
    assert {entry.status for entry in batches(case)} == {"in_progress"}
    case.sandbox.batch_settings = RELEASED
    assert case.wait() == "success"
    assert case.task.try_number == 1
    assert_paid_once(case)
    log = log_of(case)
    assert RUN_ON not in log
    assert CLEARED not in log


def test_a_task_that_a_user_ends_names_its_batches_and_waits_for_them_once_cleared(waiting):
    case = waiting["batches", "marked_failed"]
    assert case.task.state == "failed"
    ids = ", ".join(entry.id for entry in batches(case))
    assert f"{RUN_ON}{ids} (OpenRouter cannot cancel a batch)" in log_of(case)
    case.clear()
    wait_for_polls(case)
    case.sandbox.batch_settings = RELEASED
    assert case.wait() == "success"
    assert case.task.try_number == 2
    assert_paid_once(case)


def test_batches_of_a_task_that_a_user_ends_are_cancelled_where_the_server_can(waiting):
    case = waiting["openai_batches", "marked_failed"]
    assert [entry.status for entry in batches(case)] == ["cancelled"] * 3
    assert case.task.state == "failed"


def test_a_cleared_task_cancels_no_batch_and_waits_for_the_same_ones(waiting):
    case = waiting["openai_batches", "cleared"]
    assert {entry.status for entry in batches(case)} == {"in_progress"}
    case.sandbox.batch_settings = RELEASED
    assert case.wait() == "success"
    assert case.task.try_number == 2
    assert_paid_once(case)
    assert CANCELLED not in log_of(case)
