"""The tools of a task: functions that are called here, and the dicts of tools that a server runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.tools.function_tool import Tool
from airflow_provider_responses.validation import type_name


class Toolbox:
    """
    The tools of a task.

    :param tools: functions, :class:`Tool` objects, and dicts, which are sent as they are.
    :raises RequestValidationError: naming the tool.
    """

    def __init__(self, tools: Sequence[Any]) -> None:
        if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
            raise _wrong(f"tools must be a list of functions and dicts, got {type_name(tools)}")
        self.functions: dict[str, Tool] = {}
        self.definitions: list[dict[str, Any]] = []
        names: set[str] = set()
        for position, given in enumerate(tools):
            tool = given if isinstance(given, (Mapping, Tool)) else _function_tool(given, position)
            definition = tool.definition if isinstance(tool, Tool) else dict(tool)
            name = definition.get("name")
            if name in names:
                raise _wrong(f"tools must have different names, got {name!r} twice: use Tool(…, name=…)")
            names |= {name} if isinstance(name, str) else set()
            if isinstance(tool, Tool):
                self.functions[tool.name] = tool
            self.definitions.append(definition)
        for position, given in enumerate(tools):
            if self.functions and isinstance(given, Mapping) and given.get("type") == "function":
                raise _wrong(
                    f"tools[{position}] must be a function, got a dict of type 'function', which nothing would call: "
                    "pass the Python function itself"
                )


def _function_tool(given: Any, position: int) -> Tool:
    if not callable(given):
        raise _wrong(f"tools[{position}] must be a function, a Tool or a dict, got {type_name(given)}")
    return Tool(given)


def _wrong(message: str) -> RequestValidationError:
    return RequestValidationError(message, fields=("tools",))
