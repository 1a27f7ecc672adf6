from __future__ import annotations

import datetime
import re
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from airflow_provider_responses.sandbox.model.json_schema import conforms
from airflow_provider_responses.sandbox.model.schema_instances import make_instance

TEXT = "Classify this review: The Harbour Hotel was clean, but breakfast came late on Tuesday."
NAMES = st.sampled_from(["summary", "title", "name", "score", "tags", "value", "kind", "b", "c"])
FORMATS = ["date", "date-time", "time", "uuid", "email", "uri", "hostname", "ipv4", "ipv6", "duration", "unknown"]
PATTERNS = [
    r"^[A-Z]{3}$",
    r"^\d{4}-\d{2}$",
    r"^(red|green|blue)-[0-9a-f]{6}$",
    r"x+y*z?",
    r"^\w+@\w+\.(com|org)$",
    r"^[^a-z\s]+$",
    r"^$",
    r"^\S{5,8}$",
    r"^.{3,}\.$",
    r"^[\u4e00-\u9fa5]{2}$",
]


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["integer", "number"]))
    low = draw(st.integers(-1000, 1000))
    width = draw(st.integers(4, 500))
    schema: dict[str, Any] = {"type": kind}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = low + width
    if draw(st.booleans()):
        steps = [1, 2] if kind == "integer" else [1, 2, 0.5, 0.25, 0.1, 0.01]
        schema["multipleOf"] = draw(st.sampled_from(steps))
    return schema


@st.composite
def strings(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    choice = draw(st.sampled_from(["length", "pattern", "format", "plain"]))
    if choice == "length":
        least = draw(st.integers(0, 300))
        schema |= {"minLength": least, "maxLength": least + draw(st.integers(0, 50))}
    elif choice == "pattern":
        schema["pattern"] = draw(st.sampled_from(PATTERNS))
    elif choice == "format":
        schema["format"] = draw(st.sampled_from(FORMATS))
    return schema


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=5), st.just([1, {"a": None}]))
LEAVES = st.one_of(
    numbers(),
    strings(),
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["string", "null"]}),
    st.just({"type": ["integer", "boolean"]}),
    st.just({}),
    st.just(True),
    st.builds(lambda value: {"const": value}, VALUES),
    st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=4)),
    st.just({"type": "string", "nullable": True}),
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if draw(st.booleans()):
        schema["required"] = draw(st.lists(st.sampled_from([*properties, "other"]), unique=True))
    if "other" not in schema.get("required", []):
        schema["additionalProperties"] = draw(st.one_of(st.booleans(), inner))
    if schema.get("additionalProperties") is not False:
        schema["minProperties"] = draw(st.integers(0, 6))
    return schema


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array"}
    least = draw(st.integers(0, 4))
    if draw(st.booleans()):
        schema["items"] = draw(inner)
        schema |= {"minItems": least, "maxItems": least + draw(st.integers(0, 3))}
    else:
        schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=3))
        schema["items"] = draw(st.booleans())
    return schema


def compositions(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        objects(inner),
        arrays(inner),
        st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3)),
        # The length makes nested constants differ: one constant in two branches would leave nothing that is valid.
        st.builds(lambda part: {"oneOf": [part, {"const": f"branch of {len(repr(part))} characters"}]}, inner),
        st.builds(lambda part: {"allOf": [part, {"description": "x"}]}, inner),
        st.builds(lambda part: {"$defs": {"one": part}, "allOf": [True], "title": "t"}, inner),
    )


SCHEMAS = st.recursive(LEAVES, compositions, max_leaves=8)


def with_references(schema: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"direct": schema, "by_reference": {"$ref": "#/$defs/shared"}, "tree": {"$ref": "#/$defs/tree"}},
        "required": ["direct", "by_reference", "tree"],
        "additionalProperties": False,
        "$defs": {
            "shared": schema,
            "tree": {
                "type": "object",
                "properties": {
                    "value": {"$ref": "#/$defs/shared"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                    "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
                },
                "required": ["value", "children", "next"],
                "additionalProperties": False,
            },
        },
    }


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, st.text(max_size=60) | st.just(TEXT))
@example({"oneOf": [{"type": "integer"}, {"type": "number"}]}, TEXT)
def test_instances_conform_to_their_schema_and_are_reproducible(schema, text):
    made = make_instance(schema, text)
    Draft202012Validator(schema).validate(made)
    assert made == make_instance(schema, text)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS)
def test_instances_follow_references_and_recursion(schema):
    whole = with_references(schema)
    Draft202012Validator(whole).validate(make_instance(whole, TEXT))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, VALUES | st.dictionaries(NAMES, VALUES, max_size=4) | st.lists(VALUES, max_size=4))
def test_conforms_agrees_with_jsonschema(schema, value):
    assert conforms(value, schema, schema) == Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 3, "maximum": 12},
            "minItems": 10,
            "uniqueItems": True,
        },
        {"type": "array", "items": {"type": "string"}, "minItems": 5, "uniqueItems": True},
        {"type": "array", "contains": {"const": 7}, "items": {"type": "integer"}, "minItems": 2},
        {"type": "object", "minProperties": 3, "propertyNames": {"pattern": "^[a-z]{4}$"}},
        {"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "required": ["n_a"]},
        {"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1},
        {"type": "object", "properties": {"a": True, "b": True}, "dependentRequired": {"a": ["c"]}},
        {"type": "integer", "not": {"multipleOf": 2}},
        {"allOf": [{"type": "integer", "minimum": 5}, {"maximum": 6}, {"multipleOf": 3}]},
        {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer", "minimum": 1},
        {"allOf": [{"type": "number"}, {"type": "integer"}]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}], "maxLength": 3, "minimum": 1000},
        {"allOf": [{"anyOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 2}, {"const": 3}]}]},
        {"enum": ["a", 1, None], "type": "integer"},
        {"if": {"type": "string"}, "then": {"minLength": 50}, "type": "string"},
        {"if": {"type": "string"}, "then": False, "else": {"type": "array", "minItems": 2}},
        {"type": "array", "items": {"type": "string", "minLength": 9}, "minItems": 6, "uniqueItems": True},
        {"type": "object", "properties": {"a": {"type": "string"}}, "allOf": [{"required": ["a"]}]},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "integer", "minimum": 9, "maximum": 9}}},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "integer", "minimum": 10**15, "multipleOf": 7},
        {"type": "string", "maxLength": 0},
        {"type": "string", "pattern": "^[A-Z]+$", "minLength": 90, "maxLength": 100},
        {"properties": {"kind": {"type": "string"}}, "required": ["kind"]},
        {"items": {"type": "integer"}, "minItems": 1},
        {
            "$defs": {"n": {"oneOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}},
            "$ref": "#/$defs/n",
        },
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": []},
        {
            "oneOf": [
                {"type": "object", "properties": {"t": {"const": "a"}}, "required": ["t"]},
                {
                    "type": "object",
                    "properties": {"t": {"const": "b"}, "n": {"type": "integer"}},
                    "required": ["t", "n"],
                },
            ]
        },
    ],
)
def test_instances_conform_to_combined_keywords(schema):
    for text in (TEXT, "", "one"):
        Draft202012Validator(schema).validate(make_instance(schema, text))


def test_strings_have_their_format():
    def of(kind: str) -> str:
        return make_instance({"type": "string", "format": kind}, TEXT)

    assert datetime.date.fromisoformat(of("date"))
    assert datetime.datetime.fromisoformat(of("date-time")).tzinfo
    assert uuid.UUID(of("uuid")).version == 4
    assert re.fullmatch(r"\w+@example\.com", of("email"))
    assert of("uri").startswith("https://example.com/")


def test_strings_are_words_of_the_text():
    names = ["summary", "title", "hotel_name", "tag", "confidence"]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names[:4]}}
    schema["properties"]["confidence"] = {"type": "number"}
    made = make_instance(schema, TEXT)
    assert made["summary"] == "The Harbour Hotel was clean, but breakfast came late on Tuesday."
    assert made["title"] == "The Harbour Hotel was clean but"
    assert made["hotel_name"] in {"Harbour", "Hotel", "Tuesday"}
    assert made["tag"] in TEXT
    assert 0 <= made["confidence"] <= 1


def test_an_enum_is_the_value_that_the_text_names():
    assert make_instance({"enum": ["billing", "breakfast", "noise"]}, TEXT) == "breakfast"
    assert make_instance({"enum": ["good", "bad"]}, "Is this good or bad: A bad week.") == "bad"
    assert make_instance({"enum": ["other", "breakfast"]}, TEXT) == "breakfast"


def test_an_enum_whose_values_the_text_does_not_name_is_other_or_arbitrary():
    assert {make_instance({"enum": ["x1", "other", "x3"]}, f"text {n}") for n in range(30)} == {"other"}
    assert make_instance({"enum": ["x1", "other"], "not": {"const": "other"}}, TEXT) == "x1"
    picked = {make_instance({"enum": ["x1", "x2", "x3"]}, f"text {n}") for n in range(30)}
    assert picked == {"x1", "x2", "x3"}


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"enum": []},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": r"^(?=x)y$"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#"},
        {"type": "colour"},
        {
            "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}},
            "$ref": "#/$defs/a",
        },
    ],
)
def test_an_impossible_schema_still_brings_a_reproducible_value(schema):
    assert make_instance(schema, TEXT) == make_instance(schema, TEXT)
