"""
Instances of a JSON Schema, made of the words of a text.

The same schema and text bring the same instance. The alternatives of ``anyOf``, ``oneOf`` and ``if`` are tried in turn
until the value conforms. An instance that does not conform (to a ``not``, for example) is made with other choices.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from airflow_provider_responses.models.output_limits import limits_of
from airflow_provider_responses.sandbox.model.json_schema import (
    Schema,
    as_schema,
    conforms,
    is_equal,
    is_number,
    merge,
    resolve,
    types_of,
)
from airflow_provider_responses.sandbox.model.regex_strings import ALPHABET
from airflow_provider_responses.sandbox.model.schema_numbers import make_integer, make_number
from airflow_provider_responses.sandbox.model.schema_strings import make_string
from airflow_provider_responses.sandbox.model.sentences import without_task

SHALLOW: Final = 6  # deeper than this, optional properties and items are left out
DEEPEST: Final = 40
MAX_SALTS: Final = 24  # instances that are made, each with other choices, until one conforms
MAX_VALUES: Final = 4000  # in one instance; beyond it, optional properties and items are left out
ANY_OTHER: Final = "other"  # the choice of an enum for a text that names none of the choices
_HINTS: Final = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "contains", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def make_instance(schema: Any, text: str) -> Any:
    """Return an instance of a schema; its strings are words and sentences of ``text``."""
    first: Any = None
    for salt in range(MAX_SALTS):
        value = _InstanceMaker(schema, text, salt).value(schema, "")
        if conforms(value, schema, schema):
            return value
        first = value if salt == 0 else first
    return first


class _InstanceMaker:
    def __init__(self, root: Any, text: str, salt: int) -> None:
        self.root = root
        self.text = text
        self.salt = salt
        self.values_made = 0

    def choice(self, path: str, count: int) -> int:
        """Return a number below ``count``, which is the same for the same text, path and salt."""
        digest = hashlib.sha256(f"{self.salt}|{path}|{self.text}".encode(errors="replace")).digest()
        return int.from_bytes(digest[:8]) % max(1, count)

    def value(self, schema: Any, path: str, depth: int = 0, name: str = "") -> Any:
        self.values_made += 1
        if depth > DEEPEST:
            return None
        resolved = resolve(schema, self.root)
        for keywords in (("if", "then", "else"), ("anyOf",), ("oneOf",)):
            if resolved.get(keywords[0]):
                return self._alternative(resolved, keywords, path, depth, name)
        if "const" in resolved:
            return resolved["const"]
        if resolved.get("enum"):
            return self._enum_value(resolved, path)
        kind = self._type(resolved, path, depth)
        if kind == "object":
            return self._object(resolved, path, depth)
        if kind == "array":
            return self._array(resolved, path, depth, name)
        return self._scalar(kind, resolved, path, name)

    def _scalar(self, kind: str, schema: Schema, path: str, name: str) -> Any:
        if kind == "string":
            return make_string(schema, name, self.text, self.choice(path, 1 << 32))
        if kind == "integer":
            return make_integer(schema, self.choice(path, 1 << 32))
        if kind == "number":
            return make_number(schema, name, self.choice(path, 1 << 32))
        return None if kind == "null" else self.choice(path, 2) == 0

    def _alternative(self, schema: Schema, keywords: tuple[str, ...], path: str, depth: int, name: str) -> Any:
        rest = {key: value for key, value in schema.items() if key not in keywords}
        if keywords[0] == "if":
            branches = [{"allOf": [schema["if"], schema.get("then", True)]}, schema.get("else", True)]
        else:
            branches = schema[keywords[0]]
        first: Any = None
        for index, branch in enumerate(self._in_order(branches, path, depth)):
            value = self.value(merge(rest, as_schema(branch)), path, depth + 1, name)
            if self.values_made > MAX_VALUES or conforms(value, schema, self.root):
                return value
            first = value if index == 0 else first
        return first

    def _in_order(self, branches: list[Any], path: str, depth: int) -> list[Any]:
        # Deep inside, branches without a reference come first: they end the recursion.
        if depth > SHALLOW:
            return sorted(branches, key=lambda branch: '"$ref"' in json.dumps(branch, default=str))
        # Null comes last, unless two instances without it did not conform.
        empty = [b for b in branches if types_of(as_schema(b)) == ["null"]] if self.salt < 2 else []
        filled = [b for b in branches if b not in empty]
        start = self.choice(f"{path}|branch", len(filled))
        return [*filled[start:], *filled[:start], *empty]

    def _enum_value(self, schema: Schema, path: str) -> Any:
        rest = {key: value for key, value in schema.items() if key != "enum"}
        allowed = [value for value in schema["enum"] if conforms(value, rest, self.root)] or schema["enum"]
        if self.salt == 0:
            text = without_task(self.text).lower()
            named = [v for v in allowed if isinstance(v, str) and re.search(rf"\b{re.escape(v.lower())}\b", text)]
            if named or ANY_OTHER in allowed:
                return next(iter(named), ANY_OTHER)
        return allowed[self.choice(path, len(allowed))]

    def _type(self, schema: Schema, path: str, depth: int) -> str:
        named = types_of(schema)
        if named:
            filled = [kind for kind in named if kind != "null"] or named
            if depth > SHALLOW and "null" in named:
                return "null"
            return filled[self.choice(f"{path}|type", len(filled)) if self.salt else 0]
        return next((kind for kind, hints in _HINTS.items() if any(hint in schema for hint in hints)), "string")

    def _object(self, schema: Schema, path: str, depth: int) -> dict[str, Any]:
        required = list(schema.get("required", []))
        properties = schema.get("properties", {})
        all_named = depth <= SHALLOW and self.values_made < MAX_VALUES and self.salt % 2 == 0
        names = [name for name in properties if all_named or name in required]
        names += [name for name in required if name not in properties]
        names = names[: max(schema.get("maxProperties", len(names)), len(required))]
        properties = {
            name: self.value(self._property_schema(name, schema), f"{path}.{name}", depth + 1, name) for name in names
        }
        return self._add_properties(properties, schema, path, depth)

    def _add_properties(self, made: dict[str, Any], schema: Schema, path: str, depth: int) -> dict[str, Any]:
        """Add what ``minProperties`` requires, and one property if the schema names none and allows others."""
        needed = int(schema.get("minProperties", 0))
        if not schema.get("properties") and isinstance(schema.get("additionalProperties"), dict) and depth <= SHALLOW:
            needed = max(needed, min(1, schema.get("maxProperties", 1)))
        spare = [name for name in schema.get("properties", {}) if name not in made]
        name_schema = as_schema(schema.get("propertyNames", True))
        for index in range(4 * needed):
            if len(made) >= needed:
                break
            name = spare.pop(0) if spare else f"key{index + 1}"
            if name_schema and name not in schema.get("properties", {}):
                name = str(self.value(merge({"type": "string"}, name_schema), f"{path}|name{index}", depth + 1))
            made.setdefault(name, self.value(self._property_schema(name, schema), f"{path}.{name}", depth + 1, name))
        return made

    def _property_schema(self, name: str, schema: Schema) -> Any:
        parts = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        parts += [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
        if not parts:
            return schema.get("additionalProperties", True)
        return parts[0] if len(parts) == 1 else {"allOf": parts}

    def _array(self, schema: Schema, path: str, depth: int, name: str) -> list[Any]:
        first, rest = schema.get("prefixItems", []), schema.get("items", True)
        least = int(schema.get("minItems", 0))
        unique = bool(schema.get("uniqueItems") or limits_of(schema).get("uniqueItems"))
        usual = len(first) or 2
        count = max(least, usual if depth <= SHALLOW and self.values_made < MAX_VALUES else 0)
        count = min(count, int(schema.get("maxItems", count)), len(first) if rest is False else count)
        made: list[Any] = []
        for index in range(count):
            part = first[index] if index < len(first) else rest
            if "contains" in schema and index < max(1, schema.get("minContains", 1)):
                part = {"allOf": [as_schema(part), as_schema(schema["contains"])]}
            item = self._make_item(part, made, f"{path}[{index}]", depth, name, unique=unique)
            if item is not _NOTHING:
                made.append(item)
        return made

    def _make_item(self, part: Any, made: list[Any], path: str, depth: int, name: str, *, unique: bool) -> Any:
        for turn in range(60 if unique else 1):
            item = self.value(part, f"{path}~{turn}" if turn else path, depth + 1, name)
            if not unique or conforms([*made, item], {"uniqueItems": True}, {}):
                return item
        return self._search_unique_item(part, made) if unique else _NOTHING

    def _search_unique_item(self, part: Any, made: list[Any]) -> Any:
        # Random choices found no unique item: go through the enum, small numbers and short texts.
        resolved = resolve(part, self.root)
        candidates = [*resolved.get("enum", []), True, False, None]
        low = resolved.get("minimum", resolved.get("exclusiveMinimum", 0))
        step = resolved.get("multipleOf", 1)
        if is_number(low) and is_number(step):
            base = -(-low // step) * step
            candidates += [base + step * k for k in range(-50, 200)]
        length = int(resolved.get("minLength", 0))
        candidates += [*ALPHABET, *(str(k).rjust(length, "0") for k in range(200))]
        new = (
            c for c in candidates if conforms(c, resolved, self.root) and not any(is_equal(c, item) for item in made)
        )
        return next(new, _NOTHING)


_NOTHING: Final = object()
