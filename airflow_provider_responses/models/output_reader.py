"""
Requests and reads each kind of ``output_type``.

A :class:`ModelReader` reads everything that pydantic validates, a :class:`SchemaReader` a JSON Schema. The schema of a
request must be an object: a type that is another value is wrapped into an object with one field, ``response``.
"""

from __future__ import annotations

import enum
import json
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, NotRequired, Required, get_origin

from pydantic import BaseModel, PydanticUserError, RootModel, ValidationError, create_model
from pydantic_core import from_json
from typing_extensions import TypeAliasType

from airflow_provider_responses.exceptions import OutputValidationError, RequestValidationError
from airflow_provider_responses.models import output_json_schema
from airflow_provider_responses.models.output_problems import Problem, describe_problems, problem_of
from airflow_provider_responses.models.output_schema import (
    NotStrictError,
    format_name,
    name_with_field,
    sent_schema,
    warn_of_size,
)
from airflow_provider_responses.models.output_text import bare_json, is_json
from airflow_provider_responses.validation import cut, show, show_exception, wrong_value

WRAPPER: Final = "response"  # the field of the object around a value that is none
MAX_QUOTED: Final = 100  # characters of a text that a failing validator of the user's could not read
EXPECTED: Final = "a type or a JSON Schema"
TYPES: Final = (
    "Types are pydantic models, dataclasses, TypedDicts, enums, Literal, str, int, float, bool, date and all others "
    "that pydantic validates, and lists and unions of them; a JSON Schema is a dict"
)


class OutputReader(ABC):
    """
    Requests and reads one ``output_type``.

    :param name: of the type, for messages.
    :param schema: that is sent; its root is an object.
    :param strict: whether the schema is strict.
    :param is_wrapped: whether the value is the field ``response`` of that object.
    """

    def __init__(self, name: str, schema: Mapping[str, Any], *, strict: bool, is_wrapped: bool) -> None:
        self.name, self.is_strict, self.is_wrapped = name, strict, is_wrapped
        named = {"type": "json_schema", "name": format_name(name) or WRAPPER}
        self._format = json.dumps({**named, "schema": schema, "strict": strict})

    def format(self) -> dict[str, Any]:
        """Return the ``text.format`` that requests the type."""
        made: dict[str, Any] = json.loads(self._format)
        return made

    @abstractmethod
    def parse(self, text: str) -> Any:
        """
        Return the value of a text, still wrapped.

        :raises OutputValidationError: naming each field that is not valid.
        """

    @abstractmethod
    def unwrap(self, value: Any) -> Any:
        """Return a parsed value without its wrapper."""

    @abstractmethod
    def dump(self, value: Any) -> Any:
        """Return a parsed value as plain JSON types, still wrapped."""

    @abstractmethod
    def schema_of_values(self, *, written: bool = True) -> Mapping[str, Any]:
        """
        Return the JSON schema of values, still wrapped.

        :param written: of dumped values; otherwise of those that are read, by the names of their fields.
        """

    def annotations(self) -> dict[str, tuple[str, Any]]:
        """Return name and annotation of each field, by its name in dumped values."""
        return {}

    def field_names(self) -> list[str] | None:
        """Return the names of the fields of all dumped values; None if the type does not determine them."""
        if self.is_wrapped:
            return None
        schema = self.schema_of_values()
        if "$ref" in schema:
            schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
        is_open = schema.get("additionalProperties") or "patternProperties" in schema
        return None if is_open else list(schema.get("properties", ())) or None

    def not_matching(self, problems: list[Problem], text: str) -> OutputValidationError:
        """Return the error of a text that does not match the type."""
        if not text.strip():
            return OutputValidationError(
                f"the response has no text that could match {self.name}. Raise `max_output_tokens`, or use a model and "
                "a server that support structured outputs"
            )
        is_truncated = any("EOF while parsing" in it.message for it in problems)
        named = "; ".join(f"{it.path}: {it.for_user()}" for it in problems)
        return OutputValidationError(
            f"the response does not match {self.name}: {named}. Describe the fields in `instructions`, raise "
            "`max_output_tokens`, or use a model that supports structured outputs. The response has "
            f"{len(text)} characters",
            feedback=None if is_truncated else describe_problems(problems),
        )

    def wrapped(self, text: str) -> str | None:
        """Return the JSON of a bare value in the wrapper, for servers that ignore the schema; None if it is none."""
        if not (self.is_wrapped and is_json(text)):
            return None
        value = from_json(text)
        return None if isinstance(value, dict) and WRAPPER in value else f'{{"{WRAPPER}": {text}}}'


class ModelReader(OutputReader):
    """
    Reads everything that pydantic validates.

    :param output_type: a model, or another type.
    """

    def __init__(self, output_type: Any) -> None:
        name, is_model = name_of(output_type), is_model_class(output_type)
        self.output_type = output_type
        self.model: type[BaseModel] = output_type if is_model else _root_model(output_type, name)
        schema, strict = _schema_of(self.model, name)
        is_wrapped = schema.get("type") != "object"
        if is_wrapped:
            self.model = create_model(name, response=(output_type, ...))
            schema = sent_schema(self.model, name, strict=strict)
        elif not is_model and "title" in schema:
            schema["title"] = name
        if strict:
            warn_of_size(schema, name)
        super().__init__(name, schema, strict=strict, is_wrapped=is_wrapped)
        self._is_root = not is_wrapped and not is_model

    def parse(self, text: str) -> BaseModel:
        bare = bare_json(text)
        try:
            return self.model.model_validate_json(bare)
        except ValidationError as error:
            if (wrapped := self.wrapped(bare)) is not None:
                try:
                    return self.model.model_validate_json(wrapped)
                except ValidationError:
                    pass  # the error of the text as it is names the wrapper
            problems = [problem_of(found) for found in error.errors(include_url=False)]
            raise self.not_matching(problems, text) from None
        except (Exception, SystemExit) as error:  # SystemExit would end the whole triggerer
            raise OutputValidationError(
                f"a validator of {self.name} raised {show_exception(error)}. Correct the validator. The "
                f"response has {len(text)} characters: {show(text, most=MAX_QUOTED)}"
            ) from error

    def unwrap(self, value: Any) -> Any:
        if self.is_wrapped:
            return value.response
        return value.root if self._is_root else value

    def dump(self, value: Any) -> Any:
        try:
            return value.model_dump(mode="json", by_alias=True)
        except (Exception, SystemExit) as error:
            raise OutputValidationError(
                f"a serializer of {self.name} failed with {type(error).__name__}: correct the serializer"
            ) from error

    def schema_of_values(self, *, written: bool = True) -> Mapping[str, Any]:
        if written:
            return self.model.model_json_schema(mode="serialization")
        return self.model.model_json_schema(mode="validation", by_alias=False)

    def annotations(self) -> dict[str, tuple[str, Any]]:
        if self._is_root:
            return {name: (name, it) for name, it in getattr(self.output_type, "__annotations__", {}).items()}
        fields = self.model.model_fields.items()
        return {info.serialization_alias or info.alias or name: (name, info.annotation) for name, info in fields}

    def field_names(self) -> list[str] | None:
        if self.model.__pydantic_decorators__.model_serializers:
            return None
        try:
            return super().field_names()
        except (PydanticUserError, AttributeError, TypeError):
            return None


class SchemaReader(OutputReader):
    """
    Reads values of a JSON Schema.

    :param schema: as the user wrote it.
    :raises RequestValidationError: if it is no valid schema.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = output_json_schema.JsonSchema(schema)
        sent, strict, is_wrapped = self._schema.to_send(WRAPPER)
        if strict:
            warn_of_size(sent, self._schema.name)
        super().__init__(self._schema.name, sent, strict=strict, is_wrapped=is_wrapped)

    def parse(self, text: str) -> Any:
        bare = bare_json(text)
        try:
            value = from_json(self.wrapped(bare) or bare)
        except (ValueError, TypeError) as error:
            raise self.not_matching([Problem("the text", f"Invalid JSON: {error}", show(bare))], text) from None
        if not self.is_wrapped:
            found, path = value, ""
        elif isinstance(value, dict) and value.keys() == {WRAPPER}:
            found, path = value[WRAPPER], WRAPPER
        else:
            missing = Problem("the text", f"must be an object with the field {WRAPPER!r}, and no other", show(value))
            raise self.not_matching([missing], text)
        try:
            problems = self._schema.problems_of(found, path)
        except Exception as error:  # such as a nesting or a number beyond the limits of the library
            raise OutputValidationError(
                f"the response cannot be compared with {self.name} ({show_exception(error)}): describe smaller values "
                f"in `instructions`. The response has {len(text)} characters: {show(text, most=MAX_QUOTED)}"
            ) from error
        if problems:
            raise self.not_matching(problems, text)
        return value

    def unwrap(self, value: Any) -> Any:
        return value[WRAPPER] if self.is_wrapped else value

    def dump(self, value: Any) -> Any:
        return value

    def schema_of_values(self, *, written: bool = True) -> Mapping[str, Any]:  # noqa: ARG002  there is one form
        return self._schema.of_values(WRAPPER if self.is_wrapped else None)


def reader_of(output_type: Any) -> OutputReader:
    """
    Return the reader of a type; it is cached, since DAG files are parsed again and again.

    :raises RequestValidationError: if the type is none that can be requested, naming the field.
    """
    if isinstance(output_type, OutputReader):
        return output_type
    if isinstance(output_type, Mapping):
        return _schema_reader(output_json_schema.to_text(output_type))
    _check_is_type(output_type)
    try:
        hash(output_type)
    except TypeError:  # such as Annotated with a list
        return ModelReader(output_type)
    # The text, since unions are equal whatever the order of their members.
    return _model_reader(output_type, repr(output_type))


@lru_cache(maxsize=256)
def _model_reader(output_type: Any, _: str) -> ModelReader:
    return ModelReader(output_type)


@lru_cache(maxsize=256)
def _schema_reader(text: str) -> SchemaReader:
    return SchemaReader(json.loads(text))


def is_model_class(value: Any) -> bool:
    """Whether a value is a pydantic model."""
    return isinstance(value, type) and issubclass(value, BaseModel)


def name_of(output_type: Any) -> str:
    """Return the name of a type for messages, such as ``list[Label]``."""
    if isinstance(output_type, Mapping):
        return output_json_schema.name_of(output_type)
    if isinstance(output_type, type):
        return output_type.__name__
    name = getattr(output_type, "__name__", None) if isinstance(output_type, TypeAliasType) else None
    return name or cut(_short_repr(output_type))


def _short_repr(output_type: Any) -> str:
    """Return a type as it is written, without the names of modules."""
    if output_type is None or output_type is type(None):
        return "None"
    if isinstance(output_type, enum.Enum):
        return str(output_type)
    if get_origin(output_type) is Annotated:
        return _short_repr(output_type.__origin__)
    arguments = getattr(output_type, "__args__", None)
    if isinstance(output_type, type) and not arguments:
        return output_type.__name__
    if not arguments:
        return repr(output_type).removeprefix("typing.")
    origin: Any = get_origin(output_type)
    shown = [_short_repr(it) if isinstance(it, type) or hasattr(it, "__args__") else _of_value(it) for it in arguments]
    if isinstance(output_type, types.UnionType) or getattr(origin, "__name__", "") == "Union":
        return " | ".join(shown)
    name = getattr(origin, "__name__", None) or getattr(origin, "_name", None) or "Literal"
    return f"{name}[{', '.join(shown)}]"


def _of_value(value: Any) -> str:
    return "..." if value is Ellipsis else str(value) if isinstance(value, enum.Enum) else repr(value)


_FORMS: Final = (types.UnionType, TypeAliasType)


def _check_is_type(value: Any) -> None:
    is_class = isinstance(value, type) and value is not BaseModel
    is_form = (
        get_origin(value) is not None or isinstance(value, _FORMS) or value is Any or hasattr(value, "__supertype__")
    )
    if not (is_class or is_form) or get_origin(value) in {ClassVar, Required, NotRequired}:
        error = wrong_value("output_type", EXPECTED, value)
        raise RequestValidationError(f"{error}. {TYPES}", fields=("output_type",))


def _root_model(output_type: Any, name: str) -> type[BaseModel]:
    """Return a pydantic model whose content is a type."""
    try:
        return RootModel[output_type]
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).splitlines()[0].partition(". Set ")[0]
        name = name_with_field(output_type, name)
        raise RequestValidationError(
            f"output_type must be {EXPECTED}, got {name}: {reason}. {TYPES}", fields=("output_type",)
        ) from error


def _schema_of(model: type[BaseModel], name: str) -> tuple[dict[str, Any], bool]:
    """Return the schema of a model that is sent, and whether it is strict."""
    try:
        return sent_schema(model, name), True
    except NotStrictError:
        return sent_schema(model, name, strict=False), False
