"""Which functions the imitated model calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_responses.sandbox.model.request_text import request_text

Tool = Mapping[str, Any]


@dataclass(frozen=True)
class ScriptedCall:
    """
    A function call of a script.

    :param arguments: a text is sent as it is, also if it is no JSON.
    """

    name: str
    arguments: Mapping[str, Any] | str

    @property
    def arguments_text(self) -> str:
        """The arguments as they are sent."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


def functions_to_call(body: Mapping[str, Any]) -> list[Tool]:
    """
    Return the functions to call; none if the output is to be a text.

    The functions that the request's text names are called, in the order of the text, or only the first of them with
    ``parallel_tool_calls: false``. If it names none, the function whose words match the text best is called.
    ``tool_choice`` takes precedence over the text. With ``auto``, no function is called after one has returned.
    """
    choice = body.get("tool_choice") or "auto"
    tools = [tool for tool in body.get("tools") or [] if tool.get("type") == "function" and tool.get("name")]
    if isinstance(choice, Mapping):
        allowed = choice.get("tools") if choice.get("type") == "allowed_tools" else [choice]
        names = {tool.get("name") for tool in allowed or []}
        tools = [tool for tool in tools if tool["name"] in names]
        choice = choice.get("mode") or "required"
    if not tools or choice == "none" or (choice == "auto" and _holds_function_output(body.get("input"))):
        return []
    text = request_text(body)
    called = _tools_named_in(text, tools) or [_best_match(text, tools)]
    return called[:1] if body.get("parallel_tool_calls") is False else called


def count_results(items: Any) -> int:
    """Return the number of results of functions in an input."""
    return sum(item.get("type") == "function_call_output" for item in items) if isinstance(items, list) else 0


def before_first_call(items: Any) -> Any:
    """Return an input without its function calls and all that follows them."""
    if not isinstance(items, list):
        return items
    calls = (position for position, item in enumerate(items) if item.get("type") == "function_call")
    return items[: next(calls, len(items))]


def _holds_function_output(items: Any) -> bool:
    return isinstance(items, list) and any(item.get("type") == "function_call_output" for item in items)


def _tools_named_in(text: str, tools: list[Tool]) -> list[Tool]:
    matches = {tool["name"]: re.search(rf"(?<![\w-]){re.escape(tool['name'])}(?![\w-])", text) for tool in tools}
    positions = {name: match.start() for name, match in matches.items() if match}
    return sorted((tool for tool in tools if tool["name"] in positions), key=lambda tool: positions[tool["name"]])


def _best_match(text: str, tools: list[Tool]) -> Tool:
    words = set(re.findall(r"\w+", text.lower()))
    return max(tools, key=lambda tool: len(words & _tool_words(tool)))


def _tool_words(tool: Tool) -> set[str]:
    return set(re.findall(r"[^\W_]+", f"{tool['name']} {tool.get('description') or ''}".lower()))
