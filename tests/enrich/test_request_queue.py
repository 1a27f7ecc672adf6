"""The requests that are not in flight, and their order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.index import PendingRequest
from airflow_provider_responses.enrich.json_values import dump
from airflow_provider_responses.enrich.next_step import Step
from airflow_provider_responses.enrich.request_queue import (
    MAX_WAITING_BYTES,
    MAX_WAITING_STEPS,
    READ_AHEAD,
    RequestQueue,
    model_of,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(['"model": "x"', "model", '\\"model\\": ']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("model"), inner, max_size=3),
    max_leaves=8,
)


class Source:
    """Return requests to several models in turn."""

    def __init__(self, rows: int, models: Sequence[str] = ("a",), size: int = 10) -> None:
        self.left = [
            PendingRequest(
                number, b"%d" % number, 1, dump({"model": models[number % len(models)], "input": "x" * size})
            )
            for number in range(rows)
        ][::-1]
        self.asked = 0

    def __call__(self, most: int) -> list[PendingRequest]:
        self.asked += 1
        return [self.left.pop() for _ in range(min(most, len(self.left)))]


def anything(_: float, __: str) -> bool:
    return True


def firsts(waiting: RequestQueue, may_send: Any, now: float = 0.0) -> list[int]:
    found = []
    while (job := waiting.next(now, may_send)) is not None:
        found.append(job.pending.first_row)
    return found


def test_resends_come_first_and_other_rows_in_the_order_of_the_source() -> None:
    waiting = RequestQueue(Source(250, ("a", "b")))
    first, second = waiting.next(0.0, anything), waiting.next(0.0, anything)
    assert first is not None
    assert second is not None
    waiting.put(first, 5.0)
    waiting.put(second, 3.0)
    assert waiting.next_due() == 3.0
    third = waiting.next(4.0, anything)
    assert third is second
    assert firsts(waiting, anything, 4.9) == list(range(2, 250))
    assert waiting
    assert firsts(waiting, anything, 5.0) == [0]
    assert not waiting


def test_requests_to_one_model_do_not_wait_for_another() -> None:
    waiting = RequestQueue(Source(5000, ("a", "b")))
    only_b = firsts(waiting, lambda _, model: model == "b")
    assert only_b == list(range(1, 5000, 2))
    assert firsts(waiting, anything) == list(range(0, 5000, 2))


def test_a_resend_does_not_hold_up_requests_to_another_model() -> None:
    waiting = RequestQueue(Source(4, ("a", "b")))
    job = waiting.next(0.0, anything)
    assert job is not None
    waiting.put(job, 1.0)
    assert firsts(waiting, lambda _, model: model == "b", 2.0) == [1, 3]
    assert [found.pending.first_row for found in waiting.resends()] == [0]
    assert firsts(waiting, anything, 2.0) == [0, 2]


def test_memory_is_bounded_while_one_model_waits() -> None:
    source = Source(30_000, ("a", "b"), size=10_000)
    waiting = RequestQueue(source)
    passed = firsts(waiting, lambda _, model: model == "b")
    assert 0.9 * MAX_WAITING_BYTES < 10_500 * len(passed) < MAX_WAITING_BYTES + 2 * READ_AHEAD * 10_600
    assert len(source.left) > 25_000


def test_with_one_model_the_source_is_read_only_as_needed() -> None:
    source = Source(1000)
    waiting = RequestQueue(source)
    assert firsts(waiting, lambda _, __: False) == []
    assert firsts(waiting, lambda _, __: False) == []
    assert len(source.left) == 1000 - READ_AHEAD


@given(st.dictionaries(st.text() | st.just("input"), JSON, max_size=4), st.none() | st.text())
def test_a_model_is_found_in_the_fields_of_a_request(fields: dict[str, Any], model: str | None) -> None:
    text = dump({**fields, **({} if model is None else {"model": model})})
    if text.count('"model":') <= 1 and model is None and "model" not in fields:
        return  # a nested model serves as well to separate requests
    expected = json.loads(text).get("model")
    found = model_of(text)
    if isinstance(expected, str):
        assert found in {expected, dump(expected)[1:-1]}
    elif text.count('"model":') > 1:
        assert found == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input": "x"}, ""),
        ({"input": 'say "model": "no"', "model": "yes"}, "yes"),
        ({"model": "yes", "plugins": [{"model": "deeper"}]}, "yes"),
        ({"plugins": [{"model": "deeper"}], "model": "yes"}, "yes"),
        ({"model": None}, ""),
    ],
)
def test_the_model_is_that_of_the_request(fields: dict[str, Any], expected: str) -> None:
    assert model_of(dump(fields)) == expected


def step_of(row: int, size: int = 10) -> PendingRequest:
    return PendingRequest(row, b"%d" % row, 1, "{}", Step(1), "x" * size)


def to_larger(pending: PendingRequest) -> str:
    return "larger" if pending.step.tier else model_of(pending.fields)


def all_but_larger(_: float, model: str) -> bool:
    return model != "larger"


def test_the_next_step_of_a_request_comes_before_new_requests_and_has_its_own_model() -> None:
    waiting = RequestQueue(Source(5), to_larger)
    waiting.put_next_step(step_of(7))
    first = waiting.next(0.0, anything)
    assert first is not None
    assert (first.pending.first_row, first.model, first.sends, first.retries) == (7, "larger", 0, 0)
    waiting.put_next_step(step_of(8))
    assert firsts(waiting, all_but_larger) == [0, 1, 2, 3, 4]
    assert firsts(waiting, anything) == [8]
    assert not waiting


@pytest.mark.parametrize(("number", "size"), [(MAX_WAITING_STEPS, 10), (8, 1_000_000)])
@pytest.mark.parametrize("is_resend", [True, False])
def test_nothing_new_is_sent_while_too_many_wait_for_their_next_step(number: int, size: int, is_resend: bool) -> None:
    waiting = RequestQueue(Source(5), to_larger)
    for row in range(number):
        waiting.put_next_step(step_of(100 + row, size))
    if is_resend:
        first = waiting.next(0.0, anything)
        assert first is not None
        waiting.put(first, 1.0)
    assert firsts(waiting, all_but_larger) == []
    assert waiting
    one = waiting.next(0.0, anything)
    assert one is not None
    assert firsts(waiting, all_but_larger) == [0, 1, 2, 3, 4]
