"""
Write what the tests need of the API's schema: names, types, required fields, choices and limits, and no prose.

    python tools/schema_digest.py ../shared/spec/openrouter-responses.openapi.json tests/models/schema_digest.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = "ResponsesRequest"
KEPT = frozenset(
    {"$ref", "type", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "allOf"}
    | {"enum", "const", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
)


def digest(specification: dict[str, Any]) -> dict[str, Any]:
    """Give the components that a request is made of, by name, each without words for people."""
    components = specification["components"]["schemas"]
    found: dict[str, Any] = {}
    waiting = [ROOT]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _bare(components[name])
            waiting.extend(references(found[name]))
    return dict(sorted(found.items()))


def references(schema: Any) -> Iterator[str]:
    """Give the names of the components that a schema refers to."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def write(found: dict[str, Any]) -> str:
    """Give the digest as JSON, one component a line, so that a change of the API is a readable diff."""
    lines = [f"{json.dumps(name)}: {json.dumps(schema, sort_keys=True)}" for name, schema in found.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {word: _bare(value) for word, value in schema.items() if word in KEPT - {"properties"}}
    if "properties" in schema:
        bare["properties"] = {name: _bare(value) for name, value in schema["properties"].items()}
    return bare


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(write(digest(json.loads(source.read_text()))))
    print(f"{target}: written")
