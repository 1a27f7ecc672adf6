"""
The JSON schema of a type by pydantic: the same for every version of pydantic, and with all limits.

Two additional keywords are for ``output_schema``, which removes them: `LIMITS` holds limits that JSON Schema has no
keyword for, `REFUSED` the reason why a value of a part could not be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema, SchemaValidator, core_schema, to_json, to_jsonable_python

LIMITS: Final = "x-limits"
REFUSED: Final = "x-refused"
EXACT_DIGITS: Final = 15  # a JSON number with more digits is rounded when it is read
WITHOUT_ZONE: Final = "date-time without a time zone"
TIME_WITHOUT_ZONE: Final = "time without a time zone"

_BOUNDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_OF_KEYS: Final = ("pattern", "format", "minLength", "maxLength", "enum", "const")
_WHOLE_NUMBER: Final = r"^(0|-?[1-9]\d{0,17})$"
_CLOCK: Final = r"\d{2}:\d{2}:\d{2}(\.\d{1,6})?$"


class TypeSchema(GenerateJsonSchema):
    """Pydantic's generator, with the limits that it leaves out; results do not depend on pydantic's version."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}
        self._configs: list[Mapping[str, Any]] = [{}]

    @property
    def mode(self) -> JsonSchemaMode:
        """The schema for reading, also if the model's configuration prefers that for writing."""
        return "validation"

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        if (reason := _why_not_readable(schema)) is not None:
            return {REFUSED: reason}
        if _name_of_function(schema) == "ByteSize._validate":
            return {"type": "integer", "minimum": 0}  # pydantic's pattern for texts accepts more than it reads
        return super().generate_inner(schema)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        given: Mapping[str, Any] = schema
        bounds = {keyword: _number(given[name]) for name, keyword in _BOUNDS.items() if given.get(name) is not None}
        digits, places = schema.get("max_digits"), schema.get("decimal_places")
        counts = {"maxDigits": digits, "decimalPlaces": places}
        limits = {name: count for name, count in counts.items() if count is not None}
        if digits is not None and digits > EXACT_DIGITS:
            positive = any(bounds.get(name, -1) >= 0 for name in ("minimum", "exclusiveMinimum"))
            pattern = _decimal_pattern(digits, places, positive=positive)
            return {"type": "string", "pattern": pattern, LIMITS: limits | bounds}
        multiple = schema.get("multiple_of")
        step = {} if multiple is None else {"multipleOf": _number(multiple)}
        return {"type": "number", **bounds, **step, LIMITS: limits}

    def date_schema(self, schema: core_schema.DateSchema) -> JsonSchemaValue:
        return {**super().date_schema(schema), LIMITS: _time_limits(schema)}

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        made = super().time_schema(schema)
        if schema.get("tz_constraint") == "naive":  # the format `time` has a time zone
            made = {"type": "string", "pattern": f"^{_CLOCK}", LIMITS: {"format": TIME_WITHOUT_ZONE}}
        return {**made, LIMITS: {**made.get(LIMITS, {}), **_time_limits(schema)}}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        made = super().datetime_schema(schema)
        if schema.get("tz_constraint") == "naive":  # the format `date-time` has a time zone
            pattern = rf"^\d{{4}}-\d{{2}}-\d{{2}}T{_CLOCK}"
            made = {"type": "string", "pattern": pattern, LIMITS: {"format": WITHOUT_ZONE}}
        return {**made, LIMITS: {**made.get(LIMITS, {}), **_time_limits(schema)}}

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return {**super().timedelta_schema(schema), LIMITS: _time_limits(schema)}

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        made = super().str_schema(schema)
        least = schema.get("min_length")
        if least and schema.get("strip_whitespace"):  # the minimum applies to the rest
            made[LIMITS] = {"minLength without white space around it": least}
        return made

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """Return the schema of a dict, whose keys pydantic describes incompletely."""
        values = schema.get("values_schema")
        made: JsonSchemaValue = {
            "type": "object",
            "additionalProperties": self.generate_inner(values) if values else True,
        }
        if (names := self._property_names(schema.get("keys_schema"))) is None:
            return {REFUSED: "keys"}
        if names:
            made["propertyNames"] = names
        self.update_with_validations(made, schema, self.ValidationsMapping.object)
        return made

    def _property_names(self, keys: Any) -> JsonSchemaValue | None:
        """Return the schema of a dict's keys, None if JSON cannot hold them."""
        if keys is None or keys["type"] == "any":
            return {}
        if keys["type"] == "int" and not keys.keys() & {*_BOUNDS, "multiple_of"}:
            return {"pattern": _WHOLE_NUMBER}
        made = self.generate_inner(keys)
        if "$ref" in made:
            made = self.get_schema_from_definitions(made["$ref"]) or {}
        if made.get("type") != "string" or made.get(LIMITS):
            return None
        return {name: made[name] for name in _OF_KEYS if name in made}

    def fraction_schema(self, _: Any) -> JsonSchemaValue:
        return {"type": "string", "format": "fraction"}

    def complex_schema(self, schema: core_schema.ComplexSchema) -> JsonSchemaValue:
        return {**super().complex_schema(schema), LIMITS: {"format": "complex"}}

    def url_schema(self, schema: core_schema.UrlSchema) -> JsonSchemaValue:
        return {**super().url_schema(schema), LIMITS: _schemes(schema)}

    def multi_host_url_schema(self, schema: core_schema.MultiHostUrlSchema) -> JsonSchemaValue:
        return {**super().multi_host_url_schema(schema), LIMITS: _schemes(schema)}

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return _refuse_unreadable_values(super().literal_schema(schema), schema)

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return _refuse_unreadable_values(super().enum_schema(schema), schema)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        with self._configured(schema):
            return super().model_schema(schema)

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        with self._configured(schema):
            return super().dataclass_schema(schema)

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        with self._configured(schema):
            return self._with_readable_names(super().typed_dict_schema(schema), schema["fields"])

    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> JsonSchemaValue:
        return self._with_readable_names(super().model_fields_schema(schema), schema["fields"])

    def dataclass_args_schema(self, schema: core_schema.DataclassArgsSchema) -> JsonSchemaValue:
        fields = {field["name"]: field for field in schema["fields"]}
        return self._with_readable_names(super().dataclass_args_schema(schema), fields)

    @contextmanager
    def _configured(self, schema: Any) -> Iterator[None]:
        self._configs.append(schema.get("config") or {})
        yield
        self._configs.pop()

    def _with_readable_names(self, made: JsonSchemaValue, fields: Mapping[str, Any]) -> JsonSchemaValue:
        """Name each field so that validation reads it; pydantic's own choice depends on its version."""
        readable = {name: _readable_name(name, field, self._configs[-1]) for name, field in fields.items()}
        properties = made["properties"]
        if nameless := [name for name, alias in readable.items() if alias is None]:
            properties = {**properties, **{name: {REFUSED: "path"} for name in nameless}}
        elif len(properties) == len(readable):
            properties = dict(zip(readable.values(), properties.values(), strict=True))
        return {**made, "properties": properties}


def _readable_name(name: str, field: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    alias = field.get("validation_alias")
    if alias is None:
        return name
    if config.get("validate_by_alias", True):
        paths = [[alias]] if isinstance(alias, str) else alias if isinstance(alias[0], list) else [alias]
        for path in paths:
            if len(path) == 1 and isinstance(path[0], str):
                return path[0]
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    return name if by_name or not config.get("validate_by_alias", True) else None


def _why_not_readable(schema: Any) -> str | None:
    """Return why text of a model must not be read as this type, None if it may."""
    if schema["type"] == "json":
        return "json"
    name = _name_of_function(schema)
    if schema["type"] == "function-plain" and name == "import_string":
        return "import"
    return "disk" if name.startswith("PathType.validate_") else None


def _name_of_function(schema: Any) -> str:
    """Return the name of the function of a schema, empty if it has none."""
    function = schema.get("function")
    return getattr(function.get("function"), "__qualname__", "") if isinstance(function, Mapping) else ""


def _refuse_unreadable_values(made: JsonSchemaValue, schema: CoreSchema) -> JsonSchemaValue:
    """Refuse values whose JSON is not read as the same value: tuples, bytes."""
    validator = SchemaValidator(schema)
    for value in made.get("enum", [made.get("const")]):
        try:
            validator.validate_json(to_json(value))
        except ValidationError:
            return {REFUSED: "value"}
    return made


def _time_limits(schema: Any) -> dict[str, Any]:
    """Return the limits of a date, a time or a duration."""
    bounds = {keyword: to_jsonable_python(schema[name]) for name, keyword in _BOUNDS.items() if name in schema}
    limits = {keyword: bound for keyword, bound in bounds.items() if bound is not None}
    return limits | ({schema["now_op"]: True} if schema.get("now_op") else {})


def _schemes(schema: Any) -> dict[str, Any]:
    schemes = schema.get("allowed_schemes")
    return {"schemes": list(schemes)} if schemes and "https" not in schemes else {}


def _number(value: Decimal | float) -> int | float:
    return int(value) if value == int(value) else float(value)


def _decimal_pattern(digits: int, places: int | None, *, positive: bool) -> str:
    sign = "" if positive else "-?"
    whole = digits if places is None else max(1, digits - places)
    fraction = "" if places == 0 else rf"(\.\d{{1,{places or digits}}})?"
    return rf"^{sign}\d{{1,{whole}}}{fraction}$"
