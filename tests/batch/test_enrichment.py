"""An enrichment in batches against the sandbox: packing, landing, and what is sent again."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import (
    BatchError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import MODEL, Label, enrich, result, table

OTHER_MODEL = "anthropic/claude-sonnet-4"
GOOGLE = "google/gemini-2.5-flash"
ONE_BATCH = Limits(max_batch_requests=1000)
LENIENT = Limits(max_batch_requests=1000, max_failures=0.9)
UNTYPED = TaskRequest(fields={}, stream=False)
DATA_URL = "data:image/png;base64,iVBORw0KGgo="


def typed(**given: Any) -> TaskRequest:
    return TaskRequest(fields={}, output_type=Label, stream=False, **given)


def image(url: str) -> list[dict[str, Any]]:
    content = [{"type": "input_text", "text": "Mood?"}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    return [{"role": "user", "content": content}]


def statuses(attempts: Any) -> Counter[str]:
    return Counter(row["_status"] for row in attempts.result)


# Packing and landing


def test_rows_go_into_batches_in_order_and_their_responses_into_the_result_in_order(attempts):
    task = attempts(table(50))
    waiting = task.step()
    assert isinstance(waiting, Unfinished)
    assert list(waiting.batch_ids) == [batch.id for batch in task.sandbox.batches]
    assert [task.inputs(number) for number in range(3)] == [
        [f"Mood of hello {row}" for row in rows] for rows in (range(20), range(20, 40), range(40, 50))
    ]
    assert not (task.folder / "result.jsonl").exists()
    task.wait()
    manifest = task.step()
    assert [(row["_row"], row["id"], row["text"], row["_status"]) for row in task.result] == [
        (number, f"r{number}", f"hello {number}", "ok") for number in range(50)
    ]
    assert all(isinstance(row["mood"], str) and row["_sends"] == 1 for row in task.result)
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert manifest["cost"] == pytest.approx(sum(row["_cost"] for row in task.result), abs=1e-9)
    assert (manifest["complete"], manifest["requests_sent"], manifest["counts"]) == (True, 50, {"ok": 50})
    assert [(it["id"], it["status"], it["requests"]) for it in manifest["batches"]] == [
        (batch.id, "completed", len(batch.custom_ids)) for batch in task.sandbox.batches
    ]
    assert sum(it["cost"] for it in manifest["batches"]) == pytest.approx(manifest["cost"], abs=1e-9)
    assert task.journal == []
    assert task.live == []


def test_the_same_rows_live_and_in_batches_have_equal_results_and_half_the_cost(attempts, tmp_path):
    task = attempts(table(40))
    manifest = task.finish()
    live = enrich(task.sandbox, tmp_path / "live", table(40))
    volatile = ("_response_id", "_cost")
    for ours, theirs in zip(task.result, result(tmp_path / "live"), strict=True):
        assert {**ours, **dict.fromkeys(volatile)} == {**theirs, **dict.fromkeys(volatile)}
        assert ours["_cost"] == pytest.approx(theirs["_cost"] / 2, abs=1e-9)
    assert manifest["cost"] == pytest.approx(live["cost"] / 2, abs=1e-8)


def test_each_model_has_batches_of_its_own(attempts):
    def fields(row: dict[str, Any]) -> dict[str, Any]:
        return {"model": (MODEL, OTHER_MODEL)[int(row["id"][1:]) % 2], "input": row["text"]}

    task = attempts(table(10), row_fields=fields)
    assert task.finish()["counts"] == {"ok": 10}
    assert [(batch.model, len(batch.custom_ids)) for batch in task.sandbox.batches] == [(MODEL, 5), (OTHER_MODEL, 5)]
    assert [row["_model"] for row in task.result] == [MODEL, OTHER_MODEL] * 5


def test_a_batch_to_a_google_model_has_one_output_format(attempts):
    formats = [{"type": "json_object"}, {"type": "text"}]

    def fields(row: dict[str, Any]) -> dict[str, Any]:
        return {"model": GOOGLE, "input": row["text"], "text": {"format": formats[int(row["id"][1:]) % 2]}}

    task = attempts(table(6), row_fields=fields, request=UNTYPED)
    assert task.finish()["counts"] == {"ok": 6}
    assert task.sizes == [3, 3]


def test_batches_are_limited_by_their_bytes(attempts):
    rows = [{"id": str(number), "text": f"{number}" * 40_000} for number in range(10)]
    task = attempts(rows, limits=Limits(max_batch_bytes=65_536 + 150_000))
    assert task.finish()["counts"] == {"ok": 10}
    assert task.sizes == [3, 3, 3, 1]


def test_rows_with_the_same_request_share_one_of_a_batch(attempts):
    rows = [{"id": str(number), "text": f"hello {number % 3}"} for number in range(9)]
    task = attempts(rows)
    manifest = task.finish()
    assert task.sizes == [3]
    assert manifest["counts"] == {"ok": 9}
    assert [row["mood"] for row in task.result] == [task.result[number % 3]["mood"] for number in range(9)]
    assert sum(row["_cost"] for row in task.result) == pytest.approx(task.billed(), abs=1e-9)


def test_a_shard_submits_its_own_rows(attempts, tmp_path):
    shards = [attempts(table(30), shard=(number, 3), folder=tmp_path / str(number)) for number in range(3)]
    for number, task in enumerate(shards):
        assert task.finish()["complete"]
        assert task.inputs(number) == [f"Mood of {row['text']}" for row in task.result]
    assert sorted(row["_row"] for task in shards for row in task.result) == list(range(30))


def test_a_result_in_parquet(attempts):
    import pyarrow.parquet

    task = attempts(table(5), output_format="parquet")
    task.finish()
    found = pyarrow.parquet.read_table(task.folder / "result.parquet").to_pylist()
    assert [(row["id"], row["_status"]) for row in found] == [(f"r{number}", "ok") for number in range(5)]


def test_the_callback_url_is_sent_to_the_server(attempts):
    task = attempts(table(2), options={"callback_url": "https://example.com/hook"})
    task.finish()
    assert task.sandbox.batches[0].details["callback_url"] == "https://example.com/hook"


@pytest.mark.parametrize("delete", [True, False])
def test_a_batch_is_deleted_on_request_once_it_has_landed(delete, attempts):
    task = attempts(table(2), options={"delete_after": delete})
    task.finish()
    assert [batch.deleted for batch in task.sandbox.batches] == [delete]


def test_a_batch_that_cannot_be_deleted_is_logged(attempts, caplog):
    task = attempts(table(2), options={"delete_after": True})
    task.sandbox.script_batches({"call": "delete", "status": 403})
    assert task.finish()["counts"] == {"ok": 2}
    assert f"Batch {task.sandbox.batches[0].id} could not be deleted (delete_after): 403" in caplog.text


def test_each_result_row_is_landed_from_the_batches_that_have_ended(attempts):
    task = attempts(table(40))
    task.sandbox.script_batches({"seconds": 10.0})
    task.step()
    task.clock.sleep(20)
    waiting = task.step()
    assert isinstance(waiting, Unfinished)
    assert waiting.batch_ids == (task.sandbox.batches[1].id,)
    assert len(task.lines) == 20
    task.wait()
    assert task.step()["counts"] == {"ok": 40}
    assert len(task.lines) == 40


def test_a_final_status_that_the_poll_has_found_is_not_read_again(attempts):
    task = attempts(table(3))
    waiting = task.step()
    task.wait()
    task.statuses = dict.fromkeys(waiting.batch_ids, "completed")
    task.step()
    assert len(task.sandbox.batches[0].polls) <= 1  # of the results


# Errors and invalid outputs of requests


def test_the_error_of_a_request_in_a_completed_batch_is_that_of_its_row(attempts):
    task = attempts(table(4), limits=LENIENT)
    task.sandbox.script_batches({"responses": [{}, {"status": 400, "message": "no such thing"}]})
    assert task.finish()["counts"] == {"ok": 3, "failed": 1}
    assert task.sizes == [4]
    assert task.result[1]["_error"].startswith("BadRequestResponseError: 400 Bad Request: no such thing")
    assert task.result[1]["_cost"] == 0.0


@pytest.mark.parametrize(
    ("response", "status"),
    [({"refusal": "I cannot."}, "refused"), ({"incomplete": "max_output_tokens"}, "incomplete")],
)
def test_a_refused_or_truncated_response_is_its_rows_outcome_and_is_paid(response, status, attempts):
    task = attempts(table(4), limits=LENIENT)
    task.sandbox.script_batches({"responses": [response]})
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 3, status: 1}
    assert task.sizes == [4]
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_retryable_errors_go_into_the_next_batch_within_their_limit(attempts):
    task = attempts(table(4), limits=LENIENT)
    for _ in range(5):
        task.sandbox.script_batches({"responses": [{"status": 429}]})
    assert task.finish()["counts"] == {"ok": 3, "failed": 1}
    assert task.sizes == [4, 1, 1]
    assert task.result[0]["_error"].startswith("TooManyRequestsResponseError: 429")


def test_invalid_outputs_go_into_the_next_batch_and_their_cost_counts_once(attempts):
    task = attempts(table(4), request=typed(output_retries=2), limits=LENIENT)
    task.sandbox.script_batches(
        {"responses": [{"text": "no JSON"}, {"text": "no JSON"}]}, {"responses": [{"text": "no JSON"}]}
    )
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 4}
    assert task.sizes == [4, 2, 1]
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert sum(it["cost"] for it in manifest["batches"]) == pytest.approx(task.billed(), abs=1e-9)


def test_the_next_batch_has_the_reasons_of_invalid_outputs(attempts):
    task = attempts(table(3), request=typed(output_retries=2), limits=LENIENT)
    task.sandbox.script_batches(
        {"responses": [{"text": '{"mood": 1}'}, {"text": '{"mood": 2}'}]}, {"responses": [{"text": '{"mood": 3}'}]}
    )
    assert task.finish()["counts"] == {"ok": 3}
    second, third = task.inputs(1), task.inputs(2)
    assert [it[0]["content"] for it in second] == ["Mood of hello 0", "Mood of hello 1"]
    assert [it[1]["content"].count("got ") for it in second] == [1, 1]
    assert "valid string, got 1" in second[0][1]["content"]
    assert [it[:2] for it in third] == second[:1]
    assert "valid string, got 3" in third[0][2]["content"]
    keys = [task.sandbox.batch_requests(batch.id)[0]["body"]["metadata"]["airflow"] for batch in task.sandbox.batches]
    assert keys == [keys[0], f"{keys[0]}-1", f"{keys[0]}-2"]


def test_without_feedback_the_next_batch_has_the_same_requests(attempts):
    task = attempts(table(2), request=typed(output_retries=1, output_feedback=False), limits=LENIENT)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}]})
    assert task.finish()["counts"] == {"ok": 2}
    assert task.inputs(1) == task.inputs(0)[:1]


def test_a_truncated_output_adds_no_reason_in_a_batch(attempts):
    task = attempts(table(2), request=typed(output_retries=1), limits=LENIENT)
    task.sandbox.script_batches({"responses": [{"text": '{"mood": "go'}]})
    assert task.finish()["counts"] == {"ok": 2}
    assert task.inputs(1) == task.inputs(0)[:1]


def test_an_output_that_stays_invalid_is_its_rows_outcome_after_output_retries(attempts):
    task = attempts(table(2), request=typed(output_retries=1), limits=LENIENT)
    for _ in range(3):
        task.sandbox.script_batches({"responses": [{"text": "no JSON"}]})
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 1, "invalid_output": 1}
    assert task.sizes == [2, 1]
    assert task.result[0]["_output_text"] == "no JSON"
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


def test_failures_and_invalid_outputs_of_a_request_have_limits_of_their_own(attempts):
    task = attempts(table(1), request=typed(output_retries=1))
    task.sandbox.script_batches(
        {"ending": "expired", "ending_share": 0.0},
        {"responses": [{"status": 429}]},
        {"responses": [{"text": "no JSON"}]},
        {"responses": [{"status": 500}]},
    )
    assert task.finish()["counts"] == {"ok": 1}
    assert task.sizes == [1] * 5


def test_fewer_requests_than_batch_threshold_are_sent_again_live(attempts, caplog):
    caplog.set_level(logging.INFO)
    task = attempts(table(6), options={"batch_threshold": 3}, request=typed(output_retries=1), limits=LENIENT)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}, {"status": 429}]})
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 6}
    invalid, failed = task.live
    assert (task.sizes, failed) == ([6], "Mood of hello 1")
    assert invalid[0]["content"] == "Mood of hello 0"
    assert "- the text: Invalid JSON: " in invalid[1]["content"]
    assert "2 requests are sent live: they are left over, and fewer than batch_threshold" in caplog.text
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert manifest["requests_sent"] == 8


def test_an_invalid_output_that_is_sent_again_live_stays_within_output_retries(attempts):
    task = attempts(table(2), options={"batch_threshold": 3}, request=typed(output_retries=1), limits=LENIENT)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}]})
    task.sandbox.script({"text": "no JSON"}, {"text": "no JSON"})
    assert task.finish()["counts"] == {"ok": 1, "invalid_output": 1}
    assert len(task.live) == 1


def test_as_many_requests_as_batch_threshold_are_sent_again_in_a_batch(attempts):
    task = attempts(table(6), options={"batch_threshold": 2}, request=typed(output_retries=1))
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}, {"status": 429}]})
    assert task.finish()["counts"] == {"ok": 6}
    assert (task.sizes, task.live) == ([6, 2], [])


def test_an_invalid_output_is_accepted_where_on_invalid_output_is_return(attempts):
    task = attempts(table(2), request=typed(output_retries=2, on_invalid_output="return"))
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}]})
    assert task.finish()["counts"] == {"ok": 1, "invalid_output": 1}
    assert task.sizes == [2]
    assert task.result[0]["_output_text"] == "no JSON"


def test_the_counts_of_an_attempt_pass_through_the_deferral(attempts):
    task = attempts(table(6), request=typed(output_retries=1), limits=LENIENT)
    task.sandbox.script_batches({"responses": [{"text": "no JSON"}, {"status": 400}, {"status": 429}]})
    task.step()
    task.wait()
    task.step()
    assert task.totals["progress"]["failures"] == {"BadRequestResponseError": 1}
    assert task.totals["progress"]["resent"] == {"429": 1, "OutputValidationError": 1}
    task.wait()
    assert task.step()["counts"] == {"ok": 5, "failed": 1}


# Batches that do not complete


def test_a_batch_that_failed_because_of_one_row_is_resubmitted_without_it(attempts, caplog):
    def fields(row: dict[str, Any]) -> dict[str, Any]:
        return {"model": MODEL, "input": row["text"], "extra_body": {"temperature": 9 if row["id"] == "r2" else 1}}

    task = attempts(table(5), row_fields=fields, limits=LENIENT, request=UNTYPED)
    task.step()
    message = f"Request '{task.sandbox.batches[0].custom_ids[2]}': temperature must be at most 2"
    if task.sandbox.batches[0].error is None:
        task.sandbox.end_batch(task.sandbox.batches[0].id, "failed", message)
    assert task.finish()["counts"] == {"ok": 4, "failed": 1}
    assert task.sizes == [5, 4]
    assert "temperature" in task.result[2]["_error"]
    assert task.result[2]["_error"].startswith("BadRequestResponseError: its batch was refused because of this request")
    assert "Row 2: its batch was refused because of this request" in caplog.text


@pytest.mark.parametrize(
    ("message", "row"),
    [
        ("Request 3: body must be an object", 3),
        ("requests[2].body.input is empty", 2),
        ("requests.1.body: wrong", 1),
        ("The provider allows 4 requests 2 times a minute", None),
        ("Request 99: wrong", None),
        ("It failed", None),
    ],
)
def test_the_position_in_the_reason_of_a_failed_batch_names_the_row(message, row, attempts):
    task = attempts(table(5), limits=LENIENT)
    task.sandbox.batch_settings = {"hold": "validating"}
    task.step()
    task.sandbox.end_batch(task.sandbox.batches[0].id, "failed", message)
    task.sandbox.batch_settings = {"hold": None}
    task.finish()
    assert task.sizes == [5, 5 if row is None else 4]
    assert [row["_row"] for row in task.result if row["_status"] == "failed"] == ([] if row is None else [row])


@pytest.mark.parametrize("ending", ["failed", "expired", "cancelled"])
def test_a_batch_that_ends_early_lands_its_results_and_the_other_rows_are_resubmitted(ending, attempts):
    task = attempts(table(10))
    task.sandbox.script_batches({"ending": ending, "ending_share": 0.3})
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 10}
    assert task.sizes == [10, 7]
    assert [(it["status"], it["requests"]) for it in manifest["batches"]] == [(ending, 10), ("completed", 7)]
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)
    assert len(task.lines) == 10


@pytest.mark.parametrize("ending", ["failed", "expired", "cancelled"])
def test_the_other_rows_of_a_batch_that_ends_early_are_sent_live_on_request(ending, attempts, caplog):
    caplog.set_level(logging.INFO)
    task = attempts(table(10), options={"on_batch_failure": "live"})
    task.sandbox.script_batches({"ending": ending, "ending_share": 0.3})
    manifest = task.finish()
    assert manifest["counts"] == {"ok": 10}
    assert (task.sizes, len(task.live)) == ([10], 7)
    assert "7 requests are sent live: their batch did not complete" in caplog.text
    assert manifest["cost"] == pytest.approx(task.billed(), abs=1e-9)


@pytest.mark.parametrize("ending", ["failed", "expired", "cancelled"])
def test_a_batch_that_ends_early_fails_the_attempt_on_request_and_a_clear_submits_the_rest(ending, attempts):
    task = attempts(table(30), options={"on_batch_failure": "fail"})
    task.sandbox.script_batches({"ending": ending, "ending_share": 0.3, "seconds": 1.0})
    task.step()
    task.clock.sleep(5)
    first, second = (batch.id for batch in task.sandbox.batches)
    with pytest.raises(BatchError, match=f"batch {first} is {ending}") as raised:
        task.step()
    assert raised.value.batch_ids == (first,)
    assert not raised.value.retryable
    assert f"The batches {second} run on and are billed; a clear lands them" in str(raised.value)
    assert len(task.lines) == 6
    task.clear()
    assert task.finish()["counts"] == {"ok": 30}
    assert task.sizes == [20, 10, 14]


def test_the_failure_of_a_batch_of_an_earlier_attempt_is_handled_as_one_of_this_attempt(attempts):
    task = attempts(table(10), options={"on_batch_failure": "fail"})
    task.sandbox.script_batches({"ending": "expired", "ending_share": 0.5})
    task.step()
    task.wait()
    task.retry()
    with pytest.raises(BatchError, match="is expired"):
        task.step()
    assert task.sizes == [10]


def test_a_request_is_resubmitted_within_a_limit(attempts):
    task = attempts(table(5))
    for _ in range(5):
        task.sandbox.script_batches({"ending": "expired", "ending_share": 0.2})
    with pytest.raises(BatchError, match="requests were in 3 batches that did not complete") as raised:
        task.finish()
    assert "on_batch_failure='live'" in str(raised.value)
    assert task.sizes == [5, 4, 4]
    assert statuses(task) == {"ok": 1, "missing": 4}


def test_a_row_that_was_put_back_and_then_failed_is_not_sent_again(attempts):
    task = attempts(table(5), limits=LENIENT)
    task.sandbox.script_batches({"ending": "failed", "ending_share": 0.0}, {"responses": [{"status": 400}]})
    assert task.finish()["counts"] == {"ok": 4, "failed": 1}
    assert task.sizes == [5, 5]


def test_the_order_of_batches_does_not_depend_on_the_clock(attempts):
    task = attempts(table(5), limits=LENIENT)
    task.sandbox.script_batches({"ending": "failed", "ending_share": 0.0}, {"responses": [{"status": 400}]})
    shift = [0.0]
    task.environment["now"] = lambda: task.clock.now + shift[0]
    task.step()
    task.wait()
    shift[0] = -50_000.0
    assert task.finish()["counts"] == {"ok": 4, "failed": 1}
    assert task.sizes == [5, 5]
