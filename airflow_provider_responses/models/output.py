"""Typed output: a response's text becomes an instance of a pydantic model, and that becomes plain JSON types."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.models import output_schema
from airflow_provider_responses.models.output_text import bare_json, repaired_json

OutputT = TypeVar("OutputT", bound=BaseModel)
json_schema_format = output_schema.json_schema_format


def parse_output(output_type: type[OutputT], text: str) -> OutputT:
    """
    Read a response's text as ``output_type``; a byte order mark, a code fence or a block of thought may be around it.

    :raises OutputValidationError: naming each field that is not valid; the text itself is not quoted.
    """
    try:
        return output_type.model_validate_json(bare_json(text))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'the text'}: {_unquoted(e)}"
            for e in error.errors(include_url=False, include_input=False)
        ]
        raise OutputValidationError(
            f"the response's text ({len(text)} characters) is no {output_type.__name__}: {'; '.join(problems)}. "
            "Say in `instructions` what each field holds, allow more tokens, or take a model that supports "
            "structured outputs"
        ) from None
    except (Exception, SystemExit) as error:  # an exit would end the whole triggerer
        raise OutputValidationError(
            f"the response's text ({len(text)} characters) made a validator of {output_type.__name__} fail with "
            f"{type(error).__name__}: correct the validator"
        ) from error


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """
    A response's text as an ``output_type``.

    :param value: plain JSON types.
    :param repaired: whether the JSON had to be repaired before it could be read.
    """

    value: Any
    repaired: bool = False


def read_output(output_type: type[BaseModel], texts: Sequence[str], *, repair: bool = False) -> ParsedOutput:
    """
    Read the first of a response's texts that is valid as ``output_type``.

    :param texts: in the order in which they are tried; at least one.
    :param repair: whether broken JSON may be repaired, if none is valid: only of a response that is complete.
    :raises OutputValidationError: of the first text, if none is valid.
    """
    first: OutputValidationError | None = None
    for text in texts:
        try:
            return ParsedOutput(dump_output(parse_output(output_type, text)))
        except OutputValidationError as error:
            first = first or error
    for text in texts if repair else ():
        if (repaired := repaired_json(text)) is None:
            continue
        try:
            return ParsedOutput(dump_output(parse_output(output_type, repaired)), repaired=True)
        except OutputValidationError:
            continue  # the error of the text as it came says more
    raise first or OutputValidationError(f"the response holds no text to read as {output_type.__name__}")


def dump_output(value: BaseModel) -> dict[str, Any]:
    """
    Return a typed output as plain JSON types.

    A number that is not finite, which JSON does not know, becomes null where the model allows null.

    :raises OutputValidationError: if it does not, or if one of the model's own serializers fails.
    """
    try:
        dumped = value.model_dump(mode="json", by_alias=True)
    except (Exception, SystemExit) as error:
        raise OutputValidationError(
            f"a serializer of {type(value).__name__} failed with {type(error).__name__}: correct the serializer"
        ) from error
    if not (endless := list(_not_finite(dumped))):
        return dumped
    nulled: dict[str, Any] = _nulled(dumped)
    if not (wrong := _without_null(type(value), nulled, endless)):
        return nulled
    raise OutputValidationError(
        f"the response's text is no {type(value).__name__}: {', '.join(wrong)}: must be a finite number, not NaN, "
        "infinity or a number too large. Say in `instructions` what each field holds, or let the field be None"
    )


def _without_null(output_type: type[BaseModel], nulled: Any, paths: list[str]) -> list[str]:
    """Return those of the paths at which a model does not allow null; all, where it does not say which."""
    try:
        parse_output(output_type, json.dumps(nulled))
    except OutputValidationError as error:
        cause = error.__context__
        problems = cause.errors(include_input=False) if isinstance(cause, ValidationError) else []
        refused = {".".join(map(str, problem["loc"])) for problem in problems}
        return [path for path in paths if path in refused] or paths
    return []


def _not_finite(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inside:
        yield from _not_finite(item, f"{path}.{name}" if path else str(name))


def _nulled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _nulled(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_nulled(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unquoted(error: ErrorDetails) -> str:
    """Return what is wrong, without the words of the response."""
    if error["type"] == "union_tag_invalid":
        return f"must be of a known kind: {error['ctx']['expected_tags']}"
    if error["type"] in {"value_error", "assertion_error"}:
        return "refused by a validator of the model's own"
    return error["msg"]
