"""Uploads that hang are given up after a while, with an error that names the file and the effect of a retry."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.enrich import shard_merge
from airflow_provider_responses.enrich.bounded_calls import HURRIED_SECONDS, AbandonedError, UploadWatch
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.shard_merge import merge_shards
from airflow_provider_responses.enrich.storage import LocalStorage
from airflow_provider_responses.exceptions import BudgetExceededError, LeaseLostError, StorageError
from tests.enrich.jobs import enrich, job, manifest, result, table

PATIENCE = 60.0  # seconds of the tests' clock, on which one is a millisecond


def hurried_clock() -> float:
    return time.monotonic() * 1000


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Uploads hang until it is set."""
    event = threading.Event()
    yield event
    event.set()


def hanging_storage(released: threading.Event, *names: str) -> type[LocalStorage]:
    """Return a storage in which files of these names are never written."""

    class Hanging(LocalStorage):
        def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
            if name in names:
                released.wait()
            super().put_file(local, name, step)

        def write_file(self, name: str, data: bytes) -> None:
            if name in names:
                released.wait()
            super().write_file(name, data)

    return Hanging


def environment(**given: Any) -> Environment:
    return Environment(tick=0.002, clock=hurried_clock, **given)


LIMITS = Limits(max_outage=PATIENCE, max_unwritten_seconds=PATIENCE)


def test_a_result_whose_upload_hangs_ends_the_attempt_and_a_retry_resumes(responses_sandbox, tmp_path, released):
    enrich(responses_sandbox, tmp_path, table(3))
    before = result(tmp_path)
    storage = hanging_storage(released, "result.jsonl")(tmp_path)
    with pytest.raises(StorageError) as caught:
        enrich(responses_sandbox, storage, table(5), environment(), limits=LIMITS)
    error = caught.value
    assert error.retryable
    assert error.path == f"{tmp_path}/result.jsonl"
    assert str(error).startswith(f"{tmp_path}/result.jsonl: the store gave no response for ")
    assert str(error).endswith(
        f" s during the upload. All responses are safe in {tmp_path}/parts; a retry uploads the result and sends no "
        "request again"
    )
    assert result(tmp_path) == before
    assert manifest(tmp_path)["complete"] is False
    sent = len(responses_sandbox.ledger)
    told = enrich(responses_sandbox, tmp_path, table(5), writer=Writer(owner="task", try_number=2))
    assert (told["counts"], told["complete"], len(result(tmp_path))) == ({"ok": 5}, True, 5)
    assert len(responses_sandbox.ledger) == sent


def test_an_upload_that_was_given_up_does_not_replace_the_result_later(responses_sandbox, tmp_path, released):
    ended = threading.Event()

    class Late(hanging_storage(released, "result.jsonl")):
        def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
            try:
                super().put_file(local, name, step)
            finally:
                ended.set()

    enrich(responses_sandbox, tmp_path, table(3))
    with pytest.raises(StorageError, match="during the upload"):
        enrich(responses_sandbox, Late(tmp_path), table(5), environment(), limits=LIMITS)
    released.set()
    assert ended.wait(50)
    assert len(result(tmp_path)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lease", "manifest.json", "parts", "result.jsonl"]


def test_a_manifest_whose_upload_hangs_ends_the_attempt_and_a_retry_resumes(responses_sandbox, tmp_path, released):
    storage = hanging_storage(released, "manifest.json")(tmp_path)
    with pytest.raises(StorageError) as caught:
        enrich(responses_sandbox, storage, table(3), environment(), limits=LIMITS)
    error = caught.value
    assert (error.retryable, error.path) == (True, f"{tmp_path}/manifest.json")
    assert str(error).startswith(f"{tmp_path}/manifest.json: the store gave no response for ")
    assert str(error).endswith(
        f"The result and all responses are safe in {tmp_path}; a retry writes both and sends no request again"
    )
    assert len(result(tmp_path)) == 3
    told = enrich(responses_sandbox, tmp_path, table(3), writer=Writer(owner="task", try_number=2))
    assert (told["requests_sent"], manifest(tmp_path)["complete"]) == (0, True)


def test_after_a_hanging_result_the_manifest_is_not_waited_for_as_long(responses_sandbox, tmp_path, released, caplog):
    storage = hanging_storage(released, "result.jsonl", "manifest.json")(tmp_path)
    limits = Limits(max_outage=1000.0)
    began = hurried_clock()
    with pytest.raises(StorageError, match=r"result\.jsonl: the store gave no response"), caplog.at_level("WARNING"):
        enrich(responses_sandbox, storage, table(3), environment(), limits=limits)
    assert hurried_clock() - began < 1900
    assert "The manifest could not be written: " in caplog.text


def test_the_first_error_is_raised_if_the_store_hangs_afterwards(responses_sandbox, tmp_path, released):
    storage = hanging_storage(released, "result.jsonl", "manifest.json")(tmp_path)
    limits = Limits(max_outage=PATIENCE, max_unwritten_seconds=PATIENCE, max_cost=1e-9, concurrency=1)
    with pytest.raises(BudgetExceededError):
        enrich(responses_sandbox, storage, table(3), environment(), limits=limits)


def test_a_task_that_is_killed_during_an_upload_waits_a_few_seconds(responses_sandbox, tmp_path, released):
    class Cancelling(hanging_storage(released, "result.jsonl")):
        def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
            enrichment.cancel()
            super().put_file(local, name, step)

    limits = Limits(max_outage=1e9)
    enrichment = Enrichment(job(responses_sandbox, Cancelling(tmp_path), table(3), limits=limits), environment())
    with pytest.raises(StorageError, match=r"result\.jsonl: the store gave no response for \d\d+ s during the upload"):
        enrichment.run()


def test_an_upload_is_not_waited_for_after_the_lease_is_lost(responses_sandbox, tmp_path, released):
    newer = OutputStore(tmp_path, Writer(owner="task", try_number=2), time.time)

    class Taken(hanging_storage(released, "result.jsonl")):
        def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
            newer.acquire(resume=True)
            super().put_file(local, name, step)

    with pytest.raises(LeaseLostError):
        enrich(responses_sandbox, Taken(tmp_path), table(3), Environment(tick=0.002, lease_seconds=0.02))


def test_a_merge_whose_upload_hangs_names_the_file(responses_sandbox, tmp_path, released, monkeypatch):
    for shard in range(2):
        enrich(responses_sandbox, tmp_path / f"shard-{shard}", table(4), shard=(shard, 2))
    hurried = {"clock": hurried_clock, "tick": 0.002, "patience": PATIENCE}
    monkeypatch.setattr(shard_merge, "UploadWatch", lambda **given: UploadWatch(**given | hurried))
    for name, is_safe in {
        "result.jsonl": "The shards are safe; a retry merges them again",
        "manifest.json": "The merged result is safe; a retry merges the shards again",
    }.items():
        with pytest.raises(StorageError, match=f"{name}: the store gave no response for .* {is_safe}$") as caught:
            merge_shards(hanging_storage(released, name)(tmp_path))
        assert caught.value.retryable
    assert merge_shards(tmp_path)["counts"] == {"ok": 4}


class TestUploadWatch:
    def watch(self, **given: Any) -> UploadWatch:
        return UploadWatch(**{"clock": hurried_clock, "tick": 0.002, "patience": PATIENCE, **given})

    def test_returns_the_result_of_an_upload(self):
        assert self.watch().run(lambda _: "done", "s3://a/b", "") == "done"

    def test_raises_the_error_of_an_upload(self):
        def fail(_: Any) -> None:
            raise TimeoutError("the library's own")

        with pytest.raises(TimeoutError, match="the library's own"):
            self.watch().run(fail, "s3://a/b", "")

    def test_an_upload_that_makes_progress_may_take_as_long_as_it_needs(self):
        def slow(step: Callable[[], None]) -> str:
            ends_at = hurried_clock() + 5 * PATIENCE
            while hurried_clock() < ends_at:
                time.sleep(0.001)
                step()
            return "done"

        # A step may be late on a busy machine.
        assert self.watch(patience=4 * PATIENCE).run(slow, "s3://a/b", "") == "done"

    def test_an_upload_ends_at_its_first_step_after_it_was_given_up(self, released):
        ended: list[BaseException] = []
        is_over = threading.Event()

        def late(step: Callable[[], None]) -> None:
            released.wait()
            try:
                step()
            except AbandonedError as error:
                ended.append(error)
            is_over.set()

        with pytest.raises(StorageError, match=r"^s3://a/b: the store gave no response for \d+ s .*\. All is safe$"):
            self.watch().run(late, "s3://a/b", "All is safe")
        released.set()
        assert is_over.wait(50)
        assert len(ended) == 1

    def test_silence_is_logged_before_it_ends_the_upload(self, released, caplog):
        with caplog.at_level(logging.WARNING), pytest.raises(StorageError):
            self.watch(patience=200.0).run(lambda _: released.wait(), "s3://a/b", "")
        [message] = [record.message for record in caplog.records]
        assert message.startswith("s3://a/b: the upload has made no progress for ")
        assert message.endswith(" s; waiting up to 200 s (limits.max_outage)")

    def test_after_a_hanging_upload_the_next_has_little_time(self, released):
        watch = self.watch(patience=500.0)
        with pytest.raises(StorageError):
            watch.run(lambda _: released.wait(), "s3://a/b", "")
        began = hurried_clock()
        with pytest.raises(StorageError):
            watch.run(lambda _: released.wait(), "s3://a/c", "")
        assert HURRIED_SECONDS <= hurried_clock() - began < 400
