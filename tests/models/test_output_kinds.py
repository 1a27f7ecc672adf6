"""Each kind of `output_type`: strict wherever that is possible, and whatever the sent schema accepts is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from pydantic import BaseModel

from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.output import json_schema_format, load_output, parse_output, read_output
from airflow_provider_responses.models.output_json_schema import JsonSchema
from airflow_provider_responses.models.output_reader import ModelReader, reader_of
from airflow_provider_responses.models.output_schema import NotStrictError, sent_schema
from airflow_provider_responses.models.output_strict import to_strict
from airflow_provider_responses.sandbox.model.schema_instances import make_instance
from tests.models.output_corpus import CORPUS
from tests.models.output_kinds import KINDS, Label, Labels, Point, Status
from tests.models.sent_instances import instances
from tests.models.test_output_types import not_strict

ALL: dict[str, Any] = {**{name: kind for name, (kind, _) in KINDS.items()}, **CORPUS}


def test_the_corpus_has_every_kind() -> None:
    assert len(KINDS) >= 160
    assert sum(isinstance(kind, dict) for kind, _ in KINDS.values()) >= 70
    assert sum(reason is None for _, reason in KINDS.values()) >= 120


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_strict_wherever_that_is_possible(name: str) -> None:
    kind, reason = KINDS[name]
    made = json_schema_format(kind)
    assert made["strict"] is (reason is None)
    validator_for(made["schema"], default=Draft202012Validator).check_schema(made["schema"])
    assert made["schema"]["type"] == "object" or "$ref" in made["schema"]  # servers accept no other root
    if reason is None:
        assert not_strict(made["schema"]) == []
    ResponsesRequest(input="Hi", text={"format": made}).to_bytes()


def strict_schema(kind: Any) -> Any:
    if isinstance(kind, dict):
        schema = JsonSchema(kind)
        return to_strict(kind, schema.resolve, schema._accepts)
    reader = reader_of(kind)
    assert isinstance(reader, ModelReader)
    return sent_schema(reader.model, reader.name)


@pytest.mark.parametrize("name", [name for name, (_, reason) in KINDS.items() if reason])
def test_the_reason_against_strict_mode_is_named(name: str) -> None:
    kind, reason = KINDS[name]
    with pytest.raises(NotStrictError) as caught:
        strict_schema(kind)
    assert str(reason) in str(caught.value)
    assert caught.value.fields[0] == "output_type"


@pytest.mark.parametrize("name", ALL)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_what_the_sent_schema_accepts_is_read(name: str, data: st.DataObject) -> None:
    kind = ALL[name]
    sent = json_schema_format(kind)["schema"]
    value = data.draw(instances(sent))
    read = read_output(kind, [json.dumps(value)])
    assert not read.repaired
    assert json.loads(json.dumps(read.value)) == read.value  # plain JSON types


@pytest.mark.parametrize("name", KINDS)
def test_the_sandbox_responds_with_a_value_of_each_kind(name: str) -> None:
    kind = KINDS[name][0]
    if name in {
        "schema_dependent_schemas",
        "schema_required_unknown",
        "schema_anchor",
        "schema_draft_7_tuple",
    } or name.startswith("schema_id"):
        pytest.skip("the sandbox reads no such schema")
    sent = json_schema_format(kind)["schema"]
    for text in ("", "x", "Which of them is it, in 2031?"):
        load_output(kind, json.dumps(make_instance(sent, text)))


@pytest.mark.parametrize("name", KINDS)
def test_the_format_is_the_same_in_each_process(name: str) -> None:
    kind = KINDS[name][0]
    made = json.dumps(json_schema_format(kind))
    fresh = ModelReader(kind) if not isinstance(kind, dict) else None
    if fresh is not None:
        assert json.dumps(fresh.format()) == made
    changed = json_schema_format(kind)
    changed["schema"].clear()  # changing a format does not change the next one
    assert json.dumps(json_schema_format(kind)) == made


@pytest.mark.parametrize(
    ("kind", "text", "value", "dumped"),
    [
        (list[Label], '{"response": [{"topic": "a", "score": 1, "note": null}]}', [Label(topic="a", score=1)], None),
        (Labels, '{"response": [{"topic": "a", "score": 1}]}', [Label(topic="a", score=1)], None),
        (Status, '{"response": "open"}', Status.OPEN, "open"),
        (Point, '{"x": 1, "y": 2, "day": null}', Point(1, 2.0), {"x": 1, "y": 2.0, "day": None}),
        (Label | None, '{"response": null}', None, None),
        (dict[str, int], '{"response": 3}', {"response": 3}, {"response": 3}),
        ({"type": "array", "items": {"type": "integer"}}, '{"response": [1, 2]}', [1, 2], [1, 2]),
        ({"type": "object", "properties": {"response": {"type": "integer"}}}, '{"response": 3}', {"response": 3}, None),
    ],
    ids=range(8),
)
def test_a_value_is_unwrapped(kind: Any, text: str, value: Any, dumped: Any) -> None:
    assert parse_output(kind, text) == value
    if dumped is not None:
        assert load_output(kind, text) == dumped


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "```json\n[1, 2]\n```", [1, 2]),
        (int, "42", 42),
        (Status, '"done"', "done"),
        (dict | list, '{"x": 1}', {"x": 1}),
        ({"type": "array"}, "[1, 2]", [1, 2]),
    ],
    ids=range(6),
)
def test_a_value_without_its_wrapper_is_read(kind: Any, text: str, value: Any) -> None:
    # Of servers that ignore the schema.
    assert load_output(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (dict | list, '{"response": "x"}'),
        (int, '{"response": "x"}'),
        (int, '{"answer": 3}'),
        (int, '{"response": 1, "more": 2}x'),
        ({"type": "array"}, '{"response": [1], "more": 2}'),
        ({"type": "array"}, '{"other": 1}'),
        ({"type": "array"}, "[1, 2"),
    ],
    ids=range(7),
)
def test_another_object_is_not_read_as_the_value(kind: Any, text: str) -> None:
    with pytest.raises(OutputValidationError, match=r"^the response does not match "):
        load_output(kind, text)


def test_unions_that_are_equal_in_another_order_have_their_own_format() -> None:
    one, other = json_schema_format(int | str), json_schema_format(str | int)
    kinds = [[it["type"] for it in made["schema"]["properties"]["response"]["anyOf"]] for made in (one, other)]
    assert kinds == [["integer", "string"], ["string", "integer"]]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Label, "Label"),
        (list[Label], "list_Label_"),
        (Label | None, "Label___None"),
        (Labels, "Labels"),
        ({"title": "A person", "type": "null"}, "A_person"),
        ({"type": "null"}, "response"),
    ],
)
def test_a_format_has_the_name_of_the_type(kind: Any, name: str) -> None:
    assert json_schema_format(kind)["name"] == name


def test_a_model_is_sent_as_before() -> None:
    class Plain(BaseModel):
        a: int

    assert json_schema_format(Plain) == {
        "type": "json_schema",
        "name": "Plain",
        "strict": True,
        "schema": {
            "title": "Plain",
            "type": "object",
            "properties": {"a": {"title": "A", "type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
    }
