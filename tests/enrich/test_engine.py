"""The engine against the sandbox: what is sent, what is paid, and what comes out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from airflow_provider_responses import runs
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich.engine import Enrichment, Surroundings, Writer
from airflow_provider_responses.enrich.folder import LEASE_SECONDS
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.results import merge_shards
from airflow_provider_responses.enrich.sources import read_rows
from airflow_provider_responses.exceptions import (
    BudgetExceededError,
    ConfigurationError,
    LeaseLostError,
    PaymentRequiredResponseError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    TooManyFailuresError,
    TransportError,
    UnauthorizedResponseError,
)
from tests.enrich.jobs import MODEL, Label, ask, connect, enrich, job, lines, manifest, parts, result, table, tear

TEXT = runs.Run(fields={}, stream=False)


def asked(sandbox: Any) -> list[str]:
    return [entry.body["input"] for entry in sandbox.ledger]


def test_a_first_run_gives_every_row_its_answer_in_order(responses_sandbox, tmp_path):
    told = enrich(responses_sandbox, tmp_path, table(30))

    rows = result(tmp_path)
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(30)]
    assert [row["_row"] for row in rows] == list(range(30))
    assert list(rows[0]) == [
        *("_row", "id", "text", "mood"),
        *("_status", "_error", "_response_id", "_model", "_cost", "_tokens", "_tries"),
    ]
    assert all(isinstance(row["mood"], str) and row["_status"] == "ok" and row["_error"] is None for row in rows)
    assert {row["_tries"] for row in rows} == {1}
    assert len(responses_sandbox.billed) == 30
    assert told == manifest(tmp_path)
    assert told["complete"]
    assert (told["rows"], told["counts"], told["requests_sent"]) == (30, {"ok": 30}, 30)
    assert told["output"] == str(tmp_path / "result.jsonl")


def test_the_manifest_says_what_the_ledger_does(responses_sandbox, tmp_path):
    rows = table(20)
    enrich(responses_sandbox, tmp_path, rows)
    ledger = responses_sandbox.ledger
    first = manifest(tmp_path)
    assert first["cost"] == first["cost_this_try"] == pytest.approx(sum(entry.cost for entry in ledger))
    assert first["tokens"] == sum(entry.input_tokens + entry.output_tokens for entry in ledger)
    assert sum(row["_cost"] for row in result(tmp_path)) == pytest.approx(first["cost"])

    for part in parts(tmp_path):
        part.unlink()
    second = enrich(responses_sandbox, tmp_path, rows)
    again = responses_sandbox.ledger[20:]
    assert {entry.outcome for entry in again} == {"cached"}
    assert (second["cache_hits"], second["cost_this_try"], second["requests_sent"]) == (20, 0.0, 20)


def test_what_a_discarded_answer_cost_is_told(responses_sandbox, tmp_path):
    responses_sandbox.script({"text": "no JSON"})
    told = enrich(responses_sandbox, tmp_path, table(1))

    ledger = responses_sandbox.ledger
    assert [entry.outcome for entry in ledger] == ["answered", "answered"]
    paid = sum(entry.cost for entry in ledger)
    assert told["cost"] == pytest.approx(paid)
    assert told["requests_sent"] == len(ledger)
    assert told["tokens"] == sum(entry.input_tokens + entry.output_tokens for entry in ledger)
    assert result(tmp_path)[0]["_cost"] == pytest.approx(paid)
    assert result(tmp_path)[0]["_tries"] == 2


def test_what_was_paid_before_a_failed_second_send_is_told(responses_sandbox, tmp_path):
    responses_sandbox.script({"text": "no JSON"}, {"status": 500}, {})
    told = enrich(responses_sandbox, tmp_path, table(1))

    ledger = responses_sandbox.ledger
    # The kept answer, which would not do, comes once more for nothing.
    assert [(entry.status, entry.outcome) for entry in ledger] == [
        (200, "answered"),
        (500, "error"),
        (200, "cached"),
        (200, "answered"),
    ]
    assert told["cost"] == pytest.approx(sum(entry.cost for entry in ledger))
    assert told["requests_sent"] == result(tmp_path)[0]["_tries"] == 4
    assert result(tmp_path)[0]["_cost"] == told["cost"]


def test_a_second_run_sends_nothing(responses_sandbox, tmp_path):
    rows = table(30)
    enrich(responses_sandbox, tmp_path, rows)
    before = (tmp_path / "result.jsonl").read_bytes()
    told = enrich(responses_sandbox, tmp_path, rows)

    assert len(responses_sandbox.ledger) == 30
    assert (tmp_path / "result.jsonl").read_bytes() == before
    assert (told["requests_sent"], told["requests_reused"], told["cost_this_try"]) == (0, 30, 0.0)
    assert told["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger))


@pytest.mark.parametrize("changed", [{"model": "openai/gpt-4o"}, {"input": "Another question"}])
def test_a_changed_request_is_sent_anew(changed, responses_sandbox, tmp_path):
    rows = table(3)
    enrich(responses_sandbox, tmp_path, rows)

    enrich(responses_sandbox, tmp_path, rows, ask=lambda row: ask(row) | (changed if row["id"] == "r1" else {}))

    assert len(responses_sandbox.ledger) == 4
    assert changed.items() <= responses_sandbox.ledger[3].body.items()


def test_columns_outside_of_the_prompt_change_without_sending(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(5))
    enrich(responses_sandbox, tmp_path, [row | {"stars": 4} for row in table(5)])

    assert len(responses_sandbox.ledger) == 5
    assert [(row["stars"], row["_status"]) for row in result(tmp_path)] == [(4, "ok")] * 5


def test_rows_may_be_added_removed_and_moved(responses_sandbox, tmp_path):
    rows = table(6)
    enrich(responses_sandbox, tmp_path, rows[:4])
    moods = {row["id"]: row["mood"] for row in result(tmp_path)}

    enrich(responses_sandbox, tmp_path, [rows[5], rows[3], rows[0]])

    assert asked(responses_sandbox)[4:] == ["Mood of hello 5"]
    assert [row["id"] for row in result(tmp_path)] == ["r5", "r3", "r0"]
    assert [row["mood"] for row in result(tmp_path)][1:] == [moods["r3"], moods["r0"]]


def test_only_what_failed_is_sent_again(responses_sandbox, tmp_path):
    rows = table(10)
    responses_sandbox.script({"status": 400})
    with pytest.raises(
        TooManyFailuresError, match=r"1 of 10 rows failed \(1 failed\).*retry sends the 1.*row 0 \(key r0"
    ) as caught:
        enrich(responses_sandbox, tmp_path, rows, limits=Limits(concurrency=1))
    assert caught.value.retryable
    assert [row["_status"] for row in result(tmp_path)] == ["failed", *["ok"] * 9]
    assert result(tmp_path)[0]["_error"].startswith("BadRequestResponseError: ")

    before = len(responses_sandbox.ledger)
    enrich(responses_sandbox, tmp_path, rows)
    assert asked(responses_sandbox)[before:] == ["Mood of hello 0"]
    assert {row["_status"] for row in result(tmp_path)} == {"ok"}


@pytest.mark.parametrize("step", [{"refusal": "No."}, {"incomplete": "max_output_tokens"}])
def test_a_final_answer_that_will_not_do_is_not_asked_for_again(step, responses_sandbox, tmp_path):
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


def test_what_there_is_of_an_answer_may_be_taken(responses_sandbox, tmp_path):
    responses_sandbox.script({"incomplete": "max_output_tokens"})
    enrich(responses_sandbox, tmp_path, table(1), run=replace(TEXT, on_incomplete="return"))
    (row,) = result(tmp_path)
    assert row["_status"] == "incomplete"
    assert row["output"]


def test_without_resume_a_cleared_task_begins_anew_and_its_retry_goes_on(responses_sandbox, tmp_path):
    rows = table(4)

    def run(stamp: str, try_number: int = 1) -> dict[str, Any]:
        writer = Writer(owner="task", stamp=stamp, try_number=try_number)
        return enrich(responses_sandbox, tmp_path, rows, writer=writer, resume=False)

    run("first")
    assert run("cleared")["generation"] == 2
    assert len(responses_sandbox.billed) == 8  # the salt is another: no answer is a kept one
    assert [part.name[:10] for part in parts(tmp_path)] == ["part-g0002"]
    assert run("cleared", 2)["requests_sent"] == 0
    (tmp_path / "lease.json").write_text("{torn")
    told = enrich(responses_sandbox, tmp_path, rows)
    assert (told["generation"], told["requests_sent"]) == (2, 0)


def test_without_resume_a_server_that_knows_no_stamp_is_asked_again_as_well(responses_sandbox, tmp_path):
    config = replace(connect(responses_sandbox.base_url), dialect="open")
    for stamp in ("first", "cleared"):
        writer = Writer(owner="task", stamp=stamp)
        told = enrich(responses_sandbox, tmp_path, table(3), config=config, writer=writer, resume=False)
        assert (told["requests_sent"], told["cost"]) == (3, told["cost_this_try"])
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


@pytest.mark.parametrize("key", ["id", None])
def test_shards_make_the_same_table_as_one_run(key, responses_sandbox, tmp_path):
    rows = table(50)
    enrich(responses_sandbox, tmp_path / "one", rows, key=key)
    shared = []
    for shard in range(3):
        folder = tmp_path / "many" / f"shard-{shard}"
        shared.append(enrich(responses_sandbox, folder, rows, key=key, shard=(shard, 3))["rows"])
    merged = merge_shards(tmp_path / "many")

    def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: row[name] for name in ("_row", "id", "text", "_status", "_cost")} for row in rows]

    assert sum(shared) == 50
    assert min(shared) > 5
    assert len(responses_sandbox.billed) == 100
    assert plain(result(tmp_path / "many")) == plain(result(tmp_path / "one"))
    assert (merged["rows"], merged["counts"]) == (50, {"ok": 50})
    assert merged["cost"] == pytest.approx(manifest(tmp_path / "one")["cost"])

    (tmp_path / "many" / "shard-2").rename(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match="shard 2 of 3 is missing"):
        merge_shards(tmp_path / "many")
    enrich(responses_sandbox, tmp_path / "many" / "shard-2", rows, key=key, shard=(2, 4))
    with pytest.raises(ConfigurationError, match="shard-2: a shard of 4, beside shards of 3"):
        merge_shards(tmp_path / "many")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("s3://bucket/out", "output_path is 's3://bucket/out'; give ObjectStoragePath('s3://bucket/out')"),
        ("/nowhere/out", "output_path '/nowhere/out' is not there, so no shard has run"),
    ],
)
def test_shards_that_are_not_there(path, said):
    with pytest.raises(ConfigurationError) as caught:
        merge_shards(path)
    assert str(caught.value) == said


def test_a_shard_may_have_no_rows_and_an_empty_source_may_not(responses_sandbox, tmp_path):
    for shard in range(3):
        told = enrich(responses_sandbox, tmp_path / str(shard), table(2), key=None, shard=(shard, 3), allow_empty=False)
        assert told["rows"] == (0 if shard == 2 else 1)


def test_parquet_holds_what_jsonl_does(responses_sandbox, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [row | ({"stars": 4.5} if number > 1000 else {}) for number, row in enumerate(table(1005))]
    rows[1]["tags"] = ["a", "b"]
    same = lambda row: {"model": MODEL, "input": f"Mood of {row['id'][-1]}"}  # noqa: E731
    enrich(responses_sandbox, tmp_path, rows, ask=same)
    jsonl = result(tmp_path)
    enrich(responses_sandbox, tmp_path, rows, ask=same, output_format="parquet")

    assert len(responses_sandbox.ledger) == 10
    assert not (tmp_path / "result.jsonl").exists()
    read = parquet.read_table(tmp_path / "result.parquet").to_pylist()
    assert set(read[0]) == {name for row in jsonl for name in row}
    assert [{name: row[name] for name in expected} for row, expected in zip(read, jsonl, strict=True)] == jsonl


def test_parquet_with_two_types_in_a_column_is_refused_after_the_answers_are_kept(responses_sandbox, tmp_path):
    pytest.importorskip("pyarrow")
    rows = [{"id": 1, "text": "a", "x": 1}, {"id": 2, "text": "b", "x": "one"}]
    with pytest.raises(ConfigurationError, match="'parquet' wants one type per column"):
        enrich(responses_sandbox, tmp_path, rows, output_format="parquet")
    assert enrich(responses_sandbox, tmp_path, rows)["requests_sent"] == 0


class Mood(BaseModel):
    text: str


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        pytest.param(
            [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}, {"id": 1, "text": "c"}],
            {},
            "key: rows 0 and 2 have the same 'id', '1'",
            id="a key twice",
        ),
        pytest.param([{"id": 1, "text": "a"}, {"text": "b"}], {}, "row 1 has no column 'id'", id="no key column"),
        pytest.param([{"id": 1, "text": "a"}, {"id": None, "text": "b"}], {}, "row 1 has no value in 'id'", id="null"),
        pytest.param([{"id": float("nan"), "text": "b"}], {}, "row 0 has no value in 'id'", id="NaN"),
        pytest.param(
            table(2),
            {"run": runs.Run(fields={}, output_type=Mood)},
            "row 0: column 'text' of the source is also a field of output_type",
            id="a field of output_type",
        ),
        pytest.param(
            [{"id": 1, "text": "a"}, {"id": 2, "text": "b", "_cost": 1}],
            {},
            "row 1: column '_cost' of the source is also a column of the result",
            id="a column of the result, in one row",
        ),
        pytest.param(
            table(1), {"columns": ["mood"]}, "column 'mood' of the source is also a field", id="a chosen column"
        ),
        pytest.param(table(1), {"columns": ["txet"]}, "columns: no row has a column 'txet'", id="no such column"),
        pytest.param([{"id": 1, "text": object()}], {}, "row 0: column 'text' holds a object", id="no JSON form"),
        pytest.param([{"id": "\ud800", "text": "a"}], {}, "row 0 holds half of", id="no text as key"),
        pytest.param(
            [{"id": 1, "text": ""}],
            {"ask": lambda row: {"model": MODEL, "input": row["text"]}},
            r"no row can be sent. The first, row 0 \(key 1\): .*input: is empty",
            id="all empty",
        ),
        pytest.param(
            table(2),
            {"limits": Limits(max_request_bytes=10)},
            "no row can be sent.*max_request_bytes is 10",
            id="all too large",
        ),
        pytest.param([], {"allow_empty": False}, "the source has no rows, and allow_empty is False", id="empty"),
        pytest.param([3], {}, "row 0 is a int; allowed is a dict", id="no row"),
    ],
)
def test_bad_input_is_named_before_anything_is_sent(rows, given, said, responses_sandbox, tmp_path):
    with pytest.raises(ResponsesError, match=said) as caught:
        enrich(responses_sandbox, tmp_path, rows, **given)
    assert isinstance(caught.value, (RequestValidationError, ConfigurationError))
    assert not caught.value.retryable
    assert responses_sandbox.ledger == []
    # Nobody is kept out after that.
    other = Writer(owner="other")
    assert enrich(responses_sandbox, tmp_path, table(1), writer=other)["counts"] == {"ok": 1}


def test_an_empty_source_succeeds(responses_sandbox, tmp_path):
    told = enrich(responses_sandbox, tmp_path, [])
    assert (told["rows"], told["counts"], told["complete"]) == (0, {"ok": 0}, True)
    assert result(tmp_path) == []


def test_a_bad_row_marks_only_itself(responses_sandbox, tmp_path):
    rows = table(5)
    rows[1]["text"] = ""
    rows[3]["text"] = "long " * 1000
    given = {
        "ask": lambda row: {"model": MODEL, "input": row["text"]},
        "limits": Limits(max_request_bytes=4000, max_failures=2),
    }
    told = enrich(responses_sandbox, tmp_path, rows, **given)

    assert told["counts"] == {"ok": 3, "invalid": 2}
    assert len(responses_sandbox.ledger) == 3
    made = result(tmp_path)
    assert [row["_status"] for row in made] == ["ok", "invalid", "ok", "invalid", "ok"]
    assert "input: is empty" in made[1]["_error"]
    assert "limits.max_request_bytes is 4000" in made[3]["_error"]
    assert (made[3]["text"], made[3]["mood"], made[3]["_cost"], made[3]["_tries"]) == (rows[3]["text"], None, 0.0, 0)
    assert {tuple(row) for row in made} == {tuple(made[0])}

    with pytest.raises(
        TooManyFailuresError, match=r"2 of 5 rows failed \(2 invalid\).*the same requests would fail again"
    ):
        enrich(
            responses_sandbox, tmp_path, rows, **(given | {"limits": Limits(max_request_bytes=4000, max_failures=1)})
        )


@pytest.mark.parametrize(
    ("allowed", "passes"), [(2, True), (1, False), (0.2, True), (0.19, False), (0, False), (1.0, False)]
)
def test_failures_may_be_a_count_or_a_share(allowed, passes, responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 400, "times": 2})
    limits = Limits(concurrency=1, max_failures=allowed)
    if passes:
        assert enrich(responses_sandbox, tmp_path, table(10), limits=limits)["counts"] == {"ok": 8, "failed": 2}
        return
    with pytest.raises(TooManyFailuresError, match=f"2 of 10 rows failed .* limits.max_failures is {allowed:g}"):
        enrich(responses_sandbox, tmp_path, table(10), limits=limits)
    assert manifest(tmp_path)["counts"] == {"ok": 8, "failed": 2}
    assert [row["_status"] for row in result(tmp_path)] == ["failed"] * 2 + ["ok"] * 8


def test_a_run_in_which_nothing_succeeds_fails(responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 400, "times": 3})
    with pytest.raises(TooManyFailuresError, match="3 of 3 rows failed"):
        enrich(responses_sandbox, tmp_path, table(3), limits=Limits(max_failures=10))


def test_a_budget_stops_and_a_larger_one_goes_on(responses_sandbox, tmp_path):
    rows = table(40)
    enrich(responses_sandbox, tmp_path / "dry", rows)
    whole = manifest(tmp_path / "dry")["cost"]
    responses_sandbox.reset()

    with pytest.raises(
        BudgetExceededError, match=r"limits.max_cost of .* is spent.*raise the limit to go on"
    ) as caught:
        enrich(responses_sandbox, tmp_path, rows, limits=Limits(concurrency=4, max_cost=whole / 2))
    assert not caught.value.retryable
    spent = sum(entry.cost for entry in responses_sandbox.ledger)
    assert whole / 4 < spent <= whole / 2
    told = manifest(tmp_path)
    assert not told["complete"]
    assert told["cost"] == pytest.approx(spent)
    assert told["counts"] == {"ok": len(responses_sandbox.billed), "missing": 40 - len(responses_sandbox.billed)}
    assert {row["_status"] for row in result(tmp_path)} == {"ok", "missing"}

    # The same again is stopped by what was spent before.
    sent = len(responses_sandbox.ledger)
    with pytest.raises(BudgetExceededError):
        enrich(responses_sandbox, tmp_path, rows, limits=Limits(max_cost=spent))
    assert len(responses_sandbox.ledger) == sent

    told = enrich(responses_sandbox, tmp_path, rows, limits=Limits(max_cost=whole * 1.5))
    assert told["counts"] == {"ok": 40}
    assert len(responses_sandbox.billed) == 40
    assert told["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger))


@pytest.mark.parametrize(
    ("step", "kind"),
    [({"status": 401}, UnauthorizedResponseError), ({"status": 402}, PaymentRequiredResponseError)],
)
def test_what_is_wrong_for_all_rows_stops_at_once(step, kind, responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 10, step)
    limits = Limits(concurrency=2)
    with pytest.raises(kind):
        enrich(responses_sandbox, tmp_path, table(50), limits=limits)
    done = len(responses_sandbox.billed)
    assert 10 <= done <= 12
    assert len(responses_sandbox.ledger) <= 13
    assert manifest(tmp_path)["counts"] == {"ok": done, "missing": 50 - done}
    assert not manifest(tmp_path)["complete"]

    assert enrich(responses_sandbox, tmp_path, table(50), limits=limits)["counts"] == {"ok": 50}
    assert len(responses_sandbox.billed) == 50


def test_a_model_that_does_not_exist_and_a_key_without_credit_stop_the_run(responses_sandbox, tmp_path):
    with pytest.raises(ResponsesError, match="missing/model"):
        enrich(responses_sandbox, tmp_path, table(50), ask=lambda row: ask(row) | {"model": "missing/model"})
    assert len(responses_sandbox.ledger) <= 8
    responses_sandbox.reset()
    with pytest.raises(UnauthorizedResponseError):
        enrich(responses_sandbox, tmp_path, table(50), config=connect(responses_sandbox.base_url, "wrong-key"))
    assert len(responses_sandbox.ledger) <= 8


class Died(BaseException):
    """The process ends here, as far as the engine is concerned."""


def test_answers_that_were_not_written_come_back_for_nothing(responses_sandbox, tmp_path, monkeypatch):
    rows = table(30)

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_responses.enrich.folder.Folder.write_part", die)
        patch.setattr("airflow_provider_responses.enrich.folder.Folder.release", lambda _: None)
        with pytest.raises(Died):
            enrich(responses_sandbox, tmp_path, rows)
    assert len(responses_sandbox.billed) == 30
    assert not (tmp_path / "parts").exists()

    told = enrich(responses_sandbox, tmp_path, rows, writer=Writer(owner="task", try_number=2))
    assert len(responses_sandbox.billed) == 30
    assert (told["cache_hits"], told["cost"], told["counts"]) == (30, 0.0, {"ok": 30})


def test_of_a_torn_part_only_what_is_lost_is_sent_again(responses_sandbox, tmp_path):
    rows = table(30)
    enrich(responses_sandbox, tmp_path, rows, run=replace(TEXT, cache=False))
    before = result(tmp_path)
    (part,) = parts(tmp_path)
    order = [row["_key"] for row in lines(part)]
    tear(part)
    whole = part.read_bytes().count(b"\n")
    assert 0 < whole < 29

    enrich(responses_sandbox, tmp_path, rows, run=replace(TEXT, cache=False))
    again = {entry.body["input"] for entry in responses_sandbox.ledger[30:]}
    assert again == {f"Mood of hello {key[1:]}" for key in order[whole:]}
    assert [row["output"] for row in result(tmp_path)] == [row["output"] for row in before]


def test_parts_are_written_while_the_run_goes_on(responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_responses.enrich.engine.TICK", 0.01)
    responses_sandbox.latency = 0.01
    around = Surroundings(part_rows=20, flush_seconds=0.05)
    told = enrich(responses_sandbox, tmp_path, table(200), around, limits=Limits(concurrency=16))

    written = [lines(part) for part in parts(tmp_path)]
    assert len(written) > 5
    assert max(map(len, written)) <= 20
    # A part that is being written at the end is not written twice.
    assert sorted(row["_row"] for part in written for row in part) == list(range(200))
    assert enrich(responses_sandbox, tmp_path, table(200))["cost"] == told["cost"]


def test_a_part_that_cannot_be_written_ends_the_run(responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_responses.enrich.engine.TICK", 0.01)
    (tmp_path / "parts").write_text("in the way")
    with pytest.raises(FileExistsError):
        enrich(responses_sandbox, tmp_path, table(2000), Surroundings(flush_seconds=0.0))
    assert len(responses_sandbox.ledger) < 2000


def test_the_rows_of_a_callable_may_have_whole_requests(responses_sandbox, tmp_path):
    def whole(row: dict[str, Any]) -> dict[str, Any]:
        message = {"type": "message", "role": "user", "content": row["text"]}
        return {"model": MODEL, "input": (message,), "metadata": {"row": row["id"]}}

    enrich(responses_sandbox, tmp_path, table(3), ask=whole)
    assert sorted(entry.metadata["row"] for entry in responses_sandbox.ledger) == ["r0", "r1", "r2"]


def test_all_tries_of_a_row_are_the_runners(responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 500, "times": 2})
    options = RequestOptions(max_retries=1)
    with pytest.raises(TooManyFailuresError, match="InternalServerResponseError"):
        enrich(responses_sandbox, tmp_path, table(1), options=options)
    assert len(responses_sandbox.ledger) == manifest(tmp_path)["requests_sent"] == 2
    assert result(tmp_path)[0]["_tries"] == 2


class Wrapped(RootModel[Label]):
    """An object without fields of its own."""


def test_an_output_type_that_wraps_another_is_one_column(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(1), run=runs.Run(fields={}, output_type=Wrapped, stream=False))
    assert isinstance(result(tmp_path)[0]["output"]["mood"], str)


def test_chosen_columns_come_with_the_key_and_need_not_mind_the_others(responses_sandbox, tmp_path):
    rows = [{"id": 1, "text": "a", "mood": "old", "_cost": 3, "stars": None}]
    enrich(responses_sandbox, tmp_path, rows, columns=["stars"])
    assert list(result(tmp_path)[0])[:4] == ["_row", "id", "stars", "mood"]
    assert result(tmp_path)[0]["mood"] != "old"


class Watched(list):  # type: ignore[type-arg]
    """The answers of a run; tells how many there are when one comes."""

    def __init__(self, seen: Callable[[int], None]) -> None:
        super().__init__()
        self.seen = seen

    def append(self, answer: Any) -> None:
        super().append(answer)
        self.seen(len(self))


def test_cancelling_keeps_what_is_done(responses_sandbox, tmp_path):
    responses_sandbox.script(*[{}] * 5, {"hang": True, "times": 20})
    enrichment = Enrichment(job(responses_sandbox, tmp_path, table(20)))
    enrichment._answered = Watched(lambda answers: enrichment.cancel() if answers == 5 else None)
    with pytest.raises(RequestCancelledError, match="what is done stays"):
        enrichment.run()
    assert sum(len(lines(part)) for part in parts(tmp_path)) == 5


def test_a_run_ends_in_time(responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_responses.enrich.engine.TICK", 0.01)
    responses_sandbox.script(*[{}] * 5, {"hang": True, "times": 20})
    with pytest.raises(TransportError, match="the task's time of 1 s is over") as caught:
        enrich(responses_sandbox, tmp_path, table(20), seconds=1)
    assert caught.value.retryable
    assert manifest(tmp_path)["counts"] == {"ok": 5, "missing": 15}


def test_progress_is_told(responses_sandbox, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("airflow_provider_responses.enrich.engine.TICK", 0.01)
    monkeypatch.setattr("airflow_provider_responses.enrich.engine.PROGRESS_SECONDS", 0.05)
    responses_sandbox.latency = 0.05
    told: list[Any] = []
    with caplog.at_level(logging.INFO):
        enrich(responses_sandbox, tmp_path, table(60), Surroundings(report=told.append), limits=Limits(concurrency=8))
    assert told
    assert all(set(it) == {"done", "left", "rate", "cost", "failed", "sent_again", "in_flight"} for it in told)
    assert all(it["done"] + it["left"] == 60 for it in told)
    assert "of 60 requests done" in caplog.text
    assert "60 rows: 60 ok. 60 requests sent" in caplog.text


# Two writers


class Clock:
    """The time of day, set by the test."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


def test_a_second_task_is_refused_until_the_lease_lapses(responses_sandbox, tmp_path):
    now = Clock()
    first = Enrichment(job(responses_sandbox, tmp_path, table(3)), Surroundings(now=now))
    first.folder.acquire(resume=True)

    now.time += LEASE_SECONDS - 1
    with pytest.raises(ConfigurationError, match=r"is being written by task, try 1. Wait .* for 1 s") as caught:
        enrich(responses_sandbox, tmp_path, table(3), Surroundings(now=now), writer=Writer(owner="other"))
    assert caught.value.retryable
    assert responses_sandbox.ledger == []

    now.time += 2
    told = enrich(responses_sandbox, tmp_path, table(3), Surroundings(now=now), writer=Writer(owner="other"))
    assert told["counts"] == {"ok": 3}


def test_an_older_try_is_refused(responses_sandbox, tmp_path):
    newer = Enrichment(job(responses_sandbox, tmp_path, table(3), writer=Writer(owner="task", try_number=2)))
    newer.folder.acquire(resume=True)
    with pytest.raises(ConfigurationError, match="is being written by task, try 2"):
        enrich(responses_sandbox, tmp_path, table(3))


@pytest.mark.parametrize("resume", [True, False])
def test_a_newer_try_takes_over_and_the_zombie_adds_nothing(resume, responses_sandbox, tmp_path):
    rows = table(10)
    told: dict[str, Any] = {}

    def take_over() -> None:
        """Another process does the whole job, while this one has answers that it has not written."""
        writer = Writer(owner="task", try_number=2, stamp="" if resume else "cleared")
        told.update(enrich(responses_sandbox, tmp_path, rows, writer=writer, resume=resume))

    zombie = Enrichment(job(responses_sandbox, tmp_path, rows))
    flush = zombie._flush

    def late(index: Any) -> None:
        thread = threading.Thread(target=take_over)  # with an event loop of its own
        thread.start()
        thread.join()
        flush(index)

    zombie._flush = late  # type: ignore[method-assign]
    with pytest.raises(LeaseLostError, match="task, try 2, writes here now; this one stops"):
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


def test_a_zombie_stops_at_its_next_renewal(responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_provider_responses.enrich.engine.TICK", 0.01)
    monkeypatch.setattr("airflow_provider_responses.enrich.engine.LEASE_SECONDS", 0.0)  # renews at every look
    responses_sandbox.script(*[{}] * 5, {"delay": 0.02, "times": 1000})
    zombie = Enrichment(job(responses_sandbox, tmp_path, table(1000), limits=Limits(concurrency=1)))
    newer = Enrichment(job(responses_sandbox, tmp_path, [], writer=Writer(owner="task", try_number=2))).folder
    zombie._answered = Watched(lambda answers: newer.acquire(resume=True) if answers == 3 else None)
    with pytest.raises(LeaseLostError):
        zombie.run()
    assert len(responses_sandbox.ledger) < 1000
    assert not (tmp_path / "result.jsonl").exists()
    newer.renew()  # it is still the newer try's


def test_the_lease_is_renewed_while_a_long_source_is_read(responses_sandbox, tmp_path):
    now = Clock()

    def slow() -> Any:
        for chunk in read_rows(table(3000)):
            now.time += LEASE_SECONDS / 2
            yield chunk
        with pytest.raises(ConfigurationError, match="is being written by task"):
            enrich(responses_sandbox, tmp_path, table(1), Surroundings(now=now), writer=Writer(owner="other"))

    same = lambda _: {"model": MODEL, "input": "The same"}  # noqa: E731
    told = enrich(responses_sandbox, tmp_path, [], Surroundings(now=now), chunks=slow, ask=same)
    assert told["counts"] == {"ok": 3000}
