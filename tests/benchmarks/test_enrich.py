"""What an enrichment costs over the bare client: CPU, speed and memory (see ``enrich_rows.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.benchmarks import enrich_rows, upstream

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
ROWS, BARE_ROWS, BY_HAND, TASKS = 100_000, 30_000, 2_000, 60
FEW, MANY = 10_000, 1_000_000
SECONDS = 0.5  # that the upstream takes
ENRICH = next(iter(enrich_rows.CHOICES))


def run(way: str, url: str, rows: int) -> dict:
    command = [sys.executable, "-m", "tests.benchmarks.enrich_rows", way, url, str(rows)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    rate, cpu, peak = found["rate"], found["cpu"], found["peak"]
    print(f"  {way:<42} {rows:>9,} rows {rate:7.0f} rows/s {cpu:6.2f} ms of CPU per row {peak:5} MiB", flush=True)
    return found


MAPPED = """
from airflow.sdk import DAG

from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("mapped", schedule=None):
    reviews = [f"Review {{number}}" for number in range({tasks})]
    ResponsesOperator.partial(task_id="ask", model="openai/gpt-4o-mini").expand(input=reviews)
"""


def mapped(url: str) -> None:
    """Ask about as many rows as mapped tasks, on a whole Airflow."""
    from tests.e2e.deployment import Deployment

    connection = {"conn_type": "responses", "host": url, "password": "none", "extra": {"dialect": "openrouter"}}
    with Deployment(connections={"responses_default": connection}, settings={}) as deployment:
        deployment.write_dag("mapped", MAPPED.format(tasks=TASKS))
        run_id = deployment.trigger("mapped")
        assert deployment.wait_for_run("mapped", run_id, limit=600) == "success"
        query = "SELECT extract(epoch FROM end_date - start_date) FROM dag_run WHERE run_id = %s"
        seconds = float(deployment.query(query, run_id)[0][0])
    print(f"  {'mapped tasks on a whole Airflow':<42} {TASKS:>9,} rows {TASKS / seconds:7.1f} rows/s", flush=True)


def test_a_table_costs_little_more_than_its_requests():
    print(f"\n{enrich_rows.CONCURRENCY} in flight, an answer takes {SECONDS} s (at most {256 / SECONDS:.0f}/s)")
    with upstream.running(text=enrich_rows.LABEL) as address:
        url = f"{address}/{SECONDS}"
        bare = run("client", url, BARE_ROWS)
        ours = run(ENRICH, url, ROWS)
        run("gather", url, BY_HAND)
        mapped(url)
    print(
        f"  CPU {ours['cpu'] / bare['cpu']:.2f} times the client's, {ours['rate'] / bare['rate']:.0%} of its requests/s"
    )
    assert ours["cpu"] <= 2 * bare["cpu"]
    assert ours["rate"] >= 0.8 * bare["rate"]
    assert ours["peak"] < 250


def test_what_each_choice_costs():
    print("\nOver a transport in the same process")
    first, *others = (run(way, enrich_rows.IN_PROCESS, FEW) for way in enrich_rows.CHOICES)
    # None is a trap; what was answered costs less than to ask.
    assert all(found["cpu"] <= 1.5 * first["cpu"] for found in others)
    assert others[-1]["cpu"] < first["cpu"]


def test_memory_does_not_grow_with_the_rows():
    print("\nOver a transport in the same process")
    few, many = (run(ENRICH, enrich_rows.IN_PROCESS, rows) for rows in (FEW, MANY))
    assert many["peak"] < 250
    assert many["peak"] <= 1.2 * few["peak"]
