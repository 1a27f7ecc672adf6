"""Which JSON Schemas have a strict form: one whose values the schema accepts, too."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, Final

from airflow_provider_responses.models.output_schema import NotStrictError
from airflow_provider_responses.models.output_types import LIMITS

# Keywords that strict modes lack, and that the description of a field cannot replace.
NOT_STRICT: Final = frozenset(
    {
        *("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "id"),
        *("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"),
        *("prefixItems", "additionalItems", "unevaluatedItems", "contains", "minContains", "maxContains"),
        *("extends", "disallow", "divisibleBy"),
    }
)
_INFERRED: Final = "x-inferred"  # whether the type is inferred: other types match such a schema, too
_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema"}
)
_DEFINITIONS: Final = frozenset({"$defs", "definitions"})
_OF_OBJECTS: Final = frozenset({"properties", "required", "additionalProperties"})


def to_strict(
    schema: Mapping[str, Any], resolve: Callable[[str], Any], accepts: Callable[[Mapping[str, Any], Any], bool]
) -> dict[str, Any]:
    """
    Return a schema whose references lead to ``$defs``, and which ``output_schema.convert`` makes strict.

    :param resolve: returns the part that a reference leads to.
    :param accepts: whether a part of the schema accepts a value.
    :raises NotStrictError: naming the part that has no strict form.
    """
    simplifier = _Simplifier(resolve, accepts)
    root = simplifier.simplify(schema, "the root")
    return {**root, "$defs": simplifier.definitions} if simplifier.definitions else root


class _Simplifier:
    def __init__(self, resolve: Callable[[str], Any], accepts: Callable[[Mapping[str, Any], Any], bool]) -> None:
        self._resolve, self._accepts = resolve, accepts
        self._names: dict[str, str] = {}
        self.definitions: dict[str, dict[str, Any]] = {}

    def simplify(self, schema: Any, path: str) -> dict[str, Any]:
        """Return a part in the words of pydantic's schemas."""
        if not isinstance(schema, dict):
            raise _not_strict(path, "accepts any value" if schema is True else "accepts no value")
        if unsupported := next((name for name in schema if name in NOT_STRICT), None):
            raise _not_strict(path, f"has the keyword {unsupported!r}")
        texts = {name: schema[name] for name in ("title", "description") if isinstance(schema.get(name), str)}
        words = schema.keys() - _ANNOTATIONS - _DEFINITIONS
        for name in ("$ref", "anyOf", "oneOf", "allOf"):
            if name in schema:
                if words & _CONSTRAINTS != {name}:
                    raise _not_strict(path, f"has other keywords beside {name!r}")
                return texts | self._of_several(name, schema[name], path)
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            if any(isinstance(it, (dict, list)) for it in values):
                raise _not_strict(path, "has values that are no texts, numbers, booleans or null")
            if not (accepted := [it for it in values if self._accepts(schema, it)]):
                raise _not_strict(path, "accepts no value")
            return {**texts, "enum": accepted}
        return self._of_type(schema, texts, path)

    def _of_several(self, name: str, value: Any, path: str) -> dict[str, Any]:
        if name == "$ref":
            return {"$ref": f"#/$defs/{self._define(value)}"}
        if name == "allOf":
            if len(value) != 1:
                raise _not_strict(path, "combines several schemas")
            return self.simplify(value[0], path)
        choices = [self.simplify(choice, path) for choice in value]
        if name == "oneOf" and any(not self._are_disjoint(*pair) for pair in combinations(choices, 2)):
            raise _not_strict(path, "has alternatives of which a value may match several ('oneOf')")
        return {"anyOf": choices}

    def _define(self, reference: str) -> str:
        """Return the name of the definition that a reference leads to."""
        if reference not in self._names:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", reference.rpartition("/")[2].lstrip("#")) or "root"
            while name in self._names.values():
                name += "_"
            self._names[reference] = name
            self.definitions[name] = {}  # keeps its place
            self.definitions[name] = self.simplify(self._resolve(reference), name)
        return self._names[reference]

    def _of_type(self, schema: Mapping[str, Any], texts: dict[str, Any], path: str) -> dict[str, Any]:
        kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else None)
        if kind is None:
            raise _not_strict(path, "accepts any value")
        kinds = [kind] if isinstance(kind, str) else kind
        made = {**schema, **texts, "type": kinds[0] if len(kinds) == 1 else kinds}
        made[_INFERRED] = "type" not in schema
        for name in (*_DEFINITIONS, "default", "examples"):
            made.pop(name, None)
        made[LIMITS] = {"uniqueItems": True} if schema.get("uniqueItems") and "array" in kinds else {}
        if "array" in kinds:
            made["items"] = self.simplify(schema.get("items", True), f"{path}.items")
        if "object" in kinds:
            made |= self._of_object(schema, path)
        return made

    def _of_object(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        fields = {name: part for name, part in schema.get("properties", {}).items() if part is not False}
        if schema.get("additionalProperties", False) is not False or not fields:
            raise _not_strict(path, "is an object with any keys")
        if absent := [name for name in schema.get("required", ()) if name not in fields]:
            raise _not_strict(path, f"requires {absent[0]!r}, which is not among its properties")
        properties = {name: self.simplify(part, f"{path}.{name}") for name, part in fields.items()}
        return {"properties": properties, "required": list(properties), "additionalProperties": False}

    def _are_disjoint(self, left: dict[str, Any], right: dict[str, Any]) -> bool:
        """Whether no value matches both of two alternatives."""
        left, right = self._target(left), self._target(right)
        if left.get(_INFERRED) or right.get(_INFERRED):
            return False
        if not _types(left) & _types(right):
            return True
        if "enum" in left and "enum" in right:
            return not any(it in right["enum"] for it in left["enum"])
        if left.get("type") == right.get("type") == "object":
            both = left["properties"].keys() & right["properties"].keys()
            return any(self._are_disjoint(left["properties"][it], right["properties"][it]) for it in both)
        return False

    def _target(self, part: dict[str, Any]) -> dict[str, Any]:
        for _ in range(100):
            if "$ref" not in part:
                break
            part = self.definitions[part["$ref"].rpartition("/")[2]]
        return part


_CONSTRAINTS: Final = frozenset(
    {
        *("$ref", "anyOf", "oneOf", "allOf", "type", "enum", "const", "items", "uniqueItems", "minItems", "maxItems"),
        *("minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum"),
        *("exclusiveMaximum", "multipleOf", *_OF_OBJECTS),
    }
)
_ALL_TYPES: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})


def _types(part: Mapping[str, Any]) -> set[str]:
    """Return the types that values of a part may have; an integer is a number."""
    if "enum" in part:
        return {_type_of(it) for it in part["enum"]}
    kinds = part.get("type")
    found = {kinds} if isinstance(kinds, str) else set(kinds or _ALL_TYPES)
    return {"number" if it == "integer" else it for it in found}


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    return "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"


def _not_strict(path: str, reason: str) -> NotStrictError:
    return NotStrictError(
        f"output_type: {path} {reason}, which a strict schema cannot describe", fields=("output_type",)
    )
