"""Values generated from the API's schema: valid ones of every kind, and invalid ones of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.api import CURRENT

SCHEMAS: dict[str, Any] = CURRENT["components"]["schemas"]
REQUEST = {"$ref": "#/components/schemas/ResponsesRequest"}

OF_TYPE: dict[str, Any] = {
    "string": "no such",
    "integer": 7,
    "number": 0.5,
    "boolean": True,
    "array": [{"no": 1}],
    "object": {"no": 1},
    "null": None,
}
Path_ = tuple[str | int, ...]


def resolve(schema: dict[str, Any], components: dict[str, Any] = SCHEMAS) -> dict[str, Any]:
    """Follow references and merge `allOf`; its later parts refine the earlier ones."""
    if "$ref" in schema:
        return resolve(components[schema["$ref"].rpartition("/")[2]], components)
    if "allOf" not in schema:
        return schema
    merged: dict[str, Any] = {}
    for part in (resolve(part, components) for part in schema["allOf"]):
        properties = merged.get("properties", {}) | part.get("properties", {})
        required = [*merged.get("required", []), *part.get("required", [])]
        merged = {"type": "object"} | merged | part | {"properties": properties, "required": required}
    return merged


def branches(schema: dict[str, Any], components: dict[str, Any] = SCHEMAS) -> list[dict[str, Any]]:
    """Return the members of a union, without nesting; another schema is its own only member."""
    resolved = resolve(schema, components)
    members = resolved.get("anyOf") or resolved.get("oneOf")
    return [branch for member in members for branch in branches(member, components)] if members else [resolved]


def types(schema: dict[str, Any]) -> set[str]:
    declared = schema.get("type", [])
    return {declared} if isinstance(declared, str) else set(declared)


@cache
def _variants(key: str) -> list[Any]:
    return [value for branch in branches(json.loads(key)) for value in _valid_values(branch)]


def variants(schema: dict[str, Any]) -> list[Any]:
    """Return valid values: each kind, each field, each choice and each limit at least once."""
    return _variants(json.dumps(schema, sort_keys=True))


def _valid_values(schema: dict[str, Any]) -> Iterator[Any]:
    if "enum" in schema or "const" in schema:
        yield from schema.get("enum", [schema.get("const")])
        return
    kinds = types(schema)
    if not kinds:
        yield from ({"anything": [1, None]}, "anything")
    if "object" in kinds:
        yield from _objects(schema)
    if "array" in kinds:
        yield from _arrays(schema)
    yield from _scalars(schema, kinds)


def _scalars(schema: dict[str, Any], kinds: set[str]) -> Iterator[Any]:
    if "string" in kinds:
        yield "x" * max(1, schema.get("minLength", 0))
        yield "x" * schema.get("maxLength", 20)
        if not schema.get("minLength") and "pattern" not in schema:
            yield ""
    if kinds & {"integer", "number"}:
        yield from sorted({schema.get("minimum", 0), 1, schema.get("maximum", 1)})
    if "number" in kinds:
        yield 0.5
    if "boolean" in kinds:
        yield from (True, False)
    if "null" in kinds:
        yield None


def minimal(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an object with its required fields and these."""
    fields = schema.get("properties", {})
    return {name: variants(fields[name])[0] for name in (*schema.get("required", ()), *names) if name in fields}


def _objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield minimal(schema)
    for name, field in schema.get("properties", {}).items():
        for value in variants(field):
            yield minimal(schema) | {name: value}
    more = schema.get("additionalProperties")
    if more is not False:
        for value in variants(more or {}):
            yield minimal(schema) | {"an unknown key": value}


def _arrays(schema: dict[str, Any]) -> Iterator[list[Any]]:
    items = variants(schema["items"])
    for value in items:
        yield [value]
    if not schema.get("minItems"):
        yield []
    if "maxItems" in schema:
        yield [items[0]] * schema["maxItems"]


def invalid_values(schema: dict[str, Any]) -> Iterator[tuple[Any, Path_]]:
    """Yield values that hold one invalid value, and its path."""
    members = branches(schema)
    for value in _of_wrong_type(members):
        yield value, ()
    for member in members:
        yield from _beyond_limits(member)
        if "object" in types(member):
            yield from _wrong_objects(member)
        if "array" in types(member):
            for value, path in invalid_values(member["items"]):
                yield [value], (0, *path)


def _of_wrong_type(members: list[dict[str, Any]]) -> Iterator[Any]:
    if any(not types(member) and "enum" not in member for member in members):
        return
    allowed = set().union(*map(types, members))
    free_text = any("string" in types(member) and "enum" not in member for member in members)
    for kind, value in OF_TYPE.items():
        if kind == "integer" and "number" in allowed:
            continue
        if kind not in allowed or (kind == "string" and not free_text):
            yield value


def _beyond_limits(schema: dict[str, Any]) -> Iterator[tuple[Any, Path_]]:
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1), ()
    if schema.get("minLength"):
        yield "", ()
    if "pattern" in schema:
        yield "!", ()
    if "minimum" in schema:
        yield schema["minimum"] - 1, ()
    if "maximum" in schema:
        yield schema["maximum"] + 1, ()
    if schema.get("minItems"):
        yield [], ()
    if "maxItems" in schema:
        yield [variants(schema["items"])[0]] * (schema["maxItems"] + 1), ()


def _wrong_objects(schema: dict[str, Any]) -> Iterator[tuple[Any, Path_]]:
    for name in schema.get("required", ()):
        yield {key: value for key, value in minimal(schema).items() if key != name}, (name,)
    for name, field in schema.get("properties", {}).items():
        for value, path in invalid_values(field):
            yield minimal(schema) | {name: value}, (name, *path)
    more = schema.get("additionalProperties")
    if more is False:
        yield minimal(schema) | {"no such field": 1}, ("no such field",)
    elif more:
        for value, path in invalid_values(more):
            yield minimal(schema) | {"key": value}, ("key", *path)
