"""Typed output: a pydantic model becomes a strict ``json_schema`` format, and the answer becomes that model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, PydanticUserError, ValidationError
from pydantic_core import ErrorDetails

from airflow_provider_responses.exceptions import OutputValidationError, RequestValidationError

OutputT = TypeVar("OutputT", bound=BaseModel)
SAYS_SOMETHING: Final = frozenset({"type", "enum", "const", "anyOf", "allOf", "$ref"})
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")


def json_schema_format(output_type: type[BaseModel]) -> dict[str, Any]:
    """
    Build the ``text.format`` that makes a model answer with an instance of ``output_type``.

    Strict schemas close every object and require every field, so a field with a default is asked for as well.

    :raises RequestValidationError: where a strict schema cannot say what the type says (an open dict, a
        root that is no object), naming the field.
    """
    try:
        schema = output_type.model_json_schema()
    except (PydanticUserError, AttributeError, TypeError) as error:
        raise RequestValidationError(
            f"output_type {output_type.__name__} has no JSON schema: {str(error).splitlines()[0]}",
            fields=("output_type",),
        ) from error
    definitions: dict[str, Any] = schema.get("$defs", {})
    root = _strict(schema, definitions, output_type.__name__)
    if "$ref" in root:  # a recursive model refers to itself from the root
        root = {**definitions[_definition_name(root["$ref"])], "$defs": definitions}
    if root.get("type") != "object":
        raise RequestValidationError(
            f"output_type {output_type.__name__}: the root must be an object, not {root.get('type', 'a union')!r}: "
            "wrap it in a model with one field",
            fields=("output_type",),
        )
    name = _NAME.sub("_", output_type.__name__)[:64]
    return {"type": "json_schema", "name": name, "schema": root, "strict": True}


def parse_output(output_type: type[OutputT], text: str) -> OutputT:
    """
    Read an answer's text as ``output_type``.

    :raises OutputValidationError: naming each field that is not as typed; the answer itself is not quoted.
    """
    try:
        return output_type.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'the text'}: {_unquoted(e)}"
            for e in error.errors(include_url=False, include_input=False)
        ]
        raise OutputValidationError(
            f"the answer ({len(text)} characters) is no {output_type.__name__}: {'; '.join(problems)}. "
            "Say in `instructions` what each field holds, allow more tokens, or take a model that supports "
            "structured outputs"
        ) from None
    except (Exception, SystemExit) as error:  # an exit would end the whole triggerer
        raise OutputValidationError(
            f"the answer ({len(text)} characters) made a validator of {output_type.__name__} fail with "
            f"{type(error).__name__}: correct the validator"
        ) from error


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """
    A response's text as an ``output_type``.

    :param value: plain JSON types.
    :param repaired: whether the JSON had to be repaired before it could be read.
    """

    value: Any
    repaired: bool = False


def read_output(output_type: type[BaseModel], texts: Sequence[str], *, repair: bool = False) -> ParsedOutput:  # noqa: ARG001
    """
    Read the first of a response's texts that is valid as ``output_type``.

    :param texts: in the order in which they are tried; at least one.
    :param repair: whether broken JSON may be repaired.
    :raises OutputValidationError: of the first text, if none is valid.
    """
    first: OutputValidationError | None = None
    for text in texts:
        try:
            return ParsedOutput(dump_output(parse_output(output_type, text)))
        except OutputValidationError as error:
            first = first or error
    raise first or OutputValidationError(f"the response holds no text to read as {output_type.__name__}")


def dump_output(value: BaseModel) -> dict[str, Any]:
    """
    Give a typed output as plain JSON types.

    :raises OutputValidationError: if one of the model's own serializers fails.
    """
    try:
        return value.model_dump(mode="json", by_alias=True)
    except (Exception, SystemExit) as error:
        raise OutputValidationError(
            f"a serializer of {type(value).__name__} failed with {type(error).__name__}: correct the serializer"
        ) from error


def _unquoted(error: ErrorDetails) -> str:
    """Say what is wrong without the words of the answer."""
    if error["type"] == "union_tag_invalid":
        return f"must be of a known kind: {error['ctx']['expected_tags']}"
    if error["type"] in {"value_error", "assertion_error"}:
        return "refused by a validator of the model's own"
    return error["msg"]


def _strict(schema: dict[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Close objects, require all fields and drop what strict schemas do not know, in place."""
    for name, definition in schema.get("$defs", {}).items():
        schema["$defs"][name] = _strict(definition, definitions, name)
    schema.pop("default", None)
    schema.pop("uniqueItems", None)  # a set is asked for as a list, and made a set when it is read
    if "$ref" in schema and len(schema) > 1 and "$defs" not in schema:
        schema["anyOf"] = [{"$ref": schema.pop("$ref")}]  # a reference must stand alone
    if "oneOf" in schema:
        schema["anyOf"] = schema.pop("oneOf")
        schema.pop("discriminator", None)
    _refuse_inexpressible(schema, path)
    for word in {"anyOf", "allOf"} & schema.keys():
        schema[word] = [_strict(item, definitions, path) for item in schema[word]]
    if "items" in schema:
        schema["items"] = _strict(schema["items"], definitions, path)
    if schema.get("type") == "object":
        schema["properties"] = {
            name: _strict(field, definitions, f"{path}.{name}") for name, field in schema["properties"].items()
        }
        schema["required"] = list(schema["properties"])
        schema["additionalProperties"] = False
    return schema


def _refuse_inexpressible(schema: Mapping[str, Any], path: str) -> None:
    any_keys = schema.get("additionalProperties") or "properties" not in schema
    problem = None
    if schema.get("type") == "object" and any_keys:
        problem = "is an object with any keys", "name its fields in a model, or use a list of key-value models"
    elif "prefixItems" in schema:
        problem = "is a tuple", "use a model with named fields, or a list"
    elif not SAYS_SOMETHING & schema.keys():
        problem = "accepts anything", "give it a type"
    if problem:
        what, advice = problem
        raise RequestValidationError(
            f"output_type: {path} {what}, which a strict schema cannot describe: {advice}",
            fields=("output_type", path),
        )


def _definition_name(reference: str) -> str:
    return reference.rpartition("/")[2]
