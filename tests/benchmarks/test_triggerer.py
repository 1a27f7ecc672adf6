"""How many calls one triggerer holds: 1,000 at once, beside the bare client (see ``triggerer.py``)."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from tests.benchmarks import upstream

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="its supervisor needs no job in the database from 3.3 on"),
]
ROUNDS = 5
COUNT = 1000
GOAL, FLOOR = 0.85, 0.4  # of the bare client's requests a second


def run(way: str, where: str, log: Path) -> dict:
    command = [sys.executable, "-m", "tests.benchmarks.triggerer", way, where, str(COUNT)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    log.write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def connections(airflow_db):
    """Give what puts connections into the database."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    def put(url: str, *conn_ids: str) -> None:
        with create_session() as session:
            for conn_id in conn_ids:
                session.add(Connection(conn_id=conn_id, conn_type="responses", host=url, password="none-at-all"))

    return put


def test_a_thousand_triggers_keep_up_with_the_bare_client(connections, tmp_path):
    with upstream.running() as address:
        url = f"{address}/1.0"
        connections(url, "bench", "bench_first")
        rounds = [
            (run("bare", url, tmp_path / "bare.log"), run("triggers", str(tmp_path), tmp_path / "triggers.log"))
            for _ in range(ROUNDS)
        ]
    shares = [triggers["rate"] / bare["rate"] for bare, triggers in rounds]
    print(f"\n{COUNT:,} triggers at once in a TriggerRunner, an answer takes 1 s, medians of {ROUNDS} pairs")
    for name, pick in (("bare client", 0), ("triggers", 1)):
        print(f"  {name:<14} {statistics.median(pair[pick]['rate'] for pair in rounds):6.0f} requests/s")
    print(f"  share          {statistics.median(shares):6.0%}   of each pair: {', '.join(f'{s:.0%}' for s in shares)}")
    late = [triggers["late"] for _, triggers in rounds]
    print(f"  the loop was late by at most {statistics.median(late) * 1000:.0f} ms (in each: {late})")
    print(f"  peak of the process {max(triggers['peak'] for _, triggers in rounds)} MiB")
    if statistics.median(shares) < GOAL:
        print(f"  short of the goal of {GOAL:.0%}")
    assert all((triggers["done"], triggers["failed"]) == (COUNT, 0) for _, triggers in rounds)
    assert statistics.median(shares) >= FLOOR
    assert statistics.median(late) < 0.1
    assert max(triggers["peak"] for _, triggers in rounds) < 250
