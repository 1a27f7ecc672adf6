"""JSON Schema, as much of it as is needed to make instances: references, merging, and a check of a value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard
from urllib.parse import unquote

Schema = dict[str, Any]
IMPOSSIBLE: Final[Schema] = {"enum": []}
_GREATEST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_LEAST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")


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
    """Read ``true``, ``false`` and anything that is no schema as one."""
    if isinstance(schema, Mapping):
        return dict(schema)
    return IMPOSSIBLE if schema is False else {}


def types_of(schema: Schema) -> list[str]:
    """Give the types that a schema names."""
    named = schema.get("type", [])
    return [named] if isinstance(named, str) else [name for name in named if isinstance(name, str)]


def resolve(schema: Any, root: Any) -> Schema:
    """Follow ``$ref`` and merge ``allOf`` until neither is left."""
    one = as_schema(schema)
    for _ in range(64):
        if isinstance(one.get("$ref"), str):
            target = lookup(one["$ref"], root)
            one = merge({name: value for name, value in one.items() if name != "$ref"}, as_schema(target))
        elif one.get("allOf"):
            parts = one["allOf"]
            one = {name: value for name, value in one.items() if name != "allOf"}
            for part in parts:
                one = merge(one, as_schema(part))
        else:
            break
    return one


def lookup(reference: str, root: Any) -> Any:
    """Follow a JSON pointer inside the schema; what is not found is a schema for anything."""
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
    """Give a schema for what both allow."""
    merged = dict(left)
    for name, value in right.items():
        merged[name] = _merge_keyword(name, left[name], value) if name in left else value
    # Two lists of alternatives cannot be one: the second waits inside an allOf.
    waiting = [{name: right[name]} for name in ("anyOf", "oneOf", "$ref") if name in left and name in right]
    for part in waiting:
        merged |= {name: left[name] for name in part}
    if waiting:
        merged["allOf"] = [*merged.get("allOf", []), *waiting]
    return merged


def _merge_keyword(name: str, left: Any, right: Any) -> Any:
    if name in _GREATEST and is_number(left) and is_number(right):
        return max(left, right)
    if name in _LEAST and is_number(left) and is_number(right):
        return min(left, right)
    if name == "enum":
        return [value for value in left if any(same(value, other) for other in right)]
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


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal; ``true`` is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def conforms(value: Any, schema: Any, root: Any, depth: int = 0) -> bool:
    """Whether a value is an instance of a schema; formats are not looked at."""
    if isinstance(schema, bool):
        return schema
    one = as_schema(schema)
    if depth > 200:
        return True
    deeper = depth + 1
    if isinstance(one.get("$ref"), str) and not conforms(value, lookup(one["$ref"], root), root, deeper):
        return False
    return (
        _conforms_in_itself(value, one)
        and _conforms_to_parts(value, one, root, deeper)
        and (not is_number(value) or _number_conforms(value, one))
        and (not isinstance(value, str) or _string_conforms(value, one))
        and (not isinstance(value, list) or _array_conforms(value, one, root, deeper))
        and (not isinstance(value, dict) or _object_conforms(value, one, root, deeper))
    )


def _conforms_in_itself(value: Any, one: Schema) -> bool:
    named = types_of(one)
    if "type" in one and not any(_TYPES[name](value) for name in named if name in _TYPES):
        return False
    if "const" in one and not same(value, one["const"]):
        return False
    return "enum" not in one or any(same(value, allowed) for allowed in one["enum"])


def _conforms_to_parts(value: Any, one: Schema, root: Any, depth: int) -> bool:
    def fits(part: Any) -> bool:
        return conforms(value, part, root, depth)

    if not all(fits(part) for part in one.get("allOf", [])):
        return False
    if "anyOf" in one and not any(fits(part) for part in one["anyOf"]):
        return False
    if "oneOf" in one and sum(fits(part) for part in one["oneOf"]) != 1:
        return False
    if "not" in one and fits(one["not"]):
        return False
    return "if" not in one or fits(one.get("then" if fits(one["if"]) else "else", True))


def _number_conforms(value: float, one: Schema) -> bool:
    if value < one.get("minimum", -math.inf) or value > one.get("maximum", math.inf):
        return False
    if value <= one.get("exclusiveMinimum", -math.inf) or value >= one.get("exclusiveMaximum", math.inf):
        return False
    step = one.get("multipleOf")
    if not step:
        return True
    quotient = value / step
    return float(quotient).is_integer() and (isinstance(step, float) or value % step == 0)


def _string_conforms(value: str, one: Schema) -> bool:
    if not one.get("minLength", 0) <= len(value) <= one.get("maxLength", math.inf):
        return False
    try:
        return "pattern" not in one or re.search(one["pattern"], value) is not None
    except re.error:
        return True


def _array_conforms(value: list[Any], one: Schema, root: Any, depth: int) -> bool:
    if not one.get("minItems", 0) <= len(value) <= one.get("maxItems", math.inf):
        return False
    if one.get("uniqueItems") and any(same(a, b) for i, a in enumerate(value) for b in value[:i]):
        return False
    if "contains" in one:
        count = sum(conforms(item, one["contains"], root, depth) for item in value)
        if not one.get("minContains", 1) <= count <= one.get("maxContains", math.inf):
            return False
    first = one.get("prefixItems", [])
    if not all(conforms(item, part, root, depth) for item, part in zip(value, first, strict=False)):
        return False
    return all(conforms(item, one.get("items", True), root, depth) for item in value[len(first) :])


def _object_conforms(value: dict[str, Any], one: Schema, root: Any, depth: int) -> bool:
    if not one.get("minProperties", 0) <= len(value) <= one.get("maxProperties", math.inf):
        return False
    if any(name not in value for name in one.get("required", [])):
        return False
    needed = one.get("dependentRequired", {})
    if any(name in value and not set(needed[name]) <= value.keys() for name in needed):
        return False
    names = one.get("propertyNames", True)
    return all(
        conforms(name, names, root, depth) and all(conforms(item, part, root, depth) for part in _parts_for(name, one))
        for name, item in value.items()
    )


def _parts_for(name: str, one: Schema) -> list[Any]:
    parts = [one["properties"][name]] if name in one.get("properties", {}) else []
    parts += [part for pattern, part in one.get("patternProperties", {}).items() if re.search(pattern, name)]
    return parts or [one.get("additionalProperties", True)]
