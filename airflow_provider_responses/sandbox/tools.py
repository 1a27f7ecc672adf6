"""Which functions the sandbox's model calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_responses.sandbox.said import said


def functions_to_call(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """
    Give the functions that a request has called, none when it is answered in text.

    Those that the text names, in its order (one, with ``parallel_tool_calls: false``); else the one that fits best.
    ``tool_choice`` decides before the text does. With ``auto``, a function that has answered is not called again.
    """
    choice = body.get("tool_choice") or "auto"
    tools = [tool for tool in body.get("tools") or [] if tool.get("type") == "function" and tool.get("name")]
    if isinstance(choice, Mapping):
        allowed = choice.get("tools") if choice.get("type") == "allowed_tools" else [choice]
        names = {tool.get("name") for tool in allowed or []}
        tools = [tool for tool in tools if tool["name"] in names]
        choice = choice.get("mode") or "required"
    if not tools or choice == "none" or (choice == "auto" and _has_answered(body.get("input"))):
        return []
    text = said(body)
    named = _named(tools, text)
    if not named:
        words = set(re.findall(r"\w+", text.lower()))
        named = [max(tools, key=lambda tool: len(words & _tool_words(tool)))]
    return named[:1] if body.get("parallel_tool_calls") is False else named


def _has_answered(given: Any) -> bool:
    return isinstance(given, list) and any(item.get("type") == "function_call_output" for item in given)


def _named(tools: list[Mapping[str, Any]], text: str) -> list[Mapping[str, Any]]:
    found = {tool["name"]: re.search(rf"(?<![\w-]){re.escape(tool['name'])}(?![\w-])", text) for tool in tools}
    places = {name: match.start() for name, match in found.items() if match}
    return sorted((tool for tool in tools if tool["name"] in places), key=lambda tool: places[tool["name"]])


def _tool_words(tool: Mapping[str, Any]) -> set[str]:
    return set(re.findall(r"[^\W_]+", f"{tool['name']} {tool.get('description') or ''}".lower()))
