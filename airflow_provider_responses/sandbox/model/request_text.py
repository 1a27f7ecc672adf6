"""The text of a request that the output is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

TEXT_PARTS: Final = frozenset({"input_text", "text", "output_text"})


def request_text(body: Mapping[str, Any]) -> str:
    """Return the last message of the user, or the output of a tool that came after it."""
    items = body.get("input")
    if isinstance(items, str):
        return items
    for item in reversed(items or []):
        text = _item_text(item)
        if text.strip():
            return text
    prompt = body.get("prompt") or {}
    variables = " ".join(value for value in (prompt.get("variables") or {}).values() if isinstance(value, str))
    return variables or str(prompt.get("id") or body.get("instructions") or "The request holds no text.")


def _item_text(item: Mapping[str, Any]) -> str:
    if item.get("type") == "function_call_output":
        return f"The tool returned: {_content_text(item.get('output'))}"
    if item.get("type", "message") == "message" and item.get("role") == "user":
        return _content_text(item.get("content"))
    return ""


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [part for part in content or [] if isinstance(part, dict) and part.get("type") in TEXT_PARTS]
    return " ".join(str(part.get("text", "")) for part in parts)
