"""Names and limits of the wire that must be known without building a model (DAG files are parsed often)."""

from __future__ import annotations

from typing import Final

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
    "tool_choice",
    "parallel_tool_calls",
    "max_tool_calls",
    "stop_server_tools_when",
    "max_output_tokens",
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
    "route",
    "service_tier",
    "cache_control",
    "prompt_cache_key",
    "prompt_cache_options",
    "session_id",
    "user",
    "safety_identifier",
    "trace",
    "debug",
    "store",
    "background",
    "previous_response_id",
    "stream",
)

METADATA_MAX_PAIRS: Final = 16
METADATA_MAX_KEY: Final = 64
METADATA_MAX_VALUE: Final = 512
MAX_TOOL_CALLS: Final = 30
SECRETS: Final = frozenset({"headers", "authorization"})  # what a field so named may hold, however deep it is
