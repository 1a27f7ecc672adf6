"""Types that an `output_type` may have as fields, as people write them with pydantic, and models that use them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import re
import uuid
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

import pydantic
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    NameEmail,
    PlainSerializer,
    RootModel,
    StringConstraints,
    Tag,
    WithJsonSchema,
    alias_generators,
    computed_field,
    conint,
    conlist,
    conset,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

UTC = dt.UTC


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Old(str, enum.Enum):  # noqa: UP042  # as in older code
    A = "a"
    B = "b"


class One(enum.Enum):
    ONLY = "only"


class Mixed(enum.Enum):
    NUMBER = 1
    TEXT = "b"
    NOTHING = None
    SHARE = 1.5


class Bits(enum.IntFlag):
    READ = 1
    WRITE = 2


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog", "wolf"] = "dog"
    tricks: list[str]


class Plain(TypedDict):
    a: int
    b: NotRequired[str]


@dataclasses.dataclass
class Record:
    x: int
    day: dt.date = dt.date(2025, 1, 1)


def kind_of(value: Any) -> str:
    return "text" if isinstance(value, str) else "number"


FIELDS: dict[str, Any] = {
    "text": str,
    "whole": int,
    "share": float,
    "yes": bool,
    "nothing": type(None),
    "bounded": Annotated[int, Field(ge=3, lt=9)],
    "step": Annotated[int, Field(multiple_of=7, gt=10)],
    "small": Annotated[float, Field(gt=0, lt=0.01)],
    "float_step": Annotated[float, Field(multiple_of=0.5, ge=-3, le=3)],
    "finite": pydantic.FiniteFloat,
    "strict_int": pydantic.StrictInt,
    "strict_bool": pydantic.StrictBool,
    "positive": pydantic.PositiveInt,
    "negative": pydantic.NegativeFloat,
    "big": conint(ge=10**12, le=10**12 + 5),
    "lengths": Annotated[str, Field(min_length=3, max_length=5)],
    "code": Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{4}$")],
    "stripped": Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)],
    "compiled": Annotated[str, Field(pattern=re.compile(r"^[a-f]+$"))],
    "optional": str | None,
    "union": int | str,
    "deep_union": int | list[str] | None,
    "literal": Literal["a", "b"],
    "literal_one": Literal["a"],
    "literal_number": Literal[1, 2],
    "literal_mixed": Literal["a", 1, None],
    "literal_bool": Literal[True, "x"],
    "literal_none": Literal[None],
    "literal_enum": Literal[Level.LOW, "z"],
    "enum_number": Level,
    "enum_text": Colour,
    "enum_old": Old,
    "enum_one": One,
    "enum_mixed": Mixed,
    "enum_flag": Bits,
    "enum_optional": Mixed | None,
    "enum_union": Level | Colour,
    "decimal": Decimal,
    "decimal_money": Annotated[Decimal, Field(max_digits=6, decimal_places=2, ge=0)],
    "decimal_bounds": Annotated[Decimal, Field(gt=Decimal("0.5"), le=Decimal("9.99"))],
    "decimal_whole": Annotated[Decimal, Field(decimal_places=0)],
    "decimal_digits": Annotated[Decimal, Field(max_digits=1)],
    "decimal_tiny": Annotated[Decimal, Field(max_digits=2, decimal_places=2)],
    "decimal_long": Annotated[Decimal, Field(max_digits=30, decimal_places=18, gt=1)],
    "decimal_negative": Annotated[Decimal, Field(max_digits=3, decimal_places=1, lt=-5)],
    "decimal_step": Annotated[Decimal, Field(multiple_of=Decimal("0.25"), ge=0)],
    "decimal_optional": Decimal | None,
    "date": dt.date,
    "time": dt.time,
    "datetime": dt.datetime,
    "duration": dt.timedelta,
    "date_bounds": Annotated[dt.date, Field(ge=dt.date(1999, 2, 27), lt=dt.date(1999, 3, 2))],
    "date_after": Annotated[dt.date, Field(gt=dt.date(2030, 1, 1))],
    "date_before": Annotated[dt.date, Field(le=dt.date(1980, 1, 1))],
    "time_bounds": Annotated[dt.time, Field(ge=dt.time(9), le=dt.time(17, 30))],
    "datetime_bounds": Annotated[dt.datetime, Field(ge=dt.datetime(2031, 1, 1, tzinfo=UTC))],
    "duration_bounds": Annotated[dt.timedelta, Field(gt=dt.timedelta(hours=1), lt=dt.timedelta(hours=2))],
    "duration_short": Annotated[dt.timedelta, Field(lt=dt.timedelta(seconds=1), ge=dt.timedelta(0))],
    "past": pydantic.PastDate,
    "future": pydantic.FutureDate,
    "past_time": pydantic.PastDatetime,
    "future_time": pydantic.FutureDatetime,
    "aware": pydantic.AwareDatetime,
    "naive": pydantic.NaiveDatetime,
    "uuid": uuid.UUID,
    "uuid_1": pydantic.UUID1,
    "uuid_3": pydantic.UUID3,
    "uuid_4": pydantic.UUID4,
    "uuid_5": pydantic.UUID5,
    "email": pydantic.EmailStr,
    "name_email": NameEmail,
    "http_url": pydantic.HttpUrl,
    "any_url": pydantic.AnyUrl,
    "ftp_url": pydantic.FtpUrl,
    "file_url": pydantic.FileUrl,
    "socket_url": pydantic.WebsocketUrl,
    "postgres": pydantic.PostgresDsn,
    "redis": pydantic.RedisDsn,
    "ip": pydantic.IPvAnyAddress,
    "ip_network": pydantic.IPvAnyNetwork,
    "ip_interface": pydantic.IPvAnyInterface,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "ipv4_network": ipaddress.IPv4Network,
    "ipv6_network": ipaddress.IPv6Network,
    "ipv4_interface": ipaddress.IPv4Interface,
    "ipv6_interface": ipaddress.IPv6Interface,
    "bytes": bytes,
    "base64_bytes": pydantic.Base64Bytes,
    "base64_text": pydantic.Base64Str,
    "base64_url": pydantic.Base64UrlStr,
    "secret": pydantic.SecretStr,
    "path": Path,
    "regex": re.Pattern,
    "size": pydantic.ByteSize,
    "complex": complex,
    "list": list[int],
    "list_bounds": conlist(int, min_length=3, max_length=4),
    "set": set[str],
    "set_bounds": conset(int, min_length=3),
    "set_of_enum": conset(Colour, min_length=2),
    "frozen_set": frozenset[dt.date],
    "deque": deque[int],
    "sequence": Sequence[float],
    "any_tuple": tuple[int, ...],
    "nested_list": list[list[Colour]],
    "typed_dict": Plain,
    "dataclass": Record,
    "tagged": Annotated[Cat | Dog, Field(discriminator="kind")],
    "tagged_list": list[Annotated[Cat | Dog, Field(discriminator="kind")]],
    "tagged_by_function": Annotated[
        Annotated[str, Tag("text")] | Annotated[int, Tag("number")], Discriminator(kind_of)
    ],
    "untagged": Cat | Dog | None,
    "before": Annotated[int, BeforeValidator(lambda value: value)],
    "after": Annotated[str, AfterValidator(str.upper)],
    "serialized": Annotated[dt.date, PlainSerializer(lambda day: day.year)],
    "own_schema": Annotated[str, WithJsonSchema({"type": "string", "format": "phone", "minLength": 3})],
    "own_schema_list": Annotated[str | None, WithJsonSchema({"type": ["string", "null"], "maxLength": 9})],
    "examples": Annotated[int, Field(examples=[1, 2], description="a number", deprecated=True)],
    "look_ahead_note": Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^(?!x)[a-z]{3}$"})],
}
if hasattr(pydantic, "UUID7"):
    FIELDS |= {"uuid_6": pydantic.UUID6, "uuid_7": pydantic.UUID7, "uuid_8": pydantic.UUID8}
if tuple(map(int, pydantic.VERSION.split(".")[:2])) >= (2, 10):
    FIELDS["fraction"] = Fraction


class Node(BaseModel):
    name: str
    children: list[Node] = []
    parent: Node | None = None


class Even(BaseModel):
    odd: Odd | None = None


class Odd(BaseModel):
    even: Even


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    first_name: str = Field(alias="firstName")
    last: str = Field(validation_alias="Last")
    given: str = Field(serialization_alias="Given")


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=alias_generators.to_camel)
    first_name: str
    last_name: int


class Choosing(BaseModel):
    a: int = Field(validation_alias=AliasChoices(AliasPath("x", 0), "b"))
    c: int = Field(validation_alias=AliasPath("only"))


class ByNameToo(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    a: int = Field(validation_alias=AliasPath("x", 0))


class Swapped(BaseModel):
    a: int = Field(alias="b")
    b: str = Field(alias="a")


class Validated(BaseModel):
    low: int
    high: int = 3
    tags: list[str] = Field(default_factory=list, max_length=9)

    @field_validator("tags")
    @classmethod
    def trimmed(cls, value: list[str]) -> list[str]:
        return [tag.strip() for tag in value]

    @model_validator(mode="after")
    def in_order(self) -> Validated:
        self.low, self.high = sorted((self.low, self.high))
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def span(self) -> int:
        return self.high - self.low


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    day: dt.date
    tags: set[str]
    level: Level
    amount: Decimal
    mixed: Literal["a", 1]


class Written(BaseModel):
    """The schema for writing is preferred by its configuration; that for reading counts."""

    model_config = ConfigDict(json_schema_mode_override="serialization")
    amount: Decimal
    year: Annotated[dt.date, PlainSerializer(lambda day: day.year, return_type=int)]


class Described(BaseModel):
    """Its kind."""

    amount: Decimal = Field(max_digits=4, decimal_places=2, description="In euros.")
    node: Node = Field(description="The first one.")
    level: Level | None = Field(None, description="How bad.")
    hidden: int = Field(0, exclude=True)


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    content: T


MODELS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        *(Node, Even, Odd, Aliased, Generated, Choosing, ByNameToo, Swapped, Validated, Strict, Written, Described),
        *(Box[int], Box[list[Node]], RootModel[Node]),
    )
}
CORPUS: dict[str, type[BaseModel]] = {
    **{name: create_model(f"With_{name}", value=(kind, ...)) for name, kind in FIELDS.items()},
    "everything": create_model("Everything", **{name: (kind, ...) for name, kind in FIELDS.items()}),
    **MODELS,
}
