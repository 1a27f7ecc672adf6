"""One generation: everything that the imitated model generates for a request, and how it ends."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_responses.sandbox.model.function_choice import (
    ScriptedCall,
    before_first_call,
    count_results,
    functions_to_call,
)
from airflow_provider_responses.sandbox.model.request_text import request_text
from airflow_provider_responses.sandbox.model.schema_instances import make_instance
from airflow_provider_responses.sandbox.model.sentences import sentence, title
from airflow_provider_responses.sandbox.model.tokens import CHARACTERS_PER_TOKEN, count_tokens


@dataclass(frozen=True, kw_only=True)
class Failure:
    """
    A generation that fails half way.

    :param message: the error's message; ``None`` for one that names the type.
    :param event: the event that ends a stream, in place of ``response.failed``.
    """

    error_type: str
    message: str | None = None
    event: str | None = None


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Changes to the generation that the request alone would bring; by default none."""

    text: str | None = None
    calls: tuple[ScriptedCall, ...] = ()
    call_results: int | None = None  # the number of results in the input, before which functions are called
    refusal: str | None = None
    incomplete: str | None = None  # the reason
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Reasoning, a text, a refusal, or the arguments of one function call."""

    kind: Literal["reasoning", "text", "refusal", "function_call"] = "text"
    content: str = ""
    function: str = ""
    is_summary: bool = False
    encrypted: str | None = None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """
    The parts that were generated, in order, and how the generation ended.

    :param incomplete_reason: why it was cut off; ``None`` if it was not.
    """

    parts: tuple[Part, ...] = ()
    incomplete_reason: str | None = None
    failure: Failure | None = None

    @property
    def status(self) -> Literal["completed", "incomplete", "failed"]:
        """The status of the response."""
        if self.failure is not None:
            return "failed"
        return "completed" if self.incomplete_reason is None else "incomplete"

    @property
    def reasoning(self) -> str:
        """The text of the reasoning."""
        return "".join(part.content for part in self.parts if part.kind == "reasoning")

    @property
    def text(self) -> str:
        """The text of all parts, reasoning included."""
        return "".join(part.content for part in self.parts)

    @property
    def midpoint(self) -> int:
        """The number of characters up to the middle of the part that follows the reasoning."""
        reasoning = len(self.reasoning)
        return reasoning + max(1, (len(self.text) - reasoning) // 2)


def generate(body: Mapping[str, Any], directions: Directions) -> Generation:
    """Generate the output of a request."""
    reasoning = _reasoning(body)
    if directions.refusal is not None:
        return Generation(parts=(*reasoning, Part(kind="refusal", content=directions.refusal)))
    parts = (*reasoning, *_output(body, directions))
    halved = (*parts[:-1], _half(parts[-1]))
    if directions.failure is not None:
        return Generation(parts=halved, failure=directions.failure)
    if directions.incomplete is not None:
        return Generation(parts=halved, incomplete_reason=directions.incomplete)
    return _cut_at_limit(parts, body.get("max_output_tokens"))


def _output(body: Mapping[str, Any], directions: Directions) -> tuple[Part, ...]:
    if directions.text is not None:
        return (Part(content=directions.text),)
    if directions.calls:
        return tuple(
            Part(kind="function_call", content=call.arguments_text, function=call.name) for call in directions.calls
        )
    if directions.call_results is not None:
        known = count_results(body.get("input"))
        if known >= directions.call_results:
            return (Part(content=_output_text(body)),)
        first = {**body, "input": before_first_call(body.get("input"))}
        # A text of its own for each call, so that the arguments differ.
        text = f"{request_text(first)} {known + 1}"
        return tuple(_call(function, text) for function in functions_to_call(first))
    functions = functions_to_call(body)
    return tuple(_call(function, request_text(body)) for function in functions) or (Part(content=_output_text(body)),)


def _output_text(body: Mapping[str, Any]) -> str:
    """Return a sentence of the request's text, or JSON that matches the request's schema."""
    output_format = _mapping(_mapping(body.get("text")).get("format"))
    text = request_text(body)
    if output_format.get("type") == "json_schema":
        return _json(make_instance(output_format.get("schema", {}), text))
    if output_format.get("type") == "json_object":
        return _json({"output": sentence(text)})
    return sentence(text)


def _cut_at_limit(parts: tuple[Part, ...], limit: Any) -> Generation:
    """Cut the parts off at ``max_output_tokens``, which the reasoning alone may use up."""
    if not isinstance(limit, int):
        return Generation(parts=parts)
    fitting: list[Part] = []
    left = max(0, limit)
    for part in parts:
        if count_tokens(part.content) > left:
            if left or not fitting:
                fitting.append(replace(part, content=part.content[: left * CHARACTERS_PER_TOKEN]))
            return Generation(parts=tuple(fitting), incomplete_reason="max_output_tokens")
        fitting.append(part)
        left -= count_tokens(part.content)
    return Generation(parts=tuple(fitting))


def _half(part: Part) -> Part:
    return replace(part, content=part.content[: len(part.content) // 2])


def _reasoning(body: Mapping[str, Any]) -> tuple[Part, ...]:
    """Return a reasoning part if the request's ``reasoning`` enables it."""
    settings = _mapping(body.get("reasoning"))
    is_on = settings.get("enabled") is True or any(settings.get(name) for name in ("effort", "summary", "max_tokens"))
    if not is_on or settings.get("enabled") is False or settings.get("effort") == "none":
        return ()
    content = f"The request is about this: {title(request_text(body))}. One step is enough."
    is_encrypted = "reasoning.encrypted_content" in (body.get("include") or [])
    encrypted = base64.b64encode(content.encode(errors="replace")).decode() if is_encrypted else None
    return (Part(kind="reasoning", content=content, is_summary=bool(settings.get("summary")), encrypted=encrypted),)


def _call(function: Mapping[str, Any], text: str) -> Part:
    arguments = make_instance(function.get("parameters") or {"type": "object"}, text)
    return Part(kind="function_call", content=_json(arguments), function=function["name"])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
