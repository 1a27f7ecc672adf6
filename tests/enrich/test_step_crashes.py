"""
A process that stops at any boundary while rows go to a larger model and to a judge, and the attempt after it.

As in ``test_crashes.py``: no response that is written is paid again, of whichever step, and each row ends as it should.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.storage import LocalStorage
from airflow_provider_responses.task.escalation import Escalation
from tests.enrich.crashes import (
    CrossingDisk,
    CrossingShelf,
    Service,
    Table,
    Tally,
    hurried_clock,
    mood_of,
    stop_at_each_boundary,
    stop_several_times,
)
from tests.enrich.stores import Shelf
from tests.enrich.tiers import JUDGE, LARGE

ROWS = 8
INVALID = {0, 4}  # rows for which the small model has no valid output
LOW = {5}  # rows whose response of the small model gets a low score


class StepService(Service):
    """A service of a small model, a large one and a judge."""

    def reply(self, body: dict[str, Any]) -> tuple[int, str, dict[str, Any]]:
        text = json.dumps(body["input"])
        number = int(re.findall(r"hello (\d+)", text)[-1])
        is_large = body["model"] == LARGE or "large" in text
        name = f"r{number}{' large' if is_large else ''}{' judge' if body['model'] == JUDGE else ''}"
        if body["model"] == JUDGE:
            return number, name, {"reason": "", "score": 1 if number in LOW and not is_large else 5}
        if is_large:
            return number, name, {"mood": f"large {number}"}
        return number, name, {"mood": 5} if number in INVALID else {"mood": mood_of(number)}


class StepTable(Table):
    """A table with steps."""

    make_service = StepService

    @property
    def responses(self) -> set[str]:
        return {name for row in self.rows for name in self.responses_of(int(row["id"][1:]))}

    def responses_of(self, number: int) -> set[str]:
        """Return the names of the responses that a row needs."""
        small, large = f"r{number}", f"r{number} large"
        if number in INVALID:
            return {small, large, f"{large} judge"}
        if number in LOW:
            return {small, f"{small} judge", large, f"{large} judge"}
        return {small, f"{small} judge"}

    def name_of(self, line: dict[str, Any]) -> str:
        return f"{line['id']}{' large' if line.get('_tier') else ''}{' judge' if '_judge' in line else ''}"

    def mood_of(self, number: int) -> str:
        return f"large {number}" if number in INVALID | LOW else mood_of(number)

    def job(self) -> dict[str, Any]:
        rubric = "From 1 to 5."
        return {
            "escalate": (Escalation(model=LARGE),),
            "judge": Judge(model=JUDGE, rubric=rubric, min_score=3),
        }

    def check_reused(self, reused: int, kept: set[str]) -> None:
        ended = [row for row in self.rows if self.responses_of(int(row["id"][1:])) <= kept]
        assert reused == len(ended)

    def check(self, tally: Tally) -> None:
        super().check(tally)
        told = json.loads(self._plain.read_file("manifest.json") or b"null")
        assert told["judge"]["failed"] == 0
        assert told["tiers"][0]["requests"] == len(self.rows)
        assert told["tiers"][1]["requests"] == len(INVALID | LOW)
        costs = [*(tier["cost"] for tier in told["tiers"]), told["judge"]["cost"]]
        assert sum(costs) == pytest.approx(told["cost"])


@pytest.fixture(autouse=True)
def _no_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def tables_on_disk(folder: Path) -> Callable[[], StepTable]:
    def make() -> StepTable:
        path = Path(tempfile.mkdtemp(dir=folder))
        return StepTable(lambda crash: CrossingDisk(path, crash), LocalStorage(path), rows=ROWS)

    return make


def tables_in_memory() -> StepTable:
    files: dict[str, bytes] = {}
    return StepTable(partial(CrossingShelf, files), Shelf(files), rows=ROWS, clock=hurried_clock)


def test_the_attempt_after_one_that_stops_at_any_boundary_on_local_disk(tmp_path, record_property):
    tally = stop_at_each_boundary(tables_on_disk(tmp_path))
    record_property("counted", f"Larger models and a judge, stopped at each boundary, local disk: {tally}")


def test_the_attempt_after_one_that_stops_at_any_boundary_of_an_object_store(record_property):
    tally = stop_at_each_boundary(tables_in_memory)
    record_property("counted", f"Larger models and a judge, stopped at each boundary, in memory: {tally}")


def test_attempts_that_stop_one_after_the_other(tmp_path, record_property):
    tally = Tally()
    stop_several_times(tables_on_disk(tmp_path), 15, tally)
    record_property("counted", f"Larger models and a judge, stopped up to four times in a row: {tally}")
