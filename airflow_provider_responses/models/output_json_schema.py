"""
A JSON Schema as an ``output_type``: checked, sent, and validated with the library jsonschema.

Nothing is fetched: a schema refers to its own parts only.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.output_problems import MAX_QUOTED, Problem
from airflow_provider_responses.models.output_schema import NotStrictError, convert
from airflow_provider_responses.models.output_strict import to_strict
from airflow_provider_responses.validation import cut, show

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

DEFAULT_NAME: Final = "response"
_DEFINITIONS: Final = ("$defs", "definitions")
_OLD_DIALECT: Final = re.compile(r"draft-0[1-4]\b")
# Keywords whose value is data, in which "$ref" is no reference.
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


class JsonSchema:
    """
    See the module.

    :param schema: as the user wrote it.
    :raises RequestValidationError: if it is not valid by its metaschema, refers to nothing or to another document, or
        no value could match it.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = json.loads(to_text(schema))
        self.name = name_of(self._schema)
        self._check_against_metaschema()
        self._check_references()

    def to_send(self, wrapper: str) -> tuple[dict[str, Any], bool, bool]:
        """
        Return the schema that is sent, whether it is strict, and whether it is in a wrapper.

        :param wrapper: name of the one field of the object around a schema whose values are no objects.
        """
        is_wrapped = not self._is_object
        try:
            strict = to_strict(self._schema, self.resolve, self._accepts)
            return convert(_wrap(strict, wrapper) if is_wrapped else strict, self.name), True, is_wrapped
        except NotStrictError:
            dialect = {"$schema": self._schema["$schema"]} if "$schema" in self._schema else {}
            return {**dialect, **(_wrap(self._schema, wrapper) if is_wrapped else self._schema)}, False, is_wrapped

    def problems_of(self, value: Any, path: str = "") -> list[Problem]:
        """
        Return why a value does not match, nothing if it does.

        :param path: of the value in the response.
        """
        errors = sorted(self._validator.iter_errors(value), key=lambda error: [str(it) for it in error.absolute_path])
        return [_problem(error, path) for error in errors]

    def of_values(self, wrapper: str | None) -> Mapping[str, Any]:
        """Return the schema with its root in place, wrapped if a name is given."""
        root = self._root
        if wrapper is not None:
            return _wrap(self._schema, wrapper)
        return {**{name: self._schema[name] for name in _DEFINITIONS if name in self._schema}, **root}

    def resolve(self, reference: str) -> Any:
        """
        Return the part that a reference leads to.

        :raises RequestValidationError: if it leads to nothing, or to another document.
        """
        from referencing.exceptions import Unresolvable

        try:
            return self._resolver.lookup(reference).contents
        except (Unresolvable, ValueError, TypeError, LookupError):
            where = "nothing in it" if reference.startswith("#") else "another document, and nothing is fetched"
            raise RequestValidationError(
                f"output_type refers to {where}: {show(reference)}. Add the part to `$defs`", fields=("output_type",)
            ) from None

    @property
    def _root(self) -> dict[str, Any]:
        """The root, or the part that it refers to."""
        root = self._schema
        for _ in range(100):
            if not (isinstance(root, dict) and isinstance(root.get("$ref"), str)):
                break
            root = self.resolve(root["$ref"])
        return root if isinstance(root, dict) else {}

    @property
    def _is_object(self) -> bool:
        root = self._root
        others = ("anyOf", "oneOf", "allOf", "enum", "const", "not", "if")
        return root.get("type") == "object" or (
            "type" not in root and "properties" in root and not any(it in root for it in others)
        )

    @cached_property
    def _validator(self) -> Validator:
        from referencing import Registry

        cls = _with_decimals(_validator_class(self._schema))
        # With `$schema`, jsonschema would validate references to the root by a class of its own.
        schema = {name: part for name, part in self._schema.items() if name != "$schema"}
        # An empty registry: the default one fetches references over the network.
        return cls(schema, format_checker=_format_checker(), registry=Registry())

    @cached_property
    def _resolver(self) -> Any:
        from referencing import Registry
        from referencing.jsonschema import DRAFT202012, specification_with

        dialect = str(_validator_class(self._schema).META_SCHEMA.get("$schema", ""))
        specification = specification_with(dialect, default=DRAFT202012)
        resource = specification.create_resource(self._schema)
        return Registry().with_resource(resource.id() or "", resource).resolver(resource.id() or "")

    def _accepts(self, part: Mapping[str, Any], value: Any) -> bool:
        """Whether a part of the schema accepts a value."""
        return not any(self._validator.evolve(schema=part).iter_errors(value))

    def _check_against_metaschema(self) -> None:
        from jsonschema.exceptions import SchemaError

        if _OLD_DIALECT.search(dialect := str(self._schema.get("$schema"))):
            raise RequestValidationError(
                f"output_type.$schema must be draft 6 or newer, got {show(dialect)}: rewrite the schema, for example "
                "with a number in exclusiveMinimum",
                fields=("output_type",),
            )
        try:
            _validator_class(self._schema).check_schema(self._schema)
        except SchemaError as error:
            place = "".join(f".{it}" for it in error.absolute_path)
            raise RequestValidationError(
                f"output_type{place} is not valid in a JSON Schema: {cut(error.message)}. Correct the schema",
                fields=("output_type",),
            ) from None

    def _check_references(self) -> None:
        """Check that references lead to parts of the schema, and that a value can end."""
        for reference in _references(self._schema):
            seen: list[str] = []
            part: Any = {"$ref": reference}
            while isinstance(part, dict) and isinstance(part.get("$ref"), str):
                if part["$ref"] in seen:
                    raise RequestValidationError(
                        f"output_type has a reference that leads to itself: {show(reference)}. Describe the value",
                        fields=("output_type",),
                    )
                seen.append(part["$ref"])
                part = self.resolve(part["$ref"])
        if not self._is_finite(self._schema, ()):
            raise RequestValidationError(
                "output_type contains itself endlessly, so no response can match it: make the property that refers "
                "back nullable or optional, or an array",
                fields=("output_type",),
            )

    def _is_finite(self, part: Any, inside: tuple[str, ...]) -> bool:
        """Whether a value of a part can end; ``inside`` are the references that lead to it."""
        if not isinstance(part, dict):
            return True
        if isinstance(reference := part.get("$ref"), str):
            if reference in inside:
                return False
            return self._is_finite(self.resolve(reference), (*inside, reference))
        for name in ("anyOf", "oneOf"):
            if name in part and not any(self._is_finite(it, inside) for it in part[name]):
                return False
        if part.get("type") not in (None, "object", "array"):  # of several types, one can end
            return True
        needed = [part["properties"][it] for it in part.get("required", ()) if it in part.get("properties", {})]
        needed += [part["items"]] if part.get("minItems") and "items" in part else []
        needed += part.get("allOf", [])
        return all(self._is_finite(it, inside) for it in needed)


def to_text(schema: Mapping[str, Any]) -> str:
    """
    Return a schema as JSON text.

    :raises RequestValidationError: if it is empty or not plain JSON.
    """
    if not schema:
        raise RequestValidationError(
            "output_type must be a JSON Schema with at least one keyword, got an empty dict", fields=("output_type",)
        )
    try:
        if all(isinstance(name, str) for name in schema):
            return json.dumps(schema, allow_nan=False)
        reason = "a key that is no text"
    except (TypeError, ValueError, RecursionError) as error:
        reason = cut(str(error))
    raise RequestValidationError(
        f"output_type must be a JSON Schema of plain JSON types, got {reason}", fields=("output_type",)
    )


def name_of(schema: Mapping[str, Any]) -> str:
    """Return the name of a schema: its title."""
    title = schema.get("title")
    return cut(title, most=64) if isinstance(title, str) and title.strip() else DEFAULT_NAME


def _validator_class(schema: Any) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    return validator_for(schema, default=Draft202012Validator)


@cache
def _with_decimals(validator_class: Any) -> Any:
    """Return a class of validators that reads ``multipleOf`` in decimals: 19.99 is a multiple of 0.01."""
    from jsonschema.validators import extend

    return extend(validator_class, {"multipleOf": _multiple_of})


def _multiple_of(validator: Any, divisor: Any, value: Any, _: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not validator.is_type(value, "number") or not _is_finite_number(value):  # that is refused elsewhere
        return
    if _exact(value) % _exact(divisor):
        yield ValidationError(f"{value!r} is not a multiple of {divisor!r}")


def _is_finite_number(number: float) -> bool:
    return isinstance(number, int) or math.isfinite(number)  # `isfinite` fails for a very large int


def _exact(number: float) -> Fraction:
    """Return a number as it is written in JSON, and not as the nearest binary fraction."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def _wrap(schema: Mapping[str, Any], wrapper: str) -> dict[str, Any]:
    """Return the schema of an object with one field; definitions move to its root."""
    inner = {name: part for name, part in schema.items() if name != "$schema"}
    definitions: dict[str, Any] = {}
    if "$id" not in schema:  # else its references are relative to that, wherever it is
        inner = _move_references(inner, f"#/properties/{wrapper}")
        definitions = {name: inner.pop(name) for name in _DEFINITIONS if name in inner}
    closed = {"type": "object", "properties": {wrapper: inner}, "required": [wrapper], "additionalProperties": False}
    return closed | definitions


def _move_references(part: Any, to: str, *, is_schema: bool = True) -> Any:
    """Return a part with its references to the old root led to the new place of it."""
    if isinstance(part, list):
        return [_move_references(item, to) for item in part]
    if not isinstance(part, dict):
        return part
    moved = {
        name: item
        if is_schema and name in _DATA
        else _move_references(item, to, is_schema=not (is_schema and name in _NAMED))
        for name, item in part.items()
    }
    reference = part.get("$ref")
    if is_schema and isinstance(reference, str) and reference.startswith("#"):
        is_definition = any(reference.startswith(f"#/{name}/") for name in _DEFINITIONS)
        moved["$ref"] = reference if is_definition else to + reference.removeprefix("#")
    return moved


def _references(part: Any, *, is_schema: bool = True) -> Iterator[str]:
    """Yield the references of a schema."""
    if isinstance(part, list):
        for item in part:
            yield from _references(item)
    elif isinstance(part, dict):
        if is_schema and isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for name, item in part.items():
            if not is_schema or name not in _DATA:
                yield from _references(item, is_schema=not (is_schema and name in _NAMED))


def _problem(error: Any, path: str) -> Problem:
    where = ".".join([*([path] if path else []), *map(str, error.absolute_path)]) or "the text"
    if error.context and error.validator in {"anyOf", "oneOf"}:
        deepest = max(error.context, key=lambda it: len(it.absolute_path))
        closest = _problem(deepest, path)
        if len(deepest.absolute_path) > len(error.absolute_path):
            return closest
    return Problem(where, _expected(error), show(error.instance, most=MAX_QUOTED))


def _expected(error: Any) -> str:
    """Return what a keyword demands, without text of the response."""
    keyword, value = error.validator, error.validator_value
    if keyword is None:
        return "must not be there"
    if keyword == "required":
        absent = [name for name in value if isinstance(error.instance, dict) and name not in error.instance]
        return f"must have {', '.join(map(repr, absent[:5])) or 'its required properties'}"
    if keyword == "additionalProperties":
        return f"must have no properties but {', '.join(map(repr, error.schema.get('properties', {}))) or 'the named'}"
    texts = {
        "type": "must be of type {}",
        "enum": "must be one of {}",
        "const": "must be {}",
        "pattern": "must match the pattern {}",
        "format": "must have the format {}",
        "minLength": "must have at least {} characters",
        "maxLength": "must have at most {} characters",
        "minItems": "must have at least {} items",
        "maxItems": "must have at most {} items",
        "minimum": "must be at least {}",
        "maximum": "must be at most {}",
        "exclusiveMinimum": "must be greater than {}",
        "exclusiveMaximum": "must be less than {}",
        "multipleOf": "must be a multiple of {}",
    }
    return texts.get(keyword, f"must satisfy {keyword}: {{}}").format(show(value).replace("'", '"'))


_DATE_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")
_TIME: Final = re.compile(r"\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})?")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")


def _has_date_time(text: str) -> object:
    return _DATE_TIME.fullmatch(text) and datetime.datetime.fromisoformat(_cut_fraction(text.upper()))


def _has_time(text: str) -> object:
    return _TIME.fullmatch(text) and datetime.time.fromisoformat(_cut_fraction(text.upper())) is not None


def _has_date(text: str) -> object:
    return _DATE.fullmatch(text) and datetime.date.fromisoformat(text)


def _cut_fraction(text: str) -> str:
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


# Those of jsonschema depend on the packages that are installed.
_FORMATS: Final[Mapping[str, Callable[[str], object]]] = {
    "date-time": _has_date_time,
    "time": _has_time,
    "date": _has_date,
    "email": _EMAIL.fullmatch,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "uuid": uuid.UUID,
}


@cache
def _format_checker() -> Any:
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    for name, check in _FORMATS.items():
        checker.checks(name, raises=ValueError)(_of_texts(check))
    return checker


def _of_texts(check: Callable[[str], object]) -> Callable[[object], bool]:
    return lambda value: not isinstance(value, str) or bool(check(value))
