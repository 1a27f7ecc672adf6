"""Reasons to send a row or a whole table not at all or no further: bad input, failures, costs, the key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, Field, computed_field, model_serializer

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.exceptions import (
    BudgetExceededError,
    ConfigurationError,
    PaymentRequiredResponseError,
    RequestValidationError,
    ResponsesError,
    SourceError,
    TooManyFailuresError,
    UnauthorizedResponseError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import (
    MODEL,
    connect,
    enrich,
    manifest,
    result,
    row_fields,
    table,
)

TEXT = TaskRequest(fields={}, stream=False)


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
        pytest.param(
            [{"id": 1, "text": "a"}, {"id": "1", "text": "b"}],
            {},
            "key: rows 0 and 1 have the same 'id', '1', once as text and once as another type",
            id="a key of two types",
        ),
        pytest.param([{"id": 1, "text": "a"}, {"text": "b"}], {}, "row 1 has no column 'id'", id="no key column"),
        pytest.param([{"id": 1, "text": "a"}, {"id": None, "text": "b"}], {}, "row 1 has no value in 'id'", id="null"),
        pytest.param([{"id": float("nan"), "text": "b"}], {}, "row 0 has no value in 'id'", id="NaN"),
        pytest.param(
            table(2),
            {"request": TaskRequest(fields={}, output_type=Mood)},
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
            {"row_fields": lambda row: {"model": MODEL, "input": row["text"]}},
            r"^row 0 \(key 1\): .*input must not be empty.*\. No row can be sent$",
            id="all empty",
        ),
        pytest.param(
            table(2),
            {"limits": Limits(max_request_bytes=10)},
            r"max_request_bytes is 10\. No row can be sent$",
            id="all too large",
        ),
        pytest.param([], {"allow_empty": False}, "the source has no rows, and allow_empty is False", id="empty"),
        pytest.param([3], {}, "source: row 0 must be a dict, got int", id="no row"),
    ],
)
def test_bad_input_is_named_before_anything_is_sent(rows, given, said, responses_sandbox, tmp_path):
    with pytest.raises(ResponsesError, match=said) as caught:
        enrich(responses_sandbox, tmp_path, rows, **given)
    assert isinstance(caught.value, (RequestValidationError, ConfigurationError, SourceError))
    assert not caught.value.retryable
    assert responses_sandbox.ledger == []
    # Afterwards the output is free.
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
        "row_fields": lambda row: {"model": MODEL, "input": row["text"]},
        "limits": Limits(max_request_bytes=4000, max_failures=2),
    }
    told = enrich(responses_sandbox, tmp_path, rows, **given)

    assert told["counts"] == {"ok": 3, "invalid": 2}
    assert len(responses_sandbox.ledger) == 3
    made = result(tmp_path)
    assert [row["_status"] for row in made] == ["ok", "invalid", "ok", "invalid", "ok"]
    assert "input must not be empty" in made[1]["_error"]
    assert "limits.max_request_bytes is 4000" in made[3]["_error"]
    assert (made[3]["text"], made[3]["mood"], made[3]["_cost"], made[3]["_sends"]) == (rows[3]["text"], None, 0.0, 0)
    assert {tuple(row) for row in made} == {tuple(made[0])}


@pytest.mark.parametrize("most", [1, 0.3])
def test_more_invalid_rows_than_max_failures_send_nothing(most, responses_sandbox, tmp_path):
    rows = table(5)
    rows[1]["text"] = rows[3]["text"] = ""
    with pytest.raises(
        RequestValidationError,
        match=rf"^row 1 \(key r1\): .*input must not.* 2 of 5 rows cannot be sent, and limits.max_failures is {most},",
    ):
        enrich(
            responses_sandbox,
            tmp_path,
            rows,
            row_fields=lambda row: {"model": MODEL, "input": row["text"]},
            limits=Limits(max_failures=most),
        )
    assert not responses_sandbox.ledger


def test_a_row_that_is_nested_too_deeply_is_named(responses_sandbox, tmp_path):
    rows = table(3)
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    rows[2]["x"] = deep
    with pytest.raises(RequestValidationError, match="row 2 is nested too deeply for JSON"):
        enrich(responses_sandbox, tmp_path, rows)
    assert not responses_sandbox.ledger


class Renamed(BaseModel):
    mood: str

    @model_serializer
    def renamed(self) -> dict[str, str]:
        return {"feeling": self.mood}


class Twice(BaseModel):
    mood: str = Field(serialization_alias="x")
    about: str = Field(serialization_alias="x")


@pytest.mark.parametrize(
    ("output_type", "said"),
    [(Renamed, "Renamed has a @model_serializer"), (Twice, "Twice: two of its fields are called 'x'")],
)
def test_a_type_whose_fields_would_be_lost_is_refused(output_type, said, responses_sandbox, tmp_path):
    with pytest.raises(RequestValidationError, match=f"output_type {said}"):
        enrich(
            responses_sandbox, tmp_path, table(2), request=TaskRequest(fields={}, output_type=output_type, stream=False)
        )
    assert not responses_sandbox.ledger


def test_computed_fields_are_columns_and_excluded_ones_are_not(responses_sandbox, tmp_path):
    class Shown(BaseModel):
        mood: str
        reason: str = Field(exclude=True)

        @computed_field
        def loud(self) -> str:
            return self.mood.upper()

    told = enrich(
        responses_sandbox, tmp_path, table(2), request=TaskRequest(fields={}, output_type=Shown, stream=False)
    )
    rows = result(tmp_path)
    assert all(row["mood"] and row["loud"] == row["mood"].upper() and "reason" not in row for row in rows)
    assert told["requests_sent"] == 2
    again = enrich(
        responses_sandbox, tmp_path, table(2), request=TaskRequest(fields={}, output_type=Shown, stream=False)
    )
    assert (again["requests_sent"], result(tmp_path)) == (0, rows)


@pytest.mark.parametrize(("allowed", "passes"), [(2, True), (1, False), (0.2, True), (0.19, False), (0, False)])
def test_max_failures_may_be_a_count_or_a_share(allowed, passes, responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 400, "times": 2})
    limits = Limits(concurrency=1, max_failures=allowed)
    if passes:
        assert enrich(responses_sandbox, tmp_path, table(10), limits=limits)["counts"] == {"ok": 8, "failed": 2}
        return
    said = f"2 of 10 rows failed .* limits.max_failures is {allowed:g}; the same requests would fail again"
    with pytest.raises(TooManyFailuresError, match=said) as caught:
        enrich(responses_sandbox, tmp_path, table(10), limits=limits)
    assert not caught.value.retryable  # a 400 is final
    assert manifest(tmp_path)["counts"] == {"ok": 8, "failed": 2}
    assert [row["_status"] for row in result(tmp_path)] == ["failed"] * 2 + ["ok"] * 8


def test_an_attempt_in_which_no_row_succeeds_fails(responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 400, "times": 3})
    with pytest.raises(TooManyFailuresError, match="3 of 3 rows failed"):
        enrich(responses_sandbox, tmp_path, table(3), limits=Limits(max_failures=10))


def test_a_spent_budget_stops_and_a_larger_one_continues(responses_sandbox, tmp_path):
    rows = table(40)
    enrich(responses_sandbox, tmp_path / "dry", rows)
    whole = manifest(tmp_path / "dry")["cost"]
    responses_sandbox.reset()

    with pytest.raises(
        BudgetExceededError, match=r"limits.max_cost of .* is spent.*raise the limit to continue"
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

    # The same again is stopped by the costs before.
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
def test_a_failure_of_all_rows_stops_at_once(step, kind, responses_sandbox, tmp_path):
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


def test_an_unknown_model_and_a_key_without_credit_stop_the_attempt(responses_sandbox, tmp_path):
    with pytest.raises(ResponsesError, match="missing/model"):
        enrich(
            responses_sandbox, tmp_path, table(50), row_fields=lambda row: row_fields(row) | {"model": "missing/model"}
        )
    assert len(responses_sandbox.ledger) <= Limits().concurrency
    responses_sandbox.reset()
    with pytest.raises(UnauthorizedResponseError):
        enrich(responses_sandbox, tmp_path, table(50), config=connect(responses_sandbox.base_url, "wrong-key"))
    assert len(responses_sandbox.ledger) <= Limits().concurrency


@pytest.mark.parametrize("rows", [3, 50, 51, 400])
@pytest.mark.parametrize(("model", "retryable"), [("sandbox/error-400", False), ("sandbox/error-500", True)])
def test_an_attempt_whose_requests_all_failed_for_good_is_final(rows, model, retryable, responses_sandbox, tmp_path):
    config = replace(connect(responses_sandbox.base_url), max_retries=0)
    limits = Limits(max_outage=0.0 if retryable else 600.0)
    with pytest.raises(ResponsesError) as caught:
        enrich(
            responses_sandbox,
            tmp_path,
            table(rows),
            row_fields=lambda row: row_fields(row) | {"model": model},
            config=config,
            limits=limits,
        )
    assert caught.value.retryable is retryable
    assert isinstance(caught.value, TooManyFailuresError) or retryable
    assert len(responses_sandbox.ledger) <= 50 + limits.concurrency
