"""Results, batches, clocks, files and sources that are not as they should be: each has a clear outcome."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import (
    APIError,
    BatchError,
    ConfigurationError,
    NotFoundResponseError,
    OutputLockedError,
    PaymentRequiredResponseError,
    RequestCancelledError,
    StorageError,
    TooManyFailuresError,
)
from airflow_provider_responses.models.batch import BatchResult
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import Label, connect, table

from .steps import Interrupted, interrupting, raising

LENIENT = Limits(max_batch_requests=1000, max_failures=0.9)
DAY = 86_400.0


def typed(**given: Any) -> TaskRequest:
    return TaskRequest(fields={}, output_type=Label, stream=False, **given)


# Results


def test_requests_without_a_result_are_sent_again_within_a_limit_and_then_fail(attempts, caplog):
    task = attempts(table(6), limits=LENIENT)
    task.sandbox.script_batches({"missing": 2}, {"missing": 1}, {"missing": 1}, {"missing": 1})
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 5, "failed": 1}
    assert task.sizes == [6, 2, 1]
    (failed,) = (row for row in task.result if row["_status"] == "failed")
    last = task.sandbox.batches[-1].id
    assert failed["_error"].startswith(f"BatchError: batch {last} has completed without a result of this request")
    assert "2 requests have no result in it; 2 are sent again, and 0 have failed" in caplog.text
    assert "1 requests have no result in it; 0 are sent again, and 1 have failed" in caplog.text


def test_a_retry_sends_requests_without_a_result_again(attempts):
    task = attempts(table(2))
    task.sandbox.script_batches({"missing": 1}, {"missing": 1}, {"missing": 1})
    with pytest.raises(TooManyFailuresError) as raised:
        task.finish()
    assert raised.value.retryable
    task.retry()
    assert task.finish()["counts"] == {"ok": 2}


def test_repeated_and_unknown_results_are_ignored_with_a_warning(attempts, caplog):
    task = attempts(table(6))
    task.sandbox.script_batches({"repeated": 2, "unknown": 5})
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 6}
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert len(task.lines) == 6
    batch = task.sandbox.batches[0].id
    assert f"Batch {batch}: 2 custom ids (" in caplog.text
    assert "have more than one result in it: the first is used" in caplog.text
    assert (
        f"Batch {batch}: 5 custom ids ('unknown-0', 'unknown-1', 'unknown-2', …) do not belong to it: their results "
        "are ignored" in caplog.text
    )


# Batches that are gone, or cannot be read


@pytest.mark.parametrize("kind", ["expired results", "another key"])
def test_a_batch_that_is_gone_fails_the_attempt_once_the_others_have_landed(kind, attempts):
    task = attempts(table(30))
    task.step()
    task.wait()
    first, second = task.sandbox.batches
    if kind == "expired results":
        task.sandbox.expire_batch_results(first.id)
    else:
        task.sandbox.script_batches({"call": "get", "status": 404})
    with pytest.raises(BatchError, match=f"batch {first.id} is gone, with the responses of 20 rows") as raised:
        task.step()
    assert raised.value.batch_ids == (first.id,)
    assert not raised.value.retryable
    assert "Set on_orphaned_intent='resubmit' to submit these rows again, which is paid again" in str(raised.value)
    assert len(task.lines) == 10, f"{second.id} has not landed"


def test_results_that_were_read_stay_where_the_rest_of_their_batch_is_gone(attempts):
    task = attempts(table(6), options={"on_orphaned_intent": "resubmit"})
    task.environment["part_rows"] = 1000  # all would be written at the end
    task.step()
    task.wait()

    class HalfGone(ResponsesClient):
        def iter_batch_results(self, batch: Any, *, options: Any = None) -> Iterator[BatchResult]:
            if len(task.sandbox.batches) > 1:
                yield from super().iter_batch_results(batch, options=options)
                return
            yield from itertools.islice(super().iter_batch_results(batch, options=options), 4)
            raise NotFoundResponseError("the file of errors is gone", status_code=404)

    task.make_client = HalfGone
    assert task.finish()["counts"] == {"ok": 6}
    assert task.sizes == [6, 2]
    assert len(task.lines) == 6


def test_the_rows_of_a_batch_that_is_gone_are_submitted_again_on_request(attempts, caplog):
    task = attempts(table(30), options={"on_orphaned_intent": "resubmit"})
    task.step()
    task.wait()
    task.sandbox.expire_batch_results(task.sandbox.batches[0].id)
    manifest = task.finish()
    assert (manifest["counts"], task.sizes) == ({"ok": 30}, [20, 10, 20])
    assert "Its rows are submitted again (on_orphaned_intent)" in caplog.text
    assert task.journal == []


def test_a_batch_whose_account_owes_its_price_lands_after_credits_were_added(attempts):
    task = attempts(table(30), options={"on_orphaned_intent": "resubmit"})
    task.step()
    task.wait()
    task.sandbox.script_batches({"call": "get", "status": 402})
    with pytest.raises(PaymentRequiredResponseError, match="The account owes the price of the batch: add credits"):
        task.step()
    assert len(task.lines) == 10
    task.clear()
    assert task.finish()["counts"] == {"ok": 30}
    assert task.sizes == [20, 10]


def test_an_error_of_the_server_stops_the_step_and_a_retry_continues(attempts):
    task = attempts(table(30), config=connect("", "sandbox-key"))
    task.given["config"] = _without_retries(task.sandbox.base_url)
    task.step()
    task.wait()
    task.sandbox.script_batches({"call": "get", "status": 500})
    with pytest.raises(APIError, match="500") as raised:
        task.step()
    assert raised.value.retryable
    task.retry()
    assert task.finish()["counts"] == {"ok": 30}
    assert task.sizes == [20, 10]


def test_a_refused_submit_leaves_no_record_and_those_before_it_land(attempts):
    task = attempts(table(30))
    task.sandbox.script_batches({}, {"status": 402})
    with pytest.raises(PaymentRequiredResponseError):
        task.step()
    assert (task.sizes, len(task.journal)) == ([20], 2)
    assert task.enrichment.running_batches() == [task.sandbox.batches[0].id]
    task.clear()
    assert task.finish()["counts"] == {"ok": 30}
    assert task.sizes == [20, 10]


# Files


def test_damaged_records_fail_before_anything_is_sent(attempts):
    contents = [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"nonce": 1}',
        b'{"later": true}',
    ]
    task = attempts(table(5))
    task.step()
    for kind in ("intent", "id"):
        (path,) = (Path(task.folder) / "parts").glob(f"*.{kind}.json")
        saved = path.read_bytes()
        wrong_types = [
            saved.replace(b'"model": "openai/gpt-4o-mini"', b'"model": 5'),
            saved.replace(b'"id": "', b'"id": 3, "x": "'),
        ]
        mixed = [saved.replace(b'"fingerprints": ["', b'"fingerprints": ["no hex", "')]
        for data in [*contents, *(it for it in wrong_types + mixed if it != saved)]:
            path.write_bytes(data)
            with pytest.raises(StorageError, match="is damaged or was written by another version") as raised:
                task.step()
            assert not raised.value.retryable
            assert path.name in str(raised.value)
        path.write_bytes(saved)
    assert task.sizes == [5]
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5]


def test_a_damaged_record_of_a_landing_fails_the_step(attempts):
    task = attempts(table(30))
    task.sandbox.script_batches({"seconds": 1.0})
    task.step()
    task.clock.sleep(2)
    task.step()
    (path,) = (Path(task.folder) / "parts").glob("*.landed.json")
    saved = path.read_bytes()
    for data in (b"{}", saved.replace(b'"put_back": []', b'"put_back": [1]'), saved[:-1] + b', "later": 1}'):
        path.write_bytes(data)
        with pytest.raises(StorageError, match="is damaged or was written by another version"):
            task.step()
    path.write_bytes(saved)
    assert task.finish()["counts"] == {"ok": 30}


def test_other_files_beside_the_parts_do_not_matter(attempts):
    task = attempts(table(5))
    task.step()
    folder = Path(task.folder) / "parts"
    (folder / "batch-g0001-notes.txt").write_text("mine")
    (folder / "batch-g0001-00000000-000000000000.later.json").write_text("{}")
    (folder / "batch-g0001-00000000-000000000000.id.json").write_text('{"id": "left over"}')
    assert task.finish()["counts"] == {"ok": 5}
    assert [name for name in task.journal if name.endswith(".id.json")] == []


def test_records_that_could_not_be_deleted_do_no_harm(attempts, monkeypatch):
    from airflow_provider_responses.enrich.storage import LocalStorage

    task = attempts(table(30))
    task.step()
    task.wait()
    delete, deleted = LocalStorage.delete_file, []

    def delete_one(self: Any, name: str) -> None:
        if "batch-" in name and len(deleted) == 3:
            raise StorageError("no space", path=name)
        deleted.append(name) if "batch-" in name else None
        delete(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete_file", delete_one)
        with pytest.raises(StorageError, match="no space"):
            task.step()
    assert task.journal
    task.retry()
    manifest = task.step()
    assert (manifest["counts"], task.sizes, task.journal) == ({"ok": 30}, [20, 10], [])


# Sources that change, and several tasks


def test_a_source_that_changes_between_two_steps(attempts):
    rows = table(12)
    task = attempts(rows[:8])
    task.step()
    task.wait()
    task.rows = rows[4:]  # r0 to r3 are gone, and r8 to r11 are new
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 8}
    assert task.sizes == [8, 4]
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert [row["id"] for row in task.result] == [row["id"] for row in rows[4:]]
    task.rows = rows
    task.clear()
    manifest = task.finish()
    assert (manifest["counts"], manifest["requests_sent"], task.sizes) == ({"ok": 12}, 0, [8, 4])
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_responses_of_rows_that_are_gone_are_written_once(attempts, monkeypatch):
    task = attempts(table(8))
    task.step()
    task.wait()
    task.rows = table(4)
    with monkeypatch.context() as patched:
        patched.setattr(
            "airflow_provider_responses.batch.journal.BatchJournal.set_landed", raising(StorageError("down", path="x"))
        )
        with pytest.raises(StorageError, match="down"):
            task.step()
    assert len(task.lines) == 8
    task.retry()
    manifest = task.finish()
    assert len(task.lines) == 8
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_rows_that_are_gone_are_not_sent_again(attempts):
    task = attempts(table(8), request=typed(output_retries=1), limits=LENIENT)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}, {"status": 429}, {"status": 400}], "missing": 2})
    task.step()
    task.wait()
    task.rows = table(8)[7:]
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 1}
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_a_source_that_is_empty_in_the_next_step(attempts):
    task = attempts(table(4))
    task.step()
    task.wait()
    task.rows = []
    assert task.step()["rows"] == 0
    assert task.sizes == [4]


def test_two_tasks_that_share_an_output_wait_for_the_same_batches(attempts):
    task = attempts(table(30))
    task.step()
    other = attempts(table(30))
    other.task, other.key = "dag.task run=2", "2"
    assert isinstance(other.step(), Unfinished)
    task.wait()
    assert other.step()["counts"] == {"ok": 30}
    assert task.step()["counts"] == {"ok": 30}
    assert task.sizes == [20, 10]


def test_two_runs_that_share_an_output_with_resume_false_do_not_submit_again_and_again(attempts):
    task, other = attempts(table(5), resume=False), attempts(table(5), resume=False)
    other.task, other.key = "dag.task run=2", "2"
    task.step()
    other.step()
    with pytest.raises(ConfigurationError, match=r"was taken over by dag\.task run=2 with resume=False") as raised:
        task.step()
    assert not raised.value.retryable
    assert other.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5, 5]


def test_a_run_that_resumes_uses_batches_of_a_generation_without_responses(attempts):
    task = attempts(table(5))
    task.finish()
    task.given["resume"] = False
    task.clear()
    task.step()
    other = attempts(table(5))
    other.task, other.key = "dag.task run=2", "2"
    assert other.finish()["counts"] == {"ok": 5}
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5, 5]


def test_responses_of_a_step_that_was_killed_count_in_its_repetition(attempts, monkeypatch):
    task = attempts(table(5))
    task.step()
    task.wait()
    with monkeypatch.context() as patched:
        patched.setattr("airflow_provider_responses.batch.journal.BatchJournal.set_landed", raising(Interrupted()))
        with pytest.raises(Interrupted):
            task.step()
    manifest = task.step()  # with the totals that the trigger has carried
    assert manifest["counts"] == {"ok": 5}
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert len(task.lines) == 5


def test_another_task_cannot_take_an_output_over_whose_task_is_running(attempts):
    task = attempts(table(30))
    locked: list[Exception] = []

    def rows() -> Iterator[Any]:
        other = attempts(table(30))
        other.task = "dag.other"
        with pytest.raises(OutputLockedError) as raised:
            other.step()
        locked.append(raised.value)
        yield from [table(30)]

    task.given["read_chunks"] = rows
    assert isinstance(task.step(), Unfinished)
    assert len(locked) == 1
    assert task.sizes == [20, 10]


# Ends of the task at any call


CALLS = ("create_batch", "get_batch", "list_batches", "iter_batch_results")


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["signal", "cancel"])
def test_a_task_that_is_ended_at_any_call_continues(kind, name, nth, is_after, attempts):
    task = attempts(table(30))

    def interrupt() -> None:
        if kind == "cancel":
            task.enrichment.cancel()
        else:
            raise Interrupted

    task.make_client = interrupting(name, nth, interrupt, is_after=is_after)
    if name == "list_batches":
        task.sandbox.script_batches({"drop": "after"})
    with pytest.raises((Interrupted, RequestCancelledError)):
        task.finish()
    task.make_client = None
    task.wait()
    task.retry()
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 30}
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert task.sizes == [20, 10]


def test_a_cancel_before_the_first_call_submits_nothing(attempts):
    task = attempts(table(5))

    def rows() -> Iterator[Any]:
        task.enrichment.cancel()
        yield table(5)

    task.given["read_chunks"] = rows
    with pytest.raises(RequestCancelledError):
        task.step()
    assert task.sizes == []


def _without_retries(base_url: str) -> Any:
    from dataclasses import replace

    return replace(connect(base_url), max_retries=0)
