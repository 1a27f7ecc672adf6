"""
JSON schemas as strict modes accept them.

Strict modes differ: the schema uses only keywords that all servers accept. Limits without such a keyword are written
into the description, and checked when the response is read. What no strict schema can describe is sent without strict
mode.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, get_type_hints

from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.output_limits import add_limits
from airflow_provider_responses.models.output_types import LIMITS, REFUSED, TypeSchema

FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
UNLIMITED: Final = frozenset({"binary", "password", "path"})  # formats that allow any text
MOST_PROPERTIES: Final = 5000  # this limit and the next two are OpenAI's
MOST_LEVELS: Final = 10
MOST_VALUES: Final = 1000

_KEYWORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("minItems", "maxItems"),
}
_OPEN_KEYWORDS: Final = ("propertyNames", "minProperties", "maxProperties")
_OPEN_OBJECT: Final = ("is an object with any keys", "name its fields in a model, or use a list of key-value models")
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
# An escaped character, or a group with a question mark. Some servers refuse or ignore the ones that are not portable.
_SPECIAL: Final = re.compile(r"\\(?P<escaped>.)|\(\?(?P<group>.)", re.DOTALL)
_UNPORTABLE_ESCAPES: Final = frozenset("bBAzZGQEkpPhHRKX123456789")
_REFUSALS: Final = {
    "json": (
        "is a pydantic Json, which is JSON inside a text",
        "use the type itself, such as `list[int]` for `Json[list[int]]`",
    ),
    "path": (
        "is read from a path inside another field (AliasPath), which a strict schema cannot require",
        "model the field that holds it, give it a plain alias, or set `validate_by_name`",
    ),
    "value": ("has a value that JSON cannot hold as it is", "use text, whole numbers, booleans or None"),
    "import": ("is a pydantic ImportString, which would import a name that the model chose", "use `str`"),
    "keys": ("has keys that JSON cannot hold", "use text, whole numbers or an enum as keys"),
    "disk": ("depends on the files of the machine that reads the response", "use `pathlib.Path` or `str`"),
}


class NotStrictError(RequestValidationError):
    """A strict schema cannot describe a type, which can be sent without strict mode."""


def sent_schema(model: type[BaseModel], name: str, *, strict: bool = True) -> dict[str, Any]:
    """
    Return the schema that is sent for a pydantic model; its root need not be an object.

    Strict schemas close every object and require every field, also one with a default.

    :param name: of the type, for errors.
    :raises NotStrictError: naming a field that a strict schema cannot describe, such as a dict with any keys.
    :raises RequestValidationError: naming a field whose type cannot read values of its own schema.
    """
    try:
        schema = model.model_json_schema(schema_generator=TypeSchema)
    except (PydanticUserError, AttributeError, TypeError) as error:
        raise RequestValidationError(
            f"output_type {name_with_field(model, name)} has no JSON schema: {str(error).splitlines()[0]}",
            fields=("output_type",),
        ) from error
    return convert(schema, name, strict=strict)


def convert(schema: Mapping[str, Any], name: str, *, strict: bool = True) -> dict[str, Any]:
    """
    Return a schema in the form of strict modes; its references must lead to ``$defs``.

    :param name: of the type, for errors.
    :param strict: whether the result must be strict; otherwise parts that are not are left as they are.
    :raises NotStrictError: naming the part that is not.
    """
    converter = _Converter(strict=strict)
    given = schema.get("$defs", {})
    definitions = {key: converter.convert(part, _name_in_errors(key, part, schema)) for key, part in given.items()}
    if "$ref" in schema:  # the root of a recursive model refers to itself, that of a RootModel to its content
        described = {"description": schema["description"]} if "description" in schema else {}
        root = {**definitions[_definition_name(schema["$ref"])], **described}
    else:
        root = converter.convert(_without(schema, "$defs"), name)
    for endless in sorted(_infinite(definitions)):
        error = NotStrictError if strict else RequestValidationError  # a strict form requires each optional field
        _refuse(endless, "contains itself endlessly", "make the field optional (`| None`), or a list", error=error)
    if "$ref" in schema and f'"{schema["$ref"]}"' not in json.dumps(definitions):
        definitions.pop(_definition_name(schema["$ref"]))  # it is the root now, and nothing else refers to it
    return {**root, "$defs": definitions} if definitions else root


def warn_of_size(root: Mapping[str, Any], name: str) -> None:
    """Warn of a strict schema that is too large for OpenAI."""
    for problem in _too_large(root):
        warnings.warn(f"output_type {name}: {problem}", UserWarning, stacklevel=3)


def format_name(name: str) -> str:
    """Return a name with only those characters that the API allows."""
    return _NAME.sub("_", name)[:64]


class _Converter:
    """
    Converts parts of a schema.

    :param strict: see :func:`convert`.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def convert(self, schema: Any, path: str) -> dict[str, Any]:
        """Return a part as strict modes accept it: closed objects, all fields required, no other keywords."""
        if schema is True:
            schema = {}
        if isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
            schema = {**_without(schema, "allOf"), **parts[0]}
        if REFUSED in schema:
            _refuse(path, *_REFUSALS[schema[REFUSED]])
        if self._strict:
            _check_strict(schema, path)
        texts = {name: schema[name] for name in ("title", "description") if isinstance(schema.get(name), str)}
        if "$ref" in schema:
            alone = {"$ref": schema["$ref"]}  # a reference must stand alone
            return {**texts, "anyOf": [alone]} if "description" in texts else alone
        if choices := schema.get("anyOf") or schema.get("oneOf"):
            return {**texts, "anyOf": _different(self.convert(choice, path) for choice in choices)}
        if "enum" in schema or "const" in schema:
            kinds = _values(schema.get("enum", [schema.get("const")]), path)
            if len(kinds) > 1:
                return {**texts, "anyOf": kinds}
            schema = {**_without(schema, "enum", "const"), **kinds[0]}
        if "type" not in schema:  # any value
            return texts | ({"allOf": list(schema["allOf"])} if "allOf" in schema else {})
        return self._of_one_type(schema, texts, path)

    def _of_one_type(self, schema: Mapping[str, Any], texts: dict[str, Any], path: str) -> dict[str, Any]:
        kind = schema["type"]
        kinds = [kind] if isinstance(kind, str) else list(kind)
        keywords = {name: schema[name] for one in kinds for name in _KEYWORDS.get(one, ()) if name in schema}
        keywords |= {name: schema[name] for name in ("enum", "const") if name in schema}
        limits = dict(schema.get(LIMITS, {}))
        _move_to_limits(keywords, limits)
        if schema.get("uniqueItems") and schema.get("minItems", 0) > 1:  # else reading drops duplicates
            limits["uniqueItems"] = True
        if limits:
            texts["description"] = add_limits(texts.get("description"), limits)
        made = {**texts, "type": kind, **keywords}
        if "array" in kinds and "prefixItems" in schema:
            made["prefixItems"] = [self.convert(part, path) for part in schema["prefixItems"]]
        if "array" in kinds and "items" in schema:
            made["items"] = schema["items"] if schema["items"] is False else self.convert(schema["items"], path)
        if "object" in kinds:
            made |= self._of_object(schema, path)
        return made

    def _of_object(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        fields = schema.get("properties", {})
        properties = {name: self.convert(field, f"{path}.{name}") for name, field in fields.items()}
        made: dict[str, Any] = {"properties": properties, "required": list(properties), "additionalProperties": False}
        if not _has_any_keys(schema):
            return made
        open_to = schema.get("additionalProperties", True)
        made["additionalProperties"] = open_to if open_to is False else self.convert(open_to, path) or True
        if patterns := schema.get("patternProperties"):
            made["patternProperties"] = {it: self.convert(part, path) for it, part in patterns.items()}
        made |= {name: schema[name] for name in _OPEN_KEYWORDS if name in schema}
        return made if properties else _without(made, "properties", "required")


def _has_any_keys(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("additionalProperties")) or "properties" not in schema


def _check_strict(schema: Mapping[str, Any], path: str) -> None:
    """Raise :class:`NotStrictError` for a part that strict modes cannot describe."""
    if schema.get("type") == "object" and _has_any_keys(schema):
        _refuse(path, *_OPEN_OBJECT, error=NotStrictError)
    if "prefixItems" in schema:
        _refuse(path, "is a tuple", "use a model with named fields, or a list", error=NotStrictError)
    if "allOf" in schema:
        _refuse(path, "combines several schemas", "give it one type", error=NotStrictError)
    if not {"type", "enum", "const", "anyOf", "oneOf", "$ref"} & schema.keys() or (
        schema.get("type") == "array" and "items" not in schema
    ):
        _refuse(path, "accepts any value", "give it a type", error=NotStrictError)


def _without(schema: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name not in names}


def _move_to_limits(keywords: dict[str, Any], limits: dict[str, Any]) -> None:
    """Move keywords that not every server accepts to the limits."""
    form = keywords.get("format")
    if form is not None and form not in FORMATS:
        keywords.pop("format")
        if re.fullmatch(r"uuid\d", str(form)):
            keywords["format"] = "uuid"
        if form not in UNLIMITED:
            limits["format"] = form
    if not is_portable(str(keywords.get("pattern", ""))):
        limits["pattern"] = str(keywords.pop("pattern"))


def is_portable(pattern: str) -> bool:
    """Whether all servers accept a pattern: some refuse or ignore look-arounds, references and the like."""
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


def _refuse(
    path: str, reason: str, advice: str, *, error: type[RequestValidationError] = RequestValidationError
) -> NoReturn:
    cannot = "a strict schema cannot describe" if error is NotStrictError else "an output_type cannot have"
    raise error(f"output_type {path} {reason}, which {cannot}: {advice}", fields=("output_type", path))


def _definition_name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _name_in_errors(name: str, definition: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Return the name of a definition in errors: of an enum, the field that uses it."""
    if "properties" in definition or definition.get("type") == "object":
        return name
    owners = {root.get("title", "the root"): root, **root["$defs"]}
    reference = f'"#/$defs/{name}"'
    for owner, schema in owners.items():
        for field, part in schema.get("properties", {}).items():
            if reference in json.dumps(part, default=str):
                return f"{owner}.{field}"
    return name


def name_with_field(output_type: Any, name: str) -> str:
    """Return the name of a type, with the first of its fields whose type has no schema."""
    if isinstance(output_type, type) and issubclass(output_type, RootModel):
        output_type = output_type.model_fields["root"].annotation
    for field, annotation in _fields_of(output_type).items():
        try:
            TypeAdapter(annotation).json_schema(schema_generator=TypeSchema)
        except (PydanticUserError, AttributeError, TypeError, NameError):
            return f"{name}.{field}"
    return name


def _fields_of(output_type: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a class."""
    if isinstance(output_type, type) and issubclass(output_type, BaseModel):
        return {name: field.annotation for name, field in output_type.model_fields.items()}
    try:
        return get_type_hints(output_type, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _infinite(definitions: Mapping[str, Any]) -> set[str]:
    """Return the definitions without a finite instance."""
    infinite = set(definitions)
    while found := {name for name in infinite if _is_finite(definitions[name], infinite)}:
        infinite -= found
    return infinite


def _is_finite(schema: Mapping[str, Any], infinite: set[str]) -> bool:
    if "$ref" in schema:
        return _definition_name(schema["$ref"]) not in infinite
    if "anyOf" in schema:
        return any(_is_finite(choice, infinite) for choice in schema["anyOf"])
    required = [schema["items"]] if schema.get("minItems") and schema.get("items") else []
    required += schema.get("prefixItems", ())
    return all(_is_finite(part, infinite) for part in (*schema.get("properties", {}).values(), *required))


def _too_large(root: Mapping[str, Any]) -> Iterator[str]:
    """Yield the limits of OpenAI that a schema exceeds; other servers may accept it."""
    definitions = root.get("$defs", {})
    nodes = [node for part in (root, *definitions.values()) for node in _nodes(part)]
    sizes = {
        "properties": (sum(len(node.get("properties", ())) for node in nodes), MOST_PROPERTIES),
        "levels of objects": (_levels(root, definitions, {}), MOST_LEVELS),
        "values in enums": (sum(len(node.get("enum", ())) for node in nodes), MOST_VALUES),
    }
    for unit, (count, most) in sizes.items():
        if count > most:
            yield f"its schema has {count} {unit}, and OpenAI accepts at most {most}; other servers may accept more"


def _nodes(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for part in _parts(schema):
        yield from _nodes(part)


def _parts(schema: Mapping[str, Any]) -> list[Any]:
    items = [schema["items"]] if schema.get("items") else []
    return [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *items]


def _levels(schema: Mapping[str, Any], definitions: Mapping[str, Any], known: dict[str, int]) -> int:
    """Return how deeply objects are nested; a recursion counts once."""
    if "$ref" in schema:
        name = _definition_name(schema["$ref"])
        if name not in known:
            known[name] = 0  # while it is counted
            known[name] = _levels(definitions[name], definitions, known)
        return known[name]
    deepest = max((_levels(part, definitions, known) for part in _parts(schema)), default=0)
    return deepest + (schema.get("type") == "object")
