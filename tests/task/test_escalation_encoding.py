"""Larger models as JSON text, for another process: the same models, fields and conditions."""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import OutputRejectedError, RequestValidationError
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.escalation import CONDITIONS, Escalation, name_of
from airflow_provider_responses.task.escalation_encoding import (
    ImportedFunction,
    decode_escalations,
    encode_escalations,
    find_unimportable,
    load_functions,
)
from airflow_provider_responses.task.payload_encoding import decode_error, encode_error
from tests.execution_modes import through_the_database


def is_long(value: Any) -> bool:
    return len(value) > 3


class Checks:
    @staticmethod
    def is_short(value: Any) -> bool:
        return len(value) < 3

    def is_odd(self, value: Any) -> bool:
        return bool(len(value) % 2)


requests = st.fixed_dictionaries(
    {},
    optional={
        "max_output_tokens": st.integers(16, 9999),
        "instructions": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        "temperature": st.floats(0, 2),
        "metadata": st.dictionaries(st.sampled_from("zab"), st.just("x")),
        "extra_body": st.dictionaries(st.sampled_from("zab"), st.integers() | st.none()),
    },
)
conditions = st.lists(st.sampled_from([*CONDITIONS, is_long, Checks.is_short]), min_size=1, max_size=3)


@given(st.lists(st.builds(Escalation, model=st.sampled_from(["a/b", "c"]), when=conditions, request=requests)))
def test_escalations_come_back_from_the_database_unchanged(escalations: list[Escalation]) -> None:
    assert find_unimportable(escalations) is None
    decoded = decode_escalations(through_the_database(encode_escalations(escalations)))
    load_functions(decoded)
    assert [(it.model, dict(it.request)) for it in decoded] == [(it.model, dict(it.request)) for it in escalations]
    assert [list(it.request) for it in decoded] == [list(it.request) for it in escalations]
    for ours, given_ in zip(decoded, escalations, strict=True):
        assert [name_of(it) if callable(it) else it for it in ours.conditions] == [
            name_of(it) if callable(it) else it for it in given_.conditions
        ]
        for value in ("", "ab", "abcd"):
            assert ours.applies(None, value) == given_.applies(None, value)
        assert encode_escalations([ours]) == encode_escalations([given_])


@pytest.mark.parametrize(
    "check", [lambda _: True, functools.partial(isinstance, int), Checks().is_odd], ids=["lambda", "partial", "method"]
)
def test_a_function_without_a_path_is_left_out_and_reported(check: Any) -> None:
    escalations = [Escalation(model="m", when=["refused", check])]
    assert find_unimportable(escalations) == name_of(check)
    (decoded,) = decode_escalations(encode_escalations(escalations))
    assert decoded.conditions == ("refused",)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"extra_body": {"a": object()}}, r"^escalate\[1\]\.request has no JSON form \("),
        ({"extra_body": {"a": float("nan")}}, r"^escalate\[1\]\.request has no JSON form \("),
        ({"max_output_tokens": "many"}, r"^escalate\[1\]: the request is not valid: max_output_tokens must be"),
    ],
)
def test_a_request_that_is_not_plain_json_is_refused(request_: Any, error: str) -> None:
    with pytest.raises(RequestValidationError, match=error):
        encode_escalations([Escalation(model="a"), Escalation(model="b", request=request_)])


def test_a_function_is_imported_when_it_is_first_called(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_later.py").write_text("def check(value):\n    return value == 5\n")
    text = json.dumps([{"model": "m", "request": "{}", "when": [{"function": "imported_later:check"}]}])
    (decoded,) = decode_escalations(text)
    assert "imported_later" not in sys.modules
    try:
        assert (decoded.applies(None, 5), decoded.applies(None, 6)) == (True, False)
        assert repr(decoded) == "Escalation(model='m', when=[check], request={})"
    finally:
        sys.modules.pop("imported_later")


def test_a_function_that_is_gone_is_an_error_when_it_is_loaded() -> None:
    escalation = Escalation(model="m", when=ImportedFunction(f"{__name__}:gone"))
    with pytest.raises(AttributeError):
        load_functions([escalation])


def test_the_error_of_a_response_that_was_not_accepted_comes_back_unchanged() -> None:
    error = OutputRejectedError("not accepted", function="is_long", response=Response(raw={"id": "r", "model": "m"}))
    error.escalated_to, error.wait = "large", 0.0
    decoded = decode_error(through_the_database(encode_error(error)))
    assert isinstance(decoded, OutputRejectedError)
    assert (decoded.function, decoded.escalated_to, decoded.wait) == ("is_long", "large", 0.0)
    assert decoded.response is not None
    assert decoded.response.model == "m"
