"""Random requests, the same for the same seed: valid by the API's schema, or with one invalid value."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.api import CURRENT
from tests.models.schema import OF_TYPE, SCHEMAS, Path_, branches, resolve, types
from tests.models.schema import REQUEST as OPENROUTER

WORDS = ("rain", "harbour", "Größe", "世界", "a longer text, with a comma", "x-1", "0.5")
# Refused on purpose although the schema allows it: OpenRouter stores no responses.
NOT_GENERATED = {"previous_response_id"}
# Fields of output items with words of a model or a server: new words are accepted, since they become input.
SERVER_WORDS = {"status", "phase", "format", "command", "action", "execution"}
KINDS = ("type", "choice", "missing", "limit", "field")
_REGISTRY = Registry().with_resource("urn:api", Resource(contents=CURRENT, specification=DRAFT202012)).crawl()
_ROOT = "/components/schemas/ResponsesRequest"
_LISTS = {
    "input": "/components/schemas/Inputs/anyOf/1/items",
    **{name: f"{_ROOT}/properties/{name}/items" for name in ("tools", "plugins")},
}


@cache
def _judge(place: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"urn:api#{place}"}, registry=_REGISTRY)


def is_valid(request: dict[str, Any], changed: Path_ = ()) -> bool:
    """Whether the schema allows a request. With the path of a change, only that part is checked: ten times faster."""
    place, value = _ROOT, request
    if changed:
        place, value = f"{_ROOT}/properties/{changed[0]}", request[str(changed[0])]
    if len(changed) > 1 and changed[0] in _LISTS:
        place, value = _LISTS[str(changed[0])], value[changed[1]]
    return bool(_judge(place).is_valid(value))


@dataclass(frozen=True)
class Point:
    """A path in a request, with the schema of its value."""

    path: Path_
    members: list[dict[str, Any]]
    chosen: dict[str, Any]


@dataclass(frozen=True)
class Wrong:
    """A request with one invalid value."""

    request: dict[str, Any]
    path: Path_
    kind: str


class Generator:
    def __init__(self, seed: int, request: dict[str, Any] = OPENROUTER, components: dict[str, Any] = SCHEMAS) -> None:
        self.fields, self.components = resolve(request, components)["properties"], components
        self.random = random.Random(seed)  # noqa: S311  random numbers that can be repeated
        self.points: list[Point] = []

    def requests(self, count: int) -> list[dict[str, Any]]:
        return [self._request() for _ in range(count)]

    def invalid(self, count: int) -> list[Wrong]:
        return [self._wrong() for _ in range(count)]

    def _request(self) -> dict[str, Any]:
        self.points = []
        optional = sorted(self.fields.keys() - NOT_GENERATED - {"model", "input"})
        names = ["model", "input", *self.random.sample(optional, self.random.randint(1, 8))]
        return {name: self._value(self.fields[name], (name,)) for name in names}

    def _wrong(self) -> Wrong:
        wanted = self.random.choice(KINDS)
        while True:
            request = self._request()
            changes = [(p, *c) for p in self.points for c in _changes(p, _at(request, p.path)) if c[0] == wanted]
            if not changes:
                continue
            point, kind, value, path = self.random.choice(changes)
            wrong = _with(request, point.path, value)
            if not is_valid(wrong, point.path):
                return Wrong(wrong, path, kind)

    def _value(self, schema: dict[str, Any], path: Path_) -> Any:
        members = branches(schema, self.components)
        deep = len(path) > 8
        simple = [member for member in members if types(member) - {"object", "array"}]
        chosen = self.random.choice(simple if deep and simple else members)
        self.points.append(Point(path, members, chosen))
        if "enum" in chosen or "const" in chosen:
            return self.random.choice(chosen.get("enum", [chosen.get("const")]))
        kinds = sorted(types(chosen)) or ["object"]
        kind = self.random.choice([k for k in kinds if k != "null"] * 4 + [k for k in kinds if k == "null"])
        if kind == "object":
            return self._object(chosen, path, deep)
        return self._array(chosen, path) if kind == "array" else self._scalar(chosen, kind)

    def _object(self, schema: dict[str, Any], path: Path_, deep: bool) -> dict[str, Any]:
        fields, required = schema.get("properties", {}), schema.get("required", [])
        optional = [] if deep else [name for name in fields if name not in required and self.random.random() < 0.4]
        names = [name for name in (*required, *optional) if name in fields]
        self.random.shuffle(names)
        found = {name: self._value(fields[name], (*path, name)) for name in names}
        more = schema.get("additionalProperties")
        if more is not False and self.random.random() < 0.2:
            found["an unknown key"] = (
                self._value(more, (*path, "an unknown key")) if isinstance(more, dict) and more else {"x": [1, None]}
            )
        return found

    def _array(self, schema: dict[str, Any], path: Path_) -> list[Any]:
        least = max(schema.get("minItems", 0), path == ("input",))
        count = self.random.randint(least, min(schema.get("maxItems", 3), 3))
        return [self._value(schema["items"], (*path, place)) for place in range(count)]

    def _scalar(self, schema: dict[str, Any], kind: str) -> Any:
        if kind == "string":
            text = "x-1" if "pattern" in schema else self.random.choice(WORDS)
            return text[: schema.get("maxLength", 99)]
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind == "null":
            return None
        low, high = schema.get("minimum", 0), schema.get("maximum", 1000)
        return self.random.randint(low, high) if kind == "integer" else round(self.random.uniform(low, high), 3)


def _changes(point: Point, value: Any) -> Iterator[tuple[str, Any, Path_]]:
    """Yield the possible errors at a point: the kind of error, the invalid value, and its path."""
    allowed = set().union(*map(types, point.members))
    if all(types(member) or "enum" in member for member in point.members):
        for kind, other in OF_TYPE.items():
            # A null is valid everywhere: it is sent as it is.
            if kind not in {*allowed, "null"} and not (kind == "integer" and "number" in allowed):
                yield "type", other, point.path
    texts = [member for member in point.members if "string" in types(member)]
    if texts and all("enum" in member for member in texts) and not _is_open(point):
        yield "choice", "no such", point.path
    yield from (("limit", wrong, point.path) for wrong in _beyond(point.chosen, value))
    if isinstance(value, dict):
        for name in point.chosen.get("required", ()):
            yield "missing", {key: v for key, v in value.items() if key != name}, (*point.path, name)
        if point.chosen.get("additionalProperties") is False:
            yield "field", value | {"no such field": 1}, (*point.path, "no such field")


def _is_open(point: Point) -> bool:
    """Whether unknown words are valid here: a kind, or a word of a model or a server."""
    if len(point.path) == 1:
        return False
    item = point.path[:1] == ("input",) and len(point.path) == 3
    return point.path[-1] in {"type", "id"} or (item and point.path[-1] in SERVER_WORDS)


def _beyond(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
    if schema.get("minLength"):
        yield ""
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maximum" in schema:
        yield schema["maximum"] + 1
    if schema.get("minItems"):
        yield []
    if "maxItems" in schema and value:
        yield [value[0]] * (schema["maxItems"] + 1)


def _at(data: Any, path: Path_) -> Any:
    for step in path:
        data = data[step]
    return data


def _with(data: Any, path: Path_, value: Any) -> Any:
    changed = copy.deepcopy(data)
    _at(changed, path[:-1])[path[-1]] = value
    return changed
