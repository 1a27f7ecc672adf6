"""Reads an object inside a request: finds its type by its kind, checks its values, keeps the order of its keys."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import NoneType
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import (
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    StrictBool,
    StrictStr,
    TypeAdapter,
    ValidationInfo,
    with_config,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema
from typing_extensions import TypedDict, is_typeddict

from airflow_provider_responses.models.relaxed import OPEN, is_open, relaxed_validator
from airflow_provider_responses.validation import either

T = TypeVar("T")
MOST_KINDS: Final = 14  # that an error lists


def _number(value: Any) -> Any:
    """Read a number: 1 stays 1 and 1.0 stays 1.0. A template renders text, so text is read as well."""
    if isinstance(value, str):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return _number(kind(value))
    is_float = isinstance(value, float)  # `isfinite` fails for a very large int
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (is_float and not math.isfinite(value)):
        raise PydanticCustomError("number", "must be a finite number")
    return value


def _integer(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise PydanticCustomError("number", "must be a whole number")
    return int(number)


def _refuse_set(value: Any) -> Any:
    """Refuse sets: their order differs between processes, and the same request must always be the same bytes."""
    if isinstance(value, (set, frozenset)):
        raise PydanticCustomError("list", "must be a list, not a set, which has no order")
    return value


READ_NUMBER: Final = BeforeValidator(_number)
READ_INTEGER: Final = BeforeValidator(_integer)
Integer = Annotated[int, READ_INTEGER]
Number = Annotated[int | float, READ_NUMBER]
# A boolean from a template is text as well; pydantic's lax mode would also read 1, "on" and "y".
Boolean = Annotated[StrictBool, BeforeValidator(lambda v: {"true": True, "false": False}.get(str(v).lower(), v))]
Text = StrictStr
Items = Annotated[list[T], BeforeValidator(_refuse_set)]
JsonObject = dict[StrictStr, Any]


@with_config(ConfigDict(extra="allow"))
class Part(TypedDict):
    """An object inside a request. Unknown keys are sent as they are."""


Choice = type[Any] | Callable[[dict[str, Any]], type[Any]]


def _build(part: Any, for_others: bool) -> Callable[[Any], Any]:
    adapter = TypeAdapter(part)
    if for_others:
        return partial(relaxed_validator(adapter.core_schema).validate_python, context=OPEN)
    validate: Callable[[Any], Any] = adapter.validator.validate_python
    return validate


_validator = cache(_build)  # built on first use: a request has a few of more than a hundred types


class Checked:
    """Annotates a dict that is checked as ``part``, and keeps its form."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self.read, handler(source))

    def read(self, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Check ``given`` and return it; texts that hold numbers and booleans are converted."""
        for_others = is_open(info)
        part: Any = self.choose(given, for_others=for_others)
        if part is None:
            return given
        read = _validator(part, for_others)(given)
        return given if read == given else _in_given_order(given, read)

    def choose(self, _given: dict[str, Any], *, for_others: bool) -> type[Any] | None:  # noqa: ARG002  kinds need it
        """Return the type that a dict must have, None for a kind that is left to the server."""
        part: type[Any] = self.part
        return part


class Kinds(Checked):
    """
    Annotates a dict whose ``key`` holds its kind, and so decides its type.

    :param known: the types by kind; a function chooses among several types of one kind.
    :param elsewhere: kinds that the API has in other places only, and that are refused here.
    :param closed: whether unknown kinds are refused instead of left to the server.
    """

    def __init__(
        self,
        known: Mapping[str, Choice],
        *,
        key: str = "type",
        elsewhere: Mapping[str, Choice] | None = None,
        closed: bool = False,
    ) -> None:
        self.known = known
        self.key = key
        self.refused = frozenset(elsewhere or ()) - known.keys()
        self.closed = closed

    def choose(self, given: dict[str, Any], *, for_others: bool) -> type[Any] | None:
        kind = self.kind_of(given)
        choice = self.known.get(kind) if isinstance(kind, str) else None
        if choice is None and self._is_wrong(kind, for_others=for_others):
            self._refuse(given)
        return choice if choice is None or isinstance(choice, type) else choice(given)

    def _is_wrong(self, kind: Any, *, for_others: bool) -> bool:
        if for_others:
            return not isinstance(kind, str | None)
        return self.closed or not isinstance(kind, str) or kind in self.refused

    def kind_of(self, given: dict[str, Any]) -> Any:
        """Return the kind of an object."""
        return given.get(self.key)

    def _refuse(self, given: dict[str, Any]) -> NoReturn:
        kinds = [repr(kind) for kind in self.known]
        allowed = either(kinds)
        if self.key in given:
            expected = (
                f"Input should be {allowed}" if len(kinds) <= MOST_KINDS else "Input should be the name of a kind"
            )
            problem = PydanticCustomError("kind", expected)
        else:
            expected = allowed if len(kinds) <= MOST_KINDS else "the name of a kind"
            problem = PydanticCustomError("no_kind", f"is required: {expected}")
        value = given.get(self.key)
        raise ValidationError.from_exception_data(
            "part", [InitErrorDetails(type=problem, loc=(self.key,), input=value)]
        )


class OneOf:
    """
    Annotates a union of JSON types: the type of the given value chooses the branch.

    Pydantic's own unions try all branches, so that an error would list problems of branches that nobody meant.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(_Branches(get_args(source)).read)


ONE_OF: Final = OneOf()
Shape = Literal["a string", "a number", "a boolean", "a list", "a dictionary", "null"]


class _Branches:
    def __init__(self, branches: tuple[Any, ...]) -> None:
        self.types: dict[Shape, Any] = {_shape_of_type(branch): branch for branch in branches}
        self.validators: dict[tuple[Shape | None, bool], Callable[[Any], Any]] = {}

    def read(self, value: Any, info: ValidationInfo) -> Any:
        key = self._shape(value), is_open(info)
        validate = self.validators.get(key)
        if validate is None:
            validate = self.validators[key] = _build(self._branch(key[0]), key[1])
        return validate(value)

    def _shape(self, value: Any) -> Shape | None:
        shape = _SHAPES.get(type(value)) or _shape_of_other(value)
        if shape == "a string" and shape not in self.types:  # a template may have rendered a number or a boolean
            return next((other for other in ("a number", "a boolean") if other in self.types), None)
        return shape

    def _branch(self, shape: Shape | None) -> Any:
        if shape is None or shape not in self.types:
            raise PydanticCustomError("shape", f"Input should be {either(self.types)}")
        return self.types[shape]


_SHAPES: Final[dict[Any, Shape]] = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    list: "a list",
    tuple: "a list",
    dict: "a dictionary",
    NoneType: "null",
}


def _shape_of_type(branch: Any) -> Shape:
    while get_origin(branch) is Annotated:
        branch = get_args(branch)[0]
    origin = get_origin(branch) or branch
    if origin is Literal:
        return "a string"
    if is_typeddict(origin):
        return "a dictionary"
    return _SHAPES.get(origin, "a number")  # `int | float`, the only other one


def _shape_of_other(value: Any) -> Shape | None:
    if isinstance(value, Mapping):
        return "a dictionary"
    kinds: tuple[type[Any], ...] = (str, int, float, list, tuple)
    return next((_SHAPES[kind] for kind in kinds if isinstance(value, kind)), None)


def _in_given_order(given: Any, read: Any) -> Any:
    """Return ``read`` with the keys in the order of ``given``; values that did not change are the given ones."""
    if read == given:
        return given
    if isinstance(read, dict):
        return {key: _in_given_order(value, read[key]) for key, value in given.items()}
    if isinstance(read, list):
        return [_in_given_order(*pair) for pair in zip(given, read, strict=True)]
    return read
