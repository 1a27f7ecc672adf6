"""Typed output: a pydantic model becomes a strict ``json_schema`` format, and the answer becomes that model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from airflow_provider_responses.exceptions import OutputValidationError, RequestValidationError

OutputT = TypeVar("OutputT", bound=BaseModel)
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")


def json_schema_format(output_type: type[BaseModel]) -> dict[str, Any]:
    """
    Build the ``text.format`` that makes a model answer with an instance of ``output_type``.

    Strict schemas close every object and require every field, so a field with a default is asked for as well.

    :raises RequestValidationError: where a strict schema cannot say what the type says (an open dict, a
        root that is no object), naming the field.
    """
    schema = output_type.model_json_schema()
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
            f"{'.'.join(map(str, e['loc'])) or 'the text'}: {e['msg']}"
            for e in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise OutputValidationError(
            f"the answer ({len(text)} characters) is no {output_type.__name__}: {'; '.join(problems)}. "
            "Say in `instructions` what each field holds, allow more tokens, or take a model that supports "
            "structured outputs"
        ) from None


def _strict(schema: Any, definitions: Mapping[str, Any], path: str) -> Any:
    """Close objects, require all fields and drop what strict schemas do not know, in place."""
    if isinstance(schema, list):
        return [_strict(item, definitions, path) for item in schema]
    if not isinstance(schema, dict):
        return schema
    for name, definition in schema.get("$defs", {}).items():
        schema["$defs"][name] = _strict(definition, definitions, name)
    schema.pop("default", None)
    if "$ref" in schema and len(schema) > 1 and "$defs" not in schema:
        # A reference must stand alone: what was said beside it is merged into a copy of its target.
        target = definitions[_definition_name(schema.pop("$ref"))]
        return _strict({**target, **schema}, definitions, path)
    if "oneOf" in schema:
        schema["anyOf"] = schema.pop("oneOf")
        schema.pop("discriminator", None)
    for word in ("anyOf", "allOf", "prefixItems", "items"):
        if word in schema:
            schema[word] = _strict(schema[word], definitions, path)
    if schema.get("type") == "object":
        _close(schema, definitions, path)
    return schema


def _close(schema: dict[str, Any], definitions: Mapping[str, Any], path: str) -> None:
    fields = schema.get("properties")
    if fields is None or schema.get("additionalProperties"):
        raise RequestValidationError(
            f"output_type: {path} is an object with any keys, which a strict schema cannot describe: name its "
            "fields in a model, or use a list of key-value models",
            fields=("output_type", path),
        )
    schema["properties"] = {name: _strict(sub, definitions, f"{path}.{name}") for name, sub in fields.items()}
    schema["required"] = list(fields)
    schema["additionalProperties"] = False


def _definition_name(reference: str) -> str:
    return reference.rpartition("/")[2]
