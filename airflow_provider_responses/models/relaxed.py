"""
The checks of a request to another server than OpenRouter.

Other servers have the API's names and types, but not OpenRouter's choices, limits and required fields. These are
removed from the schemas that pydantic built, and every field may be null.
"""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic import ValidationInfo
from pydantic_core import CoreSchema, SchemaValidator, core_schema

OPEN: Final = {"dialect": "open"}  # the context of a validation
_LIMITS: Final = frozenset({"min_length", "max_length", "pattern", "ge", "gt", "le", "lt", "multiple_of"})
_INSIDE: Final = frozenset({"schema", "items_schema", "keys_schema", "values_schema", "choices", "definitions"})


def is_open(info: ValidationInfo) -> bool:
    """Whether a validation is for another server than OpenRouter."""
    return info.context is not None and info.context.get("dialect") == "open"


def relaxed_validator(schema: CoreSchema) -> SchemaValidator:
    """Return the validator of a schema without its choices, limits and required fields."""
    return SchemaValidator(cast(CoreSchema, _relaxed(schema)))


def relaxed_fields(schema: CoreSchema) -> SchemaValidator:
    """
    Return the same for a model: a validator of its fields, which returns their values and the names of those set.

    A validator of the model itself would not be relaxed: pydantic would use the one that the class has.
    """
    found = _relaxed(schema)
    model = found["schema"] if found["type"] == "definitions" else found
    fields = {**model["schema"], "extra_behavior": "forbid"}
    return SchemaValidator(cast(CoreSchema, {**found, "schema": fields} if found is not model else fields))


def _relaxed(schema: Any) -> Any:
    if isinstance(schema, (list, tuple)):
        return type(schema)(_relaxed(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    if schema["type"] == "literal":
        return _any_text(schema["expected"])
    if schema["type"] == "function-after" and _is_from_pydantic(schema["function"]["function"]):
        return _relaxed(schema["schema"])
    found = {word: value for word, value in schema.items() if word not in _LIMITS}
    found |= {word: _relaxed(value) for word, value in found.items() if word in _INSIDE}
    if "fields" in schema:
        found["fields"] = {name: _relaxed(field) for name, field in schema["fields"].items()}
    if schema["type"] == "typed-dict":
        found["extra_behavior"] = "allow"
        found.pop("config", None)
    if schema["type"] == "typed-dict-field":
        found["required"] = False
        found["schema"] = core_schema.nullable_schema(found["schema"])
    return found


def _is_from_pydantic(function: Any) -> bool:
    """Whether a validator is pydantic's own, for a limit that the schema cannot hold."""
    return str(getattr(getattr(function, "func", function), "__module__", "")).startswith("pydantic.")


def _any_text(expected: list[Any]) -> CoreSchema:
    text = core_schema.str_schema(strict=True)
    return core_schema.nullable_schema(text) if None in expected else text
