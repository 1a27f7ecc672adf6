"""A table whose process is killed or ended between its rows: no response that was written is lost or paid again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.conftest import AT_ONCE, ROWS, Case
from tests.e2e.processes import is_running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
DONE = 12  # rows with a response when it ends


def folder(case: Case) -> Path:
    return case.deployment.home / "enriched" / case.dag_id


def rows_in(*paths: Path) -> list[dict]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def start(case: Case) -> None:
    """Start the task, and wait until some rows have responses and the service hangs."""
    case.start(*[{}] * DONE, *[{"hang": True}] * AT_ONCE)
    case.wait_for_calls(*["generated"] * DONE, *["running"] * AT_ONCE)


def assert_whole(case: Case) -> None:
    """Every row is there once and in order, and only requests in flight at the end were sent twice."""
    result = rows_in(folder(case) / "result.jsonl")
    assert [row["id"] for row in result] == list(range(ROWS))
    assert {row["_status"] for row in result} == {"ok"}
    assert case.xcoms["return_value"]["counts"]["ok"] == ROWS
    assert Counter(entry.outcome for entry in case.billed) == {"generated": ROWS}
    assert len(case.bodies) == ROWS


def test_a_killed_process_loses_no_row_and_pays_none_twice(cases):
    case = cases["enrich", "process_killed"]
    start(case)
    process, _ = case.processes()
    case.deployment.kill([process])

    assert case.wait() == "success"

    assert case.task.try_number == 2
    assert_whole(case)
    # Not all of its responses had been written; those came from the service's cache.
    assert case.xcoms["return_value"]["cache_hits"] == case.outcomes.count("cached") > 0


def test_a_task_that_a_user_ends_keeps_its_responses_and_resumes_once_cleared(cases):
    case = cases["enrich", "user_ends_it"]
    start(case)
    process, _ = case.processes()
    case.mark_failed()
    case.deployment.wait_until(lambda: not is_running(process), "the task's process to end")

    # While all are silent, some more are sent: to see whether the service is there.
    done = case.outcomes.count("generated")
    assert done >= DONE
    assert Counter(case.outcomes) == {"generated": done, "dropped": AT_ONCE}
    assert len(rows_in(*folder(case).rglob("part-*"))) == done

    case.clear()
    assert case.wait() == "success"

    assert_whole(case)
    assert "cached" not in case.outcomes
    assert len(case.outcomes) == ROWS + AT_ONCE
