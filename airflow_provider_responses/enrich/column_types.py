"""Types and sample values of the columns of responses, from the JSON schema of ``output_type``."""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from airflow_provider_responses.enrich.columns import (
    ESCALATED,
    SCORE,
    SCORE_REASON,
    TEXT_COLUMN,
    has_columns,
    reader_of,
    response_columns,
)

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.models.output_reader import OutputReader
    from airflow_provider_responses.task.request import TaskRequest

MAX_SAMPLES: Final = 100  # of one column: an enum may be long
MAX_SAMPLE_LENGTH: Final = 10_000  # characters
WRAPPER: Final = "response"  # the field of a value that is no object
_MAX_DEPTH: Final = 4
# By type in JSON schema, the kind of a column; a database has a type for each kind.
_KINDS: Final = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS: Final = {"date": "date", "date-time": "time"}
_TEXTS: Final = {
    "date": "2024-02-29",
    "date-time": "2024-02-29T12:30:00Z",
    "time": "12:30:00",
    "duration": "PT1H",
    "uuid": "6f1c7d5a-0f0e-4b5c-9d7e-1a2b3c4d5e6f",
}
# Samples of texts with a pattern: those that the pattern allows.
_WORDS: Final = ("text", "1", "1.5", "2024-02-29", "12:30", "A", "A1", "AB-1")
# The result's own columns: kind, and a sample of a row with a response.
META_COLUMN_TYPES: Final[Mapping[str, tuple[str, Any]]] = {
    "_status": ("text", "ok"),
    "_error": ("text", None),
    "_response_id": ("text", "gen-0000000000-sample"),
    "_model": ("text", "model"),
    "_cost": ("number", 0.000125),
    "_tokens": ("integer", 100),
    "_sends": ("integer", 1),
}


@dataclass(frozen=True)
class OutputColumn:
    """
    A column of the response.

    :param name: of the column.
    :param kind: of its values: text, integer, number, decimal, boolean, date, time or json.
    :param samples: values that a response may have; none if the schema does not describe them.
    """

    name: str
    kind: str
    samples: tuple[Any, ...]


def describe_columns(request: TaskRequest, *, nullable: bool) -> list[OutputColumn]:
    """
    Return the columns of responses.

    :param request: the request of the rows.
    :param nullable: whether each of them may be null.
    """
    also: tuple[Any, ...] = (None,) if nullable else ()
    fields, output_type = response_columns(request), request.output_type
    if output_type is None or request.result == "response":
        return [OutputColumn(TEXT_COLUMN, "text", ("text", *also))]
    reader = reader_of(output_type)
    if has_columns(request):
        return _columns_of(reader, {name: name for name in fields}, also)
    if reader.is_wrapped:
        return _columns_of(reader, {WRAPPER: TEXT_COLUMN}, also)
    return [OutputColumn(TEXT_COLUMN, "text", ("text", *also))]


def describe_later_columns(*, escalates: bool, judge: Judge | None, nullable: bool) -> list[OutputColumn]:
    """
    Return the columns that a result has with ``escalate`` and with ``judge``.

    :param escalates: whether ``escalate`` is set.
    :param nullable: whether a row may have no score although all rows are judged.
    """
    found = [OutputColumn(ESCALATED, "boolean", (True,))] if escalates else []
    if judge is None:
        return found
    low, high = judge.bounds
    is_whole = isinstance(low, int) and isinstance(high, int)
    also: tuple[Any, ...] = (None,) if nullable or judge.sample < 1 or judge.min_score is None else ()
    scores = (low, high, *(() if is_whole else ((low + high) / 2,)), *also)
    return [*found, OutputColumn(SCORE, "number", scores), OutputColumn(SCORE_REASON, "text", ("text", *also))]


def _columns_of(reader: OutputReader, columns: Mapping[str, str], also: tuple[Any, ...]) -> list[OutputColumn]:
    """
    Return the columns of the fields of a type.

    :param columns: names of columns by field.
    :param also: further sample values of each column.
    """
    from pydantic.errors import PydanticInvalidForJsonSchema

    try:
        dumped, read = _Reader(reader.schema_of_values()), _Reader(reader.schema_of_values(written=False))
    except PydanticInvalidForJsonSchema:  # only the serializer of a field determines its form
        return [OutputColumn(name, "json", also) for name in columns.values()]
    annotations = reader.annotations()
    found = []
    for field, name in columns.items():
        schema = dumped.property(field)
        given_name, annotation = annotations.get(field, (field, None))
        given = read.property(given_name)
        kind, samples = dumped.kind(schema), [*dumped.samples(schema), *also]
        if kind == "text" and given is not None and read.kind(given) != "text":
            # Numbers that are written as text, such as decimals: no sample word is one.
            kind = "decimal" if _is_decimal(annotation) else kind
            samples = ["1", *(value for value in samples if value != _WORDS[0])]
        found.append(OutputColumn(name, kind, tuple(_distinct(samples))[:MAX_SAMPLES]))
    return found


def _is_decimal(annotation: Any) -> bool:
    return annotation is decimal.Decimal or any(map(_is_decimal, get_args(annotation)))


class _Reader:
    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions = schema.get("$defs", {})
        # The schema of a recursive type is among its definitions.
        self._properties = next(self._branches(schema, 0), schema).get("properties", {})

    def property(self, name: str | None) -> Any:
        """Return the schema of a field, None if there is none."""
        return self._properties.get(name)

    def kind(self, schema: Any) -> str:
        """Return the kind of all values, json if there are several."""
        kinds = {self._kind(branch) for branch in self._branches(schema, 0)} - {"null"}
        if kinds == {"integer", "number"}:
            return "number"
        return kinds.pop() if len(kinds) == 1 else "json"

    def _kind(self, schema: Mapping[str, Any]) -> str:
        values = schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else None
        if values:
            kinds = {kind_of(value) for value in values} - {"null"}
            return kinds.pop() if len(kinds) == 1 else "json"
        kind = schema.get("type")
        if kind == "string":
            return _FORMATS.get(str(schema.get("format")), "text")
        return _KINDS.get(str(kind), "null" if kind == "null" else "json")

    def samples(self, schema: Any, depth: int = 0) -> Iterator[Any]:
        """Yield sample values of a schema, null last."""
        branches = list(self._branches(schema, depth))
        for branch in sorted(branches, key=lambda branch: branch.get("type") == "null"):
            yield from self._of_branch(branch, depth)

    def _branches(self, schema: Any, depth: int) -> Iterator[Mapping[str, Any]]:
        """Yield the alternatives of a schema."""
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return
        if isinstance(reference := schema.get("$ref"), str):
            yield from self._branches(self._definitions.get(reference.rpartition("/")[2]), depth + 1)
        elif "allOf" in schema and len(schema["allOf"]) == 1:
            yield from self._branches(schema["allOf"][0], depth + 1)
        elif choices := schema.get("anyOf") or schema.get("oneOf"):
            for choice in choices:
                yield from self._branches(choice, depth + 1)
        elif isinstance(schema.get("type"), list):
            for kind in schema["type"]:
                yield {**schema, "type": kind}
        else:
            yield schema

    def _of_branch(self, schema: Mapping[str, Any], depth: int) -> Iterator[Any]:
        kind = schema.get("type")
        if "enum" in schema or "const" in schema:
            yield from schema.get("enum", [schema.get("const")])
        elif kind == "string":
            yield from _texts(schema)
        elif kind in {"integer", "number"}:
            yield from _numbers(schema, 1 if kind == "integer" else 0.5)
        elif kind == "boolean":
            yield from (True, False)
        elif kind == "null":
            yield None
        elif kind == "array":
            items = list(self.samples(schema.get("items"), depth + 1))
            yield items[:1]
        elif kind == "object":
            inside = schema.get("properties", {}).items()
            yield {name: next(self.samples(item, depth + 1), None) for name, item in inside}


def _texts(schema: Mapping[str, Any]) -> Iterator[str]:
    if pattern := schema.get("pattern"):
        yield from (word for word in _WORDS if _allows(pattern, word))
        return
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if (form := _TEXTS.get(str(schema.get("format")))) is not None:
        yield form
        return
    if schema.get("format") is None:
        text = "text".ljust(min(least, MAX_SAMPLE_LENGTH), "x")
        yield text if most is None else text[:most]
        if most is not None and most <= MAX_SAMPLE_LENGTH:
            yield "x" * int(most)


def _allows(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # valid in JavaScript, but not in Python
        return False


def _numbers(schema: Mapping[str, Any], usual: float) -> Iterator[float]:
    least, most = schema.get("minimum"), schema.get("maximum")
    bounds = [bound for bound in (least, most) if bound is not None]
    if not {"exclusiveMinimum", "exclusiveMaximum", "multipleOf"}.isdisjoint(schema):
        yield from bounds  # finding a value between the bounds is not worth a solver
    elif all(((least is None) or least <= usual, (most is None) or usual <= most)):
        yield usual
        yield from bounds
    else:
        yield from bounds


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value; ``null`` for None."""
    if value is None:
        return "null"
    for kind, name in ((bool, "boolean"), (str, "text"), (int, "integer"), (float, "number")):
        if isinstance(value, kind):
            return name
    return "json"


def _distinct(values: list[Any]) -> Iterator[Any]:
    seen: list[tuple[type, Any]] = []
    for value in values:
        if (found := (type(value), value)) not in seen:
            seen.append(found)
            yield value
