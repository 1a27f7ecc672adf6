"""Names and limits of the API that are needed while DAG files are parsed, without building a model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from airflow_provider_responses.validation import closest

# The rules that a request is checked by: OpenRouter's, or those that all servers of the API share.
Dialect = Literal["openrouter", "open"]

# The order is the order on the wire: the same request must always be the same bytes.
REQUEST_FIELDS: Final[tuple[str, ...]] = (
    "model",
    "models",
    "input",
    "instructions",
    "prompt",
    "text",
    "reasoning",
    "tools",
    "deferred_tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tool_calls",
    "stop_server_tools_when",
    "max_output_tokens",
    "stop",
    "temperature",
    "top_p",
    "top_k",
    "top_logprobs",
    "frequency_penalty",
    "presence_penalty",
    "truncation",
    "include",
    "modalities",
    "image_config",
    "metadata",
    "plugins",
    "provider",
    "service_tier",
    "cache_control",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "session_id",
    "user",
    "safety_identifier",
    "trace",
    "debug",
    "moderation",
    "access_programs",
    "image",
    "context_management",
    "conversation",
    "store",
    "background",
    "background_options",
    "previous_response_id",
    "stream",
    "stream_options",
)
# Fields of OpenAI and of Open Responses that OpenRouter does not have.
OTHERS_FIELDS: Final = frozenset(
    {"access_programs", "background_options", "context_management", "conversation", "image", "moderation"}
    | {"prompt_cache_retention", "stream_options"}
)

# Fields of which some values are refused before sending: OpenRouter has no such feature, or no response would arrive.
REFUSED_FIELDS: Final = frozenset({"background", "store", "previous_response_id", "max_tool_calls"})

METADATA_MAX_PAIRS: Final = 16
METADATA_MAX_KEY: Final = 64
METADATA_MAX_VALUE: Final = 512
MAX_TOOL_CALLS: Final = 30
SECRETS: Final = frozenset({"headers", "authorization"})  # fields, at any depth, that may hold secrets

NEWER: Final = "Put a field or value that this version does not know into `extra_body`, which is not checked"


def unknown_field(name: str, known: Collection[str], owner: str = "a request") -> str:
    """Return the part of an error that follows an unknown name, with the known name that is near to it."""
    close = closest(name, known)
    return f"is not a field of {owner}{f' (did you mean {close!r}?)' if close else ''}"
