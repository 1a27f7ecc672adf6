"""A process that stops at any boundary of a run into S3, and the attempt after it."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest

from airflow_provider_responses.enrich.storage import ObjectStorage
from tests.enrich.crashes import CrossingObjects, Table, Tally, hurried_clock
from tests.parts.stores import Bucket

ROWS = 16
SEQUENCES = 5


Make = Callable[[int], Table]


@pytest.fixture
def make(moto: Bucket) -> Make:
    """Make a table in an output of its own, by one filesystem: each takes a while to open."""
    bucket = moto.quick_path("")

    def into(before: int) -> Table:
        path = replace(bucket, path=f"{bucket.path}out-{secrets.token_hex(4)}")
        storage = ObjectStorage(path)
        return Table(lambda crash: CrossingObjects(path, crash), storage, rows=ROWS, before=before, clock=hurried_clock)

    return into


@pytest.mark.timeout(300)  # some 250 attempts
def test_the_attempt_after_one_that_stops_at_any_boundary(make, record_property):
    tally = Tally()
    for point in make(0).enrich().points:
        table = make(0)
        assert table.enrich(point).is_reached, f"there was no {point}"
        table.enrich()
        table.check(tally)
    record_property("counted", f"Stopped at each boundary, S3: {tally}")


def test_attempts_that_stop_one_after_the_other_and_replace_a_result(make, record_property):
    draw = random.Random(12)  # noqa: S311  the same each time
    tally = Tally()
    points = make(8).enrich().points
    for _ in range(SEQUENCES):
        table = make(8)
        for point in draw.sample(points, 4):
            table.enrich(point)
        table.enrich()
        table.check(tally)
    record_property("counted", f"Stopped up to four times in a row, S3: {tally}")
