"""The engine against the sandbox: requests, costs and results."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import RootModel

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.exceptions import (
    PaymentRequiredResponseError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    TooManyFailuresError,
    TransportError,
    UnauthorizedResponseError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import (
    MODEL,
    Label,
    asked,
    connect,
    enrich,
    job,
    lines,
    manifest,
    parts,
    result,
    row_fields,
    table,
    watching,
)

TEXT = TaskRequest(fields={}, stream=False)


def test_a_first_attempt_writes_the_response_of_every_row_in_order(responses_sandbox, tmp_path):
    told = enrich(responses_sandbox, tmp_path, table(30))

    rows = result(tmp_path)
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(30)]
    assert [row["_row"] for row in rows] == list(range(30))
    assert list(rows[0]) == [
        *("_row", "id", "text", "mood"),
        *("_status", "_error", "_output_text", "_response_id", "_model", "_cost", "_tokens", "_sends"),
    ]
    assert all(isinstance(row["mood"], str) and row["_status"] == "ok" and row["_error"] is None for row in rows)
    assert {row["_sends"] for row in rows} == {1}
    assert len(responses_sandbox.billed) == 30
    assert told == manifest(tmp_path)
    assert told["complete"]
    assert (told["rows"], told["counts"], told["requests_sent"]) == (30, {"ok": 30}, 30)
    assert told["output"] == str(tmp_path / "result.jsonl")


def test_the_manifest_has_the_figures_of_the_ledger(responses_sandbox, tmp_path):
    rows = table(20)
    enrich(responses_sandbox, tmp_path, rows)
    ledger = responses_sandbox.ledger
    first = manifest(tmp_path)
    assert first["cost"] == first["cost_this_attempt"] == pytest.approx(sum(entry.cost for entry in ledger))
    assert first["tokens"] == sum(entry.input_tokens + entry.output_tokens for entry in ledger)
    assert sum(row["_cost"] for row in result(tmp_path)) == pytest.approx(first["cost"])

    for part in parts(tmp_path):
        part.unlink()
    second = enrich(responses_sandbox, tmp_path, rows)
    again = responses_sandbox.ledger[20:]
    assert {entry.outcome for entry in again} == {"cached"}
    assert (second["cache_hits"], second["cost_this_attempt"], second["requests_sent"]) == (20, 0.0, 20)


def test_the_cost_of_an_invalid_output_is_reported(responses_sandbox, tmp_path):
    responses_sandbox.script({"text": "no JSON"})
    told = enrich(responses_sandbox, tmp_path, table(1))

    ledger = responses_sandbox.ledger
    assert [entry.outcome for entry in ledger] == ["generated", "generated"]
    paid = sum(entry.cost for entry in ledger)
    assert told["cost"] == pytest.approx(paid)
    assert told["requests_sent"] == len(ledger)
    assert told["tokens"] == sum(entry.input_tokens + entry.output_tokens for entry in ledger)
    assert result(tmp_path)[0]["_cost"] == pytest.approx(paid)
    assert result(tmp_path)[0]["_sends"] == 2


def test_the_cost_before_a_failed_second_send_is_reported(responses_sandbox, tmp_path):
    responses_sandbox.script({"text": "no JSON"}, {"status": 500}, {})
    told = enrich(responses_sandbox, tmp_path, table(1))

    ledger = responses_sandbox.ledger
    # The cached invalid output is returned once more at no cost.
    assert [(entry.status, entry.outcome) for entry in ledger] == [
        (200, "generated"),
        (500, "error"),
        (200, "cached"),
        (200, "generated"),
    ]
    assert told["cost"] == pytest.approx(sum(entry.cost for entry in ledger))
    assert told["requests_sent"] == result(tmp_path)[0]["_sends"] == 4
    assert result(tmp_path)[0]["_cost"] == told["cost"]


def test_a_second_attempt_sends_nothing(responses_sandbox, tmp_path):
    rows = table(30)
    enrich(responses_sandbox, tmp_path, rows)
    before = (tmp_path / "result.jsonl").read_bytes()
    told = enrich(responses_sandbox, tmp_path, rows)

    assert len(responses_sandbox.ledger) == 30
    assert (tmp_path / "result.jsonl").read_bytes() == before
    assert (told["requests_sent"], told["requests_reused"], told["cost_this_attempt"]) == (0, 30, 0.0)
    assert told["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger))


@pytest.mark.parametrize("changed", [{"model": "openai/gpt-4o"}, {"input": "Another question"}])
def test_a_changed_request_is_sent_again(changed, responses_sandbox, tmp_path):
    rows = table(3)
    enrich(responses_sandbox, tmp_path, rows)

    enrich(
        responses_sandbox,
        tmp_path,
        rows,
        row_fields=lambda row: row_fields(row) | (changed if row["id"] == "r1" else {}),
    )

    assert len(responses_sandbox.ledger) == 4
    assert changed.items() <= responses_sandbox.ledger[3].body.items()


def test_a_changed_column_outside_the_prompt_sends_nothing(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(5))
    enrich(responses_sandbox, tmp_path, [row | {"stars": 4} for row in table(5)])

    assert len(responses_sandbox.ledger) == 5
    assert [(row["stars"], row["_status"]) for row in result(tmp_path)] == [(4, "ok")] * 5


def test_added_removed_and_moved_rows_are_recognized(responses_sandbox, tmp_path):
    rows = table(6)
    enrich(responses_sandbox, tmp_path, rows[:4])
    moods = {row["id"]: row["mood"] for row in result(tmp_path)}

    enrich(responses_sandbox, tmp_path, [rows[5], rows[3], rows[0]])

    assert asked(responses_sandbox)[4:] == ["Mood of hello 5"]
    assert [row["id"] for row in result(tmp_path)] == ["r5", "r3", "r0"]
    assert [row["mood"] for row in result(tmp_path)][1:] == [moods["r3"], moods["r0"]]


def test_only_failed_rows_are_sent_again(responses_sandbox, tmp_path):
    rows = table(10)
    responses_sandbox.script({"status": 500})
    options = RequestOptions(max_retries=0)
    with pytest.raises(
        TooManyFailuresError, match=r"1 of 10 rows failed \(1 failed\).*retry sends the 1.*row 0 \(key r0"
    ) as caught:
        enrich(responses_sandbox, tmp_path, rows, limits=Limits(concurrency=1), options=options)
    assert caught.value.retryable
    assert [row["_status"] for row in result(tmp_path)] == ["failed", *["ok"] * 9]
    assert result(tmp_path)[0]["_error"].startswith("InternalServerResponseError: ")

    before = len(responses_sandbox.ledger)
    enrich(responses_sandbox, tmp_path, rows)
    assert asked(responses_sandbox)[before:] == ["Mood of hello 0"]
    assert {row["_status"] for row in result(tmp_path)} == {"ok"}


@pytest.mark.parametrize("step", [{"refusal": "No."}, {"incomplete": "max_output_tokens"}])
def test_a_rejected_response_is_not_requested_again(step, responses_sandbox, tmp_path):
    responses_sandbox.script(step)
    limits = Limits(concurrency=1, max_failures=1)
    enrich(responses_sandbox, tmp_path, table(3), limits=limits)
    enrich(responses_sandbox, tmp_path, table(3), limits=limits)

    assert len(responses_sandbox.ledger) == 3
    assert [row["_status"] for row in result(tmp_path)] == [
        "refused" if "refusal" in step else "incomplete",
        "ok",
        "ok",
    ]
    with pytest.raises(TooManyFailuresError, match="the same requests would fail again") as caught:
        enrich(responses_sandbox, tmp_path, table(3))
    assert not caught.value.retryable


def test_a_truncated_response_is_accepted_with_on_invalid_output_return(responses_sandbox, tmp_path):
    responses_sandbox.script({"incomplete": "max_output_tokens"})
    enrich(responses_sandbox, tmp_path, table(1), request=replace(TEXT, on_invalid_output="return"))
    (row,) = result(tmp_path)
    assert row["_status"] == "incomplete"
    assert row["output"]


def test_without_resume_a_cleared_task_starts_again_and_its_retry_continues(responses_sandbox, tmp_path):
    rows = table(4)

    def run(idempotency_key: str, try_number: int = 1) -> dict[str, Any]:
        writer = Writer(owner="task", idempotency_key=idempotency_key, try_number=try_number)
        return enrich(responses_sandbox, tmp_path, rows, writer=writer, resume=False)

    run("first")
    assert run("cleared")["generation"] == 2
    assert len(responses_sandbox.billed) == 8  # another idempotency key: no response is cached
    assert [part.name[:10] for part in parts(tmp_path)] == ["part-g0002"]
    assert run("cleared", 2)["requests_sent"] == 0
    max((tmp_path / "lease").iterdir()).write_text("{torn")
    told = enrich(responses_sandbox, tmp_path, rows)
    assert (told["generation"], told["requests_sent"]) == (2, 0)


@pytest.mark.parametrize(
    ("step", "given", "error"),
    [
        ({"status": 401, "times": 50}, {}, UnauthorizedResponseError),
        ({}, {"key": "nope"}, RequestValidationError),
        ({"status": 503, "times": 50}, {"limits": Limits(max_outage=0.01)}, ResponsesError),
    ],
)
def test_without_resume_an_attempt_without_responses_keeps_earlier_ones(
    step, given, error, responses_sandbox, tmp_path
):
    enrich(responses_sandbox, tmp_path, table(4))
    responses_sandbox.script(step)
    cleared = {"writer": Writer(owner="task", idempotency_key="cleared"), "resume": False}
    with pytest.raises(error):
        enrich(responses_sandbox, tmp_path, table(4), **cleared, **given)
    assert [part.name[:10] for part in parts(tmp_path)] == ["part-g0001"]

    told = enrich(responses_sandbox, tmp_path, table(4), writer=Writer(owner="task", idempotency_key="next"))
    assert (told["generation"], told["requests_sent"], told["counts"]) == (1, 0, {"ok": 4})
    responses_sandbox.reset()
    told = enrich(responses_sandbox, tmp_path, table(4), **cleared)
    assert (told["generation"], told["requests_sent"]) == (3, 4)  # no generation is used twice
    assert {part.name[:10] for part in parts(tmp_path)} == {"part-g0003"}


def test_without_resume_the_retry_of_a_stopped_attempt_continues(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(4))
    responses_sandbox.script({}, {"status": 402, "times": 50})
    cleared = {"writer": Writer(owner="task", idempotency_key="cleared"), "resume": False}
    with pytest.raises(PaymentRequiredResponseError):
        enrich(responses_sandbox, tmp_path, table(4), limits=Limits(concurrency=1), **cleared)
    assert {part.name[:10] for part in parts(tmp_path)} == {"part-g0001", "part-g0002"}
    responses_sandbox.reset()
    told = enrich(responses_sandbox, tmp_path, table(4))
    assert (told["generation"], told["requests_sent"], told["counts"]) == (2, 3, {"ok": 4})
    assert {part.name[:10] for part in parts(tmp_path)} == {"part-g0002"}


def test_without_resume_rows_are_sent_again_to_servers_without_idempotency_keys(responses_sandbox, tmp_path):
    config = replace(connect(responses_sandbox.base_url), dialect="open")
    for idempotency_key in ("first", "cleared"):
        writer = Writer(owner="task", idempotency_key=idempotency_key)
        told = enrich(responses_sandbox, tmp_path, table(3), config=config, writer=writer, resume=False)
        assert (told["requests_sent"], told["cost"]) == (3, told["cost_this_attempt"])
    assert len(responses_sandbox.billed) == 6


def test_identical_requests_are_sent_once(responses_sandbox, tmp_path):
    rows = [{"id": number, "text": f"hello {number % 3}"} for number in range(30)]
    told = enrich(responses_sandbox, tmp_path, rows)

    assert len(responses_sandbox.ledger) == told["requests_sent"] == 3
    made = result(tmp_path)
    assert [row["id"] for row in made] == list(range(30))
    assert len({(row["text"], row["mood"], row["_response_id"]) for row in made}) == 3
    assert [row["_cost"] > 0 for row in made] == [True] * 3 + [False] * 27
    assert told["cost"] == pytest.approx(sum(row["_cost"] for row in made))
    assert told["counts"] == {"ok": 30}

    enrich(responses_sandbox, tmp_path, [*rows, {"id": 30, "text": "hello 1"}])
    assert len(responses_sandbox.ledger) == 3
    assert result(tmp_path)[30]["mood"] == made[1]["mood"]
    assert manifest(tmp_path)["cost"] == told["cost"]


def test_a_function_of_the_row_may_return_a_request(responses_sandbox, tmp_path):
    def whole(row: dict[str, Any]) -> dict[str, Any]:
        message = {"type": "message", "role": "user", "content": row["text"]}
        return {"model": MODEL, "input": (message,), "metadata": {"row": row["id"]}}

    enrich(responses_sandbox, tmp_path, table(3), row_fields=whole)
    assert sorted(entry.metadata["row"] for entry in responses_sandbox.ledger) == ["r0", "r1", "r2"]


def test_only_the_sender_retries_a_row(responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 500, "times": 2})
    options = RequestOptions(max_retries=1)
    with pytest.raises(TooManyFailuresError, match="InternalServerResponseError"):
        enrich(responses_sandbox, tmp_path, table(1), options=options)
    assert len(responses_sandbox.ledger) == manifest(tmp_path)["requests_sent"] == 2
    assert result(tmp_path)[0]["_sends"] == 2


class Wrapped(RootModel[Label]):
    """An object without fields of its own."""


def test_an_output_type_that_wraps_another_is_one_column(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(1), request=TaskRequest(fields={}, output_type=Wrapped, stream=False))
    assert isinstance(result(tmp_path)[0]["output"]["mood"], str)


def test_chosen_columns_include_the_key_and_ignore_conflicts_of_others(responses_sandbox, tmp_path):
    rows = [{"id": 1, "text": "a", "mood": "old", "_cost": 3, "stars": None}]
    enrich(responses_sandbox, tmp_path, rows, columns=["stars"])
    assert list(result(tmp_path)[0])[:4] == ["_row", "id", "stars", "mood"]
    assert result(tmp_path)[0]["mood"] != "old"


def test_cancelling_saves_the_responses(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 5, {"hang": True, "times": 20})
    environment = Environment(part_writer=watching(lambda kept: enrichment.cancel() if kept == 5 else None))
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(20)), environment)
    with pytest.raises(RequestCancelledError, match="all responses are saved"):
        enrichment.run()
    assert sum(len(lines(part)) for part in parts(tmp_path)) == 5


def test_cancelling_stops_reading_the_source(responses_sandbox, tmp_path):
    read = []

    def chunks():
        for row in table(5):
            read.append(row["id"])
            if row["id"] == "r1":
                enrichment.cancel()
            yield [row]

    enrichment = Enrichment(job(responses_sandbox, tmp_path, [], read_chunks=chunks))
    with pytest.raises(RequestCancelledError, match="all responses are saved"):
        enrichment.run()
    assert read == ["r0", "r1"]
    assert not responses_sandbox.ledger


def shards(sandbox: Any, folder: Path, rows: list[Any], **given: Any) -> list[list[str]]:
    """Run three shards, and return the rows of each."""
    for number in range(3):
        enrich(sandbox, folder / str(number), rows, shard=(number, 3), **given)
    return [sorted(row["id"] for row in result(folder / str(number))) for number in range(3)]


def test_a_row_is_in_the_same_shard_whatever_its_position(responses_sandbox, tmp_path):
    # In every release, or rows with a response would be sent again.
    same = [["r1", "r4"], ["r11", "r6"], ["r0", "r10", "r2", "r3", "r5", "r7", "r8", "r9"]]
    assert shards(responses_sandbox, tmp_path, table(12)) == same
    assert shards(responses_sandbox, tmp_path, table(12)[::-1]) == same
    assert len(responses_sandbox.ledger) == 12


def test_shards_without_a_key_share_all_rows(responses_sandbox, tmp_path):
    rows = table(7)
    found = shards(responses_sandbox, tmp_path, [], key=None, read_chunks=lambda: iter([rows[:4], rows[4:]]))
    assert found == [["r0", "r3", "r6"], ["r1", "r4"], ["r2", "r5"]]


def test_an_attempt_ends_at_its_timeout(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 5, {"hang": True, "times": 20})
    later = 0.0

    def pass_time(kept: int) -> None:
        nonlocal later
        later = 1000.0 if kept == 5 else later

    environment = Environment(tick=0.01, clock=lambda: time.monotonic() + later, part_writer=watching(pass_time))
    with pytest.raises(TransportError, match="the task's time of 1000 s is over") as caught:
        enrich(responses_sandbox, tmp_path, table(20), environment, timeout=1000)
    assert caught.value.retryable
    assert manifest(tmp_path)["counts"] == {"ok": 5, "missing": 15}


def test_progress_is_logged_and_reported(responses_sandbox, tmp_path, caplog):
    responses_sandbox.latency = 0.05
    told: list[Any] = []
    with caplog.at_level(logging.INFO):
        environment = Environment(tick=0.01, progress_seconds=0.05, report=told.append)
        enrich(responses_sandbox, tmp_path, table(60), environment, limits=Limits(concurrency=8))
    assert told
    assert all(it["done"] + it["left"] == it["total"] == 60 for it in told)
    assert all(it["seconds_left"] == pytest.approx(it["left"] / it["rate"]) for it in told if it["rate"])
    assert (told[-1]["failed"], told[-1]["failures"], told[-1]["batches"]) == (0, {}, 0)
    assert "/60 requests, " in caplog.text
    assert "60 rows: 60 ok. 60 requests sent" in caplog.text


@pytest.mark.parametrize("rows", [60, 300])
def test_an_attempt_whose_requests_all_fail_for_good_is_not_retried(rows, responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 400, "times": rows})
    with pytest.raises(TooManyFailuresError) as caught:
        enrich(responses_sandbox, tmp_path, table(rows))
    assert not caught.value.retryable


def test_an_attempt_with_retryable_failures_is_retried(responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 500}, {"status": 400, "times": 300})
    options = RequestOptions(max_retries=0)
    with pytest.raises(TooManyFailuresError, match="more than half") as caught:
        enrich(responses_sandbox, tmp_path, table(300), limits=Limits(concurrency=4), options=options)
    assert caught.value.retryable


def test_an_attempt_starts_with_the_window_that_the_last_one_ended_with(responses_sandbox, tmp_path):
    responses_sandbox.latency = 0.02
    limits = Limits(concurrency=64)
    first = enrich(responses_sandbox, tmp_path, table(300), limits=limits)
    assert first["window"] == 64
    responses_sandbox.script({"hang": True, "times": 1000})
    seen: list[Any] = []

    def report(figures: Any) -> None:
        seen.append(figures["in_flight"])
        if len(seen) > 1 and seen[-2] == seen[-1] > 0:
            enrichment.cancel()

    environment = Environment(tick=0.001, progress_seconds=0.0, report=report)
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(1000), limits=limits), environment)
    with pytest.raises(RequestCancelledError):
        enrichment.run()
    assert max(seen) == 64  # no response has arrived
    responses_sandbox.reset()
    again = enrich(responses_sandbox, tmp_path, table(300), limits=limits)
    assert (again["requests_sent"], again["window"]) == (0, 64)


@pytest.mark.parametrize("window", [None, "64", True, -3, 0.5, {}])
def test_a_manifest_of_another_version_does_not_fail_the_attempt(window, responses_sandbox, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"window": window, "version": 99}))
    assert enrich(responses_sandbox, tmp_path, table(3))["counts"] == {"ok": 3}
    (tmp_path / "manifest.json").write_text("[]")
    assert enrich(responses_sandbox, tmp_path, table(4))["counts"] == {"ok": 4}
