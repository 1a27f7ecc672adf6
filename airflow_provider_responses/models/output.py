"""Typed output: the text of a response as an instance of a pydantic model, and as plain JSON types."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.models import output_schema
from airflow_provider_responses.models.output_text import bare_json, repaired_json
from airflow_provider_responses.validation import cut, show, show_exception

OutputT = TypeVar("OutputT", bound=BaseModel)
json_schema_format = output_schema.json_schema_format
MAX_QUOTED: Final = 100  # characters of a value that a validator of the user's has refused
_PYDANTICS_OWN: Final = frozenset(get_args(ErrorType))


def parse_output(output_type: type[OutputT], text: str) -> OutputT:
    """
    Read the text of a response as ``output_type``; a byte order mark, a code fence or thoughts may be around it.

    :raises OutputValidationError: naming each field that is not valid. The text is not quoted, but for a value that a
        validator of ``output_type`` has refused.
    """
    try:
        return output_type.model_validate_json(bare_json(text))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or 'the text'}: {_describe(e)}" for e in error.errors(include_url=False)
        ]
        raise OutputValidationError(
            f"the response does not match {output_type.__name__}: {'; '.join(problems)}. Describe the fields in "
            "`instructions`, raise `max_output_tokens`, or use a model that supports structured outputs. The response "
            f"has {len(text)} characters"
        ) from None
    except (Exception, SystemExit) as error:  # SystemExit would end the whole triggerer
        raise OutputValidationError(
            f"a validator of {output_type.__name__} raised {show_exception(error)}. Correct the validator. The "
            f"response has {len(text)} characters: {show(text, most=MAX_QUOTED)}"
        ) from error


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """
    The output of a response, which matches an ``output_type``.

    :param value: plain JSON types.
    :param repaired: whether the JSON was repaired.
    """

    value: Any
    repaired: bool = False


def read_output(output_type: type[BaseModel], texts: Sequence[str], *, repair: bool = False) -> ParsedOutput:
    """
    Read the first of a response's texts that matches ``output_type``.

    :param texts: the likeliest first; at least one.
    :param repair: whether broken JSON may be repaired if no text matches. Only for a response that is complete.
    :raises OutputValidationError: that of the first text, if no text matches.
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
            continue  # the error of the original text is more precise
    raise first or OutputValidationError(f"the response has no text that could match {output_type.__name__}")


def dump_output(value: BaseModel) -> dict[str, Any]:
    """
    Return a typed output as plain JSON types.

    A number that is not finite, which JSON cannot hold, becomes null if the model allows null.

    :raises OutputValidationError: if the model does not allow it, or if one of the model's serializers fails.
    """
    try:
        dumped = value.model_dump(mode="json", by_alias=True)
    except (Exception, SystemExit) as error:
        raise OutputValidationError(
            f"a serializer of {type(value).__name__} failed with {type(error).__name__}: correct the serializer"
        ) from error
    if not (not_finite := list(_paths_not_finite(dumped))):
        return dumped
    nulled: dict[str, Any] = _with_nulls(dumped)
    if not (wrong := _paths_without_null(type(value), nulled, not_finite)):
        return nulled
    raise OutputValidationError(
        f"the response does not match {type(value).__name__}: {', '.join(wrong)} must be a finite number, not NaN, "
        "infinity or a number too large. Describe the fields in `instructions`, or allow None"
    )


def _paths_without_null(output_type: type[BaseModel], nulled: Any, paths: list[str]) -> list[str]:
    """Return the paths at which a model does not allow null; all paths, if the error names none of them."""
    try:
        parse_output(output_type, json.dumps(nulled))
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


def _describe(error: ErrorDetails) -> str:
    """Return the message of an error; only that of a validator of the user's shows text of the response."""
    if error["type"] == "union_tag_invalid":
        return f"must be of a known kind: {error['ctx']['expected_tags']}"
    if error["type"] in {"value_error", "assertion_error"}:
        raised = error["ctx"]["error"]
        return f"{cut(str(raised) or type(raised).__name__)}, got {show(error['input'], most=MAX_QUOTED)}"
    if error["type"] not in _PYDANTICS_OWN:
        return f"{cut(error['msg'])}, got {show(error['input'], most=MAX_QUOTED)}"
    return error["msg"]
