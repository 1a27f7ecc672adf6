"""Part files: written during the attempt, lost, cut off, refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.sources import CHUNK_SIZE
from airflow_provider_responses.enrich.storage import LocalStorage
from airflow_provider_responses.exceptions import RequestCancelledError, StorageError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import (
    enrich,
    job,
    lines,
    parts,
    result,
    table,
    tear,
    watching,
)

TEXT = TaskRequest(fields={}, stream=False)


class Died(BaseException):
    """Stands for the end of the process."""


class Dying(OutputStore):
    """A store that accepts no part: the process ends when one is written."""

    def append(self, lines: list[str]) -> None:
        raise Died

    def release(self) -> None: ...


class Whole(OutputStore):
    """A store that has no appends."""

    can_append = False


def test_unwritten_responses_come_from_the_cache_at_no_cost(responses_sandbox, tmp_path):
    rows = table(30)
    with pytest.raises(Died):
        enrich(responses_sandbox, tmp_path, rows, Environment(open_output=Dying))
    assert len(responses_sandbox.billed) == 30
    assert not (tmp_path / "parts").exists()

    told = enrich(responses_sandbox, tmp_path, rows, writer=Writer(owner="task", try_number=2))
    assert len(responses_sandbox.billed) == 30
    assert (told["cache_hits"], told["cost_this_attempt"], told["counts"]) == (30, 0.0, {"ok": 30})
    # The costs of the killed attempt are reported, too.
    paid = responses_sandbox.billed
    assert told["cost"] == pytest.approx(sum(entry.cost for entry in paid))
    assert told["responses_without_price"] == 0
    tokens = {entry.body["input"]: entry.input_tokens + entry.output_tokens for entry in paid}
    assert [row["_tokens"] for row in result(tmp_path)] == [tokens[f"Mood of {row['text']}"] for row in rows]


def test_only_rows_after_the_cut_of_a_part_are_sent_again(responses_sandbox, tmp_path):
    rows = table(30)
    enrich(responses_sandbox, tmp_path, rows, request=replace(TEXT, cache=False))
    before = result(tmp_path)
    (part,) = parts(tmp_path)
    order = [row["_key"] for row in lines(part)]
    tear(part)
    whole = part.read_bytes().count(b"\n")
    assert 0 < whole < 29

    enrich(responses_sandbox, tmp_path, rows, request=replace(TEXT, cache=False))
    again = {entry.body["input"] for entry in responses_sandbox.ledger[30:]}
    assert again == {f"Mood of hello {key[1:]}" for key in order[whole:]}
    assert [row["output"] for row in result(tmp_path)] == [row["output"] for row in before]


def test_parts_are_written_during_the_attempt(responses_sandbox, tmp_path):
    responses_sandbox.latency = 0.01
    around = Environment(tick=0.01, part_rows=20, flush_seconds=0.05, open_output=Whole)
    told = enrich(responses_sandbox, tmp_path, table(200), around, limits=Limits(concurrency=16))

    written = [lines(part) for part in parts(tmp_path)]
    assert len(written) > 5
    assert max(map(len, written)) <= 20
    # A part that is being written at the end is not written twice.
    assert sorted(row["_row"] for part in written for row in part) == list(range(200))
    assert enrich(responses_sandbox, tmp_path, table(200))["cost"] == told["cost"]


def writing(then: Callable[[int], None]) -> type[OutputStore]:
    """Return a store that writes no part, and calls back with the number of its lines."""

    class Writing(Whole):
        def write_part(self, lines: list[str]) -> str:
            then(len(lines))
            return ""

    return Writing


def test_a_small_part_is_written_after_15_seconds(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 5, {"hang": True, "times": 3})
    now, kept = 0.0, 0
    written = []

    def clock() -> float:
        nonlocal now
        now += 0.1 * (kept == 5)  # then time passes with each call of the clock
        return now

    def seen(number: int) -> None:
        nonlocal kept
        kept = number

    def write(size: int) -> None:
        written.append((size, now))
        enrichment.cancel()

    environment = Environment(tick=0.001, clock=clock, part_writer=watching(seen), open_output=writing(write))
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(8), timeout=1e6), environment)
    with pytest.raises(RequestCancelledError):
        enrichment.run()
    [(size, at)] = written
    assert size == 5
    assert at >= 15


def test_responses_of_several_full_parts_are_written_at_once(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 20, {"hang": True, "times": 5})
    written = []

    def write(size: int) -> None:
        written.append(size)
        if sum(written) == 20:
            enrichment.cancel()

    around = Environment(
        tick=0.001,
        part_rows=20,
        flush_seconds=1e9,
        part_writer=partial(PartWriter, part_size=1000),
        open_output=writing(write),
    )
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(25), timeout=60), around)
    with pytest.raises(RequestCancelledError):
        enrichment.run()
    assert max(written) < 20


def test_a_store_that_cannot_be_written_ends_the_attempt_with_the_number_of_lost_responses(responses_sandbox, tmp_path):
    class Full(LocalStorage):
        def append(self, name: str, data: bytes) -> None:
            raise StorageError(f"{self.url(name)} cannot be written")

    with pytest.raises(StorageError) as caught:
        enrich(responses_sandbox, Full(tmp_path), table(2000), Environment(tick=0.01), limits=Limits(max_outage=0.0))
    paid = responses_sandbox.billed
    assert caught.value.retryable
    cost = f"${sum(entry.cost for entry in paid):.6f}"
    assert f"output_path {str(tmp_path)!r}: {len(paid)} responses ({cost}) could not be written" in str(caught.value)
    assert isinstance(caught.value.__cause__, StorageError)
    assert len(paid) <= 64 + 64


def test_parts_of_large_rows_are_short(responses_sandbox, tmp_path):
    rows = [row | {"page": "x" * 1_000_000} for row in table(12)]
    enrich(responses_sandbox, tmp_path, rows)
    assert len(parts(tmp_path)) > 1
    assert max(part.stat().st_size for part in parts(tmp_path)) < 1.5 * CHUNK_SIZE
    assert sum(len(lines(part)) for part in parts(tmp_path)) == 12
    assert enrich(responses_sandbox, tmp_path, rows)["requests_sent"] == 0
