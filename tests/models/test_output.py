"""A pydantic model becomes a strict schema that its instances match, and a response becomes an instance."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator
from pydantic_core import PydanticCustomError

from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.models import ResponsesRequest, json_schema_format, parse_output
from airflow_provider_responses.models.output_schema import NotStrictError, sent_schema


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: float = 0.5


class Optionals(BaseModel):
    a: int | None
    b: str | None = None


class Nested(BaseModel):
    start: Point
    way: list[Point] = Field(default_factory=list, max_length=9)
    last: Point = Field(Point(x=1), description="where it ends")
    colours: list[Colour] = [Colour.RED]


class Node(BaseModel):
    name: str
    children: list[Node] = []
    parent: Node | None = None


class Described(BaseModel):
    """A recursive model whose reference has a description."""

    name: str
    children: list[Annotated[Described, Field(description="one child")]] = []


class Holder(BaseModel):
    root: Node
    again: Node | None = Field(None, description="another")


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    first_name: str = Field(alias="firstName")
    default: int = 3
    properties: list[str] = Field(default=[], validation_alias="Properties")


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    day: date
    tags: set[str] = set()
    size: Literal[1, 2] = 1
    limited: Annotated[int, Field(ge=0, le=9)] = 3


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int


GOOD: list[BaseModel] = [
    Point(x=1),
    Optionals(a=None),
    Nested(start=Point(x=1)),
    Node(name="a", children=[Node(name="b")], parent=Node(name="c")),
    Described(name="a", children=[Described(name="b")]),
    Holder(root=Node(name="a")),
    Aliased(firstName="A"),
    Owner(pet=Cat(lives=9), day=date(2026, 1, 1)),
    Owner(pet=Dog(tricks=["sit"]), day=date(2026, 1, 1)),
    Box[Point](content=Point(x=1)),
    Closed(x=1),
    RootModel[Point](Point(x=1)),
]


def nodes(schema: Any, seen: set[int] | None = None) -> Iterator[dict[str, Any]]:
    seen = set() if seen is None else seen
    if id(schema) in seen:
        return
    seen.add(id(schema))
    if isinstance(schema, list):
        for item in schema:
            yield from nodes(item, seen)
    elif isinstance(schema, dict):
        yield schema
        for key in ("properties", "$defs"):
            for item in schema.get(key, {}).values():
                yield from nodes(item, seen)
        for key in ("anyOf", "allOf", "oneOf", "prefixItems", "items"):
            yield from nodes(schema.get(key), seen)


def by_alias(instance: BaseModel) -> Any:
    given = instance.model_dump(mode="json")
    fields = type(instance).model_fields
    aliases = {
        name: field.validation_alias for name, field in fields.items() if isinstance(field.validation_alias, str)
    }
    return {aliases.get(name, name): value for name, value in given.items()}


@pytest.mark.parametrize("instance", GOOD, ids=lambda value: type(value).__name__)
def test_the_schema_is_valid_and_accepted_in_a_request(instance: BaseModel) -> None:
    made = json_schema_format(type(instance))
    assert (made["type"], made["strict"]) == ("json_schema", True)
    sent = json.loads(ResponsesRequest(input="Hi", text={"format": made}).to_bytes())["text"]["format"]["schema"]
    Draft202012Validator.check_schema(sent)


@pytest.mark.parametrize("instance", GOOD, ids=lambda value: type(value).__name__)
def test_every_object_is_closed_and_requires_all_its_fields(instance: BaseModel) -> None:
    schema = json_schema_format(type(instance))["schema"]
    assert schema["type"] == "object"
    for node in nodes(schema):
        assert not {"default", "oneOf", "discriminator"} & set(node)
        if "$ref" in node:
            assert set(node) == {"$ref"}
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])


@pytest.mark.parametrize("instance", GOOD, ids=lambda value: type(value).__name__)
def test_an_instance_matches_the_schema_and_is_read_back(instance: BaseModel) -> None:
    output = by_alias(instance)
    Draft202012Validator(json_schema_format(type(instance))["schema"]).validate(output)
    assert parse_output(type(instance), json.dumps(output)) == instance


@pytest.mark.parametrize("instance", GOOD, ids=lambda value: type(value).__name__)
def test_the_schema_of_a_type_never_changes(instance: BaseModel) -> None:
    assert str(json_schema_format(type(instance))) == str(json_schema_format(type(instance)))


def test_the_fields_have_the_order_of_the_model() -> None:
    assert list(json_schema_format(Owner)["schema"]["properties"]) == ["pet", "day", "tags", "size", "limited"]


def test_descriptions_are_kept() -> None:
    assert json_schema_format(Nested)["schema"]["properties"]["last"]["description"] == "where it ends"


def test_the_name_has_only_characters_that_the_api_allows() -> None:
    assert json_schema_format(Box[Point])["name"] == "Box_Point_"
    long = type("L" * 90, (Point,), {})
    assert len(json_schema_format(long)["name"]) == 64


def open_field(annotation: Any) -> type[BaseModel]:
    return type("Open", (BaseModel,), {"__annotations__": {"fine": int, "inner": annotation}})


class Deep(BaseModel):
    below: list[dict[str, int]]


class Allowing(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dict, {"type": "object", "additionalProperties": True}),
        (
            list[dict[str, str]],
            {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        ),
        (Any, {}),
        (list, {"type": "array", "items": {}}),
        (
            tuple[int, str],
            {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
            },
        ),
    ],
    ids=str,
)
def test_a_field_that_a_strict_schema_cannot_describe_is_sent_without_strict_mode(annotation: Any, sent: Any) -> None:
    # Servers respond with a 400 to a strict schema with it.
    made = json_schema_format(open_field(annotation))
    inner = made["schema"]["properties"]["inner"]
    assert made["strict"] is False
    assert {name: value for name, value in inner.items() if name != "title"} == sent
    assert made["schema"]["required"] == ["fine", "inner"]  # the rest is as in a strict one
    assert made["schema"]["additionalProperties"] is False


def test_a_model_with_further_fields_is_sent_without_strict_mode() -> None:
    made = json_schema_format(Allowing)
    assert made["strict"] is False
    assert made["schema"]["additionalProperties"] is True
    assert parse_output(Allowing, '{"x": 1, "more": "y"}').model_extra == {"more": "y"}


@pytest.mark.parametrize(
    ("model", "field"),
    [(open_field(dict[str, int]), "Open.inner"), (Deep, "Deep.below"), (open_field(list[Deep]), "Deep.below")],
    ids=["dict", "nested", "deeper"],
)
def test_the_part_that_is_not_strict_is_named(model: type[BaseModel], field: str) -> None:
    with pytest.raises(NotStrictError, match=f"output_type {field} is an object with any keys") as caught:
        sent_schema(model, model.__name__)
    assert caught.value.fields == ("output_type", field)


OUTPUT = "zanzibar"


@pytest.mark.parametrize(
    ("kind", "text", "field"),
    [
        (Point, f'{{"x": "{OUTPUT}"}}', "x"),
        (Nested, f'{{"start": {{"x": "{OUTPUT}"}}}}', "start.x"),
        (Nested, f'{{"start": {{"x": 1}}, "way": [{{"x": 1}}, {{"x": "{OUTPUT}"}}]}}', "way.1.x"),
        (Nested, f'{{"start": {{"x": 1}}, "colours": ["{OUTPUT}"]}}', "colours.0"),
        (Optionals, f'{{"b": "{OUTPUT}"}}', "a"),
        (Owner, f'{{"pet": {{"kind": "{OUTPUT}"}}, "day": "2026-01-01"}}', "pet"),
        (Owner, f'{{"pet": {{"kind": "cat", "lives": 1}}, "day": "{OUTPUT}"}}', "day"),
        (Owner, '{"pet": {"kind": "cat", "lives": 1}, "day": "2026-01-01", "size": 7}', "size"),
        (Point, OUTPUT, "the text"),
        (Point, f'["{OUTPUT}"]', "the text"),
        (Point, f'```json\n{{"{OUTPUT}": 1}}\n```', "x"),
        (Point, f"```json\n{OUTPUT}\n```", "the text"),
    ],
    ids=range(12),
)
def test_an_invalid_response_is_refused_by_field_and_not_quoted(kind: type[BaseModel], text: str, field: str) -> None:
    with pytest.raises(OutputValidationError) as caught:
        parse_output(kind, text)
    assert f"{field}: " in str(caught.value)
    assert kind.__name__ in str(caught.value)
    assert OUTPUT not in str(caught.value)
    assert not caught.value.retryable
    assert caught.value.__cause__ is None


class Judged(BaseModel):
    """Refuses values in each of the ways that pydantic knows."""

    mood: str
    custom: str = ""

    @field_validator("mood")
    @classmethod
    def _check_mood(cls, mood: str) -> str:
        if mood == "long" * 100:
            raise AssertionError
        if not mood:
            raise AssertionError("mood is empty")
        if mood == "bad":
            raise ValueError("mood must be good")
        return {"good": mood}[mood]

    @field_validator("custom")
    @classmethod
    def _check_custom(cls, custom: str) -> str:
        if custom:
            raise PydanticCustomError("not_empty", "must be empty")
        return custom


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"mood": "bad"}, "the response does not match Judged: mood: mood must be good, got 'bad'. "),
        ({"mood": ""}, "the response does not match Judged: mood: mood is empty, got ''. "),
        (
            {"mood": "good", "custom": "x"},
            "the response does not match Judged: custom: must be empty, got 'x'. ",
        ),
        ({"mood": "long" * 100}, f"Judged: mood: AssertionError, got '{'long' * 24}lon…. "),
        ({"mood": "odd"}, "a validator of Judged raised KeyError: 'odd'. Correct the validator. The response has 15 "),
    ],
)
def test_a_validator_of_the_users_shows_its_message_and_the_value(output: dict[str, str], message: str) -> None:
    with pytest.raises(OutputValidationError) as caught:
        parse_output(Judged, json.dumps(output))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_exception_without_text_of_its_own_does_not_break_the_error() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Muted(BaseModel):
        mood: str

        @field_validator("mood")
        @classmethod
        def _check(cls, _: str) -> str:
            raise MuteError

    with pytest.raises(OutputValidationError, match=r"MuteError: <exception str\(\) failed>"):
        parse_output(Muted, '{"mood": "x"}')
