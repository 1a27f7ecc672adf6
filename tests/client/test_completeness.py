"""The choice of the most complete of several sources."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_responses.client import merging
from airflow_provider_responses.client.assembler import Assembler
from airflow_provider_responses.client.completeness import (
    most_complete_arguments,
    most_complete_content,
    most_complete_text,
)

from .shapes import call, ended


@pytest.mark.parametrize(
    ("deltas", "full_texts", "text"),
    [
        ([], [], ""),
        (["a", "b"], [], "ab"),
        ([], ["ab"], "ab"),
        (["he", "he", "llo"], ["hello", "hello"], "hello"),
        (["he", "o"], ["hello", "hello"], "hello"),
        (["he", "o"], ["hello"], "hello"),  # the full text has the deltas in their order
        (["he", "he", "llo"], ["hello"], "hehello"),
        (["hello", " you"], ["(No update)"], "hello you"),
        (["hello", " you"], ["hello"], "hello you"),
        (["y", "e", "s"], ["(No update is yet to be seen)"], "yes"),
        (["hello"], ["hello", "(No update)"], "hello"),
        (["hel"], ["hello", "hello you"], "hello you"),
        (["x"], ["hello", "hello", "hello you"], "hello you"),
        (["x"], ["hello", "hel lo", "(No update)"], "hel lo"),
        ([], ["hello", "(No update)"], "hello"),
        (["a", "b"], ["a b"], "a b"),
        (["a b"], ["ab"], "a b"),
        (["caf", "\ufffd", "\ufffd", "s"], ["caf€s"], "caf€s"),
        (["hello", ""], [" "], "hello"),
    ],
)
def test_the_most_complete_text_is_chosen(deltas: list[str], full_texts: list[str], text: str) -> None:
    assert most_complete_text(deltas, full_texts) == text


def test_a_text_that_arrived_once_for_each_end_counts_once() -> None:
    assert most_complete_text(["hello", "hello"], ["hello"], times=2) == "hello"
    assert most_complete_text(["hello", "hello"], ["hello"], times=1) == "hellohello"


@pytest.mark.parametrize(
    ("deltas", "full_texts", "text"),
    [
        ([], [], ""),
        (['{"a":', " 1}"], ["{}", "{}"], '{"a": 1}'),
        ([], ['{"a": 1}', "{}", "{}"], '{"a": 1}'),
        (['{"a":', '{"a":', " 1}"], ['{"a": 1}'], '{"a": 1}'),
        (['{"a": 1'], ['{"a": 1}', '{"a": 2}', '{"a": 2}'], '{"a": 2}'),
        (['{"a": 1}'], ['{"b'], '{"a": 1}'),
        (['{"a"'], ['{"a": 1'], '{"a": 1'),
        ([], ["{}"], "{}"),
    ],
)
def test_missing_arguments_are_never_chosen(deltas: list[str], full_texts: list[str], text: str) -> None:
    assert most_complete_arguments(deltas, full_texts) == text


def test_texts_that_no_single_source_holds_are_assembled() -> None:
    first = [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}]
    last = [{"type": "output_text", "text": "ab"}, {"type": "output_text", "text": "c"}]
    parts: Any = most_complete_content((), (first, last))
    assert sorted(part.get("text") or part["refusal"] for part in parts) == ["ab", "c", "no"]


def test_calls_of_other_names_are_separated_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    are_alike = merging._are_alike

    def count(*items: Any) -> bool:
        nonlocal compared
        compared += 1
        return are_alike(*items)

    monkeypatch.setattr(merging, "_are_alike", count)
    assembler = Assembler()
    calls = 500
    for number in range(calls):
        item = call(id=f"a{number}", call_id=f"a{number}", name=f"a{number}")
        assembler.add_other("response.output_item.done", ended(item, number))
    final = [call(id=f"b{number}", call_id=f"b{number}", name=f"b{number}") for number in range(calls)]
    assert len(assembler.merge(final, status="completed").items) == 2 * calls
    assert compared <= 4 * calls
