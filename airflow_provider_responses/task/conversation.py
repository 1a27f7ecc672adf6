"""
Conversations over several tasks: the response of one is the history of the next. No I/O and no Airflow.

The server stores nothing, so each request contains the whole conversation. A task whose response is the history of
another one adds ``conversation`` to it: the input that it has sent, and the session's id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.validation import show, type_name

CONVERSATION: Final = "conversation"  # the key of it in a response
ENCRYPTED_REASONING: Final = "reasoning.encrypted_content"  # of `include`
# Items that the next request must contain an output for, and the outputs.
_CALLS: Final[Mapping[str, str]] = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "apply_patch_call": "apply_patch_call_output",
}


def continue_conversation(
    history: Any, fields: Mapping[str, Any], *, is_openrouter: bool, session_id: str
) -> dict[str, Any]:
    """
    Return the fields of the next request: with the history before the input.

    :param history: the response of a task, as its XCom has it, a list of items, or None for the first request.
    :param fields: the fields of the request.
    :param is_openrouter: whether its server knows sessions, and returns encrypted reasoning for each model.
    :param session_id: for a conversation that has none yet.
    :raises RequestValidationError: if the history cannot be continued.
    """
    found = {**fields, "input": [*_items_of(history), *_as_items(fields.get("input"))]}
    if fields.get("input") is not None:  # else a worker resumes a decorated task, whose request has been sent
        _check_calls(found["input"])
    return with_reasoning(found, session_id=_session_of(history) or session_id) if is_openrouter else found


def with_reasoning(fields: Mapping[str, Any], *, session_id: str) -> dict[str, Any]:
    """
    Return the fields of a request to OpenRouter whose response goes into the next one, with its encrypted reasoning.

    :param session_id: of the conversation, unless the fields have one. Its requests are routed to one provider.
    """
    include = list(fields.get("include") or ())
    if ENCRYPTED_REASONING not in include:
        include.append(ENCRYPTED_REASONING)
    return {**fields, "include": include, "session_id": fields.get("session_id", session_id)}


def with_conversation(value: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the XCom of a response that is the history of another task.

    :param value: the whole response.
    :param fields: the fields of its request.
    """
    earlier = {"input": _as_items(fields.get("input")), "session_id": fields.get("session_id")}
    return {**value, CONVERSATION: earlier}


def make_session_id(*names: Any) -> str:
    """Return a session's id, the same for the same names."""
    return f"airflow-{hashlib.sha256(repr(names).encode()).hexdigest()[:32]}"


def _items_of(history: Any) -> list[Any]:
    if history is None:
        return []
    if isinstance(history, Mapping):
        earlier = history.get(CONVERSATION)
        if not isinstance(earlier, Mapping) or not isinstance(earlier.get("input"), Sequence):
            raise RequestValidationError(
                "history is a response without the input that it belongs to, which only the output of a task itself "
                "has: set history=TASK.output. For a response from elsewhere, set a list of items: "
                "[question, *Response(raw=response).to_input()]",
                fields=("history",),
            )
        from airflow_provider_responses.models.response import Response

        return [*earlier["input"], *Response(raw={**history}).to_input()]
    if isinstance(history, Sequence) and not isinstance(history, (str, bytes)):
        return list(history)
    raise RequestValidationError(
        f"history must be the output of a task with result='response', or a list of items, got {type_name(history)} "
        f"{show(history)}",
        fields=("history",),
    )


def _as_items(given: Any) -> list[Any]:
    if given is None:
        return []
    return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)


def _session_of(history: Any) -> str | None:
    earlier = history.get(CONVERSATION) if isinstance(history, Mapping) else None
    return earlier.get("session_id") if isinstance(earlier, Mapping) else None


def _check_calls(items: Sequence[Any]) -> None:
    """Refuse calls without an output, which the server would refuse after the request is sent."""
    # As text, since a value from data may have no hash.
    outputs = {(str(it.get("type")), str(it.get("call_id"))) for it in items if isinstance(it, Mapping)}
    for item in items:
        if not isinstance(item, Mapping) or (wanted := _CALLS.get(str(item.get("type")))) is None:
            continue
        if (wanted, str(item.get("call_id"))) not in outputs:
            raise RequestValidationError(
                f"history has the call {show(item.get('name'))} without its output (call_id "
                f"{show(item.get('call_id'))}), which the API refuses. Add an item of type {wanted!r} with this "
                "call_id to input, or let the earlier task run its tools",
                fields=("history",),
            )
