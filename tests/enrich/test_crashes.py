"""
A process that stops at any boundary, and the attempt after it: nothing is lost, torn, or paid twice beyond the bound.

Boundaries are each storage call, also those of the lease, each commit of the index, each flush and each response.
``make parts`` does the same on S3.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from airflow_provider_responses.enrich.storage import LocalStorage
from tests.enrich.crashes import (
    CrossingDisk,
    CrossingShelf,
    Table,
    Tally,
    hurried_clock,
    stop_at_each_boundary,
    stop_several_times,
)
from tests.enrich.stores import Shelf

ROWS = 16
BEFORE = 8  # rows of an earlier result
SEQUENCES = 20


@pytest.fixture(autouse=True)
def _no_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the process stops, and not the machine, so nothing has to reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def tables_on_disk(folder: Path, before: int) -> Callable[[], Table]:
    """Return a function that makes tables, each in an output of its own, which may begin with an earlier result."""

    def at(path: Path) -> Table:
        return Table(lambda crash: CrossingDisk(path, crash), LocalStorage(path), rows=ROWS, before=before)

    def copied() -> Table:
        path = Path(tempfile.mkdtemp(dir=folder))
        shutil.copytree(earlier, path, dirs_exist_ok=True)
        return at(path)

    earlier = folder / "earlier"
    earlier.mkdir()
    if before:
        at(earlier).make_earlier_result()
    return copied


def tables_in_memory(before: int) -> Callable[[], Table]:
    """Return a function that makes tables in memory, whose lease is not exclusive."""

    def among(files: dict[str, bytes]) -> Table:
        storage = partial(CrossingShelf, files)
        return Table(storage, Shelf(files), rows=ROWS, before=before, clock=hurried_clock)

    earlier: dict[str, bytes] = {}
    among(earlier).make_earlier_result()
    return lambda: among(dict(earlier))


@pytest.mark.parametrize(
    ("where", "before"),
    [
        pytest.param("local disk", 0, id="new"),
        pytest.param("local disk, replacing a result", BEFORE, id="replacing a result"),
    ],
)
def test_the_attempt_after_one_that_stops_at_any_boundary_on_local_disk(where, before, tmp_path, record_property):
    tally = stop_at_each_boundary(tables_on_disk(tmp_path, before))
    record_property("counted", f"Stopped at each boundary, {where}: {tally}")


def test_the_attempt_after_one_that_stops_at_any_boundary_with_a_shared_lease(record_property):
    tally = stop_at_each_boundary(tables_in_memory(BEFORE))
    record_property("counted", f"Stopped at each boundary, in memory, with a lease that is not exclusive: {tally}")


def test_attempts_that_stop_one_after_the_other(tmp_path, record_property):
    tally = Tally()
    for before in (0, BEFORE):
        folder = tmp_path / str(before)
        folder.mkdir()
        stop_several_times(tables_on_disk(folder, before), SEQUENCES // 2, tally)
    record_property("counted", f"Stopped up to four times in a row, local disk: {tally}")
