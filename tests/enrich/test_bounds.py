"""The number of responses that can be lost is bounded, whether the store is slow or down or the attempt is ended."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_responses.client import AsyncResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich import part_writer
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.lease_keeper import LeaseKeeper
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.part_writer import MAX_UNAPPENDED
from airflow_provider_responses.enrich.storage import LocalStorage
from airflow_provider_responses.exceptions import (
    LeaseLostError,
    RequestCancelledError,
    StorageError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import Label, enrich, job, lines, manifest, parts, result, table, watching

CONCURRENCY = 8
UNCACHED = TaskRequest(fields={}, output_type=Label, stream=False, cache=False)


class Whole(OutputStore):
    """A store that has no appends."""

    can_append = False


def hurried_clock() -> float:
    """A clock on which a second is a millisecond."""
    return time.monotonic() * 1000


def rows_of(folder: Path) -> list[str]:
    return [row["id"] for part in parts(folder) for row in lines(part)]


@pytest.mark.parametrize("kind", [OutputStore, Whole])
def test_a_slow_store_stops_sending_but_not_lease_renewals_and_progress_lines(kind, responses_sandbox, tmp_path):
    """The first flush ends only after sending has stopped, the lease was renewed and progress was reported."""
    bound = MAX_UNAPPENDED if kind is OutputStore else 50
    blocked, go_on = threading.Event(), threading.Event()
    renewals = threading.Semaphore(0)
    paid_meanwhile: list[int] = []

    class Slow(kind):
        def _slowly(self) -> None:
            blocked.set()
            assert go_on.wait(50)

        def append(self, lines: list[str]) -> None:
            self._slowly()
            super().append(lines)

        def write_part(self, lines: list[str]) -> str:
            self._slowly()
            return super().write_part(lines)

        def try_renew(self) -> None:
            super().try_renew()
            if blocked.is_set():
                renewals.release()

    def report(figures: Any) -> None:
        if blocked.is_set() and not go_on.is_set() and figures["done"] >= bound and figures["in_flight"] == 0:
            assert renewals.acquire(timeout=50)
            paid_meanwhile.append(len(responses_sandbox.billed))
            go_on.set()

    environment = Environment(
        tick=0.005, progress_seconds=0.0, lease_seconds=0.02, part_rows=20, open_output=Slow, report=report
    )
    limits = Limits(concurrency=CONCURRENCY, max_unwritten=2000 if kind is OutputStore else bound)
    told = enrich(responses_sandbox, tmp_path, table(300), environment, limits=limits)
    assert told["counts"] == {"ok": 300}
    [paid] = paid_meanwhile
    assert bound <= paid <= bound + CONCURRENCY
    assert sorted(rows_of(tmp_path)) == sorted(row["id"] for row in table(300))


def test_a_response_that_waits_too_long_to_be_written_stops_sending(responses_sandbox, tmp_path):
    blocked, go_on = threading.Event(), threading.Event()
    paid: list[int] = []

    class Slow(Whole):
        def write_part(self, lines: list[str]) -> str:
            blocked.set()
            assert go_on.wait(50)
            return super().write_part(lines)

    def report(figures: Any) -> None:
        if blocked.is_set() and figures["in_flight"] == 0 and not go_on.is_set():
            paid.append(len(responses_sandbox.billed))
            go_on.set()

    environment = Environment(tick=0.005, progress_seconds=0.0, open_output=Slow, report=report)
    limits = Limits(concurrency=1, max_unwritten_seconds=0.05)
    told = enrich(responses_sandbox, tmp_path, table(1000), environment, limits=limits)
    assert told["counts"] == {"ok": 1000}
    assert paid[0] < 1000


@pytest.mark.parametrize("kind", [OutputStore, Whole])
@pytest.mark.parametrize("failures", [[1], [1, 2, 3, 7, 8], range(1, 12)])
def test_no_response_is_lost_or_written_twice_if_the_store_is_down_for_a_while(
    kind, failures, responses_sandbox, tmp_path, caplog
):
    calls = 0

    class Failing(kind):
        def _fail(self) -> None:
            nonlocal calls
            calls += 1
            if calls in failures:
                raise OSError(28, "No space left on device")

        def append(self, lines: list[str]) -> None:
            self._fail()
            super().append(lines)

        def write_part(self, lines: list[str]) -> str:
            self._fail()
            return super().write_part(lines)

    environment = Environment(tick=0.002, part_rows=20, open_output=Failing, clock=hurried_clock)
    with caplog.at_level(logging.INFO):
        limits = Limits(max_outage=1e6)  # on a clock that runs faster than a busy machine
        told = enrich(responses_sandbox, tmp_path, table(300), environment, request=UNCACHED, limits=limits)
    assert told["counts"] == {"ok": 300}
    assert len(responses_sandbox.billed) == 300
    assert sorted(rows_of(tmp_path)) == sorted(row["id"] for row in table(300))
    warnings = [record.message for record in caplog.records if "cannot be written" in record.message]
    assert 1 <= len(warnings) <= 2  # one for each outage, and not for each failed write
    assert "trying again for up to 1e+06 s (limits.max_outage). [Errno 28] No space left on device" in warnings[0]
    assert "can be written to" in caplog.text


def test_a_write_that_succeeds_and_reports_an_error_is_not_repeated_in_another_part(responses_sandbox, tmp_path):
    class Lying(LocalStorage):
        lied = False

        def write_file(self, name: str, data: bytes) -> None:
            super().write_file(name, data)
            if name.startswith("parts/") and not self.lied:
                self.lied = True
                raise StorageError("timed out")

    environment = Environment(tick=0.002, part_rows=20, open_output=Whole, clock=hurried_clock)
    told = enrich(responses_sandbox, Lying(tmp_path), table(100), environment, limits=Limits(max_outage=1e6))
    assert sorted(rows_of(tmp_path)) == sorted(row["id"] for row in table(100))
    again = enrich(responses_sandbox, tmp_path, table(100), writer=Writer(owner="task", try_number=2))
    assert again["cost"] == told["cost"]


class Down(Whole):
    """A store to which nothing can be written once an attempt has started."""

    def write_part(self, lines: list[str]) -> str:
        raise OSError("down")

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        raise OSError("down")

    def release(self) -> None:
        raise OSError("down")


def test_a_store_that_stays_down_ends_the_attempt_with_the_number_and_cost_of_lost_responses(
    responses_sandbox, tmp_path, caplog
):
    environment = Environment(tick=0.002, part_rows=20, open_output=Down, clock=hurried_clock)
    limits = Limits(concurrency=CONCURRENCY, max_unwritten=40, max_outage=60)
    with pytest.raises(StorageError) as caught, caplog.at_level(logging.WARNING):
        enrich(responses_sandbox, tmp_path, table(500), environment, limits=limits)
    paid = responses_sandbox.billed
    assert caught.value.retryable
    cost = f"${sum(entry.cost for entry in paid):.6f}"
    said = f"output_path {str(tmp_path)!r}: {len(paid)} responses ({cost}) could not be written"
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith("a retry sends the rest. down")
    assert 0 < len(paid) <= 40 + CONCURRENCY
    assert not (tmp_path / "manifest.json").exists()
    assert "the lease could not be released, and lapses by itself. down" in caplog.text

    told = enrich(responses_sandbox, tmp_path, table(500), writer=Writer(owner="task", try_number=2))
    assert told["counts"] == {"ok": 500}
    assert told["cache_hits"] == len(paid)


def test_a_task_that_is_killed_does_not_wait_for_a_store_that_is_down(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 5, {"hang": True, "times": 20})
    environment = Environment(
        open_output=Down, part_writer=watching(lambda kept: enrichment.cancel() if kept == 5 else None)
    )
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(20)), environment)
    with pytest.raises(StorageError, match=r"5 responses \(\$0.0000\d+\) could not be written"):
        enrichment.run()


class Hanging(Whole):
    """A store that gives no response to the writes of parts."""

    released = threading.Event()

    def write_part(self, lines: list[str]) -> str:
        self.released.wait()
        return super().write_part(lines)


@pytest.fixture
def hanging() -> Iterator[type[Hanging]]:
    Hanging.released.clear()
    yield Hanging
    Hanging.released.set()


def test_a_store_that_hangs_ends_the_attempt_with_the_number_and_cost_of_lost_responses(
    responses_sandbox, tmp_path, hanging, caplog
):
    environment = Environment(tick=0.002, part_rows=20, open_output=hanging, clock=hurried_clock)
    limits = Limits(concurrency=CONCURRENCY, max_unwritten=40, max_unwritten_seconds=30, max_outage=60)
    with pytest.raises(StorageError) as caught, caplog.at_level(logging.WARNING):
        enrich(responses_sandbox, tmp_path, table(500), environment, limits=limits)
    assert caught.value.retryable
    assert re.search(r": \d+ responses \(\$0\.\d+\) could not be written.* no response for \d+ s", str(caught.value))
    assert 0 < len(responses_sandbox.billed) <= 40 + CONCURRENCY
    assert "responses wait to be written: the store has given no response" in caplog.text


def test_a_task_that_is_killed_waits_a_few_seconds_for_a_store_that_hangs(responses_sandbox, tmp_path, hanging):
    environment = Environment(
        tick=0.002,
        part_rows=5,
        open_output=hanging,
        clock=hurried_clock,
        part_writer=watching(lambda kept: enrichment.cancel() if kept == 5 else None),
    )
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(200)), environment)
    with pytest.raises(StorageError, match=r"could not be written.* no response for \d+ s"):
        enrichment.run()


def test_an_interrupt_waits_a_few_seconds_for_a_store_that_hangs(responses_sandbox, tmp_path, hanging, monkeypatch):
    """Such as the task's timeout, which Airflow raises wherever the program is."""
    monkeypatch.setattr(part_writer, "HURRIED_SECONDS", 0.05)

    def interrupt(kept: int) -> None:
        def now() -> None:
            raise KeyboardInterrupt

        if kept == 70:
            asyncio.get_running_loop().call_soon(now)

    environment = Environment(tick=0.002, part_rows=20, part_writer=watching(interrupt), open_output=hanging)
    with pytest.raises(KeyboardInterrupt):
        enrich(responses_sandbox, tmp_path, table(300), environment)


@pytest.mark.parametrize(
    ("costs", "said"),
    [([None, None], "cost unknown"), ([None, 0.25], "at least $0.250000"), ([0.5, 0.25], "$0.750000")],
)
def test_the_cost_of_lost_responses_is_reported_as_far_as_known(costs, said, responses_sandbox, tmp_path):
    left = list(costs)

    def respond(_: httpx.Request) -> httpx.Response:
        content = [{"type": "output_text", "text": '{"mood": "good"}', "annotations": []}]
        output = [{"type": "message", "role": "assistant", "content": content}]
        return httpx.Response(200, json={"status": "completed", "output": output, "usage": {"cost": left.pop()}})

    def client(config: ClientConfig) -> AsyncResponsesClient:
        return AsyncResponsesClient(config, pool=AsyncPool(httpx.MockTransport(respond)))

    environment = Environment(tick=0.002, open_output=Down, client=client)
    with pytest.raises(StorageError, match=re.escape(f"2 responses ({said}) could not be written")):
        enrich(responses_sandbox, tmp_path, table(2), environment, limits=Limits(max_outage=0.0))


@pytest.mark.parametrize("kind", [OutputStore, Whole])
def test_an_interrupt_loses_no_response_and_writes_none_twice(kind, responses_sandbox, tmp_path):
    """As a signal does: the loop stops, and all of its tasks are cancelled."""

    def interrupt(kept: int) -> None:
        def now() -> None:
            raise KeyboardInterrupt

        if kept == 70:
            asyncio.get_running_loop().call_soon(now)

    environment = Environment(tick=0.002, part_rows=20, part_writer=watching(interrupt), open_output=kind)
    with pytest.raises(KeyboardInterrupt):
        enrich(responses_sandbox, tmp_path, table(300), environment, request=UNCACHED)
    found = rows_of(tmp_path)
    assert len(found) == len(set(found)) >= 70
    told = enrich(responses_sandbox, tmp_path, table(300), request=UNCACHED, writer=Writer(owner="task", try_number=2))
    assert told["requests_sent"] == 300 - len(found)
    assert len(result(tmp_path)) == 300


class TestLeaseKeeper:
    def keeper(self, renew: Callable[[], None], lost: Callable[[BaseException], None], **given: Any) -> LeaseKeeper:
        defaults: dict[str, Any] = {"clock": time.monotonic, "lease_seconds": 0.004, "max_outage": 0.0}
        return LeaseKeeper(renew, "out", on_lost=lost, **{**defaults, **given})

    def test_renews_the_lease_until_it_ends(self):
        renewals = threading.Semaphore(0)
        with self.keeper(renewals.release, pytest.fail):
            assert all(renewals.acquire(timeout=50) for _ in range(5))
        while renewals.acquire(blocking=False):
            pass
        assert not renewals.acquire(timeout=0.05)

    @pytest.mark.parametrize("error", [OSError("down"), ValueError("a library's own")])
    def test_a_renewal_is_repeated_if_the_store_is_down_for_a_while(self, error, caplog):
        calls, renewed = iter([error] * 3), threading.Event()

        def renew() -> None:
            if (failure := next(calls, None)) is not None:
                raise failure
            renewed.set()

        with self.keeper(renew, pytest.fail, max_outage=60), caplog.at_level(logging.WARNING):
            assert renewed.wait(50)
        assert [record.message for record in caplog.records] == [
            f"out: the lease cannot be renewed; trying again. {error}"
        ]

    def test_a_store_that_stays_down_ends_the_attempt(self):
        lost: list[BaseException] = []
        told = threading.Event()

        def renew() -> None:
            raise OSError("down")

        with self.keeper(renew, lambda error: (lost.append(error), told.set())[0], clock=hurried_clock) as keeper:
            assert told.wait(50)
            with pytest.raises(StorageError, match="the lease could not be renewed") as caught:
                keeper.check()
        assert caught.value.retryable
        assert lost == [caught.value]

    def test_a_lease_that_another_writer_took_is_lost_at_once(self):
        error, told = LeaseLostError("taken"), threading.Event()

        def renew() -> None:
            raise error

        with self.keeper(renew, lambda _: told.set()) as keeper:
            assert told.wait(50)
            with pytest.raises(LeaseLostError, match="taken"):
                keeper.check()


def test_a_lease_that_cannot_be_renewed_ends_the_attempt(responses_sandbox, tmp_path):
    is_down = threading.Event()

    class Unrenewable(OutputStore):
        def try_renew(self) -> None:
            if is_down.is_set():
                raise OSError("down")
            super().try_renew()

    responses_sandbox.latency = 0.02
    seen = watching(lambda kept: is_down.set() if kept == 3 else None)
    environment = Environment(lease_seconds=0.01, open_output=Unrenewable, part_writer=seen)
    limits = Limits(concurrency=1, max_outage=0.0)
    with pytest.raises(StorageError, match="the lease could not be renewed for 0 s"):
        enrich(responses_sandbox, tmp_path, table(3000), environment, limits=limits)
    told = enrich(responses_sandbox, tmp_path, table(10), writer=Writer(owner="task", try_number=2))
    assert told["counts"] == {"ok": 10}
    assert manifest(tmp_path)["requests_reused"] > 0


def test_a_cancelled_attempt_raises_the_cancellation_and_not_a_storage_error(responses_sandbox, tmp_path):
    environment = Environment(part_writer=watching(lambda kept: enrichment.cancel() if kept == 5 else None))
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(200)), environment)
    with pytest.raises(RequestCancelledError):
        enrichment.run()
    assert len(rows_of(tmp_path)) >= 5
