"""The error of a request that is not valid: one sentence for each wrong field, without content of the prompt."""

from __future__ import annotations

import re
from collections.abc import Sized
from enum import Enum
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.fields import NEWER, REQUEST_FIELDS, SECRETS, unknown_field
from airflow_provider_responses.models.settings import ProviderPreferences

# Settings, whose wrong values may be quoted in messages; content of a prompt never is.
SETTINGS: Final = frozenset(
    {"model", "models", "parallel_tool_calls", "max_tool_calls", "max_output_tokens", "temperature", "top_p", "top_k"}
    | {"top_logprobs", "frequency_penalty", "presence_penalty", "truncation", "include", "modalities", "service_tier"}
    | {"prompt_cache_retention", "store", "background", "stream"}
)
# Objects that hold settings and content: a text is quoted only where a choice, a number or a boolean was expected.
MIXED: Final = frozenset(
    {"reasoning", "text", "provider", "plugins", "tools", "tool_choice", "stop_server_tools_when"}
    | {"cache_control", "prompt_cache_options", "debug"}
)
# Kinds of pydantic's errors that a newer version of the API may not have.
OUTDATED: Final = frozenset({"literal_error", "kind", "extra_forbidden", "others_field"})
# Kinds of errors where a choice, a number or a boolean was expected.
CHOICES: Final = frozenset({"literal_error", "kind", "number", "bool_type"})
# Parts of pydantic's messages: the subject, for which the path stands, and the length, which `_given` adds.
_SUBJECT: Final = re.compile(r"^(?:Input|Keys|List|String|Value) should ")
_COUNTED: Final = re.compile(r" after validation, not \d+$")
CLOSED: Final = {"provider": tuple(ProviderPreferences.__annotations__)}


def to_request_error(error: ValidationError) -> RequestValidationError:
    """Return the error that names each wrong field, its expected value and the given one."""
    details = error.errors(include_url=False, include_context=False)
    found = {path: f"{path} {_sentence(detail, path)}" for detail in details for path in [_path(detail)]}
    newer = f". {NEWER}" if any(detail["type"] in OUTDATED for detail in details) else ""
    return RequestValidationError(f"the request is not valid: {'; '.join(found.values())}{newer}", fields=tuple(found))


def _path(detail: ErrorDetails) -> str:
    return ".".join(str(part) for part in detail["loc"])


def _sentence(detail: ErrorDetails, path: str) -> str:
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        parent, _, name = path.rpartition(".")
        owner = f"`{parent}`" if parent else "a request"
        return unknown_field(name, CLOSED.get(parent, REQUEST_FIELDS), owner) + _given(detail, path)
    if kind == "missing":
        return "is required"
    if kind == "no_kind":
        return message
    sentence = _COUNTED.sub("", _SUBJECT.sub("must ", message.removeprefix("Value error, ")))
    return sentence if ", got " in sentence else sentence + _given(detail, path)


def _given(detail: ErrorDetails, path: str) -> str:
    """Return the given value, if it is a short one of a setting; else its type and length."""
    value, field = detail["input"], path.partition(".")[0]
    text = repr(value.value if isinstance(value, Enum) else value)
    is_choice = field in MIXED and detail["type"] in CHOICES and isinstance(value, str)
    may_be_quoted = field in SETTINGS or is_choice or not isinstance(value, Sized)
    if len(text) <= 80 and may_be_quoted and SECRETS.isdisjoint(path.split(".")):
        return f", got {text}"
    length = f" of length {len(value)}" if isinstance(value, Sized) else ""
    return f", got {type(value).__name__}{length}"
