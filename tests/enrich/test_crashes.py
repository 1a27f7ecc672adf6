"""
A process that stops at any boundary, and the attempt after it: nothing is lost, torn, or paid twice beyond the bound.

Boundaries are each storage call, also those of the lease, each commit of the index, each flush and each response.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from airflow_provider_responses.enrich.storage import LocalStorage
from tests.enrich.crashes import CrossingDisk, CrossingShelf, Table, Tally, hurried_clock
from tests.enrich.stores import Shelf

ROWS = 24
SEQUENCES = 20


def on_disk(folder: Path, before: int = 0) -> Table:
    at = Path(tempfile.mkdtemp(dir=folder))
    return Table(lambda crash: CrossingDisk(at, crash), LocalStorage(at), rows=ROWS, before=before)


def in_memory(_: Path, before: int = 0) -> Table:
    files: dict[str, bytes] = {}
    return Table(lambda crash: CrossingShelf(files, crash), Shelf(files), rows=ROWS, before=before, clock=hurried_clock)


@pytest.mark.parametrize(
    ("where", "make", "before"),
    [
        pytest.param("local disk", on_disk, 0, id="on disk"),
        pytest.param("local disk, replacing a result", on_disk, 8, id="on disk, replacing a result"),
        pytest.param("in memory, with a lease that is not exclusive", in_memory, 8, id="in memory"),
    ],
)
def test_the_attempt_after_one_that_stops_at_any_boundary(where, make, before, tmp_path, record_property):
    tally = Tally()
    for point in make(tmp_path, before).enrich().points:
        table = make(tmp_path, before)
        assert table.enrich(point).is_reached, f"there was no {point}"
        table.enrich()
        table.check(tally)
    record_property("counted", f"Stopped at each boundary, {where}: {tally}")


def test_attempts_that_stop_one_after_the_other(tmp_path, record_property):
    draw = random.Random(12)  # noqa: S311  the same each time
    tally = Tally()
    for before in (0, 8):
        points = on_disk(tmp_path, before).enrich().points
        for _ in range(SEQUENCES // 2):
            table = on_disk(tmp_path, before)
            for point in draw.sample(points, 4):
                table.enrich(point)
            table.enrich()
            table.check(tally)
    record_property("counted", f"Stopped up to four times in a row, local disk: {tally}")
