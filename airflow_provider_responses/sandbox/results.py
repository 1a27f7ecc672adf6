"""The body of an answer, in the shape that the API documents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_responses.sandbox.answers import Draft, Part
from airflow_provider_responses.sandbox.prices import Bill
from airflow_provider_responses.sandbox.script import ERROR_TYPES

# Tools of these types are shown again in an answer; OpenRouter's own tools are not.
SHOWN_TOOLS: Final = frozenset(
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
class Served:
    """A call on its way to its answer."""

    body: Mapping[str, Any]
    model: str
    generation_id: str
    created_at: int
    priced: bool = True
    stored: bool = False


def result(call: Served, draft: Draft, bill: Bill) -> dict[str, Any]:
    """Build the body of a finished answer."""
    if draft.error_event:
        return {"error": failure(draft)}
    body = _skeleton(call) | {
        "status": draft.status,
        "completed_at": int(time.time()) if draft.status == "completed" else None,
        "output": [] if draft.status == "failed" else output_items(call, draft),
        "usage": usage(bill, priced=call.priced),
    }
    if draft.status == "incomplete":
        body["incomplete_details"] = {"reason": draft.reason}
    if draft.status == "failed":
        body["error"] = failure(draft)
        body["error_type"] = draft.error_type
    return body


def failure(draft: Draft) -> dict[str, Any]:
    """Build ``error`` of an answer that failed."""
    error_type = draft.error_type or ERROR_TYPES[-1]
    said = draft.message or f"The model failed: {error_type.replace('_', ' ')}"
    return {"code": ERROR_CODES.get(error_type, "server_error"), "message": said}


def started(call: Served) -> dict[str, Any]:
    """Build the body that the first events of a stream hold."""
    # Open Responses requires `usage` here, and OpenRouter's schema forbids null: nothing is counted yet.
    nothing = usage(Bill(), priced=False)
    return _skeleton(call) | {"status": "in_progress", "completed_at": None, "output": [], "usage": nothing}


def usage(bill: Bill, *, priced: bool = True) -> dict[str, Any]:
    """Build ``usage``; ``priced`` adds OpenRouter's cost."""
    counted: dict[str, Any] = {
        "input_tokens": bill.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": bill.output_tokens,
        "output_tokens_details": {"reasoning_tokens": bill.reasoning_tokens},
        "total_tokens": bill.input_tokens + bill.output_tokens,
    }
    if priced:
        counted["cost"] = bill.cost
        counted["is_byok"] = False
        counted["cost_details"] = {
            "upstream_inference_cost": None,
            "upstream_inference_input_cost": bill.input_cost,
            "upstream_inference_output_cost": bill.output_cost,
        }
    return counted


def output_items(call: Served, draft: Draft) -> list[dict[str, Any]]:
    """Build the items of an answer; of one that was cut off, the last is incomplete."""
    last = "completed" if draft.status == "completed" else "incomplete"
    states = ["completed"] * (len(draft.parts) - 1) + [last]
    return [
        _output_item(f"{call.generation_id.removeprefix('gen-')}{f'_{index}' if index else ''}", part, state)
        for index, (part, state) in enumerate(zip(draft.parts, states, strict=True))
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
    """Build an item's part: text, a refusal or reasoning."""
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": content}
    if kind == "refusal":
        return {"type": "refusal", "refusal": content}
    return {"type": "output_text", "text": content, "annotations": [], "logprobs": []}


def _skeleton(call: Served) -> dict[str, Any]:
    asked = call.body
    tier = asked.get("service_tier")
    return {
        "id": f"resp_{call.generation_id.removeprefix('gen-')}",
        "object": "response",
        "created_at": call.created_at,
        "model": call.model,
        "error": None,
        "incomplete_details": None,
        "previous_response_id": asked.get("previous_response_id"),
        "store": asked.get("store") is not False if call.stored else False,
        "background": False,
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": [_shown_tool(tool) for tool in asked.get("tools") or [] if tool.get("type") in SHOWN_TOOLS],
        "text": {"format": {"type": "text"}} | _given(asked.get("text")),
        "reasoning": NO_REASONING | (asked.get("reasoning") or {}),
        "truncation": asked.get("truncation") or "disabled",
        "service_tier": tier if tier in RESULT_TIERS else "default",
        **{name: asked.get(name) for name in NULLABLE},
        **NUMBERS,
        **_given({name: asked.get(name) for name in (*NUMBERS, "prompt")}),
    }


def _given(fields: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the fields that are not null."""
    return {name: value for name, value in (fields or {}).items() if value is not None}


def _shown_tool(tool: dict[str, Any]) -> dict[str, Any]:
    return NO_TOOL | tool if tool["type"] == "function" else tool
