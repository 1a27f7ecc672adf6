"""A process that stops at any boundary of an attempt on S3, and the next attempt."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import pytest

from airflow_provider_responses.enrich.storage import ObjectStorage
from tests.enrich.crashes import (
    CrossingObjects,
    Table,
    Tally,
    hurried_clock,
    stop_at_each_boundary,
    stop_several_times,
)
from tests.parts.stores import Bucket

ROWS = 16
BEFORE = 8  # rows of an earlier result
SEQUENCES = 5


@pytest.fixture
def make(moto: Bucket) -> Callable[[int], Table]:
    """Make a table in an output of its own, by one filesystem: each takes a while to open."""
    bucket = moto.quick_path("")

    def into(before: int) -> Table:
        path = replace(bucket, path=f"{bucket.path}out-{secrets.token_hex(4)}")
        storage = ObjectStorage(path)
        made = Table(lambda crash: CrossingObjects(path, crash), storage, rows=ROWS, before=before, clock=hurried_clock)
        if before:
            made.make_earlier_result()
        return made

    return into


@pytest.mark.timeout(300)  # some 250 attempts
def test_the_attempt_after_one_that_stops_at_any_boundary(make, record_property):
    tally = stop_at_each_boundary(lambda: make(0))
    record_property("counted", f"Stopped at each boundary, S3: {tally}")


def test_attempts_that_stop_one_after_the_other_and_replace_a_result(make, record_property):
    tally = Tally()
    stop_several_times(lambda: make(BEFORE), SEQUENCES, tally)
    record_property("counted", f"Stopped up to four times in a row, S3: {tally}")
