"""The reports of an attempt: progress line, warnings, manifest."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.client.response_check import is_one_of_many
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.enrich.report import MAX_LINE_LENGTH, Report
from airflow_provider_responses.enrich.silence import Silence
from airflow_provider_responses.exceptions import TooManyFailuresError
from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.task.cost_total import CostTotal
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import MODEL, Label, connect, enrich, job, manifest, parts, result, row_fields, table

TEXT = TaskRequest(fields={}, stream=False)
TYPED = TaskRequest(fields={}, output_type=Label, output_retries=0, stream=False)


def without_prices(server: Any) -> ClientConfig:
    return replace(connect(server.base_url), dialect="open")


def warnings(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def reported(sandbox: Any, folder: Any, seconds: float, **progress: Any) -> Report:
    now = [100.0]
    report = Report(job(sandbox, folder, []), Environment(clock=lambda: now[0], now=lambda: 1_700_000_000.0))
    report.rows, report.pending, report.spent = 15, 10, CostTotal(7.0, priced=5)
    report.progress = Progress(**progress)
    now[0] += seconds
    return report


def test_the_progress_line_is_short_and_begins_with_numbers(responses_sandbox, tmp_path):
    report = reported(
        responses_sandbox,
        tmp_path,
        8.0,
        done=4,
        cost=0.2,
        cached_cost=0.2,
        priced_responses=4,
        in_flight=2,
        failures=Counter(RefusalError=1),
        resent=Counter({"429": 3}),
    )
    assert report.line(8.9) == (
        "4/10 requests, 0.5/s, 12 s left, $7.40 + about $0.60, 1 failed (RefusalError 1), 3 resent (429 3), "
        "2 in flight of 8"
    )
    report.progress.down_since = 103.0
    assert report.line(1.0) == (
        "4/10 requests, 0.5/s, down since 22:13:15 UTC, 12 s left, $7.40 + about $0.60, 1 failed (RefusalError 1), "
        "3 resent"
    )
    assert report.figures()["cost"] == pytest.approx(7.4)


@pytest.mark.parametrize(
    ("models", "names"),
    [
        ((), ""),
        (("openai/gpt-4o",), " from openai/gpt-4o"),
        (("",), " from the model of the connection"),
        (("a", "b"), " from 2 models"),
        (("a/" + "b" * 60,), " from a/" + "b" * 38),
    ],
)
def test_the_progress_line_names_silent_models(models, names, responses_sandbox, tmp_path):
    report = reported(responses_sandbox, tmp_path, 45.0, in_flight=64)
    text = report.line(64, Silence(45.2, models))
    assert text.startswith(f"0/10 requests, 0.0/s, no response for 45 s{names}, time left unknown, $7.00")
    report.progress.down_since = 103.0
    assert "no response" not in report.line(64, Silence(45.2, models)), "a service that is down is more than silent"


def test_the_progress_line_shows_unknown_costs(responses_sandbox, tmp_path):
    report = reported(responses_sandbox, tmp_path, 8.0, done=2, unpriced=2)
    report.spent = CostTotal()
    assert "cost unknown" in report.line(8)
    assert report.figures()["cost"] is None
    report.spent = CostTotal(0.5, priced=1)
    assert "at least $0.50" in report.line(8)


@given(
    left=st.integers(0, 10**9),
    done=st.integers(0, 10**9),
    cost=st.floats(0, 1e7),
    unpriced=st.integers(0, 10**9),
    seconds=st.floats(0, 1e8),
    kinds=st.dictionaries(st.text("Error4092", max_size=60), st.integers(1, 10**9), max_size=4),
    down=st.none() | st.floats(0, 1e6),
    silence=st.none() | st.builds(Silence, st.floats(0, 1e8), st.lists(st.text("ab/", max_size=200), max_size=3)),
)
def test_no_line_is_longer_than_120_characters(left, done, cost, unpriced, seconds, kinds, down, silence):
    now = [0.0]
    report = Report(SimpleNamespace(escalate=(), judge=None), Environment(clock=lambda: now[0], now=lambda: 1.7e9))
    report.pending, now[0] = left, seconds
    report.progress = Progress(
        done=min(done, left),
        cost=cost,
        priced_responses=done,
        unpriced=unpriced,
        in_flight=done,
        failures=Counter(kinds),
        resent=Counter(kinds),
        down_since=down,
    )
    line = report.line(1e9, silence)
    assert len(line) <= MAX_LINE_LENGTH
    assert line[0].isdigit()


class TestUnknownCost:
    """With a server that sends no prices."""

    def test_is_null_if_no_response_had_a_price(self, tmp_path, caplog):
        with Sandbox(dialect="open") as server, caplog.at_level(logging.INFO):
            told = enrich(server, tmp_path, table(3), config=without_prices(server))
            assert (told["cost"], told["cost_this_attempt"], told["cost_is_minimum"]) == (None, None, False)
            assert told["responses_without_price"] == 3
            assert "cost unknown in this attempt, unknown in all" in caplog.text
            again = enrich(server, tmp_path, table(3), config=without_prices(server))
        assert (again["cost"], again["cost_this_attempt"], again["cost_is_minimum"]) == (None, 0.0, False)
        assert "3 with a response from before; cost so far unknown" in caplog.text

    def test_is_a_minimum_if_some_responses_had_a_price(self, responses_sandbox, tmp_path, caplog):
        responses_sandbox.script({"drop": "after"})
        with caplog.at_level(logging.INFO):
            told = enrich(responses_sandbox, tmp_path, table(3), config=without_prices(responses_sandbox))
        assert told["cost"] == told["cost_this_attempt"] == pytest.approx(sum(row["_cost"] for row in result(tmp_path)))
        assert told["cost_is_minimum"]
        assert "cost at least $" in caplog.text
        again = enrich(responses_sandbox, tmp_path, table(3), config=without_prices(responses_sandbox))
        assert (again["cost"], again["cost_this_attempt"]) == (told["cost"], 0.0)

    def test_of_a_cached_response_belongs_to_the_earlier_attempt(self, responses_sandbox, tmp_path):
        enrich(responses_sandbox, tmp_path, table(3))
        for part in parts(tmp_path):
            part.unlink()
        responses_sandbox.script({}, {}, {}, {"status": 404, "times": 3})
        told = enrich(responses_sandbox, tmp_path, table(3))
        assert (told["cache_hits"], told["cost_this_attempt"]) == (3, 0.0)

    def test_is_0_if_nothing_was_billed(self, responses_sandbox, tmp_path):
        responses_sandbox.script({"status": 400, "times": 3})
        with pytest.raises(TooManyFailuresError):
            enrich(responses_sandbox, tmp_path, table(3))
        assert (manifest(tmp_path)["cost"], manifest(tmp_path)["cost_is_minimum"]) == (0.0, False)


CUT = {"incomplete": "max_output_tokens"}
INVALID = {"text": "no JSON"}
REFUSAL = {"refusal": "No, I will not."}
UNFINISHED = [(INVALID, TYPED, "invalid_output"), (CUT, TEXT, "incomplete"), (REFUSAL, TEXT, "refused")]


class TestReturned:
    """Rejected responses that ``on_invalid_output="return"`` accepts."""

    @pytest.mark.parametrize(("step", "run", "status"), UNFINISHED)
    def test_have_their_error_and_their_text(self, step, run, status, responses_sandbox, tmp_path):
        responses_sandbox.script(step)
        told = enrich(responses_sandbox, tmp_path, table(1), request=replace(run, on_invalid_output="return"))
        (row,) = result(tmp_path)
        assert told["counts"] == {"ok": 0, status: 1}
        errors = {"invalid_output": "OutputValidationError: ", "incomplete": "IncompleteResponseError: "}
        assert row["_error"].startswith(errors.get(status, f"RefusalError: {REFUSAL['refusal']}"))
        texts = {"invalid_output": "no JSON", "incomplete": row.get("output"), "refused": ""}
        assert row["_output_text"] == texts[status]
        assert row.get("output", "typed")

    @pytest.mark.parametrize(("step", "run", "status"), UNFINISHED)
    def test_are_the_same_whether_they_are_accepted_at_first_or_later(
        self, step, run, status, responses_sandbox, tmp_path
    ):
        returning = replace(run, on_invalid_output="return")
        responses_sandbox.script(step)
        with pytest.raises(TooManyFailuresError):
            enrich(responses_sandbox, tmp_path, table(1), request=run)
        (failed,) = result(tmp_path)
        told = enrich(responses_sandbox, tmp_path, table(1), request=returning)
        (row,) = result(tmp_path)
        assert len(responses_sandbox.ledger) == 1
        assert told["counts"] == {"ok": 0, status: 1}
        taken = {"incomplete": failed["_output_text"], "refused": REFUSAL["refusal"]}.get(status)
        assert row == failed | ({} if taken is None else {"output": taken})
        assert enrich(responses_sandbox, tmp_path, table(1), request=returning)["requests_sent"] == 0

    def test_a_whole_response_that_is_invalid_is_no_success(self, responses_sandbox, tmp_path):
        responses_sandbox.script({"text": "no JSON"})
        run = replace(TYPED, on_invalid_output="return", result="response")
        enrich(responses_sandbox, tmp_path, table(1), request=run)
        (row,) = result(tmp_path)
        assert (row["_status"], row["output"]["id"]) == ("invalid_output", row["_response_id"])


class TestWarnings:
    def test_one_for_each_kind_of_failure_with_the_first_keys(self, responses_sandbox, tmp_path, caplog):
        responses_sandbox.script(*[{"status": 400, "message": "bad"}] * 7, *[{"refusal": "My secret reason."}] * 2)
        with caplog.at_level(logging.INFO):
            enrich(responses_sandbox, tmp_path, table(12), limits=Limits(concurrency=1, max_failures=9), request=TEXT)
        failed, refused = warnings(caplog)
        assert failed.startswith(
            "7 rows failed with BadRequestResponseError, the first being 'r0', 'r1', 'r2', 'r3', 'r4'. Of 'r0': "
        )
        assert refused.startswith("2 rows are refused: RefusalError, the first being 'r7', 'r8'. Of 'r7': ")
        assert "My secret reason." not in caplog.text

    @pytest.mark.parametrize("rows", [3, 60])
    def test_no_warning_has_the_words_of_a_model(self, rows, responses_sandbox, tmp_path):
        responses_sandbox.script({"refusal": "My secret reason.", "times": rows})
        with pytest.raises(TooManyFailuresError, match="the model's words are in its `_error`") as caught:
            enrich(responses_sandbox, tmp_path, table(rows), request=TEXT)
        assert "secret" not in str(caught.value)
        assert {row["_error"] for row in result(tmp_path) if row["_error"]} == {"RefusalError: My secret reason."}

    def test_invalid_outputs_that_are_requested_again_are_one_warning(self, responses_sandbox, tmp_path, caplog):
        responses_sandbox.script(*[{"text": "no JSON"}, {}] * 3)
        with caplog.at_level(logging.INFO):
            enrich(responses_sandbox, tmp_path, table(3), limits=Limits(concurrency=1))
        (again,) = warnings(caplog)
        assert again.startswith(
            "3 outputs were invalid and their requests sent again, the first being 'r0', 'r1', 'r2'. Of 'r0': "
        )

    def test_invalid_rows_are_one_warning(self, responses_sandbox, tmp_path, caplog):
        rows = [*table(3), {"id": "r3", "text": ""}, {"id": "r4", "text": ""}]
        ask = lambda row: {"model": MODEL, "input": row["text"]}  # noqa: E731  as a user's
        enrich(responses_sandbox, tmp_path, rows, row_fields=ask, limits=Limits(max_failures=2))
        (invalid,) = warnings(caplog)
        assert invalid.startswith("2 rows are invalid and were not sent, the first being 'r3': ")

    def test_responses_that_may_be_truncated_are_one_warning(self, responses_sandbox, tmp_path, caplog):
        text = {"text": "word " * 40}
        responses_sandbox.script(text)
        enrich(responses_sandbox, tmp_path / "whole", table(1), request=TEXT)
        limit = responses_sandbox.ledger[0].output_tokens
        caplog.clear()
        responses_sandbox.script(text | {"times": 3})
        given = {"row_fields": lambda row: row_fields(row) | {"max_output_tokens": limit}, "request": TEXT}
        told = enrich(responses_sandbox, tmp_path, table(3), **given)
        assert told["maybe_truncated"] == 3
        (truncated,) = warnings(caplog)
        assert not is_one_of_many.get()  # in the context of this test
        assert truncated.startswith("The responses of 3 rows are complete by their status, and may be truncated, the ")

    def test_an_attempt_without_failures_has_no_warning(self, responses_sandbox, tmp_path, caplog):
        with caplog.at_level(logging.INFO):
            enrich(responses_sandbox, tmp_path, table(3))
        assert warnings(caplog) == []


@pytest.mark.parametrize("rows", [20, 500])
def test_an_attempt_whose_rows_all_fail_with_400_is_final_whatever_its_size(rows, responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 400, "times": rows})
    with pytest.raises(TooManyFailuresError) as caught:
        enrich(responses_sandbox, tmp_path, table(rows))
    assert not caught.value.retryable
    assert len(responses_sandbox.ledger) <= 200


def test_an_attempt_with_retryable_failures_is_left_to_a_retry(responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 500}, {"status": 400, "times": 200})
    given = {"limits": Limits(concurrency=1), "options": RequestOptions(max_retries=0)}
    with pytest.raises(TooManyFailuresError) as caught:
        enrich(responses_sandbox, tmp_path, table(200), **given)
    assert caught.value.retryable
