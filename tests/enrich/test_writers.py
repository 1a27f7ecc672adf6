"""Two writers on one output: refusals, takeovers, and zombies that have lost their lease."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.enrich import result as result_module
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import LEASE_SECONDS, OutputStore, Writer
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.sources import read_rows
from airflow_provider_responses.enrich.storage import LocalStorage
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    LeaseLostError,
    OutputLockedError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import (
    enrich,
    job,
    manifest,
    parts,
    result,
    table,
    watching,
)

TEXT = TaskRequest(fields={}, stream=False)


class Clock:
    """The time of day, set by the test."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


def test_a_second_task_is_refused_until_the_lease_lapses(responses_sandbox, tmp_path):
    now = Clock()
    first = Enrichment(job(responses_sandbox, tmp_path, table(3)), Environment(now=now))
    first.store.acquire(resume=True)

    now.time += LEASE_SECONDS - 1
    with pytest.raises(OutputLockedError, match=r"is being written by task, try 1. Wait .* for 1 s") as caught:
        enrich(responses_sandbox, tmp_path, table(3), Environment(now=now), writer=Writer(owner="other"))
    assert caught.value.retryable
    assert responses_sandbox.ledger == []

    now.time += 2
    told = enrich(responses_sandbox, tmp_path, table(3), Environment(now=now), writer=Writer(owner="other"))
    assert told["counts"] == {"ok": 3}


def test_an_older_attempt_is_refused(responses_sandbox, tmp_path):
    newer = Enrichment(job(responses_sandbox, tmp_path, table(3), writer=Writer(owner="task", try_number=2)))
    newer.store.acquire(resume=True)
    with pytest.raises(OutputLockedError, match="is being written by task, try 2"):
        enrich(responses_sandbox, tmp_path, table(3))


@pytest.mark.parametrize("resume", [True, False])
def test_a_newer_attempt_takes_over_and_the_zombie_adds_nothing(resume, responses_sandbox, tmp_path):
    rows = table(10)
    told: dict[str, Any] = {}

    def take_over() -> None:
        """Another process enriches the table, while this one has unwritten responses."""
        writer = Writer(owner="task", try_number=2, idempotency_key="" if resume else "cleared")
        told.update(enrich(responses_sandbox, tmp_path, rows, writer=writer, resume=resume))

    class Late(PartWriter):
        def store(self, lines: list[str]) -> None:
            take_over()
            super().store(lines)

    zombie = Enrichment(job(responses_sandbox, tmp_path, rows), Environment(part_writer=Late))
    with pytest.raises(LeaseLostError, match="task, try 2, writes here now; this attempt stops"):
        zombie.run()

    assert told["counts"] == {"ok": 10}
    assert manifest(tmp_path) == told
    mine = [part for part in parts(tmp_path) if "-t0002-" in part.name]
    assert len(mine) == 1
    assert len(parts(tmp_path)) == 2  # the zombie's is there, late
    before = result(tmp_path)
    again = enrich(responses_sandbox, tmp_path, rows, writer=Writer(owner="task", try_number=3))
    assert again["requests_sent"] == 0
    assert [row["_row"] for row in before] == [row["_row"] for row in result(tmp_path)] == list(range(10))
    assert [row["mood"] for row in before] == [row["mood"] for row in result(tmp_path)]


def test_a_zombie_deletes_no_part_of_its_successor(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(3))
    newer = OutputStore(tmp_path, Writer(owner="task", try_number=2, idempotency_key="cleared"), Clock())

    class Late(LocalStorage):
        """Another writer takes over while the result is being uploaded."""

        def put_file(self, local: Path, name: str, step: Callable[[], None]) -> None:
            super().put_file(local, name, step)
            newer.acquire(resume=False)
            newer.write_part(["{}"])

    with pytest.raises(LeaseLostError):
        enrich(responses_sandbox, Late(tmp_path), table(3))
    assert [part.name[:10] for part in parts(tmp_path)] == ["part-g0001", "part-g0002"]


def test_a_zombie_does_not_replace_the_result_of_its_successor(responses_sandbox, tmp_path, monkeypatch):
    lines, done = result_module.result_lines, []

    def late(*given: Any) -> Any:
        """Let another process take over while the result is being written."""
        if not done:
            done.append(True)
            writer = Writer(owner="task", try_number=2)
            told = enrich(responses_sandbox, tmp_path, table(7), writer=writer)
            assert told["counts"] == {"ok": 7}
        return lines(*given)

    monkeypatch.setattr(result_module, "result_lines", late)
    with pytest.raises(LeaseLostError):
        enrich(responses_sandbox, tmp_path, table(10))
    assert len(result(tmp_path)) == manifest(tmp_path)["rows"] == 7


def test_a_zombie_stops_at_its_next_renewal(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 5, {"delay": 0.02, "times": 1000})
    newer = Enrichment(job(responses_sandbox, tmp_path, [], writer=Writer(owner="task", try_number=2))).store
    # Without a lock a takeover could fall between a read of the lease and its renewal, which this test excludes.
    whole = threading.Lock()

    class Renewing(OutputStore):
        def try_renew(self) -> None:
            with whole:
                super().try_renew()

    def take_over(outcomes: int) -> None:
        if outcomes == 3:
            with whole:
                newer.acquire(resume=True)

    environment = Environment(tick=0.01, lease_seconds=0.0, open_output=Renewing, part_writer=watching(take_over))
    zombie = Enrichment(job(responses_sandbox, tmp_path, table(1000), limits=Limits(concurrency=1)), environment)
    with pytest.raises(LeaseLostError):
        zombie.run()
    assert len(responses_sandbox.ledger) < 1000
    assert not (tmp_path / "result.jsonl").exists()
    newer.renew()  # the newer attempt still holds it


def test_the_lease_is_renewed_while_a_long_source_is_read(responses_sandbox, tmp_path):
    renewed = threading.Semaphore(0)

    class Renewing(OutputStore):
        def try_renew(self) -> None:
            super().try_renew()
            renewed.release()

    def slow() -> Any:
        for chunk in read_rows(table(3)):
            for _ in range(5):
                assert renewed.acquire(timeout=50)
            yield chunk

    told = enrich(
        responses_sandbox, tmp_path, [], Environment(lease_seconds=0.01, open_output=Renewing), read_chunks=slow
    )
    assert told["counts"] == {"ok": 3}


def test_of_two_tasks_that_start_at_once_one_is_refused_before_it_sends(responses_sandbox, tmp_path):
    now = Clock()
    other = OutputStore(tmp_path, Writer(owner="other"), now)

    def both() -> Any:
        """The other starts while this one reads its source."""
        yield from read_rows(table(3))
        now.time += LEASE_SECONDS  # this process was suspended meanwhile
        other.acquire(resume=True)

    with pytest.raises(OutputLockedError, match="other, try 1, writes here now") as caught:
        enrich(responses_sandbox, tmp_path, [], Environment(now=now), read_chunks=both)
    assert caught.value.retryable
    assert not responses_sandbox.ledger


def test_iterations_of_a_task_loop_do_not_replace_each_others_results(responses_sandbox, tmp_path):
    owner = "dag.task run=r map_index=-1 region={}/{}"
    enrich(responses_sandbox, tmp_path, table(3), writer=Writer(owner=owner.format("a", 0)))
    before = result(tmp_path)
    for other in (owner.format("a", 1), owner.format("b", 0)):
        with pytest.raises(ConfigurationError, match="is also used by another iteration of the task's loop") as caught:
            enrich(responses_sandbox, tmp_path, table(4), writer=Writer(owner=other))
        assert not caught.value.retryable
    assert result(tmp_path) == before
    enrich(responses_sandbox, tmp_path, table(3), writer=Writer(owner=owner.format("a", 0), try_number=2))
    enrich(responses_sandbox, tmp_path, table(3), writer=Writer(owner="dag.task run=r map_index=-1"))  # before 3.4
    enrich(responses_sandbox, tmp_path, table(4), writer=Writer(owner="dag.task run=next map_index=-1 region=c/1"))


def test_mapped_tasks_of_one_dag_run_do_not_replace_each_others_results(responses_sandbox, tmp_path):
    owner = "dag.task run=r map_index={}"
    enrich(responses_sandbox, tmp_path, table(3), writer=Writer(owner=owner.format(0)))
    before = result(tmp_path)
    with pytest.raises(ConfigurationError, match="is also used by map_index 0, whose result this one would replace"):
        enrich(responses_sandbox, tmp_path, table(4), writer=Writer(owner=owner.format(1)))
    assert result(tmp_path) == before
    enrich(responses_sandbox, tmp_path, table(4), writer=Writer(owner="dag.task run=next map_index=1"))
