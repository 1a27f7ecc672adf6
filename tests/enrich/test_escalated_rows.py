"""Escalation in an enrichment: the small model first, a larger one for the rows whose response is not accepted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.exceptions import (
    BudgetExceededError,
    ConfigurationError,
    RequestValidationError,
    TooManyFailuresError,
)
from airflow_provider_responses.task.escalation import Escalation
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich import jobs
from tests.enrich.tiers import (
    BUSY,
    INCOMPLETE,
    LARGE,
    LARGEST,
    NO_JSON,
    PRICES,
    REFUSAL,
    REJECTED,
    SMALL,
    Models,
    mood,
    to_large,
)

ROWS = 50
FAILS = range(0, ROWS, 5)  # 20 %


def every_fifth(reply: Any) -> Any:
    return lambda row: reply if row % 5 == 0 else None


def lines_of(folder: Any) -> list[dict[str, Any]]:
    """Return the lines of all parts."""
    return [line for part in jobs.parts(folder) for line in jobs.lines(part)]


def test_the_bill_is_that_of_the_small_model_for_all_rows_and_of_the_large_one_for_the_failed(
    responses_sandbox, tmp_path
):
    """In the ledger of the sandbox, in the manifest by tier, and in the rows."""
    steps = [step for row in range(ROWS) for step in ([{"text": "no JSON"}, {}] if row in FAILS else [{}])]
    responses_sandbox.script(*steps)
    told = jobs.enrich(responses_sandbox, tmp_path, jobs.table(ROWS), limits=Limits(concurrency=1), escalate=to_large())

    ledger = responses_sandbox.ledger
    billed = {model: [entry for entry in ledger if entry.billed and entry.body["model"] == model] for model in PRICES}
    assert len(billed[SMALL]) == ROWS
    assert [entry.body["input"] for entry in billed[LARGE]] == [f"Mood of hello {row}" for row in FAILS]
    costs = {model: round(sum(entry.cost for entry in entries), 9) for model, entries in billed.items()}
    assert told["tiers"] == [
        {"model": SMALL, "requests": ROWS, "escalated": len(FAILS), "cost": pytest.approx(costs[SMALL])},
        {"model": LARGE, "requests": len(FAILS), "escalated": 0, "cost": pytest.approx(costs[LARGE])},
    ]
    assert told["cost"] == pytest.approx(costs[SMALL] + costs[LARGE])
    assert told["counts"] == {"ok": ROWS}
    assert (told["requests_sent"], told["complete"]) == (ROWS + len(FAILS), True)
    assert "judge" not in told

    rows = jobs.result(tmp_path)
    assert [row["_row"] for row in rows if row["_escalated"]] == list(FAILS)
    assert [row["_model"].partition(":")[0] for row in rows] == [
        LARGE if row in FAILS else SMALL for row in range(ROWS)
    ]
    assert [row["_sends"] for row in rows] == [2 if row in FAILS else 1 for row in range(ROWS)]
    assert sum(row["_cost"] for row in rows) == pytest.approx(told["cost"])
    assert all(row["_error"] is None and row["mood"] for row in rows)
    assert list(rows[0])[-1] == "_escalated"


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_many_rows_in_flight_cost_what_each_model_bills(output_format, tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON)})
    told = models.enrich(tmp_path, 500, escalate=to_large(), output_format=output_format)
    assert models.paid == {SMALL: 500, LARGE: 100}
    assert [tier["cost"] for tier in told["tiers"]] == [pytest.approx(0.5), pytest.approx(2.0)]
    assert told["cost"] == pytest.approx(models.bill)
    if output_format == "parquet":
        from pyarrow import parquet, types

        table = parquet.read_table(tmp_path / "result.parquet")
        assert types.is_boolean(table.schema.field("_escalated").type)
        rows = table.to_pylist()
    else:
        rows = jobs.result(tmp_path)
    assert [row["mood"] for row in rows] == [f"{SMALL if row % 5 else LARGE} {row}" for row in range(500)]
    assert Counter(row["_escalated"] for row in rows) == {False: 400, True: 100}
    assert rows[0]["_cost"] == pytest.approx(0.021)
    assert rows[0]["_tokens"] == 20


@pytest.mark.parametrize(
    ("when", "reply"),
    [
        ("invalid", NO_JSON),
        ("refused", REFUSAL),
        ("incomplete", INCOMPLETE),
        (lambda value: value["mood"] == "unsure", {"text": '{"mood": "unsure"}'}),
        (["refused", lambda value: value == {"mood": "unsure"}], {"text": '{"mood": "unsure"}'}),
    ],
    ids=["invalid", "refused", "incomplete", "function", "list"],
)
@pytest.mark.parametrize("on_invalid_output", ["fail", "return"])
def test_a_response_is_sent_on_if_its_condition_applies(when, reply, on_invalid_output, tmp_path):
    models = Models({SMALL: every_fifth(reply)})
    request = TaskRequest(
        fields={}, output_type=jobs.Label, stream=False, cache=False, on_invalid_output=on_invalid_output
    )
    told = models.enrich(tmp_path, 10, escalate=to_large(when=when), request=request)
    assert models.sent_to(LARGE) == [0, 5]
    assert (told["counts"], len(models.sent_to(SMALL))) == ({"ok": 10}, 10)


@pytest.mark.parametrize(("when", "reply"), [("invalid", REFUSAL), ("refused", INCOMPLETE), ("incomplete", NO_JSON)])
def test_another_problem_is_not_sent_on(when, reply, tmp_path):
    models = Models({SMALL: every_fifth(reply)})
    request = TaskRequest(fields={}, output_type=jobs.Label, stream=False, cache=False, output_retries=0)
    told = models.enrich(tmp_path, 10, escalate=to_large(when=when), request=request, limits=Limits(max_failures=5))
    assert models.sent_to(LARGE) == []
    assert told["counts"]["ok"] == 8
    assert [tier["requests"] for tier in told["tiers"]] == [10, 0]


def test_a_text_is_given_to_the_function_as_it_is(tmp_path):
    seen: list[Any] = []
    models = Models({SMALL: lambda row: {"text": "unsure"} if row == 1 else {"text": "fine"}, LARGE: lambda _: NO_JSON})

    def is_unsure(value: Any) -> bool:
        seen.append(value)
        return value == "unsure"

    request = TaskRequest(fields={}, stream=False, cache=False)
    models.enrich(tmp_path, 3, escalate=to_large(when=is_unsure), request=request)
    assert sorted(seen) == ["fine", "fine", "unsure"]
    assert [row["output"] for row in jobs.result(tmp_path)] == ["fine", "no JSON", "fine"]


@pytest.mark.parametrize("result", ["text", "response"])
@pytest.mark.parametrize("output_type", [None, jobs.Label])
def test_the_function_gets_the_typed_output_or_the_text_also_for_whole_responses(result, output_type, tmp_path):
    seen: list[Any] = []
    models = Models()
    request = TaskRequest(fields={}, output_type=output_type, stream=False, cache=False, result=result)
    models.enrich(tmp_path, 1, escalate=to_large(when=lambda value: bool(seen.append(value))), request=request)
    text = mood(SMALL, 0)["text"]
    assert seen == [json.loads(text) if output_type else text]


def test_a_response_passes_through_several_models_until_one_is_accepted(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON), LARGE: lambda row: REFUSAL if row == 5 else None})
    told = models.enrich(tmp_path, 10, escalate=(*to_large(), Escalation(model=LARGEST)))
    assert (models.sent_to(LARGE), models.sent_to(LARGEST)) == ([0, 5], [5])
    assert [(tier["model"], tier["requests"], tier["escalated"]) for tier in told["tiers"]] == [
        (SMALL, 10, 2),
        (LARGE, 2, 1),
        (LARGEST, 1, 0),
    ]
    row = jobs.result(tmp_path)[5]
    assert (row["_status"], row["_model"], row["_sends"]) == ("ok", LARGEST, 3)
    assert row["_cost"] == pytest.approx(0.321)
    assert [(line.get("_tier", 0), line["_status"]) for line in lines_of(tmp_path) if line["_row"] == 5] == [
        (0, "invalid_output"),
        (1, "refused"),
        (2, "ok"),
    ]


def test_a_model_whose_condition_does_not_apply_is_left_out(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON)})
    escalate = (*to_large(when="refused"), Escalation(model=LARGEST, when="invalid"))
    told = models.enrich(tmp_path, 10, escalate=escalate)
    assert (models.sent_to(LARGE), models.sent_to(LARGEST)) == ([], [0, 5])
    assert [tier["escalated"] for tier in told["tiers"]] == [2, 0, 0]


def test_the_last_model_requests_an_invalid_output_again_and_then_the_row_fails(tmp_path):
    """And the task with it, unless `limits.max_failures` allows it."""
    models = Models({SMALL: every_fifth(NO_JSON), LARGE: lambda row: NO_JSON if row == 5 else None})
    told = models.enrich(tmp_path, 10, escalate=to_large(), limits=Limits(max_failures=1))
    assert sorted(models.sent_to(LARGE)) == [0, 5, 5]  # `output_retries` is 1
    assert told["counts"] == {"ok": 9, "invalid_output": 1}
    assert told["cost"] == pytest.approx(models.bill)
    row = jobs.result(tmp_path)[5]
    assert (row["_status"], row["_output_text"], row["_model"], row["_escalated"]) == (
        "invalid_output",
        "no JSON",
        LARGE,
        True,
    )
    with pytest.raises(TooManyFailuresError, match="1 of 10 rows failed"):
        models.enrich(tmp_path, 10, escalate=to_large())
    assert len(models.sends) == 13  # neither is sent again


def test_an_accepted_output_of_the_last_model_counts(tmp_path):
    models = Models({SMALL: every_fifth(REFUSAL), LARGE: lambda _: REFUSAL})
    request = TaskRequest(fields={}, stream=False, cache=False, on_invalid_output="return")
    told = models.enrich(tmp_path, 10, escalate=to_large(), request=request)
    assert told["counts"] == {"ok": 8, "refused": 2}
    assert jobs.result(tmp_path)[5]["output"] == "I will not"
    assert models.enrich(tmp_path, 10, escalate=to_large(), request=request)["requests_sent"] == 0


def test_the_larger_model_gets_its_own_fields(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON)})
    fields = lambda row: {**jobs.row_fields(row), "max_output_tokens": 50, "temperature": 1.0}  # noqa: E731
    models.enrich(tmp_path, 5, row_fields=fields, escalate=to_large(request={"max_output_tokens": 500}))
    [larger] = [body for body in models.bodies if body["model"] == LARGE]
    small = next(body for body in models.bodies if body["model"] == SMALL)
    assert (larger["max_output_tokens"], larger["temperature"]) == (500, 1.0)
    assert larger["text"] == small["text"]
    assert larger["input"] == "Mood of hello 0"


def test_a_wrong_request_of_a_larger_model_is_found_before_anything_is_sent(tmp_path):
    models = Models()
    wrong = {"text": {"format": {"type": "json_object"}}}
    with pytest.raises(RequestValidationError, match=r"escalate\[1\]: text.format is given twice"):
        models.enrich(tmp_path, 3, escalate=(*to_large(), Escalation(model=LARGEST, request=wrong)))
    assert models.sends == []


def test_a_failure_without_a_response_is_not_sent_on(tmp_path):
    models = Models({SMALL: every_fifth(REJECTED)})
    told = models.enrich(tmp_path, 10, escalate=to_large(), limits=Limits(max_failures=2))
    assert models.sent_to(LARGE) == []
    assert told["counts"] == {"ok": 8, "failed": 2}


def test_a_busy_large_model_gets_the_request_again_and_the_small_one_does_not(tmp_path):
    busy = Counter[int]()

    def large(row: int) -> Any:
        busy[row] += 1
        return BUSY if busy[row] < 3 else None

    models = Models({SMALL: every_fifth(NO_JSON), LARGE: large})
    told = models.enrich(tmp_path, 20, escalate=to_large())
    assert Counter(models.sent_to(SMALL)) == Counter(range(20))
    assert Counter(models.sent_to(LARGE)) == dict.fromkeys((0, 5, 10, 15), 3)
    assert (told["counts"], told["cost"]) == ({"ok": 20}, pytest.approx(models.bill))


def test_the_small_model_goes_on_while_the_large_one_is_busy(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON)})
    models.rules[LARGE] = lambda _: BUSY if models.paid[SMALL] < 60 else None  # no row would get there otherwise
    told = models.enrich(tmp_path, 60, escalate=to_large(), limits=Limits(concurrency=4))
    assert told["counts"] == {"ok": 60}
    assert Counter(models.sent_to(SMALL)) == Counter(range(60))
    assert models.paid == {SMALL: 60, LARGE: 12}


def test_the_next_attempt_continues_at_the_larger_model_that_failed(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON), LARGE: lambda _: REJECTED})
    told = models.enrich(tmp_path, 10, escalate=to_large(), limits=Limits(max_failures=2))
    assert told["counts"] == {"ok": 8, "failed": 2}
    row = jobs.result(tmp_path)[5]
    assert (row["_status"], row["_escalated"], row["_cost"]) == ("failed", True, pytest.approx(0.001))
    assert row["_error"].startswith("BadRequestResponseError")

    models.rules[LARGE] = lambda _: None
    told = models.enrich(tmp_path, 10, escalate=to_large())
    assert (models.paid, told["counts"]) == ({SMALL: 10, LARGE: 2}, {"ok": 10})
    assert (told["requests_sent"], told["requests_reused"], told["cost"]) == (2, 8, pytest.approx(models.bill))
    assert jobs.result(tmp_path)[5]["_cost"] == pytest.approx(0.021)
    assert [(tier["requests"], tier["escalated"]) for tier in told["tiers"]] == [(10, 2), (4, 0)]


def test_escalate_that_is_added_later_sends_only_the_responses_that_fail_its_check(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON)})
    request = TaskRequest(fields={}, output_type=jobs.Label, stream=False, cache=False, output_retries=0)
    models.enrich(tmp_path, 10, request=request, limits=Limits(max_failures=2))
    assert "_escalated" not in jobs.result(tmp_path)[0]
    told = models.enrich(tmp_path, 10, request=request, escalate=to_large())
    assert models.paid == {SMALL: 10, LARGE: 2}
    assert (told["counts"], told["requests_sent"]) == ({"ok": 10}, 2)
    assert [(tier["requests"], tier["escalated"]) for tier in told["tiers"]] == [(10, 2), (2, 0)]
    assert [row["_row"] for row in jobs.result(tmp_path) if row["_escalated"]] == [0, 5]

    is_seventh = lambda value: value["mood"].endswith(" 7")  # noqa: E731
    more = (*to_large(), Escalation(model=LARGEST, when=is_seventh))
    told = models.enrich(tmp_path, 10, request=request, escalate=more)
    assert models.paid == {SMALL: 10, LARGE: 2, LARGEST: 1}
    assert jobs.result(tmp_path)[7]["_model"] == LARGEST
    assert told["cost"] == pytest.approx(models.bill)


def test_without_escalate_the_responses_that_are_there_count_and_nothing_is_sent(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON), LARGE: lambda row: REJECTED if row == 5 else None})
    models.enrich(tmp_path, 10, escalate=to_large(), limits=Limits(max_failures=1))
    sent = len(models.sends)
    told = models.enrich(tmp_path, 10, limits=Limits(max_failures=1))
    assert (len(models.sends), told["cost"]) == (sent, pytest.approx(models.bill))
    assert told["counts"] == {"ok": 9, "invalid_output": 1}
    rows = jobs.result(tmp_path)
    assert (rows[0]["_model"], rows[5]["_model"]) == (LARGE, SMALL)
    assert "tiers" not in told
    assert "_escalated" not in rows[0]


def test_an_attempt_without_money_for_the_larger_model_says_so_and_the_next_continues(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON)})
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 10, escalate=to_large(), limits=Limits(max_cost=0.025, concurrency=1))
    told = jobs.manifest(tmp_path)
    assert told["cost"] == pytest.approx(models.bill)
    assert models.bill <= 0.025
    statuses = Counter(row["_status"] for row in jobs.result(tmp_path))
    assert statuses == told["counts"]
    sent = models.paid.copy()
    assert sent[LARGE] == 1

    told = models.enrich(tmp_path, 10, escalate=to_large(), limits=Limits(max_cost=1.0))
    assert models.paid == {SMALL: 10, LARGE: 2}
    assert (told["counts"], told["cost"]) == ({"ok": 10}, pytest.approx(models.bill))


def test_a_row_that_waits_for_the_larger_model_is_escalating_in_the_result(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON})
    models.rules[LARGE] = lambda _: {"http": 402}
    with pytest.raises(Exception, match="402"):
        models.enrich(tmp_path, 3, escalate=to_large(), limits=Limits(concurrency=1))
    rows = jobs.result(tmp_path)
    assert [row["_status"] for row in rows] == ["escalating", "missing", "missing"]
    assert rows[0]["_output_text"] == "no JSON"
    assert jobs.manifest(tmp_path)["counts"] == {"ok": 0, "escalating": 1, "missing": 2}
    assert [row["_escalated"] for row in rows] == [False, False, False]

    del models.rules[LARGE]
    assert models.enrich(tmp_path, 3, escalate=to_large())["counts"] == {"ok": 3}
    assert models.paid == {SMALL: 3, LARGE: 3}


@pytest.mark.parametrize("check", [lambda _: 1 / 0, lambda _: "yes"], ids=["raises", "no bool"])
def test_a_function_that_fails_ends_the_attempt_and_its_response_is_not_paid_again(check, tmp_path):
    models = Models()
    with pytest.raises(ConfigurationError, match="escalate: the function"):
        models.enrich(tmp_path, 3, escalate=to_large(when=check), limits=Limits(concurrency=1))
    assert models.bill == pytest.approx(0.001)
    assert jobs.manifest(tmp_path)["cost"] == pytest.approx(models.bill)
    assert jobs.result(tmp_path)[0]["_status"] == "escalating"
    with pytest.raises(ConfigurationError, match="escalate: the function"):
        models.enrich(tmp_path, 3, escalate=to_large(when=check))
    assert len(models.sends) == 1
    assert models.enrich(tmp_path, 3, escalate=to_large(when=lambda _: False))["counts"] == {"ok": 3}
    assert models.sent_to(SMALL) == [0, 1, 2]


def test_rows_with_the_same_request_share_the_response_of_the_larger_model(tmp_path):
    rows = [{"id": f"r{number}", "text": f"hello {number % 5}"} for number in range(10)]
    models = Models({SMALL: every_fifth(NO_JSON)})
    told = models.enrich(tmp_path, rows, escalate=to_large())
    assert models.paid == {SMALL: 5, LARGE: 1}
    first, second = (jobs.result(tmp_path)[number] for number in (0, 5))
    assert (first["_cost"], second["_cost"]) == (pytest.approx(0.021), 0.0)
    assert (first["mood"], first["_escalated"]) == (second["mood"], second["_escalated"]) == (f"{LARGE} 0", True)
    assert told["counts"] == {"ok": 10}


def test_few_requests_wait_for_a_large_model_that_is_too_busy(tmp_path, monkeypatch):
    """The small one waits for it beyond that, and nothing is lost."""
    from airflow_provider_responses.enrich import request_queue

    monkeypatch.setattr(request_queue, "MAX_WAITING_STEPS", 30)
    left = [40]
    models = Models({SMALL: lambda _: NO_JSON})
    waiting: list[int] = []

    def large(_: int) -> Any:
        left[0] -= 1
        waiting.append(models.paid[SMALL] - models.paid[LARGE])
        return {**BUSY, "retry_after": 1} if left[0] > 0 else None

    models.rules[LARGE] = large
    told = models.enrich(tmp_path, 300, escalate=to_large(), limits=Limits(concurrency=8))
    assert told["counts"] == {"ok": 300}
    assert models.paid == {SMALL: 300, LARGE: 300}
    assert 30 <= max(waiting) <= 30 + 2 * 8


def test_without_escalate_lines_and_manifest_are_as_they_were(tmp_path):
    models = Models()
    told = models.enrich(tmp_path, 2)
    line = lines_of(tmp_path)[0]
    assert list(line) == [
        *("_row", "_key", "_fingerprint", "_generations", "id", "text", "mood"),
        *("_status", "_error", "_output_text", "_response_id", "_model", "_cost", "_tokens", "_sends"),
    ]
    assert not {"tiers", "judge"} & set(told)
    assert list(jobs.result(tmp_path)[0])[-1] == "_sends"


def test_a_source_may_have_the_columns_that_only_escalate_adds(tmp_path):
    rows = [{**row, "_escalated": "by hand"} for row in jobs.table(2)]
    models = Models()
    models.enrich(tmp_path / "a", rows)
    assert jobs.result(tmp_path / "a")[0]["_escalated"] == "by hand"
    with pytest.raises(
        RequestValidationError, match="column '_escalated' of the source is also a column of the result"
    ):
        models.enrich(tmp_path / "b", rows, escalate=to_large())


def test_a_corrected_type_takes_back_an_escalation_that_has_not_been_sent(tmp_path):
    models = Models({SMALL: lambda _: {"text": '{"mood": 5}'}, LARGE: lambda _: {"http": 402}})
    with pytest.raises(Exception, match="402"):
        models.enrich(tmp_path, 1, escalate=to_large())
    schema = {"type": "object", "properties": {"mood": {"type": "integer"}}, "required": ["mood"]}
    schema["additionalProperties"] = False
    request = TaskRequest(fields={}, output_type=jobs.Label, stream=False, cache=False)
    text = request.text_format()
    told = models.enrich(
        tmp_path, 1, escalate=to_large(), request=replace(request, output_type=schema, output_format=text)
    )
    assert (told["requests_sent"], jobs.result(tmp_path)[0]["mood"]) == (0, 5)


def test_the_writer_of_another_attempt_continues(tmp_path):
    models = Models({SMALL: every_fifth(NO_JSON)})
    models.rules[LARGE] = lambda row: {"http": 402} if row == 5 else None
    with pytest.raises(Exception, match="402"):
        models.enrich(tmp_path, 10, escalate=to_large(), limits=Limits(concurrency=1))
    del models.rules[LARGE]
    writer = Writer(owner="task", try_number=2)
    told = models.enrich(tmp_path, 10, escalate=to_large(), writer=writer, limits=Limits(concurrency=1))
    assert models.sent_to(SMALL) == list(range(10))
    assert models.paid == {SMALL: 10, LARGE: 2}
    assert [tier["cost"] for tier in told["tiers"]] == [pytest.approx(0.01), pytest.approx(0.04)]
