"""What an enrichment costs over the bare client: CPU, speed and memory (see ``enrich_rows.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.benchmarks import enrich_rows, upstream

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
ROWS, BARE_ROWS, BY_HAND = 100_000, 30_000, 2_000
FEW, MANY = 10_000, 1_000_000
SECONDS = 0.5  # that the upstream takes


def run(way: str, url: str, rows: int) -> dict:
    command = [sys.executable, "-m", "tests.benchmarks.enrich_rows", way, url, str(rows)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    rate, cpu, peak = found["rate"], found["cpu"], found["peak"]
    print(f"  {way:<12} {rows:>9,} rows {rate:7.0f} rows/s {cpu:6.2f} ms of CPU per row {peak:5} MiB", flush=True)
    return found


def test_a_table_costs_little_more_than_its_requests():
    print(f"\n{enrich_rows.CONCURRENCY} in flight, an answer takes {SECONDS} s (at most {256 / SECONDS:.0f}/s)")
    with upstream.running(text=enrich_rows.LABEL) as address:
        url = f"{address}/{SECONDS}"
        bare = run("client", url, BARE_ROWS)
        ours = run("enrich", url, ROWS)
        run("gather", url, BY_HAND)
    print(
        f"  CPU {ours['cpu'] / bare['cpu']:.2f} times the client's, {ours['rate'] / bare['rate']:.0%} of its requests/s"
    )
    assert ours["cpu"] <= 2 * bare["cpu"]
    assert ours["rate"] >= 0.8 * bare["rate"]
    assert ours["peak"] < 250


def test_memory_does_not_grow_with_the_rows():
    print("\nOver a transport in the same process")
    few, many = (run("enrich", enrich_rows.IN_PROCESS, rows) for rows in (FEW, MANY))
    assert many["peak"] < 250
    assert many["peak"] <= 1.2 * few["peak"]
