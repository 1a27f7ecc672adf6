"""
A process that ends at any boundary of any step, and the attempts after it: nothing is billed twice, no row is lost.

Boundaries are each storage call, each commit of the index, and each HTTP call: before it is sent, after the server has
processed it, and a response that is lost while the process goes on.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import httpx
import pytest

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.batch.enrichment import BatchEnrichment
from airflow_provider_responses.batch.options import BatchOptions
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.storage import LocalStorage, Storage
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.task.escalation import Escalation
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.crashes import LOST, Crash, CrossingDisk, CrossingIndex, CrossingShelf, Point, Stopped, hurried_clock
from tests.enrich.jobs import Label, job, table
from tests.enrich.stores import Shelf
from tests.enrich.tiers import JUDGE, LARGE, PRICES, Models

from .service import PRICE, URL, BatchService, ServedBatch, prompt_of, succeed

ROWS: Final = 60
BATCH: Final = 20  # requests
SECONDS: Final = 1000.0  # that a batch takes
MOST_STEPS: Final = 20
HTTP: Final = ("before", "after", LOST)
INVALID: Final = "Mood of hello 3"  # whose first output is invalid
PAID: Final = ROWS + 1
SEQUENCES: Final = 40
MOST_LOST: Final = 64  # live responses that an interruption may lose: in flight, and unwritten


@pytest.fixture(autouse=True)
def _no_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the process ends, and not the machine, so nothing has to reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class QuietStore(OutputStore):
    """An output whose lease is renewed by the attempt alone, so that the boundaries are the same each time."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more, sleep=lambda _: None)


class Table:
    """
    A table that is enriched in batches, by attempts that end at a boundary.

    The first batch has an invalid output, and the second one expires when half of its requests are done.

    :param open_storage: opens the output for an attempt.
    :param plain: the same output, for looking at it.
    """

    def __init__(self, open_storage: Callable[[Crash], Storage], plain: Storage) -> None:
        self._open, self._plain = open_storage, plain
        self.now, self.tries = 1_000_000.0, 0
        self.service = BatchService(lambda: self.now, self._cross)
        self._crash = Crash()

    more_job: Mapping[str, Any] = {}  # arguments
    more_environment: Mapping[str, Any] = {}

    def run(self, at: Point | None = None) -> Crash:
        """Make one attempt, which may end at a point, and return what it crossed."""
        self.tries += 1
        self._crash = crash = Crash(at)
        totals, error = None, None
        try:
            for _ in range(MOST_STEPS):
                ended = self._step(crash, totals)
                if isinstance(ended, dict):
                    self.manifest = ended
                    return crash
                totals = json.loads(json.dumps(ended.totals))
                self._end_batches()
            raise AssertionError("the attempt does not end")
        except Stopped:
            assert crash.is_stopped
        except ResponsesError as raised:
            error = raised
        finally:
            self._crash = Crash()
        is_lost = at is not None and at.how == LOST
        assert error is None or (is_lost and error.retryable), repr(error)
        self._end_batches()
        return crash

    def finish(self, point: Point) -> None:
        """Make attempts until one succeeds, and check its result."""
        before = self.tries
        while True:
            self.run()
            if hasattr(self, "manifest"):
                break
            assert self.tries < before + 3, f"{point}: attempts do not succeed"
        self.check(point)

    def check(self, point: Point | None) -> None:
        """Check that each row is there once, that nothing is billed twice, and that the cost is right."""
        rows = [json.loads(line) for line in (self._plain.read_file("result.jsonl") or b"").splitlines()]
        assert [(row["_row"], row["_status"], row["mood"]) for row in rows] == [
            (number, "ok", f"Mood of hello {number}") for number in range(ROWS)
        ], point
        paid = self.service.paid
        assert paid == {f"Mood of hello {n}": 1 + (n == 3) for n in range(ROWS)}, f"{point}: paid twice: {paid - paid}"
        assert self.manifest["cost"] == pytest.approx(PAID * PRICE, abs=1e-9), point
        assert self.manifest["counts"] == {"ok": ROWS}
        names = self._plain.list_names("parts")
        assert not [name for name in names if not name.startswith("part-")], f"{point}: a file is left over"
        lines = self.lines()
        final = sorted(line["_row"] for line in lines if line["_status"] != "failed")
        assert final == list(range(ROWS)), f"{point}: an outcome is written twice"
        assert len(lines) == PAID, point

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of all parts."""
        lines = list[dict[str, Any]]()
        for name in self._plain.list_names("parts"):
            for line in (self._plain.read_file(f"parts/{name}") or b"").splitlines():
                with suppress(ValueError):  # the end of a part that was cut off
                    lines.append(json.loads(line))
        return lines

    def clock(self) -> float:
        """Return the time of the attempts, as of ``time.monotonic``."""
        return self.now

    def _step(self, crash: Crash, totals: Any) -> dict[str, Any] | Unfinished:
        environment = Environment(
            clock=self.clock,
            now=lambda: self.now,
            tick=0.002,
            part_rows=7,
            open_output=QuietStore,
            open_index=lambda path: CrossingIndex(path, crash),
            **self.more_environment,
        )
        return BatchEnrichment(
            job(
                SimpleNamespace(base_url=URL),
                self._open(crash),
                table(ROWS),
                request=TaskRequest(fields={}, output_type=Label, stream=False, output_retries=1),
                writer=Writer(owner="task run=1", try_number=self.tries, idempotency_key="1"),
                limits=Limits(max_batch_requests=BATCH),
                **self.more_job,
            ),
            BatchOptions(mode="batch", batch_threshold=0),
            environment,
            totals=totals,
            make_client=self.service.client,
            sleep=self._sleep,
        ).step()

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _cross(self, boundary: str, effect: Callable[[], httpx.Response]) -> httpx.Response:
        crash = self._crash
        how = crash.enter(boundary, HTTP)
        if how == "before":
            crash._end()
        response = effect()
        if how == "after":
            crash._end()
        if how == LOST:
            raise httpx.ReadError("the connection broke")
        return response

    def _end_batches(self) -> None:
        self.now += SECONDS
        for batch in self.service.batches.values():
            if not batch.is_ended:
                self._end(batch)

    def _end(self, batch: ServedBatch) -> None:
        is_first = self.service.paid[INVALID] == 0
        results = [succeed(it, "no JSON" if prompt_of(it) == INVALID and is_first else None) for it in batch.requests]
        is_short = "Mood of hello 20" in batch.texts and len(batch.requests) == BATCH
        self.service.end(
            batch, "expired" if is_short else "completed", iter(results[: BATCH // 2] if is_short else results)
        )


def stop_at_boundaries(make: Callable[[], Table], *, each: int = 1) -> int:
    """
    End an attempt at boundaries, each time with a table of its own; return the number of boundaries.

    :param each: 1 for all of them, 3 for every third.
    """
    whole = make()
    points = whole.run().points[::each]
    whole.check(None)
    for point in points:
        table = make()
        crash = table.run(point)
        assert crash.is_reached, f"there was no {point}"
        if hasattr(table, "manifest"):  # a lost response of a read is repeated
            table.check(point)
        else:
            table.finish(point)
    return len(points)


class StepTable(Table):
    """The same, with a larger model for the invalid output, and a judge of some rows; both are sent live."""

    def __init__(self, open_storage: Callable[[Crash], Storage], plain: Storage) -> None:
        super().__init__(open_storage, plain)
        self.models = Models(
            {
                LARGE: lambda row: {"text": json.dumps({"mood": f"Mood of hello {row}"})},
                JUDGE: lambda _: {"text": '{"reason": "", "score": 4}'},
            }
        )
        judge = Judge(model=JUDGE, rubric="From 1 to 5.", sample=0.2, min_score=3)
        self.more_job = {"escalate": (Escalation(model=LARGE),), "judge": judge}
        self.more_environment = {"client": self.models.client}
        self._interrupted = 0

    def clock(self) -> float:
        return hurried_clock()  # a write whose response is lost is repeated soon

    def run(self, at: Point | None = None) -> Crash:
        self._interrupted += at is not None
        return super().run(at)

    def check(self, point: Point | None) -> None:
        rows = [json.loads(line) for line in (self._plain.read_file("result.jsonl") or b"").splitlines()]
        assert [(row["_row"], row["_status"], row["mood"], row["_escalated"]) for row in rows] == [
            (number, "ok", f"Mood of hello {number}", number == 3) for number in range(ROWS)
        ], point
        assert self.service.paid == {f"Mood of hello {n}": 1 for n in range(ROWS)}, f"{point}: paid twice in batches"
        live = Counter(self.models.sends)
        judged = {row["_row"] for row in rows if row["_score"] is not None}
        assert set(live) == {(LARGE, 3), *((JUDGE, number) for number in judged)}
        lost = live.total() - len(live)
        assert lost <= self._interrupted * MOST_LOST, point
        steps = Counter((line["_row"], line.get("_tier", 0), "_judge" in line) for line in self.lines())
        assert set(steps.values()) == {1}, f"{point}: a response is written twice"
        assert len(steps) == ROWS + len(live), point
        bill = ROWS * PRICE + PRICES[LARGE] + len(judged) * PRICES[JUDGE]
        assert self.manifest["cost"] == pytest.approx(bill, abs=1e-9), point
        tiers, judge = self.manifest["tiers"], self.manifest["judge"]
        assert [(tier["requests"], tier["escalated"]) for tier in tiers] == [(ROWS, 1), (1, 0)], point
        assert (judge["scored"], judge["failed"]) == (len(judged), 0)


@pytest.mark.timeout(300)
def test_the_attempts_after_one_that_ends_at_a_boundary_with_a_larger_model_and_a_judge(record_property):
    def make() -> Table:
        files: dict[str, bytes] = {}
        return StepTable(lambda crash: CrossingShelf(files, crash), Shelf(files))

    record_property(
        "counted", f"Batches, a larger model and a judge, ended at {stop_at_boundaries(make, each=4)} points"
    )


@pytest.mark.timeout(300)
def test_the_attempts_after_one_that_ends_at_a_boundary_on_local_disk(tmp_path, record_property):
    def make() -> Table:
        path = Path(tempfile.mkdtemp(dir=tmp_path))
        return Table(lambda crash: CrossingDisk(path, crash), LocalStorage(path))

    record_property("counted", f"Batches, ended at {stop_at_boundaries(make, each=3)} boundaries on local disk")


@pytest.mark.timeout(300)
def test_the_attempts_after_one_that_ends_at_any_boundary_in_an_object_store(record_property):
    boundaries = stop_at_boundaries(lambda: _table_in({}))
    record_property("counted", f"Batches, ended at {boundaries} boundaries in an object store")


def test_attempts_that_end_one_after_the_other(record_property):
    draw = random.Random(14)  # noqa: S311  the same each time
    points, ended = _table_in({}).run().points, 0
    for _ in range(SEQUENCES):
        table = _table_in({})
        for point in draw.sample(points, 4):
            if not hasattr(table, "manifest"):
                ended += table.run(point).is_reached
        if not hasattr(table, "manifest"):
            table.run()
        table.check(None)
    record_property("counted", f"Batches, {ended} attempts ended one after the other, in {SEQUENCES} tables")


def _table_in(files: dict[str, bytes]) -> Table:
    return Table(lambda crash: CrossingShelf(files, crash), Shelf(files))
