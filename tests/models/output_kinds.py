"""
Types and JSON Schemas that an `output_type` may be as a whole, over all kinds that pydantic and strict modes document.

Each has the reason why it is not strict, None if it is.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypeVar, Union

import pydantic
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, create_model
from typing_extensions import TypeAliasType, TypedDict

from tests.models.output_corpus import Cat, Colour, Described, Dog, Level, Mixed, Node, Plain, Record

OPEN = "is an object with any keys"
TUPLE = "is a tuple"
ANY = "accepts any value"


class Label(BaseModel):
    topic: Literal["a", "b"]
    score: float = Field(ge=0, le=1)
    note: str | None = None


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int


class Further(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class Numbered(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]
    x: str


class Counted(BaseModel):
    by_name: dict[str, int]


class Loud(BaseModel):
    word: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def loud(self) -> str:
        return self.word.upper()


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0
    day: dt.date | None = None


@dataclasses.dataclass
class Line:
    points: list[Point]
    name: str = dataclasses.field(default="", metadata={"any": 1})


@pydantic.dataclasses.dataclass
class Checked:
    size: Annotated[int, Field(gt=0, lt=100)]


class Total(TypedDict):
    name: str
    tags: list[str]


class Partial(TypedDict, total=False):
    name: str
    size: int


class Inherited(Total):
    more: NotRequired[bool]


class Pair(NamedTuple):
    name: str
    size: int


T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: int | None


class Names(RootModel[list[str]]):
    """Some names."""


class Tree(BaseModel):
    name: str
    children: list[Tree]


class Status(enum.StrEnum):
    OPEN = "open"
    DONE = "done"


class Priority(enum.IntEnum):
    LOW = 1
    HIGH = 5


class Share(enum.Enum):
    HALF = 0.5
    WHOLE = 1.0


Percent = NewType("Percent", int)
Labels = TypeAliasType("Labels", list[Label])

TYPES: dict[str, tuple[Any, str | None]] = {
    # pydantic models
    "model": (Label, None),
    "model_forbid": (Forbidding, None),
    "model_allow": (Further, OPEN),
    "model_allow_typed": (Numbered, OPEN),
    "model_with_dict": (Counted, OPEN),
    "model_computed": (Loud, None),
    "model_recursive": (Tree, None),
    "model_mutually_recursive": (Node, None),
    "model_described": (Described, None),
    "model_generic": (Page[Label], None),
    "model_generic_plain": (Page[int], None),
    "model_made": (create_model("Made", value=(list[Label] | None, ...)), None),
    "model_empty": (create_model("Empty"), None),
    "root_list": (RootModel[list[Label]], None),
    "root_subclass": (Names, None),
    "root_model": (RootModel[Label], None),
    "root_dict": (RootModel[dict[str, Label]], OPEN),
    # lists
    "list_of_models": (list[Label], None),
    "list_of_texts": (list[str], None),
    "list_of_lists": (list[list[int]], None),
    "list_of_unions": (list[Cat | Dog], None),
    "list_of_optional": (list[int | None], None),
    "list_of_enums": (list[Status], None),
    "list_of_literals": (list[Literal["a", "b"]], None),
    "list_of_dicts": (list[dict[str, str]], OPEN),
    "list_bounded": (Annotated[list[Label], Field(min_length=1, max_length=3)], None),
    "list_bare": (list, ANY),
    "list_recursive": (list[Tree], None),
    "sequence": (Sequence[Label], None),
    "set": (set[int], None),
    "frozenset": (frozenset[str], None),
    "variadic_tuple": (tuple[int, ...], None),
    "alias": (Labels, None),
    # unions
    "optional_model": (Label | None, None),
    "optional_typing": (Optional[Label], None),  # noqa: UP045  as in older code
    "optional_text": (str | None, None),
    "union_of_models": (Cat | Dog, None),
    "union_typing": (Union[Cat, Dog, None], None),  # noqa: UP007
    "union_discriminated": (Annotated[Cat | Dog, Field(discriminator="kind")], None),
    "union_of_plain": (int | str, None),
    "union_with_list": (Label | list[Label], None),
    "union_of_dataclasses": (Point | Checked, None),
    "union_with_dict": (Label | dict[str, int], OPEN),
    # enums and literals
    "enum_text": (Status, None),
    "enum_number": (Priority, None),
    "enum_float": (Share, None),
    "enum_mixed": (Mixed, None),
    "enum_optional": (Colour | None, None),
    "enum_or_enum": (Level | Colour, None),
    "literal": (Literal["yes", "no"], None),
    "literal_one": (Literal["yes"], None),
    "literal_numbers": (Literal[1, 2, 3], None),
    "literal_mixed": (Literal["a", 1, True, None], None),
    "literal_enum": (Literal[Status.OPEN, "other"], None),
    "literal_boolean": (Literal[True], None),
    # plain types
    "str": (str, None),
    "int": (int, None),
    "float": (float, None),
    "bool": (bool, None),
    "none": (type(None), None),
    "date": (dt.date, None),
    "datetime": (dt.datetime, None),
    "time": (dt.time, None),
    "timedelta": (dt.timedelta, None),
    "uuid": (uuid.UUID, None),
    "decimal": (Decimal, None),
    "bytes": (bytes, None),
    "email": (pydantic.EmailStr, None),
    "url": (pydantic.HttpUrl, None),
    "positive": (pydantic.PositiveInt, None),
    "bounded": (Annotated[int, Field(ge=1, le=5)], None),
    "text_bounded": (Annotated[str, Field(min_length=2, max_length=4)], None),
    "text_pattern": (Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3}$")], None),
    "newtype": (Percent, None),
    "any": (Any, ANY),
    # dataclasses, TypedDicts, tuples, dicts
    "dataclass": (Point, None),
    "dataclass_nested": (Line, None),
    "dataclass_pydantic": (Checked, None),
    "dataclass_corpus": (Record, None),
    "typed_dict": (Total, None),
    "typed_dict_partial": (Partial, None),
    "typed_dict_inherited": (Inherited, None),
    "typed_dict_corpus": (Plain, None),
    "named_tuple": (Pair, TUPLE),
    "tuple": (tuple[int, str], TUPLE),
    "tuple_of_models": (tuple[Label, Label], TUPLE),
    "dict": (dict[str, int], OPEN),
    "dict_bare": (dict, OPEN),
    "dict_of_models": (dict[str, Label], OPEN),
    "dict_by_number": (dict[int, str], OPEN),
    "dict_by_date": (dict[dt.date, float], OPEN),
    "dict_by_enum": (dict[Status, int], OPEN),
    "dict_by_literal": (dict[Literal["x", "y"], bool], OPEN),
    "dict_by_pattern": (dict[Annotated[str, Field(pattern="^[a-z]{1,3}$")], int], OPEN),
    "dict_bounded": (Annotated[dict[str, int], Field(min_length=1, max_length=2)], OPEN),
    "mapping": (Mapping[str, bool], OPEN),
}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TEXT = {"type": "string"}
NUMBER = {"type": "number"}

SCHEMAS: dict[str, tuple[dict[str, Any], str | None]] = {
    # as OpenAI's strict mode documents them
    "strict": (an_object(name=TEXT, age={"type": "integer"}), None),
    "titled": ({**an_object(name=TEXT), "title": "A person", "description": "Who it is."}, None),
    "dialect": ({**an_object(name=TEXT), "$schema": "https://json-schema.org/draft/2020-12/schema"}, None),
    "draft_7": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            **an_object(a={"$ref": "#/definitions/a"}),
            "definitions": {"a": TEXT},
        },
        None,
    ),
    "string": (TEXT, None),
    "number": (NUMBER, None),
    "integer": ({"type": "integer"}, None),
    "boolean": ({"type": "boolean"}, None),
    "null": ({"type": "null"}, None),
    "array": ({"type": "array", "items": NUMBER}, None),
    "enum": ({"enum": ["a", "b"]}, None),
    "enum_typed": ({"type": "string", "enum": ["a", "b", 3]}, None),
    "enum_mixed": ({"enum": ["a", 1, 1.5, None, True]}, None),
    "const": ({"const": "x"}, None),
    "any_of": ({"anyOf": [TEXT, NUMBER]}, None),
    "any_of_objects": ({"anyOf": [an_object(a=TEXT), an_object(b=NUMBER)]}, None),
    "nullable": (an_object(a={"type": ["string", "null"]}), None),
    "nullable_any_of": (an_object(a={"anyOf": [TEXT, {"type": "null"}]}), None),
    "several_types": ({"type": ["integer", "string", "array"], "items": TEXT, "minimum": 3}, None),
    "pattern": (an_object(code={"type": "string", "pattern": r"^[A-Z]{3}$"}), None),
    "lengths": ({"type": "string", "minLength": 2, "maxLength": 3}, None),
    **{
        f"format_{name}": ({"type": "string", "format": name}, None)
        for name in ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
    },
    "format_of_others": ({"type": "string", "format": "phone"}, None),
    "bounds": ({"type": "number", "minimum": 0, "maximum": 1}, None),
    "exclusive_bounds": ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 4}, None),
    "multiple": ({"type": "integer", "multipleOf": 7}, None),
    "items_bounded": ({"type": "array", "items": TEXT, "minItems": 1, "maxItems": 2}, None),
    "nested": (an_object(inner=an_object(deeper=an_object(x=TEXT))), None),
    "definitions": (
        {**an_object(a={"$ref": "#/$defs/a"}, b={"$ref": "#/$defs/a"}), "$defs": {"a": an_object(x=TEXT)}},
        None,
    ),
    "root_reference": ({"$ref": "#/$defs/a", "$defs": {"a": an_object(x=TEXT)}}, None),
    "array_of_references": ({"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": an_object(x=TEXT)}}, None),
    "recursive_root": (an_object(name=TEXT, children={"type": "array", "items": {"$ref": "#"}}), None),
    "recursive_nullable": (an_object(x=NUMBER, next={"anyOf": [{"$ref": "#"}, {"type": "null"}]}), None),
    "recursive_definition": (
        {"$ref": "#/$defs/n", "$defs": {"n": an_object(next={"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]})}},
        None,
    ),
    "recursive_array": ({"type": "array", "items": {"$ref": "#"}}, None),
    "pointer": (an_object(a=TEXT, b={"$ref": "#/properties/a"}), None),
    "escaped_pointer": ({**an_object(a={"$ref": "#/$defs/x~1y"}), "$defs": {"x/y": NUMBER}}, None),
    "all_of_one": (an_object(a={"allOf": [TEXT], "description": "one"}), None),
    "described": (an_object(a={**TEXT, "description": "A name.", "examples": ["x"], "default": "y"}), None),
    "property_called_ref": (an_object(**{"$ref": TEXT, "enum": NUMBER, "properties": TEXT}), None),
    # other forms of the same
    "open_by_default": ({"type": "object", "properties": {"a": TEXT}, "required": ["a"]}, None),
    "optional_property": ({"type": "object", "properties": {"a": TEXT, "b": NUMBER}, "required": ["a"]}, None),
    "without_type": ({"properties": {"a": TEXT}}, None),
    "forbidden_property": ({"type": "object", "properties": {"a": TEXT, "b": False}}, None),
    "one_of_disjoint": ({"oneOf": [TEXT, NUMBER, an_object(a=TEXT)]}, None),
    "one_of_discriminated": (
        {"oneOf": [an_object(kind={"const": "a"}, x=TEXT), an_object(kind={"enum": ["b", "c"]}, y=TEXT)]},
        None,
    ),
    "unique_items": ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, None),
    "pattern_of_few_servers": ({"type": "string", "pattern": "^(?!x)[a-z]{2}$"}, None),
    "unknown_keyword": ({**an_object(a=TEXT), "x-order": 3}, None),
    # no strict form
    "any_object": ({"type": "object"}, OPEN),
    "additional_true": ({"type": "object", "properties": {"a": TEXT}, "additionalProperties": True}, OPEN),
    "additional_typed": ({"type": "object", "additionalProperties": NUMBER}, OPEN),
    "pattern_properties": (
        {"type": "object", "patternProperties": {"^x": NUMBER}, "additionalProperties": False},
        "has the keyword 'patternProperties'",
    ),
    "property_names": (
        {"type": "object", "propertyNames": {"pattern": "^[a-c]$"}, "additionalProperties": NUMBER},
        "has the keyword 'propertyNames'",
    ),
    "property_counts": ({"type": "object", "minProperties": 1, "maxProperties": 2}, "has the keyword 'minProperties'"),
    "dependent_required": (
        {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "dependentRequired": {"a": ["b"]}},
        "has the keyword 'dependentRequired'",
    ),
    "dependent_schemas": (
        {"type": "object", "properties": {"a": TEXT}, "dependentSchemas": {"a": {"required": ["b"]}}},
        "has the keyword 'dependentSchemas'",
    ),
    "not": ({"type": "integer", "not": {"const": 3}}, "has the keyword 'not'"),
    "if": (
        {"type": "integer", "if": {"minimum": 5}, "then": {"multipleOf": 5}, "else": {"maximum": 4}},
        "has the keyword 'if'",
    ),
    "all_of": ({"allOf": [{"type": "string"}, {"minLength": 2}]}, "combines several schemas"),
    "one_of_overlapping": ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 3}]}, "may match several"),
    "one_of_untyped": ({"oneOf": [{"properties": {"a": TEXT}}, TEXT]}, "may match several"),
    "one_of_open": (
        {"oneOf": [{"type": "object", "properties": {"a": TEXT}}, an_object(a=TEXT, b=TEXT)]},
        "may match several",
    ),
    "any_of_with_type": (
        {"type": "object", "properties": {"a": TEXT}, "anyOf": [{"required": ["a"]}]},
        "has other keywords beside 'anyOf'",
    ),
    "reference_with_limits": (
        {**an_object(a={"$ref": "#/$defs/a", "maxLength": 2}), "$defs": {"a": TEXT}},
        "has other keywords beside '$ref'",
    ),
    "prefix_items": ({"type": "array", "prefixItems": [TEXT, NUMBER], "items": False}, "has the keyword 'prefixItems'"),
    "contains": ({"type": "array", "items": NUMBER, "contains": {"minimum": 3}}, "has the keyword 'contains'"),
    "any_items": ({"type": "array"}, ANY),
    "any_value": ({"description": "Whatever."}, ANY),
    "any_property": (an_object(a=True), ANY),
    "enum_of_objects": ({"enum": [{"a": 1}, [2]]}, "has values that are no texts, numbers, booleans or null"),
    "required_unknown": ({"type": "object", "properties": {"a": TEXT}, "required": ["b"]}, "requires 'b'"),
    "anchor": ({**an_object(a={"$ref": "#x"}), "$defs": {"a": {"$anchor": "x", **TEXT}}}, "has the keyword '$anchor'"),
    "id": (
        {"$id": "https://example.com/s", **an_object(a={"$ref": "#/$defs/a"}), "$defs": {"a": TEXT}},
        "keyword '$id'",
    ),
    "id_of_an_array": (
        {"$id": "https://example.com/s", "type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": {"a": TEXT}},
        "keyword '$id'",
    ),
    "draft_7_tuple": (
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [TEXT, NUMBER]},
        "accepts no value",
    ),
    "recursive_not_strict": (
        {"type": "array", "items": {"anyOf": [{"$ref": "#"}, TEXT]}, "not": {"maxItems": 0}},
        "has the keyword 'not'",
    ),
}

KINDS: dict[str, tuple[Any, str | None]] = {
    **{f"type_{name}": it for name, it in TYPES.items()},
    **{f"schema_{name}": it for name, it in SCHEMAS.items()},
}
