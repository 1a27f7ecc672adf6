"""
A table in four shards over S3, on two of Celery's workers, of which a process or all of them die in the midst.

One shard gets no more responses after some rows, and is killed there. The other shards go on meanwhile.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from celery import Celery

from airflow_provider_responses.sandbox import LedgerEntry, Sandbox
from tests.e2e import broker, s3
from tests.e2e.deployment import QUICK_HEARTBEATS, TASK_TABLE, Deployment, ended_by_sigterm
from tests.e2e.processes import is_running, parent, session

pytestmark = [pytest.mark.celery, pytest.mark.timeout(900)]

SHARDS = 4
ROWS = 800
DONE = 100  # rows of the shard with a response when it falls silent; a share is about 200
AT_ONCE = 8
LATENCY = 0.1  # seconds
HEARTBEAT_TIMEOUT = QUICK_HEARTBEATS["SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]
WORKERS = ("first-worker", "second-worker")
CASES = ("process_killed", "child_killed", "worker_killed")
TASK = "label"

DAG_FILE = """
import datetime

from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_provider_responses.enrich import merge_shards
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

for name in {names!r}:
    output_path = f"s3://store@{bucket}/{{name}}/"
    with DAG(name, schedule=None, default_args={{"retries": 2, "retry_delay": datetime.timedelta(seconds=1)}}):
        shards = ResponsesEnrichOperator.partial(
            task_id="{task}",
            model="openai/gpt-4o-mini",
            source="s3://store@{bucket}/source.jsonl",
            input="Mood of review {{{{ row.id }}}}.",
            key="id",
            output_path=output_path,
            limits={{"concurrency": {at_once}}},
            cache=False,
        ).expand_kwargs([{{"shard": (n, {shards}), "conn_id": f"{{name}}_{{n}}"}} for n in range({shards})])

        @task
        def merge(path):
            return merge_shards(ObjectStoragePath(path))

        shards >> merge(output_path)
"""


@dataclass
class Table:
    """A DAG over the table; each shard has a sandbox of its own. The first one is killed."""

    name: str
    deployment: Deployment
    store: s3.Store
    sandboxes: list[Sandbox]
    run_id: str = field(default="")

    def start(self) -> None:
        """Start the run, and wait until the first shard is in the midst of its rows."""
        # Half a response that never ends is paid for.
        self.sandboxes[0].script(*[{}] * DONE, *[{"stall": True}] * AT_ONCE)
        self.run_id = self.deployment.trigger(self.name)
        expected = Counter({"generated": DONE, "broken": AT_ONCE})
        self.wait_until(lambda: Counter(entry.outcome for entry in self.ledger) == expected, "the shard to fall silent")

    def wait_for_part(self) -> None:
        """Wait until responses of the first shard are in the store."""
        self.wait_until(lambda: bool(self.stored()), "responses to be in the store")

    def wait_until_it_goes_on(self, sent: int) -> float:
        """Wait for the first request of the next attempt; return the seconds since the epoch when it came."""
        self.wait_until(lambda: len(self.ledger) > sent, "the shard to go on")
        return self.ledger[sent].time

    def wait_until(self, condition, what: str) -> None:
        self.deployment.wait_until(condition, what, limit=240, details=self.details)

    def details(self) -> str:
        outcomes = [Counter(entry.outcome for entry in sandbox.ledger) for sandbox in self.sandboxes]
        return f"{outcomes}\n{self.deployment.logs(self.name, self.run_id)}"

    @property
    def ledger(self) -> list[LedgerEntry]:
        """What the first shard has sent."""
        return self.sandboxes[0].ledger

    def stored(self) -> set[int]:
        """The rows of the first shard whose responses are in the store."""
        keys = [key for key in self.store.keys(f"{self.name}/shard-0000-of-") if "/parts/" in key]
        return {row["_key"] for key in keys for row in self.store.rows(key)}

    @property
    def process(self) -> int:
        """The process of the first shard's task."""
        return int(self.column("pid"))

    @property
    def attempts(self) -> int:
        return int(self.column("try_number"))

    def column(self, name: str) -> object:
        query = f"SELECT {name} FROM {TASK_TABLE} WHERE dag_id = %s AND run_id = %s AND task_id = %s AND map_index = 0"  # noqa: S608
        [[value]] = self.deployment.query(query, self.name, self.run_id, TASK)
        return value


@pytest.fixture(scope="module")
def tables() -> Iterator[dict[str, Table]]:
    """Start Airflow with two workers, Redis, an S3 and all sandboxes, and no run."""
    with ExitStack() as stack:
        stack.enter_context(ended_by_sigterm())
        queue = stack.enter_context(broker.running())
        store = stack.enter_context(s3.running())
        store.put("source.jsonl", [{"id": number} for number in range(ROWS)])
        sandboxes = {name: [stack.enter_context(Sandbox(latency=LATENCY)) for _ in range(SHARDS)] for name in CASES}
        connections = {
            f"{name}_{number}": sandbox.connection
            for name, shards in sandboxes.items()
            for number, sandbox in enumerate(shards)
        }
        worker = ("celery", "worker", "--skip-serve-logs", "--concurrency", str(SHARDS))
        deployment = stack.enter_context(
            Deployment(
                connections=connections | {"store": store.connection},
                settings=QUICK_HEARTBEATS | {"CELERY__BROKER_URL": queue},
                executor="CeleryExecutor",
                commands={name: (*worker, "--celery-hostname", name, "--pid", f"{name}.pid") for name in WORKERS},
            )
        )
        with Celery(broker=queue) as app:
            deployment.wait_until(lambda: len(app.control.ping(timeout=1)) == len(WORKERS), "both workers to be ready")
        deployment.write_dag(
            "tables",
            DAG_FILE.format(names=CASES, bucket=s3.BUCKET, task=TASK, shards=SHARDS, at_once=AT_ONCE),
            *CASES,
        )
        yield {name: Table(name, deployment, store, sandboxes[name]) for name in CASES}


def assert_whole(table: Table) -> None:
    """Every row is in the merged result once and in order."""
    assert table.deployment.wait_for_run(table.name, table.run_id, limit=240) == "success"
    result = table.store.rows(f"{table.name}/result.jsonl")
    assert [row["id"] for row in result] == list(range(ROWS))
    assert {row["_status"] for row in result} == {"ok"}
    assert all(row["output"] for row in result)


def assert_nothing_stored_is_paid_twice(table: Table, stored: set[int]) -> int:
    """Only what was in flight or not in the store was sent again; return how many responses were paid twice."""
    sent = Counter(entry.body["input"] for entry in table.ledger)
    assert all(sent[f"Mood of review {number}."] == 1 for number in stored)
    assert sum(sent.values()) - len(sent) == DONE + AT_ONCE - len(stored)
    return len([entry for entry in table.ledger if entry.billed]) - len(sent)


def report(what: str, seconds: float, stored: int, twice: int) -> None:
    print(
        f"\n  {what}: goes on after {seconds:.1f} s; {twice} responses paid twice, of {AT_ONCE} in flight and "
        f"{DONE - stored} that were not in the store",
        flush=True,
    )


def test_a_killed_task_goes_on_within_seconds_and_no_row_is_lost(tables):
    table = tables["process_killed"]
    table.start()

    killed = time.time()
    table.deployment.kill([table.process])
    stored = table.stored()
    seconds = table.wait_until_it_goes_on(DONE + AT_ONCE) - killed

    assert_whole(table)
    assert table.attempts == 2
    report("A task's process killed", seconds, len(stored), assert_nothing_stored_is_paid_twice(table, stored))


def test_a_task_that_outlives_the_process_above_it_spoils_nothing(tables):
    table = tables["child_killed"]
    table.start()
    orphan = table.process
    child = parent(orphan)

    killed = time.time()
    table.deployment.kill([child])
    stored = table.stored()
    seconds = table.wait_until_it_goes_on(DONE + AT_ONCE) - killed

    assert is_running(orphan)
    assert_whole(table)
    assert table.attempts == 2
    report("A worker's child killed", seconds, len(stored), assert_nothing_stored_is_paid_twice(table, stored))


def test_a_killed_worker_is_missed_and_its_tasks_go_on_at_the_other(tables):
    table = tables["worker_killed"]
    table.start()
    table.wait_for_part()
    [worker] = [name for name in WORKERS if table.deployment.services[name].pid == session(table.process)]

    killed = time.time()
    table.deployment.kill_service(worker)
    stored = table.stored()
    seconds = table.wait_until_it_goes_on(DONE + AT_ONCE) - killed

    assert_whole(table)
    assert table.attempts == 2
    report("A worker's processes killed", seconds, len(stored), assert_nothing_stored_is_paid_twice(table, stored))
