"""The overhead of an enrichment over the bare client: CPU, speed and memory (see ``enrich_rows.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.benchmarks import enrich_rows, peer_rows, upstream
from tests.conftest import ROOT

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
BY_HAND, TASKS, PEER_ROWS = 2_000, 60, 3_000
FEW, MANY = 10_000, 1_000_000
MOST_PEAK = 80  # MiB
PEERS = ("openai[aiohttp]", "instructor", "pydantic-ai-slim[openai]")
SECONDS = 0.5  # that a response takes
ENRICH = next(iter(enrich_rows.CHOICES))


def run(way: str, url: str, rows: int) -> dict:
    return measure(way, rows, [sys.executable, "-m", "tests.benchmarks.enrich_rows", way, url, str(rows)])


def measure(way: str, rows: int, command: list[str]) -> dict:
    """Run a process, and print and return its figures."""
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
    """Send the same number of rows as mapped tasks, on a whole Airflow."""
    from tests.e2e.deployment import Deployment

    connection = {"conn_type": "responses", "host": url, "password": "none", "extra": {"dialect": "openrouter"}}
    with Deployment(connections={"responses_default": connection}, settings={}) as deployment:
        deployment.write_dag("mapped", MAPPED.format(tasks=TASKS))
        run_id = deployment.trigger("mapped")
        assert deployment.wait_for_run("mapped", run_id, limit=600) == "success"
        query = "SELECT extract(epoch FROM end_date - start_date) FROM dag_run WHERE run_id = %s"
        seconds = float(deployment.query(query, run_id)[0][0])
    print(f"  {'mapped tasks on a whole Airflow':<42} {TASKS:>9,} rows {TASKS / seconds:7.1f} rows/s", flush=True)


def peers() -> Path | None:
    """Install other libraries in an environment that later benchmarks reuse; None if they cannot be installed."""
    folder = ROOT / ".airflow" / "bench-peers"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", *PEERS]
        if subprocess.run(pip, capture_output=True, check=False).returncode != 0:
            return None
        (folder / "installed").touch()
    return python


def compare(url: str, rows: int, rates: tuple[float, float]) -> None:
    """
    Measure the engine beside raw aiohttp and the bare client.

    :param rates: the share of raw aiohttp's rows a second that is asserted, and that is the goal.
    """
    raw, bare, ours = (run(way, url, rows) for way in ("aiohttp", "client", ENRICH))
    rate, over_client, over_raw = ours["rate"] / raw["rate"], ours["cpu"] / bare["cpu"], ours["cpu"] / raw["cpu"]
    print(
        f"  {rate:.0%} of raw aiohttp's rows/s (goal {rates[1]:.0%}); CPU {over_client:.2f} times the bare client's "
        f"(goal 1.35) and {over_raw:.2f} times raw aiohttp's (goal 1.9); {ours['peak']} MiB (goal {MOST_PEAK})",
        flush=True,
    )
    assert rate >= rates[0]
    assert over_client <= 1.6
    assert over_raw <= 2.3
    assert ours["peak"] < 1.3 * MOST_PEAK


def test_a_table_costs_little_more_than_its_requests(tmp_path):
    print(f"\n{enrich_rows.CONCURRENCY} in flight, a response takes {SECONDS} s (at most {256 / SECONDS:.0f}/s)")
    with upstream.running(text=enrich_rows.LABEL) as address:
        url = f"{address}/{SECONDS}"
        compare(url, 3_000, (0.75, 0.92))
        compare(url, 20_000, (0.85, 0.95))
        if (python := peers()) is not None:
            source = tmp_path / "reviews.csv"
            enrich_rows.write_source(source, PEER_ROWS)
            script = str(Path(peer_rows.__file__))
            for way in peer_rows.PEERS:
                command = [str(python), script, way, url, str(source), str(enrich_rows.CONCURRENCY)]
                measure(way, PEER_ROWS, command)
        run("gather", url, BY_HAND)
        mapped(url)


def test_a_row_takes_little_without_a_network():
    print("\nOver a transport in the same process")
    found = min((run(ENRICH, enrich_rows.IN_PROCESS, FEW) for _ in range(3)), key=lambda found: found["cpu"])
    print(f"  {found['cpu']:.3f} ms of CPU a row (goal 0.105)")
    assert found["cpu"] <= 0.2


def test_what_each_choice_costs():
    print("\nOver a transport in the same process")
    first, *others = (run(way, enrich_rows.IN_PROCESS, FEW) for way in enrich_rows.CHOICES)
    # No choice is far more expensive, and a row with a response costs less than a send.
    assert all(found["cpu"] <= 1.5 * first["cpu"] for found in others)
    assert others[-1]["cpu"] < first["cpu"]


def test_memory_does_not_grow_with_the_rows():
    print("\nOver a transport in the same process")
    few, many = (run(ENRICH, enrich_rows.IN_PROCESS, rows) for rows in (FEW, MANY))
    print(f"  {few['peak']} and {many['peak']} MiB (goal {MOST_PEAK})")
    assert many["peak"] < 1.3 * MOST_PEAK
    assert many["peak"] <= 1.2 * few["peak"]
