"""
Write the structure of the API's schema, which the tests judge by: names, types, required fields, choices and limits.

Nothing that people read is kept: no descriptions, titles, summaries, examples or defaults.

    python tools/schema_structure.py openrouter-responses.openapi.json tests/api/openrouter.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KEPT = frozenset(
    {"$ref", "type", "required", "additionalProperties", "items", "anyOf", "oneOf", "allOf", "enum", "const", "format"}
    | {"pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
)


def structure(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its components and the bodies of its responses only, at the paths they have there."""
    schemas = {name: bare(schema) for name, schema in sorted(document["components"]["schemas"].items())}
    paths = {
        path: {method: {"responses": _bodies(operation["responses"])} for method, operation in methods.items()}
        for path, methods in document["paths"].items()
    }
    return {"components": {"schemas": schemas}, "paths": paths}


def bare(schema: Any) -> Any:
    """Return a schema without words for people."""
    if isinstance(schema, list):
        return [bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {word: bare(value) for word, value in schema.items() if word in KEPT}
    if "properties" in schema:
        found["properties"] = {name: bare(value) for name, value in schema["properties"].items()}
    return found


def write(found: dict[str, Any]) -> str:
    """Return the structure as JSON, one component or path a line, so that a change of the API is a readable diff."""
    schemas = ",\n".join(_line(name, schema) for name, schema in found["components"]["schemas"].items())
    paths = ",\n".join(_line(path, methods) for path, methods in found["paths"].items())
    return f'{{"components":{{"schemas":{{\n{schemas}\n}}}},\n"paths":{{\n{paths}\n}}}}\n'


def _bodies(responses: dict[str, Any]) -> dict[str, Any]:
    return {
        status: {"content": {kind: {"schema": bare(body["schema"])} for kind, body in response["content"].items()}}
        for status, response in responses.items()
        if "content" in response
    }


def _line(name: str, value: Any) -> str:
    return f"{json.dumps(name)}:{json.dumps(value, sort_keys=True, separators=(',', ':'))}"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(write(structure(json.loads(source.read_text()))))
    print(f"{target}: written")
