"""The part of JSON Schema that instances need: references, merged schemas, and the validation of a value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard
from urllib.parse import unquote

Schema = dict[str, Any]
IMPOSSIBLE: Final[Schema] = {"enum": []}
_LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a JSON number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[dict[str, Any]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and float(value).is_integer(),
    "number": is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def as_schema(schema: Any) -> Schema:
    """Return the schema that ``true``, ``false`` or anything else stands for."""
    if isinstance(schema, Mapping):
        return dict(schema)
    return IMPOSSIBLE if schema is False else {}


def types_of(schema: Schema) -> list[str]:
    """Return the types that a schema names."""
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else [name for name in named if isinstance(name, str)]


def resolve(schema: Any, root: Any) -> Schema:
    """Follow ``$ref`` and merge ``allOf`` until neither is left."""
    found = as_schema(schema)
    for _ in range(64):
        if isinstance(found.get("$ref"), str):
            target = lookup(found["$ref"], root)
            found = merge({name: value for name, value in found.items() if name != "$ref"}, as_schema(target))
        elif found.get("allOf"):
            parts = found["allOf"]
            found = {name: value for name, value in found.items() if name != "allOf"}
            for part in parts:
                found = merge(found, as_schema(part))
        else:
            break
    return found


def lookup(reference: str, root: Any) -> Any:
    """Return the part that a JSON pointer names; a schema that allows everything if there is none."""
    target = root
    for part in unquote(reference.partition("#")[2]).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and name.isdecimal() and int(name) < len(target):
            target = target[int(name)]
        elif isinstance(target, Mapping) and name in target:
            target = target[name]
        else:
            return {}
    return target


def merge(left: Schema, right: Schema) -> Schema:
    """Return a schema of the values that both schemas allow."""
    merged = dict(left)
    for name, value in right.items():
        merged[name] = _merge_keyword(name, left[name], value) if name in left else value
    # Two lists of alternatives cannot be merged: the second one goes into an allOf.
    separate = [{name: right[name]} for name in ("anyOf", "oneOf", "$ref") if name in left and name in right]
    for part in separate:
        merged |= {name: left[name] for name in part}
    if separate:
        merged["allOf"] = [*merged.get("allOf", []), *separate]
    return merged


def _merge_keyword(name: str, left: Any, right: Any) -> Any:
    if name in _LOWER_BOUNDS and is_number(left) and is_number(right):
        return max(left, right)
    if name in _UPPER_BOUNDS and is_number(left) and is_number(right):
        return min(left, right)
    if name == "enum":
        return [value for value in left if any(is_equal(value, other) for other in right)]
    if name == "type":
        return _common_types(types_of({"type": left}), types_of({"type": right}))
    if name == "required":
        return list(dict.fromkeys([*left, *right]))
    if name == "allOf":
        return [*left, *right]
    if name in {"properties", "$defs", "definitions", "patternProperties"}:
        both = {key: {"allOf": [left[key], right[key]]} for key in left if key in right}
        return {**left, **right, **both}
    if name in {"items", "additionalProperties", "contains", "propertyNames"}:
        return False if False in (left, right) else {"allOf": [as_schema(left), as_schema(right)]}
    if name == "multipleOf" and isinstance(left, int) and isinstance(right, int):
        return math.lcm(left, right)
    return right


def _common_types(left: list[str], right: list[str]) -> list[str]:
    common = [name for name in left if name in right]
    narrowed = "integer" if {"integer", "number"} <= {*left, *right} else None
    return [*common, narrowed] if narrowed and narrowed not in common else common


def is_equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; ``true`` is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(is_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(is_equal(left[key], right[key]) for key in left)
    return bool(left == right)


def conforms(value: Any, schema: Any, root: Any, depth: int = 0) -> bool:
    """Whether a value is an instance of a schema; formats are not checked."""
    if isinstance(schema, bool):
        return schema
    keywords = as_schema(schema)
    if depth > 200:
        return True
    deeper = depth + 1
    if isinstance(keywords.get("$ref"), str) and not conforms(value, lookup(keywords["$ref"], root), root, deeper):
        return False
    return (
        _type_and_choices_conform(value, keywords)
        and _subschemas_conform(value, keywords, root, deeper)
        and (not is_number(value) or _number_conforms(value, keywords))
        and (not isinstance(value, str) or _string_conforms(value, keywords))
        and (not isinstance(value, list) or _array_conforms(value, keywords, root, deeper))
        and (not isinstance(value, dict) or _object_conforms(value, keywords, root, deeper))
    )


def _type_and_choices_conform(value: Any, schema: Schema) -> bool:
    named = types_of(schema)
    if "type" in schema and not any(_TYPES[name](value) for name in named if name in _TYPES):
        return False
    if "const" in schema and not is_equal(value, schema["const"]):
        return False
    return "enum" not in schema or any(is_equal(value, allowed) for allowed in schema["enum"])


def _subschemas_conform(value: Any, schema: Schema, root: Any, depth: int) -> bool:
    def fits(part: Any) -> bool:
        return conforms(value, part, root, depth)

    if not all(fits(part) for part in schema.get("allOf", [])):
        return False
    if "anyOf" in schema and not any(fits(part) for part in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(part) for part in schema["oneOf"]) != 1:
        return False
    if "not" in schema and fits(schema["not"]):
        return False
    return "if" not in schema or fits(schema.get("then" if fits(schema["if"]) else "else", True))


def _number_conforms(value: float, schema: Schema) -> bool:
    if value < schema.get("minimum", -math.inf) or value > schema.get("maximum", math.inf):
        return False
    if value <= schema.get("exclusiveMinimum", -math.inf) or value >= schema.get("exclusiveMaximum", math.inf):
        return False
    step = schema.get("multipleOf")
    if not step:
        return True
    quotient = value / step
    return float(quotient).is_integer() and (isinstance(step, float) or value % step == 0)


def _string_conforms(value: str, schema: Schema) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        return False
    try:
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    except re.error:
        return True


def _array_conforms(value: list[Any], schema: Schema, root: Any, depth: int) -> bool:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return False
    if schema.get("uniqueItems") and any(is_equal(a, b) for i, a in enumerate(value) for b in value[:i]):
        return False
    if "contains" in schema:
        count = sum(conforms(item, schema["contains"], root, depth) for item in value)
        if not schema.get("minContains", 1) <= count <= schema.get("maxContains", math.inf):
            return False
    first = schema.get("prefixItems", [])
    if not all(conforms(item, part, root, depth) for item, part in zip(value, first, strict=False)):
        return False
    return all(conforms(item, schema.get("items", True), root, depth) for item in value[len(first) :])


def _object_conforms(value: dict[str, Any], schema: Schema, root: Any, depth: int) -> bool:
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf):
        return False
    if any(name not in value for name in schema.get("required", [])):
        return False
    needed = schema.get("dependentRequired", {})
    if any(name in value and not set(needed[name]) <= value.keys() for name in needed):
        return False
    names = schema.get("propertyNames", True)
    return all(
        conforms(name, names, root, depth)
        and all(conforms(item, part, root, depth) for part in _property_schemas(name, schema))
        for name, item in value.items()
    )


def _property_schemas(name: str, schema: Schema) -> list[Any]:
    parts = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    parts += [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
    return parts or [schema.get("additionalProperties", True)]
