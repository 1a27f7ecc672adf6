"""Typed output: the text of a response as a value of an ``output_type``, and as plain JSON types."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.models.output_reader import WRAPPER, OutputReader, reader_of
from airflow_provider_responses.models.output_text import repaired_json

OutputT = TypeVar("OutputT")


def json_schema_format(output_type: Any) -> dict[str, Any]:
    """
    Return the ``text.format`` that makes a model respond with a value of ``output_type``.

    It is strict where a strict schema can describe the type: every object is closed and every field required, also one
    with a default. A value that is no object is wrapped into one, as its field ``response``.

    :param output_type: a pydantic model or another type that pydantic validates, or a JSON Schema as a dict.
    :raises RequestValidationError: for a type that has no JSON schema or cannot read values of its own schema, and for
        a JSON Schema that is not valid or refers to nothing.
    """
    return reader_of(output_type).format()


@overload
def parse_output(output_type: type[OutputT], text: str) -> OutputT: ...
@overload
def parse_output(output_type: Any, text: str) -> Any: ...
def parse_output(output_type: Any, text: str) -> Any:
    """
    Read the text of a response as ``output_type``; a byte order mark, a code fence or thoughts may be around it.

    :return: an instance of the type, without its wrapper; plain JSON types for a JSON Schema.
    :raises OutputValidationError: naming each field that is not valid. The text is not quoted, but for a value that a
        validator of ``output_type`` has refused.
    """
    reader = reader_of(output_type)
    return reader.unwrap(reader.parse(text))


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """
    The output of a response, which matches an ``output_type``.

    :param value: plain JSON types.
    :param repaired: whether the JSON was repaired.
    """

    value: Any
    repaired: bool = False


def read_output(output_type: Any, texts: Sequence[str], *, repair: bool = False) -> ParsedOutput:
    """
    Read the first of a response's texts that matches ``output_type``.

    :param texts: the likeliest first; at least one.
    :param repair: whether broken JSON may be repaired if no text matches. Only for a response that is complete.
    :raises OutputValidationError: that of the first text, if no text matches.
    """
    reader = reader_of(output_type)
    first: OutputValidationError | None = None
    for text in texts:
        try:
            return ParsedOutput(_load(reader, text))
        except OutputValidationError as error:
            first = first or error
    for text in texts if repair else ():
        if (repaired := repaired_json(text)) is None:
            continue
        try:
            return ParsedOutput(_load(reader, repaired), repaired=True)
        except OutputValidationError:
            continue  # the error of the original text is more precise
    raise first or OutputValidationError(f"the response has no text that could match {reader.name}")


def load_output(output_type: Any, text: str) -> Any:
    """
    Return the value of a text as plain JSON types, without its wrapper.

    A number that is not finite, which JSON cannot hold, becomes null if the type allows null.

    :raises OutputValidationError: if the text does not match the type, or if one of the type's serializers fails.
    """
    return _load(reader_of(output_type), text)


def _load(reader: OutputReader, text: str) -> Any:
    dumped = reader.dump(reader.parse(text))
    if not_finite := list(_paths_not_finite(dumped)):
        nulled = _with_nulls(dumped)
        if wrong := _paths_without_null(reader, nulled, not_finite):
            raise OutputValidationError(
                f"the response does not match {reader.name}: {', '.join(wrong)} must be a finite number, not NaN, "
                "infinity or a number too large. Describe the fields in `instructions`, or allow None"
            )
        dumped = nulled
    return dumped[WRAPPER] if reader.is_wrapped else dumped


def _paths_without_null(reader: OutputReader, nulled: Any, paths: list[str]) -> list[str]:
    """Return the paths at which a type does not allow null; all paths, if the error names none of them."""
    try:
        reader.parse(json.dumps(nulled))
    except OutputValidationError as error:
        cause = error.__context__
        problems = cause.errors(include_input=False) if isinstance(cause, ValidationError) else []
        refused = {".".join(map(str, problem["loc"])) for problem in problems}
        return [path for path in paths if path in refused] or paths
    return []


def _paths_not_finite(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inside:
        yield from _paths_not_finite(item, f"{path}.{name}" if path else str(name))


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_nulls(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
