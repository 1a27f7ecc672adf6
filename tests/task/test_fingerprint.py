"""The fingerprint of a prompt."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_responses.task.fingerprint import prompt_fingerprint
from airflow_provider_responses.task.request import TaskRequest

texts = st.text(max_size=4) | st.just("\ud800")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


class Label(BaseModel):
    mood: str


def fingerprint(**fields):
    return prompt_fingerprint(TaskRequest(fields=fields))


def test_the_same_prompt_has_the_same_fingerprint_whatever_identifies_the_request():
    plain = fingerprint(model="m", input="Is it good?")
    assert plain == fingerprint(input="Is it good?", model="m", metadata={"run": "7"}, user="someone")
    assert len(plain) == 16
    request = TaskRequest(fields={"model": "m", "input": "Is it good?"}, idempotency_key="x" * 32, stream=False)
    assert prompt_fingerprint(request) == plain


@pytest.mark.parametrize(
    "other",
    [
        {"input": "Is it bad?"},
        {"model": "n"},
        {"instructions": "Be brief."},
        {"temperature": 0},
        {"input": [{"role": "user", "content": "Is it good?"}]},
    ],
)
def test_another_prompt_has_another(other):
    assert fingerprint(**({"model": "m", "input": "Is it good?"} | other)) != fingerprint(
        model="m", input="Is it good?"
    )


def test_the_schema_of_the_output_counts_also_where_its_class_is_missing():
    plain = TaskRequest(fields={"input": "x"})
    typed = TaskRequest(fields={"input": "x"}, output_type=Label)
    of_triggerer = TaskRequest(fields={"input": "x"}, output_format=json.loads(json.dumps(typed.text_format())))
    assert prompt_fingerprint(typed) == prompt_fingerprint(of_triggerer) != prompt_fingerprint(plain)


@given(st.dictionaries(st.sampled_from(["input", "instructions", "request"]), values))
def test_any_request_has_one_and_it_passes_through_a_database(fields):
    found = fingerprint(**fields)
    assert found is not None
    assert fingerprint(**dict(reversed(fields.items()))) == found


def test_one_that_cannot_be_sent_has_none():
    loop = []
    loop.append(loop)
    assert fingerprint(input=loop) is None
    assert prompt_fingerprint(None) is None


def test_a_large_input_is_read_once_and_not_written_as_json(monkeypatch):
    monkeypatch.setattr(json, "dumps", lambda *_: pytest.fail("a copy of the input"))
    began = time.process_time()
    fingerprint(input="x" * 5_000_000)
    assert time.process_time() - began < 1
