"""
The attributes of a request's span, by OpenTelemetry's semantic conventions for generative AI. No I/O.

The names were read in opentelemetry-semantic-conventions 0.66b2 (``_incubating/attributes/gen_ai_attributes.py``,
``openai_attributes.py``), which refers to https://github.com/open-telemetry/semantic-conventions-genai for their
meaning; and their use in opentelemetry-instrumentation-genai-openai 1.3b0. They are written out here, because that
package changes its incubating names in any release. ``tests/observability`` compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.models.response import Response

CHAT: Final = "chat"  # the operation of a request for a response, also of the Responses API
INVOKE_WORKFLOW: Final = "invoke_workflow"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
OUTPUT_TYPE: Final = "gen_ai.output.type"
WORKFLOW: Final = "gen_ai.workflow.name"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
API_TYPE: Final = "openai.api.type"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# Fields of a request that are attributes of its span, if they are set.
_SETTINGS: Final = (
    ("max_output_tokens", "gen_ai.request.max_tokens"),
    ("temperature", "gen_ai.request.temperature"),
    ("top_p", "gen_ai.request.top_p"),
    ("top_k", "gen_ai.request.top_k"),
    ("frequency_penalty", "gen_ai.request.frequency_penalty"),
    ("presence_penalty", "gen_ai.request.presence_penalty"),
    ("stream", "gen_ai.request.stream"),
    ("service_tier", "openai.request.service_tier"),
)
# Names of the conventions for hosts that speak OpenAI's protocol; every other server of it counts as "openai".
_PROVIDERS: Final = (
    ("openai.azure.com", "azure.ai.openai"),
    ("x.ai", "x_ai"),
    ("groq.com", "groq"),
    ("deepseek.com", "deepseek"),
    ("mistral.ai", "mistral_ai"),
    ("perplexity.ai", "perplexity"),
)
_FINISH_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}

Attributes = dict[str, Any]


def request_attributes(request: ResponsesRequest, *, base_url: str, is_openrouter: bool) -> Attributes:
    """
    Return the attributes that are known before a request is sent.

    :param base_url: the server's address.
    :param is_openrouter: whether the server is OpenRouter, or speaks its dialect.
    """
    address, port, provider = _server(base_url, is_openrouter)
    found: Attributes = {
        OPERATION: CHAT,
        PROVIDER: provider,
        REQUEST_MODEL: exportable_text(requested_model(request)),
        SERVER_ADDRESS: address,
        SERVER_PORT: port,
        API_TYPE: "responses",
    }
    for name, attribute in _SETTINGS:
        if (value := getattr(request, name)) is not None and _is_exportable(value):
            found[attribute] = value
    if request.text is not None and _has_json_format(request.text):
        found[OUTPUT_TYPE] = "json"
    return found


def requested_model(request: ResponsesRequest) -> str:
    """Return the model that a request names, or the first of them."""
    return request.model or next(iter(request.models or ()), "")


def response_attributes(response: Response) -> Attributes:
    """Return the attributes of a response; unknown values are left out."""
    usage = response.usage
    found: Attributes = {"responses.cached": response.cached}
    # Written out: a loop over pairs takes twice as long, and a request may be one of thousands.
    if (response_id := response.id) is not None:
        found[RESPONSE_ID] = exportable_text(response_id)
    if (model := response.model) is not None:
        found[RESPONSE_MODEL] = exportable_text(model)
    if (reason := finish_reason(response)) is not None:
        found[FINISH_REASONS] = (exportable_text(reason),)
    if usage.input_tokens is not None:
        found[INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens is not None:
        found[OUTPUT_TOKENS] = usage.output_tokens
    if usage.cached_tokens is not None:
        found[CACHE_READ_TOKENS] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        found[REASONING_TOKENS] = usage.reasoning_tokens
    if (generation_id := response.generation_id) is not None:
        found["responses.generation_id"] = exportable_text(generation_id)
    return found


def finish_reason(response: Response) -> str | None:
    """Return the reason why the model stopped, in the words of the conventions; None if it is unknown."""
    status = response.status
    if response.refusal is not None:
        return "refusal"
    if status == "completed":
        return "tool_call" if response.function_calls else "stop"
    if status in {"failed", "cancelled"}:
        return "error"
    if status == "incomplete":
        reason = response.incomplete_reason
        return status if reason is None else _FINISH_REASONS.get(reason, reason)
    return status


def resend_attributes(error: Exception) -> Attributes:
    """Return the attributes of the event of a send that another one followed, since it failed or was not accepted."""
    found: Attributes = {ERROR_TYPE: type(error).__name__}
    for name, attribute in (
        ("status_code", STATUS_CODE),
        ("wait", "responses.wait"),
        ("ambiguous", "responses.ambiguous"),
        ("generation_id", "responses.generation_id"),
    ):
        if (value := getattr(error, name, None)) is not None:
            found[attribute] = value
    if (larger := getattr(error, "escalated_to", None)) is not None:
        found["responses.escalated_to"] = exportable_text(larger)
        response = getattr(error, "response", None)
        if response is not None and response.model is not None:
            found[RESPONSE_MODEL] = exportable_text(response.model)
    return found


def error_attributes(error: BaseException) -> Attributes:
    """Return the attributes of a request that failed; ``error.type`` is the class, as in the XCom ``usage``."""
    found: Attributes = {ERROR_TYPE: type(error).__name__}
    if (status := getattr(error, "status_code", None)) is not None:
        found[STATUS_CODE] = status
    return found


@lru_cache(maxsize=64)
def _server(base_url: str, is_openrouter: bool) -> tuple[str, int, str]:
    """Return the address, the port and the provider of a server."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    port = parts.port or (80 if parts.scheme == "http" else 443)
    if is_openrouter:
        return host, port, "openrouter"
    known = (name for domain, name in _PROVIDERS if host == domain or host.endswith(f".{domain}"))
    return host, port, next(known, "openai")


def exportable_text(text: str) -> str:
    """Return a text as it can be exported: one with half a character would end the export of all spans with it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _is_exportable(value: Any) -> bool:
    """Whether a field, which other servers than OpenRouter may have with any value, can be an attribute."""
    if isinstance(value, int):
        return value.bit_length() < 64
    return isinstance(value, (str, float))


def _has_json_format(text: Any) -> bool:
    output_format = text.get("format") if isinstance(text, Mapping) else getattr(text, "format", None)
    kind = output_format.get("type") if isinstance(output_format, Mapping) else getattr(output_format, "type", None)
    return kind in {"json_schema", "json_object"}
