"""
The shapes in which servers send the same response, and the outcome of each.

Every shape carries ``TEXT``, or a part of it, or ends in an error. Those of real servers are named after them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_responses.exceptions import (
    IncompleteResponseError,
    RefusalError,
    ResponsesError,
    StreamInterruptedError,
)

from .wire import EVENT_STREAM, sse

PIECES = ('{"number":', " ", '42, "why":', " ", '"it is so', " €", ' 🙂"}')
TEXT = "".join(PIECES)
VALUE = {"number": 42, "why": "it is so € 🙂"}
HALF = "".join(PIECES[:4])
OTHER = "(No update)"
WORDS = "I will not."
JSON = {"content-type": "application/json"}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "status": "completed"}
ARGUMENTS = '{"a": 1}'

Event = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """
    A body and its outcome.

    :param body: pieces in the order of their arrival; an exception among them is raised.
    :param text: the text of the output; with an error, that of the error's response.
    :param error: class of the error that each call raises.
    :param ambiguous: whether the error reports that the request may have been billed.
    :param sends: number of sends by ``send``, with one retry of ambiguous failures and no other.
    :param calls: names and arguments of function calls.
    :param value: of the typed output, None if the output is not JSON.
    :param inconsistent: whether the response is marked as such.
    """

    body: tuple[bytes | Exception, ...]
    text: str | None = TEXT
    error: type[ResponsesError] | None = None
    ambiguous: bool = False
    sends: int = 1
    headers: Mapping[str, str] = field(default_factory=lambda: EVENT_STREAM)
    calls: tuple[tuple[str, str], ...] = ()
    value: Mapping[str, Any] | None = field(default_factory=lambda: VALUE)
    inconsistent: bool = False
    messages: tuple[str, ...] | None = None
    tokens: tuple[int | None, int | None] = (3, 2)
    cost: float | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    maybe_truncated: bool = False
    ignored: bool = False  # whether an event of another response was ignored, which is logged


# --- events


def event(name: str, /, **fields: Any) -> Event:
    return {"type": f"response.{name}", **fields}


def part(text: str = TEXT, **changes: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []} | changes


def message(text: str | None = TEXT, name: str | None = "msg_1", **changes: Any) -> dict[str, Any]:
    content = [] if text is None else [part(text)]
    identity = {} if name is None else {"id": name}
    return {"type": "message", **identity, "role": "assistant", "status": "completed", "content": content} | changes


def refusal(words: str = WORDS, name: str = "msg_1") -> dict[str, Any]:
    return message(None, name, content=[{"type": "refusal", "refusal": words}])


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Thinking."}]}


def body(*output: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "maker/small-1",
        "output": list(output),
        "usage": USAGE,
        "error": None,
        "incomplete_details": None,
    } | changes


def created(**changes: Any) -> Event:
    return event("created", response=body(status="in_progress", usage=None) | changes)


def at(index: int | None = 0, name: str | None = "msg_1", place: int | None = 0) -> dict[str, Any]:
    named = {"item_id": name, "output_index": index, "content_index": place}
    return {key: value for key, value in named.items() if value is not None}


def added(item: dict[str, Any], index: int | None = 0) -> Event:
    empty = {"content": [], "status": "in_progress"} if item["type"] == "message" else {"status": "in_progress"}
    return event("output_item.added", item=item | empty, **({} if index is None else {"output_index": index}))


def ended(item: dict[str, Any], index: int | None = 0) -> Event:
    return event("output_item.done", item=item, **({} if index is None else {"output_index": index}))


def deltas(*pieces: str, **where: Any) -> list[Event]:
    return [event("output_text.delta", delta=piece, **(where or at())) for piece in pieces or PIECES]


def text_ended(text: str = TEXT, **where: Any) -> Event:
    return event("output_text.done", text=text, **(where or at()))


def part_ended(text: str = TEXT, **where: Any) -> Event:
    return event("content_part.done", part=part(text), **(where or at()))


def end(*output: Any, kind: str = "completed", **changes: Any) -> Event:
    return event(kind, response=body(*output, **{"status": kind, **changes}))


def arguments(*pieces: str, **where: Any) -> list[Event]:
    return [event("function_call_arguments.delta", delta=piece, **where) for piece in pieces]


def arguments_ended(text: str = ARGUMENTS, **fields: Any) -> Event:
    return event("function_call_arguments.done", arguments=text, **fields)


def call(text: str | None = ARGUMENTS, **changes: Any) -> dict[str, Any]:
    return CALL | ({} if text is None else {"arguments": text}) | changes


def item_events(item: dict[str, Any], index: int = 0, *pieces: str) -> list[Event]:
    """Return all events of one message, as documented."""
    where = at(index, item["id"])
    text = item["content"][0]["text"]
    return [
        added(item, index),
        event("content_part.added", part=part(""), **where),
        *deltas(*(pieces or (text,)), **where),
        text_ended(text, **where),
        part_ended(text, **where),
        ended(item, index),
    ]


USUAL: list[Event] = [created(), *item_events(message(), 0, *PIECES)]


# --- shapes


def stream(*events: Event | str, done: bool = True, **outcome: Any) -> Shape:
    return Shape((sse(*events, done=done),), **outcome)


def plain(
    *output: Any, headers: Mapping[str, str] = JSON, outcome: Mapping[str, Any] | None = None, **raw: Any
) -> Shape:
    return Shape((json.dumps(body(*output, **raw)).encode(),), headers=headers, **(outcome or {}))


def raw(data: bytes, *more: bytes | Exception, **outcome: Any) -> Shape:
    return Shape((data, *more), **outcome)


def failed(
    error: type[ResponsesError] = StreamInterruptedError, text: str | None = None, **outcome: Any
) -> dict[str, Any]:
    """Return the shape of a stream that breaks: it may be sent again once."""
    return {"error": error, "text": text, "ambiguous": True, "sends": 2} | outcome


def cut_off(text: str | None = HALF) -> dict[str, Any]:
    return {"error": IncompleteResponseError, "text": text}


CALLED = {"text": "", "value": None, "calls": (("f", ARGUMENTS),)}
REFUSED = {"error": RefusalError, "text": ""}
LIMITED = {"code": "rate_limit_exceeded", "message": "slow down"}
CUT = {"incomplete_details": {"reason": "max_output_tokens"}}
ZERO = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
TWO = ("Let me look.", TEXT)
