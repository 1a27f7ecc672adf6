"""
Tasks a minute on a whole Airflow with eight workers, for each way of running. ``make bench-airflow`` prints them.

Every task sends one request, whose response takes a second. Rounds of all kinds of task alternate: machines are noisy.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.benchmarks import upstream
from tests.e2e.deployment import ROOT, TASK_TABLE, Deployment, ended_by_sigterm

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
PEER: Final = "OpenAIResponseOperator"
OURS: Final = "from airflow_provider_responses.operators.responses import ResponsesOperator"
LEAST: Final = "from tests.benchmarks.least import LeastOperator"
ASK: Final = 'ResponsesOperator(task_id=name, model="openai/gpt-4o-mini", input="Say hello."{arguments})'
# Way → an import, and a task of it. Each DAG has a file of its own: each task pays for all that is in its file.
SOURCES: Final = {
    PEER: (
        f"from airflow.providers.openai.operators.openai import {PEER}",
        f'{PEER}(task_id=name, conn_id="openai_bench", model="openai/gpt-4o-mini", input_text="Say hello.")',
    ),
    "worker": (OURS, ASK.format(arguments="")),
    "deferrable": (OURS, ASK.format(arguments=", deferrable=True")),
    "start_from_trigger": (OURS, ASK.format(arguments=", start_from_trigger=True")),
    # The bare client in a trigger that ends its task and pushes nothing: the most that Airflow leaves room for.
    "least_deferrable": (LEAST, "LeastOperator(task_id=name, url=URL)"),
    "least_start": (LEAST, "LeastOperator(task_id=name, url=URL, starts=True)"),
}
WAYS: Final = tuple(SOURCES)
GOALS: Final = {"deferrable": 2.8, "start_from_trigger": 6.0}
# What must hold on any machine; a goal that is missed is printed as such.
FLOORS: Final = {"deferrable": 1.5, "start_from_trigger": 4.0}
DAG_FILE: Final = """
import datetime

from airflow.sdk import DAG
{imports}

URL = {url!r}

with DAG({dag_id!r}, schedule=None, default_args={{"retries": 2, "retry_delay": datetime.timedelta(seconds=1)}}):
    for number in range({tasks}):
        name = f"task_{{number}}"
        {task}
"""
SECONDS: Final = 1.0  # that the upstream takes
TASKS, MANY = 60, 300
ROUNDS: Final = 3
LIMIT: Final = 900.0  # seconds for one run


@dataclass(frozen=True)
class Measured:
    """One run of a DAG, as the metadata database has it."""

    tasks: int
    seconds: float
    failed: int
    retried: int

    @property
    def per_minute(self) -> float:
        return self.tasks / self.seconds * 60


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Airflow with its own settings for heartbeats, and all DAGs."""
    with upstream.running() as url, ended_by_sigterm(), pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(ROOT))  # where every process finds `least`
        base_url = f"{url}/{SECONDS}"
        connections = {
            "openai_bench": {"conn_type": "openai", "host": base_url, "password": "none"},
            "responses_default": {
                "conn_type": "responses",
                "host": base_url,
                "password": "none",
                "extra": {"dialect": "openrouter"},
            },
        }
        with Deployment(connections=connections, parallelism=8, settings={}) as deployment:
            for way in WAYS:
                imports, task = SOURCES[way]
                for dag_id, tasks in ((way, TASKS), (f"{way}_many", MANY)):
                    source = DAG_FILE.format(imports=imports, url=base_url, dag_id=dag_id, tasks=tasks, task=task)
                    deployment.write_dag(dag_id, source)
            yield deployment


def measure(deployment: Deployment, dag_id: str) -> Measured:
    """Run a DAG once."""
    run_id = deployment.trigger(dag_id)
    deployment.wait_for_run(dag_id, run_id, limit=LIMIT)
    query = "SELECT extract(epoch FROM end_date - start_date) FROM dag_run WHERE dag_id = %s AND run_id = %s"
    seconds = float(deployment.query(query, dag_id, run_id)[0][0])
    query = f"SELECT state, try_number FROM {TASK_TABLE} WHERE dag_id = %s AND run_id = %s"  # noqa: S608
    tasks = deployment.query(query, dag_id, run_id)
    return Measured(
        tasks=len(tasks),
        seconds=seconds,
        failed=sum(state != "success" for state, _ in tasks),
        retried=sum(attempts > 1 for _, attempts in tasks),
    )


def row(way: str, runs: list[Measured]) -> str:
    """A line of the table: medians, and all that failed or was retried."""
    rate, seconds = (statistics.median(found) for found in zip(*((m.per_minute, m.seconds) for m in runs), strict=True))
    failed, retried = sum(m.failed for m in runs), sum(m.retried for m in runs)
    return f"  {way:<24} {runs[0].tasks:>5} {seconds:>9.1f} {rate:>13.0f} {failed:>7} {retried:>8}"


HEAD: Final = f"  {'way':<24} {'tasks':>5} {'seconds':>9} {'tasks/minute':>13} {'failed':>7} {'retried':>8}"


def test_tasks_a_minute(deployment):
    runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            runs[way].append(measure(deployment, way))

    print(f"\nOne request of {SECONDS} s per task, parallelism 8, medians of {ROUNDS} rounds", HEAD, sep="\n")
    print(*(row(way, found) for way, found in runs.items()), sep="\n")
    rates = {way: statistics.median(m.per_minute for m in found) for way, found in runs.items()}
    for way in WAYS:
        times = rates[way] / rates[PEER]
        missed = f", short of the goal of {GOALS[way]}" if times < GOALS.get(way, 0) else ""
        print(f"  {way}: {times:.1f} times {PEER}{missed}")
    assert all(m.failed == 0 for way, found in runs.items() if way != PEER for m in found)
    for way, times in FLOORS.items():
        assert rates[way] >= times * rates[PEER], way


@pytest.mark.parametrize("way", GOALS)
def test_many_deferred_tasks_at_once_use_up_no_try(deployment, way):
    found = measure(deployment, f"{way}_many")

    print("", HEAD, row(way, [found]), sep="\n")
    assert (found.tasks, found.failed, found.retried) == (MANY, 0, 0)
