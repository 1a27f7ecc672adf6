"""What the sandbox's model says: made from the request alone, so the same request brings the same answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_responses.sandbox.instances import instance
from airflow_provider_responses.sandbox.prices import CHARACTERS_PER_TOKEN, count_tokens
from airflow_provider_responses.sandbox.said import said
from airflow_provider_responses.sandbox.script import Step
from airflow_provider_responses.sandbox.tools import functions_to_call
from airflow_provider_responses.sandbox.words import sentence, title


@dataclass(frozen=True, kw_only=True)
class Part:
    """One item of an answer: reasoning, text, a refusal, or a function's arguments."""

    kind: Literal["reasoning", "text", "refusal", "function_call"] = "text"
    content: str = ""
    function: str = ""
    is_summary: bool = False
    encrypted: str | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is said, in order; and how it ends."""

    parts: tuple[Part, ...] = ()
    status: Literal["completed", "incomplete", "failed"] = "completed"
    reason: str | None = None
    error_type: str | None = None
    error_event: str | None = None
    message: str | None = None

    @property
    def reasoning(self) -> str:
        """What is thought before it is spoken."""
        return "".join(part.content for part in self.parts if part.kind == "reasoning")

    @property
    def generated(self) -> str:
        """Everything that is generated."""
        return "".join(part.content for part in self.parts)

    @property
    def half_way(self) -> int:
        """How many characters there are at the middle of what is spoken."""
        thought = len(self.reasoning)
        return thought + max(1, (len(self.generated) - thought) // 2)


def draft(body: Mapping[str, Any], step: Step) -> Draft:
    """Say something to a request, as its step wants it."""
    thought = _thought(body)
    if step.refusal is not None:
        return Draft(parts=(*thought, Part(kind="refusal", content=step.refusal)))
    if step.text is None and (functions := functions_to_call(body)):
        parts = (*thought, *(_call(function, said(body)) for function in functions))
    else:
        parts = (*thought, Part(content=answer_text(body) if step.text is None else step.text))
    failed = step.failed or ((step.error_type or "server") if step.error_event else None)
    if failed is not None:
        halved = (*parts[:-1], _half(parts[-1]))
        event = step.error_event
        return Draft(parts=halved, status="failed", error_type=failed, error_event=event, message=step.message)
    if step.incomplete is not None:
        return Draft(parts=(*parts[:-1], _half(parts[-1])), status="incomplete", reason=step.incomplete)
    return _within_limit(parts, body.get("max_output_tokens"))


def answer_text(body: Mapping[str, Any]) -> str:
    """Give the text that answers a request: a sentence of its own words, or an instance of its schema."""
    wanted = _mapping(_mapping(body.get("text")).get("format"))
    text = said(body)
    if wanted.get("type") == "json_schema":
        return _json(instance(wanted.get("schema", {}), text))
    if wanted.get("type") == "json_object":
        return _json({"answer": sentence(text)})
    return sentence(text)


def _within_limit(parts: tuple[Part, ...], limit: Any) -> Draft:
    """Cut an answer off where the limit of output tokens is; it may be used up before anything is spoken."""
    if not isinstance(limit, int):
        return Draft(parts=parts)
    kept: list[Part] = []
    left = max(0, limit)
    for part in parts:
        if count_tokens(part.content) > left:
            if left or not kept:
                kept.append(replace(part, content=part.content[: left * CHARACTERS_PER_TOKEN]))
            return Draft(parts=tuple(kept), status="incomplete", reason="max_output_tokens")
        kept.append(part)
        left -= count_tokens(part.content)
    return Draft(parts=tuple(kept))


def _half(part: Part) -> Part:
    return replace(part, content=part.content[: len(part.content) // 2])


def _thought(body: Mapping[str, Any]) -> tuple[Part, ...]:
    """Reason, if that is asked for: in short when a summary is wanted, else word for word."""
    wanted = _mapping(body.get("reasoning"))
    asks = wanted.get("enabled") is True or any(wanted.get(name) for name in ("effort", "summary", "max_tokens"))
    if not asks or wanted.get("enabled") is False or wanted.get("effort") == "none":
        return ()
    content = f"The user asks about this: {title(said(body))}. I answer in one go."
    is_encrypted = "reasoning.encrypted_content" in (body.get("include") or [])
    encrypted = base64.b64encode(content.encode(errors="replace")).decode() if is_encrypted else None
    return (Part(kind="reasoning", content=content, is_summary=bool(wanted.get("summary")), encrypted=encrypted),)


def _call(function: Mapping[str, Any], text: str) -> Part:
    arguments = instance(function.get("parameters") or {"type": "object"}, text)
    return Part(kind="function_call", content=_json(arguments), function=function["name"])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
