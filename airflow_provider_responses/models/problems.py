"""What is wrong with a request, in sentences: one for each field, without what people wrote to a model."""

from __future__ import annotations

from collections.abc import Sized
from enum import Enum
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.fields import NEWER, REQUEST_FIELDS, SECRETS, unknown_field
from airflow_provider_responses.models.settings import ProviderPreferences

# Settings, whose wrong values may be quoted in messages; what people write to a model never is.
SETTINGS: Final = frozenset(
    {"model", "models", "parallel_tool_calls", "max_tool_calls", "max_output_tokens", "temperature", "top_p", "top_k"}
    | {"top_logprobs", "frequency_penalty", "presence_penalty", "truncation", "include", "modalities", "service_tier"}
    | {"prompt_cache_retention", "store", "background", "stream"}
)
# Objects with settings and words in them: a text is quoted only where a choice, a number or a boolean was due.
MIXED: Final = frozenset(
    {"reasoning", "text", "provider", "plugins", "tools", "tool_choice", "stop_server_tools_when"}
    | {"cache_control", "prompt_cache_options", "debug"}
)
UNKNOWN: Final = frozenset(
    {"literal_error", "kind", "extra_forbidden", "others_field"}
)  # wrong today, and perhaps right tomorrow
CHOSEN: Final = frozenset({"literal_error", "kind", "number", "bool_type"})
CLOSED: Final = {"provider": tuple(ProviderPreferences.__annotations__)}


def refusal(error: ValidationError) -> RequestValidationError:
    """Return the error that names each wrong field, what was given and what is allowed."""
    details = error.errors(include_url=False, include_context=False)
    found = {path: f"{path}: {_sentence(detail, path)}" for detail in details for path in [_path(detail)]}
    newer = f". {NEWER}" if any(detail["type"] in UNKNOWN for detail in details) else ""
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
    return message.removeprefix("Value error, ").replace("Input should be", "must be") + _given(detail, path)


def _given(detail: ErrorDetails, path: str) -> str:
    """Quote small values of settings; of a prompt, and of anything large, only what it is and how long."""
    value, field = detail["input"], path.partition(".")[0]
    text = repr(value.value if isinstance(value, Enum) else value)
    chosen = field in MIXED and detail["type"] in CHOSEN and isinstance(value, str)
    quotable = field in SETTINGS or chosen or not isinstance(value, Sized)
    if len(text) <= 80 and quotable and SECRETS.isdisjoint(path.split(".")):
        return f" (given: {text})"
    name = type(value).__name__
    return f" (given: {name} of length {len(value)})" if isinstance(value, Sized) else f" (given: {name})"
