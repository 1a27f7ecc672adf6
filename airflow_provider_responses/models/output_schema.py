"""
A pydantic model as a strict ``json_schema`` format.

Strict modes differ; what goes out is what all of them take. What a keyword of theirs cannot say is said in the
description, and checked when the response is read.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn

from pydantic import BaseModel, PydanticUserError, TypeAdapter

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.output_limits import described
from airflow_provider_responses.models.output_types import LIMITS, REFUSED, TypeSchema

FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
UNSAID: Final = frozenset({"binary", "password", "path"})  # formats that limit no text
MOST_PROPERTIES: Final = 5000  # these are OpenAI's
MOST_LEVELS: Final = 10
MOST_VALUES: Final = 1000

_KEYWORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("minItems", "maxItems"),
}
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
# An escaped character, or a group with a question mark: what is here and not portable, some server refuses or ignores.
_SPECIAL: Final = re.compile(r"\\(?P<escaped>.)|\(\?(?P<group>.)", re.DOTALL)
_UNPORTABLE_ESCAPES: Final = frozenset("bBAzZGQEkpPhHRKX123456789")
_REFUSALS: Final = {
    "json": (
        "is a pydantic Json, which is JSON inside of a text",
        "use the type itself, such as `list[int]` for `Json[list[int]]`",
    ),
    "path": (
        "is read from a path inside of another field (AliasPath), where a strict schema cannot ask for it",
        "model the field that holds it, give it a plain alias, or set `validate_by_name`",
    ),
    "value": ("has a value that is not read back as it is written", "use text, whole numbers, booleans or None"),
    "import": ("is a pydantic ImportString, which imports what a model names", "use `str`"),
    "disk": ("depends on the files of the machine that reads the response", "use `pathlib.Path` or `str`"),
}


def json_schema_format(output_type: type[BaseModel]) -> dict[str, Any]:
    """
    Build the ``text.format`` that makes a model respond with an instance of ``output_type``.

    Strict schemas close every object and require every field, so a field with a default is asked for as well.

    :raises RequestValidationError: where a strict schema cannot say what the type says (an open dict, a root that is
        no object), or where the type cannot read what its own schema asks for, naming the field.
    """
    made: dict[str, Any] = json.loads(_format_of(output_type))
    return made


@lru_cache(maxsize=256)
def _format_of(output_type: type[BaseModel]) -> str:
    """Return the format as text, made once for each type: DAG files are parsed again and again."""
    root = _root(output_type)
    for problem in _too_large(root):
        warnings.warn(f"output_type {output_type.__name__}: {problem}", UserWarning, stacklevel=3)
    name = _NAME.sub("_", output_type.__name__)[:64]
    return json.dumps({"type": "json_schema", "name": name, "schema": root, "strict": True})


def _root(output_type: type[BaseModel]) -> dict[str, Any]:
    try:
        schema = output_type.model_json_schema(schema_generator=TypeSchema)
    except (PydanticUserError, AttributeError, TypeError) as error:
        raise RequestValidationError(
            f"output_type {_culprit(output_type)} has no JSON schema: {str(error).splitlines()[0]}",
            fields=("output_type",),
        ) from error
    given = schema.get("$defs", {})
    definitions = {name: _strict(part, _place(name, part, schema)) for name, part in given.items()}
    if "$ref" in schema:  # a recursive model refers to itself from the root, and a RootModel to what it holds
        said = {"description": schema["description"]} if "description" in schema else {}
        root = {**definitions[_definition_name(schema["$ref"])], **said}
    else:
        root = _strict(schema, output_type.__name__)
    if root.get("type") != "object":
        raise RequestValidationError(
            f"output_type {output_type.__name__}: the root must be an object, not {root.get('type', 'a union')!r}: "
            "wrap it in a model with one field",
            fields=("output_type",),
        )
    for name in sorted(_endless(definitions)):
        _refuse(name, "contains itself without an end", "make the field optional (`| None`), or a list")
    return {**root, "$defs": definitions} if definitions else root


def _strict(schema: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the part of a schema that strict modes take: closed objects, all fields required, no other keywords."""
    if isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
        schema = {**_without(schema, "allOf"), **parts[0]}
    _refuse_inexpressible(schema, path)
    said = {name: schema[name] for name in ("title", "description") if isinstance(schema.get(name), str)}
    if "$ref" in schema:
        alone = {"$ref": schema["$ref"]}  # a reference must stand alone
        return {**said, "anyOf": [alone]} if "description" in said else alone
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return {**said, "anyOf": _different(_strict(choice, path) for choice in choices)}
    if "enum" in schema or "const" in schema:
        kinds = _values(schema.get("enum", [schema.get("const")]), path)
        if len(kinds) > 1:
            return {**said, "anyOf": kinds}
        schema = {**_without(schema, "enum", "const"), **kinds[0]}
    return _of_one_type(schema, said, path)


def _of_one_type(schema: Mapping[str, Any], said: dict[str, Any], path: str) -> dict[str, Any]:
    kind = schema["type"]
    kinds = [kind] if isinstance(kind, str) else list(kind)
    kept = {name: schema[name] for one in kinds for name in _KEYWORDS.get(one, ()) if name in schema}
    kept |= {name: schema[name] for name in ("enum", "const") if name in schema}
    limits = dict(schema.get(LIMITS, {}))
    _leave_out(kept, limits)
    if schema.get("uniqueItems") and schema.get("minItems", 0) > 1:  # else a set, made of a list when it is read
        limits["uniqueItems"] = True
    if limits:
        said["description"] = described(said.get("description"), limits)
    made = {**said, "type": kind, **kept}
    if "array" in kinds:
        made["items"] = _strict(schema["items"], path)
    if "object" in kinds:
        properties = {name: _strict(field, f"{path}.{name}") for name, field in schema["properties"].items()}
        made |= {"properties": properties, "required": list(properties), "additionalProperties": False}
    return made


def _without(schema: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}


def _leave_out(kept: dict[str, Any], limits: dict[str, Any]) -> None:
    """Move what not every server takes from the keywords to the limits."""
    form = kept.get("format")
    if form is not None and form not in FORMATS:
        kept.pop("format")
        if re.fullmatch(r"uuid\d", str(form)):
            kept["format"] = "uuid"
        if form not in UNSAID:
            limits["format"] = form
    if not is_portable(str(kept.get("pattern", ""))):
        limits["pattern"] = str(kept.pop("pattern"))


def is_portable(pattern: str) -> bool:
    """Whether servers take a pattern: look-arounds, references and the like are refused by some, ignored by others."""
    for found in _SPECIAL.finditer(pattern):
        if found["escaped"] in _UNPORTABLE_ESCAPES or found["group"] not in {None, ":"}:
            return False
    return True


def _values(values: list[Any], path: str) -> list[dict[str, Any]]:
    """Return a schema for each type of an enum's values."""
    named = [_kind(value, path) for value in values]
    kinds: dict[str, list[Any]] = {}
    for value, kind in zip(values, named, strict=True):
        alike = kinds.setdefault("number" if kind == "integer" and "number" in named else kind, [])
        if value not in alike:
            alike.append(value)
    return [_of_values(kind, alike) for kind, alike in kinds.items()]


def _of_values(kind: str, values: list[Any]) -> dict[str, Any]:
    if kind == "null" or (kind == "boolean" and len(values) > 1):
        return {"type": kind}
    return {"type": kind, "const": values[0]} if len(values) == 1 else {"type": kind, "enum": values}


def _kind(value: Any, path: str) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    if type(value) not in kinds:
        _refuse(path, *_REFUSALS["value"])
    return kinds[type(value)]


def _different(schemas: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    different: list[dict[str, Any]] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    return different


def _refuse_inexpressible(schema: Mapping[str, Any], path: str) -> None:
    any_keys = schema.get("additionalProperties") or "properties" not in schema
    if REFUSED in schema:
        _refuse(path, *_REFUSALS[schema[REFUSED]])
    if schema.get("type") == "object" and any_keys:
        _refuse(path, "is an object with any keys", "name its fields in a model, or use a list of key-value models")
    if "prefixItems" in schema:
        _refuse(path, "is a tuple", "use a model with named fields, or a list")
    if "allOf" in schema:
        _refuse(path, "combines several schemas", "give it one type")
    if not {"type", "enum", "const", "anyOf", "oneOf", "$ref"} & schema.keys() or (
        schema.get("type") == "array" and "items" not in schema
    ):
        _refuse(path, "accepts anything", "give it a type")


def _refuse(path: str, what: str, advice: str) -> NoReturn:
    raise RequestValidationError(
        f"output_type: {path} {what}, which a strict schema cannot describe: {advice}", fields=("output_type", path)
    )


def _definition_name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _place(name: str, definition: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Return what a definition is called in an error: an enum is found by the field that has it."""
    if "properties" in definition or definition.get("type") == "object":
        return name
    owners = {root.get("title", "the root"): root, **root["$defs"]}
    reference = f'"#/$defs/{name}"'
    for owner, schema in owners.items():
        for field, part in schema.get("properties", {}).items():
            if reference in json.dumps(part, default=str):
                return f"{owner}.{field}"
    return name


def _culprit(output_type: type[BaseModel]) -> str:
    """Return the field whose type has no schema, after the name of its model."""
    for name, field in getattr(output_type, "model_fields", {}).items():
        try:
            TypeAdapter(field.annotation).json_schema(schema_generator=TypeSchema)
        except (PydanticUserError, AttributeError, TypeError):
            return f"{output_type.__name__}.{name}"
    return output_type.__name__


def _endless(definitions: Mapping[str, Any]) -> set[str]:
    """Return the definitions of which no instance is finite."""
    endless = set(definitions)
    while found := {name for name in endless if _ends(definitions[name], endless)}:
        endless -= found
    return endless


def _ends(schema: Mapping[str, Any], endless: set[str]) -> bool:
    if "$ref" in schema:
        return _definition_name(schema["$ref"]) not in endless
    if "anyOf" in schema:
        return any(_ends(choice, endless) for choice in schema["anyOf"])
    filled = [schema["items"]] if schema.get("minItems") else []
    return all(_ends(part, endless) for part in (*schema.get("properties", {}).values(), *filled))


def _too_large(root: Mapping[str, Any]) -> Iterator[str]:
    """Yield which of OpenAI's limits a schema exceeds; other servers may take it."""
    definitions = root.get("$defs", {})
    nodes = [node for part in (root, *definitions.values()) for node in _nodes(part)]
    sizes = {
        "properties": (sum(len(node.get("properties", ())) for node in nodes), MOST_PROPERTIES),
        "levels of objects": (_levels(root, definitions, {}), MOST_LEVELS),
        "values in enums": (sum(len(node.get("enum", ())) for node in nodes), MOST_VALUES),
    }
    for what, (count, most) in sizes.items():
        if count > most:
            yield f"its schema has {count} {what}, and OpenAI takes at most {most}; other servers may take more"


def _nodes(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for part in _parts(schema):
        yield from _nodes(part)


def _parts(schema: Mapping[str, Any]) -> list[Any]:
    items = [schema["items"]] if "items" in schema else []
    return [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *items]


def _levels(schema: Mapping[str, Any], definitions: Mapping[str, Any], known: dict[str, int]) -> int:
    """Return how deeply objects are nested; what a recursion repeats is not counted again."""
    if "$ref" in schema:
        name = _definition_name(schema["$ref"])
        if name not in known:
            known[name] = 0  # while it is counted
            known[name] = _levels(definitions[name], definitions, known)
        return known[name]
    deepest = max((_levels(part, definitions, known) for part in _parts(schema)), default=0)
    return deepest + (schema.get("type") == "object")
