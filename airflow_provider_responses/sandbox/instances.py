"""
Instances of a JSON Schema, made of the words of a text.

The same schema and text bring the same instance. Alternatives are tried one after the other until the value
conforms; ``not``, ``if`` and colliding ``oneOf`` branches are met by trying again with other choices.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from airflow_provider_responses.models.output_limits import limits_of
from airflow_provider_responses.sandbox.numerals import integer, number
from airflow_provider_responses.sandbox.patterns import ALPHABET
from airflow_provider_responses.sandbox.schemas import (
    Schema,
    as_schema,
    conforms,
    is_number,
    merge,
    resolve,
    same,
    types_of,
)
from airflow_provider_responses.sandbox.strings import string

SHALLOW: Final = 6  # deeper than this, optional properties and items are left out
DEEPEST: Final = 40
TRIES: Final = 24
VALUES_AT_MOST: Final = 4000
_HINTS: Final = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "patternProperties"),
    "array": ("items", "prefixItems", "minItems", "contains", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def instance(schema: Any, text: str) -> Any:
    """Make an instance of a schema, of the words of ``text`` where words are asked for."""
    first: Any = None
    for salt in range(TRIES):
        made = _Maker(schema, text, salt).value(schema, "")
        if conforms(made, schema, schema):
            return made
        first = made if salt == 0 else first
    return first


class _Maker:
    def __init__(self, root: Any, text: str, salt: int) -> None:
        self.root = root
        self.text = text
        self.salt = salt
        self.made = 0

    def choice(self, path: str, count: int) -> int:
        """Choose one of ``count``, the same one for the same text, path and salt."""
        digest = hashlib.sha256(f"{self.salt}|{path}|{self.text}".encode(errors="replace")).digest()
        return int.from_bytes(digest[:8]) % max(1, count)

    def value(self, schema: Any, path: str, depth: int = 0, name: str = "") -> Any:
        self.made += 1
        if depth > DEEPEST:
            return None
        one = resolve(schema, self.root)
        for keywords in (("if", "then", "else"), ("anyOf",), ("oneOf",)):
            if one.get(keywords[0]):
                return self._alternative(one, keywords, path, depth, name)
        if "const" in one:
            return one["const"]
        if one.get("enum"):
            return self._enum_value(one, path)
        kind = self._type(one, path, depth)
        if kind == "object":
            return self._object(one, path, depth)
        if kind == "array":
            return self._array(one, path, depth, name)
        return self._scalar(kind, one, path, name)

    def _scalar(self, kind: str, one: Schema, path: str, name: str) -> Any:
        if kind == "string":
            return string(one, name, self.text, self.choice(path, 1 << 32))
        if kind == "integer":
            return integer(one, self.choice(path, 1 << 32))
        if kind == "number":
            return number(one, name, self.choice(path, 1 << 32))
        return None if kind == "null" else self.choice(path, 2) == 0

    def _alternative(self, one: Schema, keywords: tuple[str, ...], path: str, depth: int, name: str) -> Any:
        rest = {key: value for key, value in one.items() if key not in keywords}
        if keywords[0] == "if":
            branches = [{"allOf": [one["if"], one.get("then", True)]}, one.get("else", True)]
        else:
            branches = one[keywords[0]]
        first: Any = None
        for index, branch in enumerate(self._in_order(branches, path, depth)):
            made = self.value(merge(rest, as_schema(branch)), path, depth + 1, name)
            if self.made > VALUES_AT_MOST or conforms(made, one, self.root):
                return made
            first = made if index == 0 else first
        return first

    def _in_order(self, branches: list[Any], path: str, depth: int) -> list[Any]:
        # Deep inside, what does not refer to anything comes first: it ends the recursion.
        if depth > SHALLOW:
            return sorted(branches, key=lambda branch: '"$ref"' in json.dumps(branch, default=str))
        # What is something comes before null, until that has failed.
        empty = [b for b in branches if types_of(as_schema(b)) == ["null"]] if self.salt < 2 else []
        filled = [b for b in branches if b not in empty]
        start = self.choice(f"{path}|branch", len(filled))
        return [*filled[start:], *filled[:start], *empty]

    def _enum_value(self, one: Schema, path: str) -> Any:
        rest = {key: value for key, value in one.items() if key != "enum"}
        allowed = [value for value in one["enum"] if conforms(value, rest, self.root)] or one["enum"]
        text = self.text.lower()
        named = [v for v in allowed if isinstance(v, str) and re.search(rf"\b{re.escape(v.lower())}\b", text)]
        if named and self.salt == 0:
            return named[0]
        return allowed[self.choice(path, len(allowed))]

    def _type(self, one: Schema, path: str, depth: int) -> str:
        named = types_of(one)
        if named:
            filled = [kind for kind in named if kind != "null"] or named
            if depth > SHALLOW and "null" in named:
                return "null"
            return filled[self.choice(f"{path}|type", len(filled)) if self.salt else 0]
        return next((kind for kind, hints in _HINTS.items() if any(hint in one for hint in hints)), "string")

    def _object(self, one: Schema, path: str, depth: int) -> dict[str, Any]:
        required = list(one.get("required", []))
        properties = one.get("properties", {})
        all_named = depth <= SHALLOW and self.made < VALUES_AT_MOST and self.salt % 2 == 0
        names = [name for name in properties if all_named or name in required]
        names += [name for name in required if name not in properties]
        names = names[: max(one.get("maxProperties", len(names)), len(required))]
        made = {name: self.value(self._part(name, one), f"{path}.{name}", depth + 1, name) for name in names}
        return self._fill_up(made, one, path, depth)

    def _fill_up(self, made: dict[str, Any], one: Schema, path: str, depth: int) -> dict[str, Any]:
        needed = int(one.get("minProperties", 0))
        if not one.get("properties") and isinstance(one.get("additionalProperties"), dict) and depth <= SHALLOW:
            needed = max(needed, min(1, one.get("maxProperties", 1)))
        spare = [name for name in one.get("properties", {}) if name not in made]
        name_schema = as_schema(one.get("propertyNames", True))
        for index in range(4 * needed):
            if len(made) >= needed:
                break
            name = spare.pop(0) if spare else f"key{index + 1}"
            if name_schema and name not in one.get("properties", {}):
                name = str(self.value(merge({"type": "string"}, name_schema), f"{path}|name{index}", depth + 1))
            made.setdefault(name, self.value(self._part(name, one), f"{path}.{name}", depth + 1, name))
        return made

    def _part(self, name: str, one: Schema) -> Any:
        parts = [one["properties"][name]] if name in one.get("properties", {}) else []
        parts += [part for pattern, part in one.get("patternProperties", {}).items() if re.search(pattern, name)]
        if not parts:
            return one.get("additionalProperties", True)
        return parts[0] if len(parts) == 1 else {"allOf": parts}

    def _array(self, one: Schema, path: str, depth: int, name: str) -> list[Any]:
        first, rest = one.get("prefixItems", []), one.get("items", True)
        least = int(one.get("minItems", 0))
        unique = bool(one.get("uniqueItems") or limits_of(one).get("uniqueItems"))
        usual = len(first) or 2
        count = max(least, usual if depth <= SHALLOW and self.made < VALUES_AT_MOST else 0)
        count = min(count, int(one.get("maxItems", count)), len(first) if rest is False else count)
        made: list[Any] = []
        for index in range(count):
            part = first[index] if index < len(first) else rest
            if "contains" in one and index < max(1, one.get("minContains", 1)):
                part = {"allOf": [as_schema(part), as_schema(one["contains"])]}
            item = self._new_item(part, made, f"{path}[{index}]", depth, name, unique=unique)
            if item is not _NOTHING:
                made.append(item)
        return made

    def _new_item(self, part: Any, made: list[Any], path: str, depth: int, name: str, *, unique: bool) -> Any:
        for turn in range(60 if unique else 1):
            item = self.value(part, f"{path}~{turn}" if turn else path, depth + 1, name)
            if not unique or conforms([*made, item], {"uniqueItems": True}, {}):
                return item
        return self._count_up(part, made) if unique else _NOTHING

    def _count_up(self, part: Any, made: list[Any]) -> Any:
        # Chance found no new one among few: go through an enum, small numbers and short texts.
        one = resolve(part, self.root)
        candidates = [*one.get("enum", []), True, False, None]
        low = one.get("minimum", one.get("exclusiveMinimum", 0))
        step = one.get("multipleOf", 1)
        if is_number(low) and is_number(step):
            base = -(-low // step) * step
            candidates += [base + step * k for k in range(-50, 200)]
        length = int(one.get("minLength", 0))
        candidates += [*ALPHABET, *(str(k).rjust(length, "0") for k in range(200))]
        new = (c for c in candidates if conforms(c, one, self.root) and not any(same(c, item) for item in made))
        return next(new, _NOTHING)


_NOTHING: Final = object()
