"""The rows that go live or into batches in each mode, and modes that change while batches run."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import (
    BatchError,
    NotFoundResponseError,
    RequestValidationError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.batch.steps import SECONDS
from tests.enrich.jobs import MODEL, table

OTHER_MODEL = "anthropic/claude-sonnet-4"
GOOGLE = "google/gemini-2.5-flash"
ONE_BATCH = Limits(max_batch_requests=1000)
LENIENT = Limits(max_batch_requests=1000, max_failures=0.9)
UNTYPED = TaskRequest(fields={}, stream=False)
DATA_URL = "data:image/png;base64,iVBORw0KGgo="


def image(url: str) -> list[dict[str, Any]]:
    content = [{"type": "input_text", "text": "Mood?"}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    return [{"role": "user", "content": content}]


# Rows and servers that batches cannot take


UNFIT = {
    "a data URL": {"input": image(DATA_URL)},
    "zero data retention": {"input": "mood", "provider": {"zdr": True}},
    "web search": {"input": "mood", "tools": [{"type": "web_search"}]},
    "a list of models": {"input": "mood", "models": [OTHER_MODEL]},
    "an online model": {"input": "mood", "model": f"{MODEL}:online"},
}


def fields_with(unfit: dict[str, Any]) -> Any:
    return lambda row: {"model": MODEL, **(unfit if row["id"] == "r1" else {"input": row["text"]})}


@pytest.mark.parametrize("name", UNFIT)
def test_auto_sends_rows_live_that_a_batch_cannot_take(name, attempts, caplog):
    caplog.set_level(logging.INFO)
    task = attempts(table(4), options={"mode": "auto"}, row_fields=fields_with(UNFIT[name]), request=UNTYPED)
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 4}
    assert (task.sizes, len(task.live)) == ([3], 1)
    assert "1 requests are sent live: " in caplog.text


@pytest.mark.parametrize("name", UNFIT)
def test_batch_marks_rows_as_invalid_that_a_batch_cannot_take(name, attempts):
    task = attempts(table(4), row_fields=fields_with(UNFIT[name]), request=UNTYPED, limits=LENIENT)
    assert task.finish()["counts"] == {"ok": 3, "invalid": 1}
    assert (task.sizes, task.live) == ([3], [])
    assert task.result[1]["_error"].endswith("mode='auto' sends such rows live")


def test_batch_submits_nothing_if_invalid_rows_fail_the_task(attempts):
    task = attempts(table(4), row_fields=fields_with(UNFIT["a data URL"]), request=UNTYPED)
    with pytest.raises(RequestValidationError, match="no request was sent"):
        task.step()
    assert task.sizes == []


def test_one_request_above_the_size_of_a_batch(attempts):
    rows = [{"id": "r0", "text": "x" * 200_000}, *table(3)[1:]]
    task = attempts(rows, limits=Limits(max_batch_bytes=65_536 + 100_000, max_failures=0.9))
    assert task.finish()["counts"] == {"ok": 2, "invalid": 1}
    assert "(limits.max_batch_bytes)" in task.result[0]["_error"]
    assert task.sizes == [2]


def test_auto_sends_a_request_live_that_is_above_the_size_of_a_batch(attempts):
    rows = [{"id": "r0", "text": "x" * 200_000}, *table(3)[1:]]
    task = attempts(rows, options={"mode": "auto"}, limits=Limits(max_batch_bytes=65_536 + 100_000))
    assert task.finish()["counts"] == {"ok": 3}
    assert (task.sizes, len(task.live)) == ([2], 1)


def test_auto_sends_fewer_rows_than_batch_threshold_live(attempts, caplog):
    caplog.set_level(logging.INFO)
    task = attempts(table(4), options={"mode": "auto", "batch_threshold": 5})
    assert task.step()["counts"] == {"ok": 4}
    assert (task.sizes, len(task.live)) == ([], 4)
    assert "Sending live: 4 requests are fewer than batch_threshold (5)" in caplog.text


def test_auto_submits_as_many_rows_as_batch_threshold(attempts):
    task = attempts(table(5), options={"mode": "auto", "batch_threshold": 5})
    assert task.finish()["counts"] == {"ok": 5}
    assert (task.sizes, task.live) == ([5], [])


@pytest.mark.parametrize(("hours", "live"), [(23, 4), (25, 0)])
def test_auto_sends_live_where_finish_within_leaves_no_time(hours, live, attempts):
    task = attempts(table(4), options={"mode": "auto", "finish_within": hours * 3600.0})
    assert task.finish()["counts"] == {"ok": 4}
    assert (len(task.live), sum(task.sizes)) == (live, 4 - live)


def test_reading_the_source_takes_no_time_from_finish_within(attempts):
    task = attempts(table(4), options={"mode": "auto", "finish_within": 24 * 3600.0})
    read = task.environment["now"]
    task.environment["now"] = lambda: read() + next(seconds)  # each look at the clock is later
    seconds = itertools.count()
    task.step()
    assert (task.sizes, task.live) == ([4], [])


def test_auto_sends_the_rest_live_once_finish_within_is_over(attempts):
    task = attempts(table(4), options={"mode": "auto", "finish_within": 24 * 3600.0})
    task.sandbox.script_batches({"ending": "expired", "ending_share": 0.5})
    task.step()
    task.clock.sleep(25 * 3600.0)
    assert task.step()["counts"] == {"ok": 4}
    assert (task.sizes, len(task.live)) == ([4], 2)


def test_auto_sends_rows_again_live_once_there_is_no_time_for_another_batch(attempts):
    task = attempts(table(4), options={"mode": "auto", "finish_within": 24 * 3600.0 + 100})
    task.sandbox.script_batches({"responses": [{"status": 429}]})
    assert task.finish()["counts"] == {"ok": 4}
    assert (task.sizes, task.live) == ([4], ["Mood of hello 0"])


@pytest.mark.parametrize("status", [404])
def test_auto_sends_live_where_the_model_has_no_batches(status, attempts, caplog):
    task = attempts(table(4), options={"mode": "auto"})
    task.sandbox.script_batches({"status": status, "message": "no batches of this model"})
    assert task.step()["counts"] == {"ok": 4}
    assert (task.sizes, len(task.live)) == ([], 4)
    assert "Sending live: there are no batches for these requests" in caplog.text
    assert task.journal == []


def test_auto_submits_the_rows_of_the_models_that_have_batches(attempts, caplog):
    task = attempts(table(6), options={"mode": "auto"}, limits=ONE_BATCH)
    models = [OTHER_MODEL, MODEL]
    task.given["row_fields"] = lambda row: {"model": models[int(row["id"][1:]) % 2], "input": row["text"]}
    task.sandbox.script_batches(
        {"status": 404, "message": "no batches of this model"}, {}, {"status": 404, "message": "no batches of it"}
    )
    assert task.finish()["counts"] == {"ok": 6}
    assert task.sizes == [3]
    assert {entry.body["model"] for entry in task.sandbox.ledger} == {OTHER_MODEL}


def test_batch_fails_where_the_model_has_no_batches(attempts):
    task = attempts(table(4))
    task.sandbox.script_batches({"status": 404, "message": "no batches of this model"})
    with pytest.raises(NotFoundResponseError, match="no batches of this model"):
        task.step()
    assert (task.sizes, task.live, task.journal) == ([], [], [])


# Modes that change while batches are outstanding


def test_a_live_run_waits_for_no_batch_and_pays_nothing_twice(attempts):
    task = attempts(table(25))
    task.step()
    task.options["mode"] = "live"
    task.clear()
    with pytest.raises(BatchError, match="has rows in batches that have not ended") as raised:
        task.step()
    assert set(raised.value.batch_ids) == {batch.id for batch in task.sandbox.batches}
    assert task.live == []
    task.wait()
    assert task.step()["counts"] == {"ok": 25}
    assert (task.live, task.sizes) == ([], [20, 5])


def test_a_live_run_is_continued_in_batch_mode_and_back(attempts):
    task = attempts(table(5), options={"mode": "live"})
    task.step()
    task.rows = table(12)
    task.options["mode"] = "batch"
    task.clear()
    assert task.finish()["requests_reused"] == 5
    assert (len(task.live), task.sizes) == (5, [7])
    task.rows = table(14)
    task.options["mode"] = "live"
    task.clear()
    manifest = task.step()
    assert (manifest["counts"], manifest["requests_reused"]) == ({"ok": 14}, 12)
    assert len(task.live) == 7
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert "batches" not in manifest


def test_resume_false_leaves_outstanding_batches_with_a_warning(attempts, caplog):
    task = attempts(table(5))
    task.step()
    task.given["resume"] = False
    task.clear()
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5, 5]
    assert "1 batches from before resume=False run on and are billed, unused" in caplog.text
    assert task.journal == []
    caplog.clear()
    task.clear()
    task.finish()
    assert "run on and are billed, unused" not in caplog.text


def test_the_reason_of_an_overdue_batch_and_a_clear_waits_again(attempts):
    task = attempts(table(5))
    task.sandbox.batch_settings = {"hold": "in_progress"}
    waiting = task.step()
    assert waiting.deadline == task.clock.now + 100 * 3600
    task.clock.now = waiting.deadline + 1
    with pytest.raises(BatchError, match="the time that a batch may take is over and 1 batches have not ended"):
        task.step()
    task.clear()
    assert isinstance(task.step(), Unfinished)
    task.sandbox.batch_settings = {"hold": None}
    assert task.finish()["counts"] == {"ok": 5}
    assert task.sizes == [5]


def test_finish_within_ends_the_wait(attempts):
    task = attempts(table(5), options={"finish_within": 500.0})
    waiting = task.step()
    assert waiting.deadline == pytest.approx(task.clock.now + 500, abs=5)
    task.clock.sleep(600)
    with pytest.raises(BatchError, match="finish_within is over and 1 batches have not ended"):
        task.step()


def test_the_timeout_of_a_task_does_not_count_the_wait_for_its_batches(attempts):
    task = attempts(table(3), options={"batch_threshold": 500}, timeout=SECONDS / 2)
    task.environment["clock"] = task.clock
    task.sandbox.script_batches({"responses": [{"status": 429}]})
    assert task.finish()["counts"] == {"ok": 3}  # one row of it live, after a wait that is longer than the timeout
    assert len(task.live) == 1


def test_nothing_is_submitted_once_finish_within_is_over(attempts):
    task = attempts(table(4), options={"finish_within": SECONDS / 2})
    task.sandbox.script_batches({"ending": "expired", "ending_share": 0.5})
    task.step()
    task.wait()
    with pytest.raises(BatchError, match="finish_within is over and 2 requests are left; none of them is submitted"):
        task.step()
    assert task.sizes == [4]
    task.clear()
    task.options = {"mode": "batch", "batch_threshold": 0}
    assert task.finish()["counts"] == {"ok": 4}
    assert task.sizes == [4, 2]


# No rows


def test_an_empty_source_submits_nothing(attempts):
    task = attempts([])
    assert task.step()["rows"] == 0
    assert task.sizes == []


def test_a_second_run_submits_only_new_rows(attempts):
    task = attempts(table(5))
    task.finish()
    task.rows = table(8)
    task.clear()
    manifest = task.finish()
    assert task.sizes == [5, 3]
    assert (manifest["requests_reused"], manifest["requests_sent"]) == (5, 3)
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
