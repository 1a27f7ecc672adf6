"""A table in batches: memory of its steps, and CPU beside a script that only parses the results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks import batch_upstream, enrich_rows
from tests.benchmarks.test_enrich import measure

pytestmark = pytest.mark.bench

ROWS = 100_000  # 20 batches
MAX_MIB = 200


def test_memory_and_cpu_of_a_hundred_thousand_rows(tmp_path: Path) -> None:
    enrich_rows.write_source(tmp_path / "reviews.csv", ROWS)
    with batch_upstream.running(enrich_rows.LABEL, has_pages=False) as url:

        def run(way: str) -> dict[str, float]:
            command = [sys.executable, "-m", "tests.benchmarks.batch_rows", way, url, str(tmp_path), str(ROWS)]
            return measure(way, ROWS, command)

        submitted, parsed, landed = run("submit"), run("parse"), run("land")
    ratio = landed["cpu"] / parsed["cpu"]
    print(f"landing: {ratio:.1f} times the CPU of parsing the results and writing a line for each")
    assert submitted["peak"] < MAX_MIB
    assert landed["peak"] < MAX_MIB
    # 1.3 is what parsing and writing alone would allow. Landing also reads and indexes the source, checks each
    # response, reads it as `output_type`, counts its cost, and writes it twice, to a part and to the result.
    assert ratio < 10
