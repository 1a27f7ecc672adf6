"""
The content of a request and of its response as attributes of a span: only where a user has asked for it. No I/O.

The form is that of the semantic conventions: a JSON array of messages, each with a role and parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.observability.genai_attributes import (
    INPUT_MESSAGES,
    OUTPUT_MESSAGES,
    SYSTEM_INSTRUCTIONS,
    exportable_text,
    finish_reason,
)

if TYPE_CHECKING:
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.models.response import Response

_TEXT_KEYS: Final = ("text", "refusal")

Part = dict[str, Any]


def request_content(request: ResponsesRequest) -> dict[str, str]:
    """Return the attributes with the input and the instructions of a request."""
    found = {}
    if request.instructions:
        found[SYSTEM_INSTRUCTIONS] = _to_json([{"type": "text", "content": request.instructions}])
    if request.input is not None:
        found[INPUT_MESSAGES] = _to_json(list(_messages(request.input)))
    return found


def response_content(response: Response) -> dict[str, str]:
    """Return the attribute with the output of a response."""
    reason = finish_reason(response) or "stop"
    parts = [part for item in response.output for part in _parts_of_item(item)]
    if not parts and response.output_text:
        parts = [{"type": "text", "content": response.output_text}]
    return {OUTPUT_MESSAGES: _to_json([{"role": "assistant", "parts": parts, "finish_reason": reason}])}


def _messages(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, str):
        yield {"role": "user", "parts": [{"type": "text", "content": value}]}
        return
    for item in map(_plain, value):
        if isinstance(item, str):
            yield {"role": "user", "parts": [{"type": "text", "content": item}]}
        elif isinstance(item, Mapping) and (parts := list(_parts_of_item(item))):
            yield {"role": _role(item), "parts": parts}


def _role(item: Mapping[str, Any]) -> str:
    if isinstance(role := item.get("role"), str):
        return role
    return "tool" if str(item.get("type")).endswith("_output") else "assistant"


def _parts_of_item(item: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the parts of an item of the input or of the output."""
    kind = item.get("type", "message")
    if kind == "message":
        content = item.get("content")
        yield from _parts([content] if isinstance(content, str) else content)
    elif kind == "function_call":
        yield {
            "type": "tool_call",
            "id": item.get("call_id"),
            "name": item.get("name"),
            "arguments": item.get("arguments"),
        }
    elif kind == "function_call_output":
        yield {"type": "tool_call_response", "id": item.get("call_id"), "response": item.get("output")}
    elif kind == "reasoning":
        yield from ({**part, "type": "reasoning"} for part in _parts(item.get("summary")) if "content" in part)
    else:
        yield {"type": str(kind)}  # such as a call of a server's tool: its kind alone


def _parts(content: Any) -> Iterator[Part]:
    if not isinstance(content, (list, tuple)):
        return
    for part in map(_plain, content):
        if isinstance(part, str):
            yield {"type": "text", "content": part}
        elif isinstance(part, Mapping):
            text = next((part[key] for key in _TEXT_KEYS if isinstance(part.get(key), str)), None)
            # Images and files are named, and not copied.
            yield {"type": str(part.get("type"))} if text is None else {"type": "text", "content": text}


def _plain(value: Any) -> Any:
    """Return a model of the request as a dict."""
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else value


def _to_json(value: Any) -> str:
    return exportable_text(json.dumps(value, ensure_ascii=False, default=str))
