"""What the sandbox's model says: made from the request alone, so the same request brings the same answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from airflow_provider_responses.sandbox.instances import instance
from airflow_provider_responses.sandbox.prices import CHARACTERS_PER_TOKEN, count_tokens
from airflow_provider_responses.sandbox.script import Step
from airflow_provider_responses.sandbox.words import sentence

TEXT_PARTS: Final = frozenset({"input_text", "text", "output_text"})


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is said: text, a refusal or a function's arguments; and how it ends."""

    kind: Literal["text", "refusal", "function_call"] = "text"
    content: str = ""
    function: str = ""
    status: Literal["completed", "incomplete", "failed"] = "completed"
    reason: str | None = None
    error_type: str | None = None


def draft(body: Mapping[str, Any], step: Step) -> Draft:
    """Say something to a request, as its step wants it."""
    if step.refusal is not None:
        return Draft(kind="refusal", content=step.refusal)
    function = None if step.text is not None else _function_to_call(body)
    if function is not None:
        arguments = instance(function.get("parameters") or {"type": "object"}, said(body))
        return Draft(kind="function_call", content=_json(arguments), function=function["name"])
    content = answer_text(body) if step.text is None else step.text
    if step.failed is not None:
        return Draft(content=_half(content), status="failed", error_type=step.failed)
    if step.incomplete is not None:
        return Draft(content=_half(content), status="incomplete", reason=step.incomplete)
    return _within_limit(content, body.get("max_output_tokens"))


def answer_text(body: Mapping[str, Any]) -> str:
    """Give the text that answers a request: a sentence of its own words, or an instance of its schema."""
    wanted = _mapping(_mapping(body.get("text")).get("format"))
    text = said(body)
    if wanted.get("type") == "json_schema":
        return _json(instance(wanted.get("schema", {}), text))
    if wanted.get("type") == "json_object":
        return _json({"answer": sentence(text)})
    return sentence(text)


def said(body: Mapping[str, Any]) -> str:
    """Give what was said last: by the user, or by a tool since."""
    given = body.get("input")
    if isinstance(given, str):
        return given
    for item in reversed(given or []):
        text = _item_text(item)
        if text.strip():
            return text
    prompt = _mapping(body.get("prompt"))
    variables = " ".join(value for value in _mapping(prompt.get("variables")).values() if isinstance(value, str))
    return variables or str(prompt.get("id") or body.get("instructions") or "The request holds no text.")


def _item_text(item: Mapping[str, Any]) -> str:
    if item.get("type") == "function_call_output":
        return f"The tool answered: {_content_text(item.get('output'))}"
    if item.get("type", "message") == "message" and item.get("role") == "user":
        return _content_text(item.get("content"))
    return ""


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [part for part in content or [] if isinstance(part, dict) and part.get("type") in TEXT_PARTS]
    return " ".join(str(part.get("text", "")) for part in parts)


def _function_to_call(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    tools: list[dict[str, Any]] = [
        tool for tool in body.get("tools") or [] if tool.get("type") == "function" and tool.get("name")
    ]
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        return next((tool for tool in tools if tool["name"] == choice.get("name")), None)
    given = body.get("input")
    answered = isinstance(given, list) and any(item.get("type") == "function_call_output" for item in given)
    if answered and choice != "required":
        return None
    words = set(re.findall(r"\w+", said(body).lower()))
    return max(tools, key=lambda tool: len(words & _tool_words(tool)))


def _tool_words(tool: Mapping[str, Any]) -> set[str]:
    return set(re.findall(r"[^\W_]+", f"{tool['name']} {tool.get('description') or ''}".lower()))


def _within_limit(content: str, limit: Any) -> Draft:
    if isinstance(limit, int) and count_tokens(content) > limit:
        cut = content[: max(0, limit) * CHARACTERS_PER_TOKEN]
        return Draft(content=cut, status="incomplete", reason="max_output_tokens")
    return Draft(content=content)


def _half(content: str) -> str:
    return content[: len(content) // 2]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
