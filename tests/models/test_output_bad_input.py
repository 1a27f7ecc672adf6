"""Values that are no `output_type` are refused when the DAG is parsed, with the cause first."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import pytest
from pydantic import BaseModel, Json
from typing_extensions import TypedDict

from airflow_provider_responses.exceptions import OutputValidationError, RequestValidationError
from airflow_provider_responses.models.output import json_schema_format, load_output, parse_output

T = TypeVar("T")
TEXT = {"type": "string"}


class Label(BaseModel):
    topic: str


class Thing:
    """A class that pydantic does not know."""


@dataclasses.dataclass
class Holder:
    fine: int
    thing: Thing


@dataclasses.dataclass
class Calling:
    fine: int
    call: Callable[[], int]


class Typed(TypedDict):
    fine: str
    thing: Thing


class Pair(NamedTuple):
    thing: Thing


def refused(kind: Any) -> RequestValidationError:
    with pytest.raises(RequestValidationError) as caught:
        json_schema_format(kind)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("Label", "'Label'"),
        (Label(topic="x"), "Label(topic='x')"),
        ([Label], "[<class "),
        ((Label, int), "(<class "),
        ({Label}, "{<class "),
        (5, "5"),
        (True, "True"),
        (lambda: 1, "<function "),
        (BaseModel, "<class 'pydantic.main.BaseModel'>"),
        (T, "~T"),
        (ClassVar[int], "typing.ClassVar[int]"),
        (ModuleType("labels"), "<module 'labels'>"),
    ],
    ids=range(12),
)
def test_a_value_that_is_no_type_is_refused_with_those_that_are(kind: Any, shown: str) -> None:
    error = refused(kind)
    assert str(error).startswith(f"output_type must be a type or a JSON Schema, got {shown}")
    assert "Types are pydantic models, dataclasses, TypedDicts, enums, Literal, str, int" in str(error)
    assert error.fields == ("output_type",)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Thing, "got Thing: Unable to generate pydantic-core schema for <class "),
        (list[Thing], "got list[Thing]: Unable to generate"),
        (Holder, "got Holder.thing: Unable to generate"),
        (Typed, "got Typed.thing: Unable to generate"),
        (Pair, "got Pair.thing: Unable to generate"),
        (Calling, "output_type Calling.call has no JSON schema"),
        (Callable[[], int], "has no JSON schema"),
        (list["Later"], "has no JSON schema"),  # noqa: F821  it does not exist
        (Json[list[int]], "is a pydantic Json, which is JSON inside a text"),
        (Literal[b"x"], "has a value that JSON cannot hold as it is"),
        (dict[float, int], "has keys that JSON cannot hold, which an output_type cannot have: use text, whole numbers"),
        (dict[tuple[int, int], int], "has keys that JSON cannot hold"),
    ],
    ids=str,
)
def test_a_type_without_a_schema_is_refused_with_its_field(kind: Any, message: str) -> None:
    assert message in str(refused(kind))


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


DANGLING = [
    {"$ref": "#/$defs/Label"},
    an_object(a={"$ref": "#/$defs/Label"}) | {"$defs": {"Other": TEXT}},
    an_object(a={"type": "array", "items": {"$ref": "#/properties/b"}}),
    an_object(a={"anyOf": [{"$ref": "#nowhere"}, TEXT]}),
    {"type": "array", "prefixItems": [{"$ref": "#/$defs/x"}]},
    {"not": {"$ref": "#/$defs/x"}},
]


@pytest.mark.parametrize("schema", DANGLING, ids=range(len(DANGLING)))
def test_a_schema_that_refers_to_nothing_is_refused(schema: Any) -> None:
    assert str(refused(schema)).startswith("output_type refers to nothing in it: '#")


@pytest.mark.parametrize(
    "reference", ["https://example.com/label.json", "label.json#/a", "file:///etc/passwd", "//x/y"]
)
def test_a_schema_that_refers_to_another_document_is_refused_and_nothing_is_fetched(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "urllib.request", None)  # an import of it would fail
    error = refused(an_object(a={"$ref": reference}))
    assert str(error).startswith("output_type refers to another document, and nothing is fetched: ")


def test_references_in_data_are_none() -> None:
    schema = an_object(a={"enum": [{"$ref": "#/nowhere"}, "x"]}, b={**TEXT, "default": {"$ref": "#/nowhere"}})
    assert json_schema_format(schema)["strict"] is False
    assert parse_output(schema, '{"a": {"$ref": "#/nowhere"}, "b": "x"}')["b"] == "x"


ENDLESS = [
    {"$ref": "#"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    an_object(next={"$ref": "#"}),
    an_object(a={"$ref": "#/$defs/a"})
    | {"$defs": {"a": an_object(b={"type": "array", "items": {"$ref": "#"}, "minItems": 1})}},
    {"anyOf": [an_object(x={"$ref": "#"}), {"type": "array", "items": {"$ref": "#"}, "minItems": 2}]},
]


OPTIONAL = [
    {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"$ref": "#"}}, "required": ["value"]},
    an_object(n={"$ref": "#/$defs/N"})
    | {"$defs": {"N": {"type": "object", "properties": {"value": TEXT, "next": {"$ref": "#/$defs/N"}}}}},
]


@pytest.mark.parametrize("schema", OPTIONAL, ids=range(len(OPTIONAL)))
def test_a_schema_with_an_optional_property_that_refers_back_is_sent_as_it_is(schema: Any) -> None:
    schema = schema | {"additionalProperties": False}
    sent = json_schema_format(schema)
    assert (sent["strict"], sent["schema"]) == (False, schema)


def test_a_response_of_a_recursive_schema_ends_where_the_property_is_left_out() -> None:
    text = '{"value": 1, "next": {"value": 2}}'
    assert parse_output(OPTIONAL[0], text) == {"value": 1, "next": {"value": 2}}


DIALECTS = [
    {},
    {"$schema": "https://json-schema.org/draft/2020-12/schema"},
    {"$schema": "http://json-schema.org/draft-07/schema#"},
]


@pytest.mark.parametrize("dialect", DIALECTS, ids=range(len(DIALECTS)))
@pytest.mark.parametrize(
    ("divisor", "number", "is_multiple"),
    [
        (0.01, "19.99", True),
        (0.01, "1e22", True),
        (0.01, "-0.07", True),
        (0.01, "19.999", False),
        (0.1, "0.30000000000000004", False),
        (1e-9, "1.000000001", True),
        (0.5, "1" * 400, True),
        (3, "1" * 401, False),
        (7, "21", True),
        (7, "21.5", False),
    ],
)
def test_multiples_are_decimal_also_behind_a_reference_to_the_root(
    dialect: Any, divisor: float, number: str, is_multiple: bool
) -> None:
    price = {"type": "number", "multipleOf": divisor}
    schema = dialect | {"type": "object", "properties": {"price": price, "more": {"$ref": "#"}}}
    for text in (f'{{"price": {number}}}', f'{{"more": {{"price": {number}}}}}'):
        if is_multiple:
            assert parse_output(schema, text) == json.loads(text)
        else:
            with pytest.raises(OutputValidationError, match=rf"price: must be a multiple of {divisor}"):
                parse_output(schema, text)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
@pytest.mark.parametrize("multiple_of", [{}, {"multipleOf": 0.5}, {"multipleOf": 2}])
def test_a_number_of_a_schema_that_is_not_finite_is_refused_where_null_is_not_allowed(
    multiple_of: Any, number: str
) -> None:
    text = f'{{"price": {number}}}'
    with pytest.raises(OutputValidationError, match="price must be a finite number"):
        load_output(an_object(price={"type": "number", **multiple_of}), text)
    assert load_output(an_object(price={"type": ["number", "null"], **multiple_of}), text) == {"price": None}


def test_a_response_that_the_validator_fails_on_does_not_match() -> None:
    deep = {"allOf": [{"anyOf": [{"oneOf": [{"type": "array", "items": {"$ref": "#"}}]}]}]}
    text = f"{'[' * 190}{']' * 190}"
    with pytest.raises(OutputValidationError, match=r"cannot be compared with response \(RecursionError"):
        parse_output(deep, text)


@pytest.mark.parametrize("schema", ENDLESS, ids=range(len(ENDLESS)))
def test_a_schema_without_an_end_is_refused(schema: Any) -> None:
    assert any(cause in str(refused(schema)) for cause in ("leads to itself", "contains itself endlessly"))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "text"}, "output_type.type is not valid in a JSON Schema: 'text' is not valid under any"),
        (an_object(a={"minLength": "3"}), "output_type.properties.a.minLength is not valid in a JSON Schema: '3' is"),
        ({"enum": "a"}, "output_type.enum is not valid in a JSON Schema: 'a' is not of type 'array'"),
        ({"type": "string", "pattern": "["}, "output_type.pattern is not valid in a JSON Schema: '[' is not a 'regex'"),
        ({"required": ["a", "a"]}, "output_type.required is not valid in a JSON Schema: ['a', 'a'] has non-unique"),
        ({}, "output_type must be a JSON Schema with at least one keyword, got an empty dict"),
        ({1: TEXT}, "output_type must be a JSON Schema of plain JSON types, got a key that is no text"),
        ({"enum": {1, 2}}, "output_type must be a JSON Schema of plain JSON types, got Object of type set"),
        ({"const": float("nan")}, "output_type must be a JSON Schema of plain JSON types, got Out of range float"),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True},
            "output_type.$schema must be draft 6 or newer, got 'http://json-schema.org/draft-04/schema#'",
        ),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_schema_that_is_not_valid_is_refused_with_the_place(schema: Any, message: str) -> None:
    error = refused(schema)
    assert str(error).startswith(message)
    assert error.fields == ("output_type",)


def test_a_schema_that_holds_itself_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"a": schema}
    assert "got Circular reference detected" in str(refused(schema))
