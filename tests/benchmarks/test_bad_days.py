"""A table with refusals and failures, compared with a good day: rows per second and sends per row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.benchmarks import bad_days

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
ROWS = 3000


def run(address: str, day: str, rows: int = ROWS) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.bad_days", "run", address, day, str(rows)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    manifest = json.loads(done.stdout.splitlines()[-1])
    assert manifest["counts"] == {"ok": rows}, "rows were lost"
    found = {
        "rate": rows / manifest["seconds"],
        "seconds": manifest["seconds"],
        "sends": manifest["requests_sent"] / rows,
        "of": bad_days.figures(address, day),
    }
    by_model = ", ".join(f"{model} {rate:.0f}/s" for model, rate in found["of"].items())
    print(
        f"  {day:<36} {rows:>6,} rows {found['rate']:5.0f} rows/s {found['sends']:6.3f} sends a row; {by_model}",
        flush=True,
    )
    return found


def test_a_table_on_a_bad_day():
    print(f"\n{bad_days.CONCURRENCY} in flight, a response takes {bad_days.LATENCY} s")
    with bad_days.running() as address:
        good, mixed, few, unnamed, limited, two, one_of_two = (run(address, day) for day in bad_days.DAYS)
    assert mixed["rate"] >= 0.7 * good["rate"]
    assert mixed["sends"] <= 1.13
    assert unnamed["rate"] >= 0.9 * good["rate"]
    # A row that is refused in the last round ends later by this, however fast the others are.
    assert ROWS / (few["seconds"] - bad_days.RETRY_AFTER) >= 0.9 * good["rate"]
    assert limited["rate"] >= 80
    assert limited["sends"] <= 1.07
    fine = bad_days.MODELS[0]
    assert one_of_two["of"][fine] >= 0.7 * two["of"][fine]
