"""The body of a response, in the form that the API documents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_responses.sandbox.model.generation import Failure, Generation, Part
from airflow_provider_responses.sandbox.state.prices import Bill

# Tools of these types are repeated in a response; OpenRouter's own tools are not.
REPEATED_TOOLS: Final = frozenset(
    {
        "apply_patch",
        "code_interpreter",
        "computer_use_preview",
        "custom",
        "file_search",
        "function",
        "image_generation",
        "local_shell",
        "mcp",
        "namespace",
        "shell",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
NULLABLE: Final = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "max_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "user",
)
# Numbers in every response: OpenRouter's schema allows null for most of them, Open Responses' for none.
NUMBERS: Final = {
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
}
NO_REASONING: Final = {"effort": None, "summary": None}
NO_TOOL: Final = {"description": None, "parameters": None, "strict": None}
RESULT_TIERS: Final = frozenset({"auto", "default", "flex", "priority", "scale"})
ERROR_CODES: Final = {
    "rate_limit_exceeded": "rate_limit_exceeded",
    "invalid_prompt": "invalid_prompt",
    "invalid_image": "invalid_image",
    "image_too_large": "image_too_large",
    "image_too_small": "image_too_small",
    "unsupported_image_format": "unsupported_image_media_type",
    "image_download_failed": "failed_to_download_image",
    "image_not_found": "image_file_not_found",
    "content_policy_violation": "image_content_policy_violation",
}


@dataclass(frozen=True, kw_only=True)
class ServedRequest:
    """
    A valid request, the model that serves it, and the ids of the response.

    :param priced: the response has OpenRouter's costs.
    :param stored: the server stores responses, unless ``store`` is false.
    """

    body: Mapping[str, Any]
    model: str
    generation_id: str
    created_at: int
    priced: bool = True
    stored: bool = False


def response_body(served: ServedRequest, generation: Generation, bill: Bill) -> dict[str, Any]:
    """Return the body of a response whose generation has ended."""
    failure = generation.failure
    if failure and failure.event:
        return {"error": error_object(failure)}
    body = _common_fields(served) | {
        "status": generation.status,
        "completed_at": int(time.time()) if generation.status == "completed" else None,
        "output": [] if failure else output_items(served, generation),
        "usage": _usage(bill, priced=served.priced),
    }
    if generation.status == "incomplete":
        body["incomplete_details"] = {"reason": generation.incomplete_reason}
    if failure:
        body["error"] = error_object(failure)
        body["error_type"] = failure.error_type
    return body


def error_object(failure: Failure) -> dict[str, Any]:
    """Return ``error`` of a response that failed."""
    message = failure.message or f"The model failed: {failure.error_type.replace('_', ' ')}"
    return {"code": ERROR_CODES.get(failure.error_type, "server_error"), "message": message}


def started_body(served: ServedRequest) -> dict[str, Any]:
    """Return the body in the first events of a stream."""
    # Open Responses requires `usage` here, and OpenRouter's schema forbids null: all counts are 0.
    no_usage = _usage(Bill(), priced=False)
    return _common_fields(served) | {"status": "in_progress", "completed_at": None, "output": [], "usage": no_usage}


def _usage(bill: Bill, *, priced: bool) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "input_tokens": bill.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": bill.output_tokens,
        "output_tokens_details": {"reasoning_tokens": bill.reasoning_tokens},
        "total_tokens": bill.input_tokens + bill.output_tokens,
    }
    if priced:
        usage["cost"] = bill.cost
        usage["is_byok"] = False
        usage["cost_details"] = {
            "upstream_inference_cost": None,
            "upstream_inference_input_cost": bill.input_cost,
            "upstream_inference_output_cost": bill.output_cost,
        }
    return usage


def output_items(served: ServedRequest, generation: Generation) -> list[dict[str, Any]]:
    """Return the items of ``output``; the last one is incomplete if the generation is."""
    last = "completed" if generation.status == "completed" else "incomplete"
    statuses = ["completed"] * (len(generation.parts) - 1) + [last]
    return [
        _output_item(f"{served.generation_id.removeprefix('gen-')}{f'_{index}' if index else ''}", part, status)
        for index, (part, status) in enumerate(zip(generation.parts, statuses, strict=True))
    ]


def _output_item(suffix: str, part: Part, status: str) -> dict[str, Any]:
    if part.kind == "function_call":
        return {
            "type": "function_call",
            "id": f"fc_{suffix}",
            "call_id": f"call_{suffix}",
            "name": part.function,
            "arguments": part.content,
            "status": status,
        }
    if part.kind == "reasoning":
        return _reasoning_item(suffix, part, status)
    return {
        "type": "message",
        "id": f"msg_{suffix}",
        "role": "assistant",
        "status": status,
        "content": [content_part(part.kind, part.content)],
    }


def _reasoning_item(suffix: str, part: Part, status: str) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "reasoning", "id": f"rs_{suffix}", "status": status, "summary": []}
    if part.is_summary:
        item["summary"] = [{"type": "summary_text", "text": part.content}]
    else:
        item["content"] = [content_part("reasoning", part.content)]
    if part.encrypted is not None:
        item["encrypted_content"] = part.encrypted
    return item


def content_part(kind: str, content: str) -> dict[str, Any]:
    """Return a part of an item's content: text, a refusal or reasoning."""
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": content}
    if kind == "refusal":
        return {"type": "refusal", "refusal": content}
    return {"type": "output_text", "text": content, "annotations": [], "logprobs": []}


def _common_fields(served: ServedRequest) -> dict[str, Any]:
    request = served.body
    tier = request.get("service_tier")
    return {
        "id": f"resp_{served.generation_id.removeprefix('gen-')}",
        "object": "response",
        "created_at": served.created_at,
        "model": served.model,
        "error": None,
        "incomplete_details": None,
        "previous_response_id": request.get("previous_response_id"),
        "store": request.get("store") is not False if served.stored else False,
        "background": False,
        "parallel_tool_calls": request.get("parallel_tool_calls") is not False,
        "tool_choice": request.get("tool_choice") or "auto",
        "tools": [_repeated_tool(tool) for tool in request.get("tools") or [] if tool.get("type") in REPEATED_TOOLS],
        "text": {"format": {"type": "text"}} | _not_null(request.get("text")),
        "reasoning": NO_REASONING | (request.get("reasoning") or {}),
        "truncation": request.get("truncation") or "disabled",
        "service_tier": tier if tier in RESULT_TIERS else "default",
        **{name: request.get(name) for name in NULLABLE},
        **NUMBERS,
        **_not_null({name: request.get(name) for name in (*NUMBERS, "prompt")}),
    }


def _not_null(fields: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (fields or {}).items() if value is not None}


def _repeated_tool(tool: dict[str, Any]) -> dict[str, Any]:
    return NO_TOOL | tool if tool["type"] == "function" else tool
