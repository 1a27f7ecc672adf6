"""All costs are reported and stay within the budget, also those of invalid outputs and of attempts that end early."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, RootModel, field_validator

from airflow_provider_responses.enrich.index import Index
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.exceptions import (
    BudgetExceededError,
    PaymentRequiredResponseError,
    ResponsesError,
    StorageError,
    TooManyFailuresError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import Label, connect, enrich, lines, manifest, parts, result, table

NO_JSON = {"text": "no JSON"}
TYPED = TaskRequest(fields={}, output_type=Label, stream=False)


def paid(sandbox: Any) -> float:
    return sum(entry.cost for entry in sandbox.billed)


@pytest.mark.parametrize("output_retries", [1, 10])
def test_requests_that_are_sent_again_stay_within_the_budget(output_retries, responses_sandbox, tmp_path):
    responses_sandbox.script(NO_JSON | {"times": 10_000})
    run = replace(TYPED, output_retries=output_retries)
    with pytest.raises(TooManyFailuresError):
        enrich(responses_sandbox, tmp_path / "one", table(1), request=run)
    most_expensive = max(entry.cost for entry in responses_sandbox.billed)
    before = paid(responses_sandbox)

    limits = Limits(max_cost=20 * most_expensive, concurrency=16, max_failures=1000)
    with pytest.raises(BudgetExceededError):
        enrich(responses_sandbox, tmp_path / "many", table(200), request=run, limits=limits)
    assert 10 * most_expensive < paid(responses_sandbox) - before <= 20 * most_expensive * 1.1
    assert manifest(tmp_path / "many")["cost"] == pytest.approx(paid(responses_sandbox) - before)


@pytest.mark.parametrize("cache", [True, False])
def test_the_next_attempt_includes_the_cost_of_a_stopped_one(cache, responses_sandbox, tmp_path):
    run = replace(TYPED, cache=cache)
    responses_sandbox.script(NO_JSON, {"status": 402}, {})
    with pytest.raises(PaymentRequiredResponseError):
        enrich(responses_sandbox, tmp_path, table(3), request=run, limits=Limits(concurrency=1))
    assert manifest(tmp_path)["cost"] == pytest.approx(paid(responses_sandbox)) != 0

    told = enrich(responses_sandbox, tmp_path, table(3), request=run, writer=Writer(owner="task", try_number=2))
    assert told["counts"] == {"ok": 3}
    assert told["cost"] == pytest.approx(paid(responses_sandbox))


@pytest.mark.parametrize("steps", [[{"drop": "after"}], [NO_JSON, *[{"drop": "after"}] * 2]])
def test_an_unknown_price_stays_unknown_in_the_next_attempt(steps, responses_sandbox, tmp_path):
    """And known prices stay known."""
    run = replace(TYPED, cache=False)
    limits = Limits(concurrency=1, max_failures=1)
    responses_sandbox.script(*steps)
    first = enrich(responses_sandbox, tmp_path, table(3), request=run, limits=limits)
    second = enrich(responses_sandbox, tmp_path, table(3), request=run, limits=limits)
    assert first["cost_is_minimum"]
    assert second["cost_is_minimum"]
    assert second["cost"] == pytest.approx(first["cost"] + second["cost_this_attempt"])


def test_a_later_attempt_estimates_costs_by_the_parts(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path / "one", table(1))
    price = responses_sandbox.billed[0].cost
    for number in (1, 2):
        writer = Writer(owner="task", try_number=number)
        with pytest.raises(BudgetExceededError, match="is spent"):
            enrich(responses_sandbox, tmp_path, table(9), writer=writer, limits=Limits(max_cost=2.9 * price))
    assert len(responses_sandbox.billed) == 1 + 2


def test_a_send_that_may_have_been_billed_counts_as_unpriced(responses_sandbox, tmp_path):
    responses_sandbox.script({"drop": "after"})
    config = replace(connect(responses_sandbox.base_url), dialect="open")
    told = enrich(responses_sandbox, tmp_path / "open", table(1), config=config)
    assert (told["counts"], told["responses_without_price"]) == ({"ok": 1}, 1)

    responses_sandbox.script({"drop": "after"})
    before = paid(responses_sandbox)
    told = enrich(responses_sandbox, tmp_path / "kept", table(1))
    assert (told["cache_hits"], told["responses_without_price"]) == (1, 0)
    assert told["cost"] == pytest.approx(paid(responses_sandbox) - before)


class FullIndex(Index):
    """An index whose disk is full once there is a response."""

    def add_outcomes(self, outcomes: Any) -> None:
        if list(outcomes):
            raise sqlite3.OperationalError("database or disk is full")


def test_a_full_disk_of_the_index_loses_no_response_and_pays_none_twice(responses_sandbox, tmp_path):
    environment = Environment(tick=0.01, part_rows=10, open_index=FullIndex)
    with pytest.raises(StorageError, match=r"the index of the rows in .* cannot be written"):
        enrich(responses_sandbox, tmp_path, table(60), environment)
    rows = [row["id"] for part in parts(tmp_path) for row in lines(part)]
    assert sorted(rows) == sorted(set(rows))
    assert len(rows) == len(responses_sandbox.billed) > 0

    told = enrich(responses_sandbox, tmp_path, table(60), writer=Writer(owner="task", try_number=2))
    assert told["requests_sent"] == 60 - len(rows)
    assert told["cost"] == pytest.approx(paid(responses_sandbox))


def test_rows_with_the_same_request_are_one_line_of_a_part_and_one_failure(responses_sandbox, tmp_path):
    same = [{"id": f"s{number}", "text": "N/A"} for number in range(60)]
    responses_sandbox.script({"status": 400})
    told = enrich(responses_sandbox, tmp_path, [*same, *table(100)], limits=Limits(max_failures=60, concurrency=1))
    assert told["counts"] == {"ok": 100, "failed": 60}
    assert sum(len(lines(part)) for part in parts(tmp_path)) == 101
    assert [row["_status"] for row in result(tmp_path)] == ["failed"] * 60 + ["ok"] * 100


def found(most: int) -> type[BaseModel]:
    """Return a type whose schema does not depend on the length of labels that its validator accepts."""

    class Found(BaseModel):
        label: str

        @field_validator("label")
        @classmethod
        def short_dollars(cls, label: str) -> str:
            if len(label) > most:
                raise ValueError("too long")
            return label.upper()

    return Found


class TestReadInAnotherWay:
    """The request is the same, and its response is read by other arguments."""

    def test_a_truncated_response_is_accepted_later(self, responses_sandbox, tmp_path):
        ask = lambda row: {"model": "sandbox/incomplete", "input": row["text"]}  # noqa: E731
        text = TaskRequest(fields={}, stream=False)
        with pytest.raises(TooManyFailuresError, match=r"3 of 3 rows failed .*, and none succeeded"):
            enrich(responses_sandbox, tmp_path, table(3), row_fields=ask, request=text)
        told = enrich(
            responses_sandbox, tmp_path, table(3), row_fields=ask, request=replace(text, on_invalid_output="return")
        )
        assert all(row["output"] for row in result(tmp_path))
        sent = len(responses_sandbox.ledger)
        enrich(responses_sandbox, tmp_path, table(3), row_fields=ask, request=replace(text, on_invalid_output="return"))
        assert len(responses_sandbox.ledger) == sent
        assert told["cost"] == pytest.approx(paid(responses_sandbox))

    def test_an_invalid_output_is_accepted_once(self, responses_sandbox, tmp_path):
        responses_sandbox.script(NO_JSON | {"times": 100})
        run = replace(TYPED, on_invalid_output="return", output_retries=0)
        enrich(responses_sandbox, tmp_path, table(3), request=run)
        enrich(responses_sandbox, tmp_path, table(3), request=run)
        assert len(responses_sandbox.ledger) == 3

    def test_another_result_argument_sends_the_rows_again(self, responses_sandbox, tmp_path):
        for result_of in ("text", "response", "text"):
            run = TaskRequest(fields={}, result=result_of, stream=False)
            enrich(responses_sandbox, tmp_path, table(2), request=run)
            kind = str if result_of == "text" else dict
            assert all(isinstance(row["output"], kind) for row in result(tmp_path))
            assert all(row["_tokens"] > 0 for row in result(tmp_path))
        assert len(responses_sandbox.billed) == 2

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_corrected_validator_accepts_a_paid_response(self, wrapped, responses_sandbox, tmp_path):
        def run(most: int) -> TaskRequest:
            kind = RootModel[found(most)] if wrapped else found(most)
            return TaskRequest(fields={}, output_type=kind, output_retries=0, stream=False)

        responses_sandbox.script(*({"text": json.dumps({"label": "x" * size})} for size in (1, 5, 9)))
        given = {"limits": Limits(concurrency=1, max_failures=2)}
        told = enrich(responses_sandbox, tmp_path, table(3), request=run(1), **given)
        assert told["counts"] == {"ok": 1, "invalid_output": 2}
        told = enrich(responses_sandbox, tmp_path, table(3), request=run(5), **given)
        assert told["counts"] == {"ok": 2, "invalid_output": 1}
        assert told["requests_sent"] == 0
        rows = [row["output"] if wrapped else row for row in result(tmp_path)[:2]]
        assert [row["label"] for row in rows] == ["X", "XXXXX"]
        assert [row["_error"] for row in result(tmp_path)[:2]] == [None, None]
        assert told["cost"] == pytest.approx(paid(responses_sandbox))
        assert "_unread" not in result(tmp_path)[2]

    def test_an_invalid_output_has_that_status_also_if_it_is_accepted(self, responses_sandbox, tmp_path):
        def run(most: int) -> TaskRequest:
            kind = found(most)
            return TaskRequest(fields={}, output_type=kind, output_retries=0, on_invalid_output="return", stream=False)

        responses_sandbox.script({"text": '{"label": "x"}'}, {"text": '{"label": "xx"}'})
        limits = Limits(concurrency=1)
        told = enrich(responses_sandbox, tmp_path, table(2), request=run(1), limits=limits)
        assert told["counts"] == {"ok": 1, "invalid_output": 1}
        assert [row["label"] for row in result(tmp_path)] == ["X", None]
        told = enrich(responses_sandbox, tmp_path, table(2), request=run(2), limits=limits)
        assert (told["requests_sent"], told["counts"]) == (0, {"ok": 2})
        assert [row["label"] for row in result(tmp_path)] == ["X", "XX"]


def test_a_field_with_the_name_of_a_result_column_is_refused_at_no_cost(responses_sandbox, tmp_path):
    from pydantic import BaseModel, Field

    class Taken(BaseModel):
        mood: str = Field(alias="_cost")

    with pytest.raises(ResponsesError, match="its field '_cost' is also a column of the result"):
        enrich(responses_sandbox, tmp_path, table(1), request=replace(TYPED, output_type=Taken))
    assert not responses_sandbox.ledger
