"""The schema that is sent for a type, and the types that are refused, with the field and advice."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import json
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, Json, WithJsonSchema, create_model

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.output import json_schema_format, parse_output
from airflow_provider_responses.models.output_limits import add_limits, limits_of
from airflow_provider_responses.models.output_schema import FORMATS, is_portable


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Colour(enum.StrEnum):
    RED = "red"


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "b"
    YES = True
    NOTHING = None
    SHARE = 1.5


class Pair(enum.Enum):
    BOTH = (1, 2)


def sent(annotation: Any) -> Any:
    """Return the schema that is sent for a field, without its title."""
    made = json_schema_format(create_model("Made", field=(annotation, ...)))["schema"]
    field = made["properties"]["field"]
    field = made["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    return {name: value for name, value in field.items() if name != "title"}


def also(**limits: Any) -> str:
    return f"Must also satisfy: {json.dumps(limits, sort_keys=True)}"


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Decimal, {"type": "number"}),
        (Decimal | None, {"anyOf": [{"type": "number"}, {"type": "null"}]}),
        (
            Annotated[Decimal, Field(gt=0, le=Decimal("9.99"))],
            {"type": "number", "exclusiveMinimum": 0, "maximum": 9.99},
        ),
        (Annotated[Decimal, Field(multiple_of=Decimal("0.05"))], {"type": "number", "multipleOf": 0.05}),
        (
            Annotated[Decimal, Field(max_digits=6, decimal_places=2, ge=0)],
            {"type": "number", "minimum": 0, "description": also(maxDigits=6, decimalPlaces=2)},
        ),
        (
            Annotated[Decimal, Field(max_digits=30, decimal_places=18)],
            {
                "type": "string",
                "pattern": r"^-?\d{1,12}(\.\d{1,18})?$",
                "description": also(maxDigits=30, decimalPlaces=18),
            },
        ),
        (
            Annotated[Decimal, Field(max_digits=20, decimal_places=0, gt=7)],
            {
                "type": "string",
                "pattern": r"^\d{1,20}$",
                "description": also(maxDigits=20, decimalPlaces=0, exclusiveMinimum=7),
            },
        ),
    ],
    ids=range(7),
)
def test_the_schema_of_a_decimal_is_the_same_for_every_version_of_pydantic(annotation: Any, schema: Any) -> None:
    # pydantic's own schema has a pattern with look-aheads in 2.12 and 2.13: vLLM ignores them, OpenAI refuses them.
    assert sent(annotation) == schema


def test_a_long_decimal_is_read_exactly() -> None:
    model = create_model("Made", amount=(Annotated[Decimal, Field(max_digits=30)], ...))
    assert parse_output(model, '{"amount": "12345678901234567.89"}').amount == Decimal("12345678901234567.89")


A = {"type": "string", "const": "a"}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Literal["a"], A),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[True], {"type": "boolean", "const": True}),
        (Literal[True, False], {"type": "boolean"}),
        (Literal[None], {"type": "null"}),
        (Literal["a", 1, None], {"anyOf": [A, {"type": "integer", "const": 1}, {"type": "null"}]}),
        (
            Literal[Level.LOW, "y", "z"],
            {"anyOf": [{"type": "integer", "const": 1}, {"type": "string", "enum": ["y", "z"]}]},
        ),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (Colour, {"type": "string", "const": "red"}),
        (Level | Colour, {"anyOf": [{"$ref": "#/$defs/Level"}, {"$ref": "#/$defs/Colour"}]}),
        (
            Mixed,  # YES is NUMBER to Python
            {"anyOf": [{"type": "number", "enum": [1, 1.5]}, {"type": "string", "const": "b"}, {"type": "null"}]},
        ),
    ],
    ids=str,
)
def test_enums_have_the_type_of_their_values(annotation: Any, schema: Any) -> None:
    assert sent(annotation) == schema


@pytest.mark.parametrize(
    ("annotation", "form"),
    [
        (dt.datetime, "date-time"),
        (dt.time, "time"),
        (dt.date, "date"),
        (dt.timedelta, "duration"),
        (pydantic.EmailStr, "email"),
        (Annotated[str, WithJsonSchema({"type": "string", "format": "hostname"})], "hostname"),
        (ipaddress.IPv4Address, "ipv4"),
        (ipaddress.IPv6Address, "ipv6"),
        (pydantic.UUID4, "uuid"),
        (pydantic.AnyUrl, "uri"),
    ],
    ids=str,
)
def test_formats_that_every_server_accepts_are_sent(annotation: Any, form: str) -> None:
    assert form in FORMATS
    assert sent(annotation)["format"] == form


@pytest.mark.parametrize(
    ("annotation", "description"),
    [
        (bytes, None),
        (Path, None),
        (pydantic.SecretStr, None),
        (pydantic.IPvAnyAddress, also(format="ipvanyaddress")),
        (ipaddress.IPv4Network, also(format="ipv4network")),
        (pydantic.Base64Str, also(format="base64")),
        (pydantic.NameEmail, also(format="name-email")),
        (Annotated[str, WithJsonSchema({"type": "string", "format": "phone"})], also(format="phone")),
    ],
    ids=str,
)
def test_other_formats_are_moved_to_the_description(annotation: Any, description: str | None) -> None:
    made = sent(annotation)
    assert "format" not in made
    assert made.get("description") == description


def test_limits_outside_the_schema_are_validated() -> None:
    model = create_model("Made", network=(ipaddress.IPv4Network, ...))
    with pytest.raises(pydantic.ValidationError):
        model.model_validate_json('{"network": "here"}')


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (pydantic.PastDate, {"type": "string", "format": "date", "description": also(past=True)}),
        (
            Annotated[dt.date, Field(ge=dt.date(2025, 1, 1), description="When it ended.")],
            {"type": "string", "format": "date", "description": "When it ended. " + also(minimum="2025-01-01")},
        ),
        (
            Annotated[dt.timedelta, Field(lt=dt.timedelta(hours=2))],
            {"type": "string", "format": "duration", "description": also(exclusiveMaximum="PT2H")},
        ),
        (pydantic.WebsocketUrl, {
            "type": "string", "format": "uri", "minLength": 1, "maxLength": 2083,
            "description": also(schemes=["ws", "wss"]),
        }),
        (
            Annotated[set[int], Field(min_length=2)],
            {"type": "array", "items": {"type": "integer"}, "minItems": 2, "description": also(uniqueItems=True)},
        ),
        (set[int], {"type": "array", "items": {"type": "integer"}}),
        # The format `date-time` has a time zone, which a naive datetime refuses.
        (pydantic.NaiveDatetime, {
            "type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?$",
            "description": also(format="date-time without a time zone"),
        }),
    ],
    ids=range(7),
)  # fmt: skip
def test_limits_without_a_keyword_are_in_the_description(annotation: Any, schema: Any) -> None:
    assert sent(annotation) == schema


class LooksAhead(BaseModel):
    model_config = ConfigDict(regex_engine="python-re")
    word: str = Field(pattern=r"^(?!x)a+$")


def test_a_pattern_with_a_look_around_is_moved_to_the_description() -> None:
    field = json_schema_format(LooksAhead)["schema"]["properties"]["word"]
    assert "pattern" not in field
    assert limits_of(field) == {"pattern": r"^(?!x)a+$"}
    with pytest.raises(pydantic.ValidationError):
        LooksAhead.model_validate_json('{"word": "xa"}')


@pytest.mark.parametrize(
    "pattern",
    [r"(?=a)b", r"(?!a)", r"(?<=a)", r"(?<!a)", r"(a)\1", r"(?P<n>a)", r"(?i)a", r"\bfoo\b", r"\p{L}+", r"\Aa", r"a\Z"],
)
def test_patterns_that_some_servers_refuse_are_not_portable(pattern: str) -> None:
    assert not is_portable(pattern)


@pytest.mark.parametrize(
    "pattern", ["", "^a+$", r"^(?:a|b)\d{2}$", r"^\\b$", r"^\(\?=x$", r"^[^\s@]+@\w+\.com$", "a*?"]
)
def test_patterns_that_all_servers_accept_are_portable(pattern: str) -> None:
    assert is_portable(pattern)


class OneOf(BaseModel):
    a: int = Field(validation_alias=AliasPath("x", 0))


class NoChoice(BaseModel):
    a: int = Field(validation_alias=AliasChoices(AliasPath("x", 0), AliasPath("y", "z")))


class Inner(BaseModel):
    numbers: Json[list[int]]


class Holder(BaseModel):
    inner: list[Inner]


class Untyped(BaseModel):
    text: Json


class Tuples(BaseModel):
    pair: Pair


class Bytes(BaseModel):
    letter: Literal[b"x"]


class Importing(BaseModel):
    function: pydantic.ImportString


class Existing(BaseModel):
    file: pydantic.FilePath


class Fresh(BaseModel):
    file: pydantic.NewPath | None


class Calling(BaseModel):
    fine: int
    call: Callable[[], int]


class Endless(BaseModel):
    inner: Endless


class Around(BaseModel):
    endless: Endless


class Objects(BaseModel):
    kind: Literal["a"]
    value: Annotated[str, WithJsonSchema({"enum": [{"a": 1}]})]


class Both(BaseModel):
    value: Annotated[str, WithJsonSchema({"allOf": [{"type": "string"}, {"minLength": 1}]})]


def test_a_field_that_combines_several_schemas_is_sent_without_strict_mode() -> None:
    made = json_schema_format(Both)
    assert made["strict"] is False
    assert made["schema"]["properties"]["value"]["allOf"] == [{"type": "string"}, {"minLength": 1}]


@dataclasses.dataclass
class Record:
    x: Json


class WithRecord(BaseModel):
    record: Record


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (OneOf, "OneOf.a is read from a path inside another field (AliasPath)"),
        (NoChoice, "NoChoice.a is read from a path inside another field (AliasPath)"),
        (Holder, "Inner.numbers is a pydantic Json, which is JSON inside a text"),
        (Untyped, "Untyped.text is a pydantic Json, which is JSON inside a text"),
        (WithRecord, "Record.x is a pydantic Json, which is JSON inside a text"),
        (Tuples, "Tuples.pair has a value that JSON cannot hold as it is"),
        (Bytes, "Bytes.letter has a value that JSON cannot hold as it is"),
        (Objects, "Objects.value has a value that JSON cannot hold as it is"),
        (Importing, "Importing.function is a pydantic ImportString, which would import a name that the model chose"),
        (Existing, "Existing.file depends on the files of the machine that reads the response"),
        (Fresh, "Fresh.file depends on the files of the machine that reads the response"),
        (Calling, "Calling.call has no JSON schema"),
        (Endless, "Endless contains itself endlessly"),
        (Around, "Endless contains itself endlessly"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_field_that_could_not_be_read_is_refused_with_advice(model: type[BaseModel], expected: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        json_schema_format(model)
    assert expected in str(caught.value)
    assert caught.value.fields[0] == "output_type"
    assert (
        "use " in str(caught.value)
        or "give it" in str(caught.value)
        or "make " in str(caught.value)
        or model is Calling
    )


class Named(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    plain: int = Field(alias="Plain")
    choice: int = Field(validation_alias=AliasChoices(AliasPath("x", 0), "second"))
    single: int = Field(validation_alias=AliasPath("only"))
    nested: int = Field(validation_alias=AliasPath("x", 1))


def test_each_field_has_a_name_that_is_read() -> None:
    asked = json_schema_format(Named)["schema"]["required"]
    assert asked == ["Plain", "second", "only", "nested"]
    assert parse_output(Named, json.dumps(dict.fromkeys(asked, 1))).nested == 1


@pytest.mark.skipif(not hasattr(pydantic, "UUID7"), reason="pydantic has this setting from 2.11 on")
def test_fields_that_are_read_by_name_only_have_their_own_name() -> None:
    config = ConfigDict(validate_by_alias=False, validate_by_name=True)
    model = create_model("ByName", __config__=config, field=(int, Field(alias="Alias")))
    asked = json_schema_format(model)["schema"]["required"]
    assert parse_output(model, json.dumps(dict.fromkeys(asked, 1))).field == 1


def test_keywords_that_are_no_part_of_a_strict_schema_are_left_out() -> None:
    schema = sent(Annotated[int, Field(examples=[1], deprecated=True, json_schema_extra={"x-own": 1, "default": 3})])
    assert schema == {"type": "integer"}


def test_the_schema_of_a_type_is_built_once() -> None:
    class Costly(BaseModel):
        looks: int = 0

        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            counted.append(1)
            return super().model_json_schema(*args, **kwargs)

    counted: list[int] = []
    first, second = json_schema_format(Costly), json_schema_format(Costly)
    assert first == second
    assert counted == [1]
    first["schema"]["properties"].clear()  # changing a format does not change the next one
    assert json_schema_format(Costly) == second


def nested(levels: int) -> type[BaseModel]:
    model: Any = int
    for level in range(levels):
        model = create_model(f"Level{level}", inner=(model, ...))
    return model


WIDE = create_model("Wide", **{f"f{n}": (int, ...) for n in range(5001)})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (WIDE, "5001 properties, and OpenAI accepts at most 5000"),
        (nested(11), "11 levels of objects, and OpenAI accepts at most 10"),
        (create_model("Choosy", x=(Literal[tuple(map(str, range(1001)))], ...)), "1001 values in enums"),
    ],
    ids=["wide", "deep", "choosy"],
)
def test_a_schema_that_is_too_large_for_openai_causes_a_warning(model: type[BaseModel], expected: str) -> None:
    with pytest.warns(UserWarning, match=expected):
        json_schema_format(model)


def test_a_schema_within_the_limits_causes_no_warning() -> None:
    class Tree(BaseModel):
        inner: list[Tree]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        json_schema_format(nested(10))
        json_schema_format(Tree)


@given(st.text() | st.none(), st.dictionaries(st.text(), st.integers() | st.text() | st.booleans(), min_size=1))
def test_limits_are_read_back_from_a_description(description: str | None, limits: dict[str, Any]) -> None:
    assert limits_of({"description": add_limits(description, limits)}) == limits


@given(st.text())
def test_other_descriptions_hold_no_limits(description: str) -> None:
    assert limits_of({"description": description}) == {}
