"""The events of a streamed answer, in the order of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_responses.sandbox.answers import Draft
from airflow_provider_responses.sandbox.results import Served, content_part, output_item, started
from airflow_provider_responses.sandbox.words import split_into_pieces

FIRST_LINE: Final = b": OPENROUTER PROCESSING\n\n"
LAST_LINE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``generated`` is the text that it brings."""

    data: dict[str, Any]
    generated: str = ""

    def encode(self, sequence_number: int) -> bytes:
        """Give the event's bytes."""
        data = self.data | {"sequence_number": sequence_number}
        return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def events(call: Served, draft: Draft, final: dict[str, Any]) -> Iterator[Event]:
    """Give all events of an answer; the last one holds ``final``, the finished body."""
    begun = started(call)
    yield Event({"type": "response.created", "response": begun})
    yield Event({"type": "response.in_progress", "response": begun})
    item = output_item(call, draft)
    yield Event({"type": "response.output_item.added", "output_index": 0, "item": _empty(item)})
    inner = _function_events if draft.kind == "function_call" else _message_events
    yield from inner(item["id"], draft)
    if draft.status != "failed":
        yield Event({"type": "response.output_item.done", "output_index": 0, "item": item})
    yield Event({"type": f"response.{draft.status}", "response": final})


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    hollow: dict[str, Any] = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
    return item | hollow | {"status": "in_progress"}


def _message_events(item_id: str, draft: Draft) -> Iterator[Event]:
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    kind = "refusal" if draft.kind == "refusal" else "output_text"
    more: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
    empty = content_part(draft.kind, "")
    yield Event({"type": "response.content_part.added", **place, "part": empty})
    for piece in split_into_pieces(draft.content):
        yield Event({"type": f"response.{kind}.delta", **place, "delta": piece, **more}, piece)
    if draft.status == "failed":
        return
    whole = {"refusal" if kind == "refusal" else "text": draft.content}
    yield Event({"type": f"response.{kind}.done", **place, **whole, **more})
    part = content_part(draft.kind, draft.content)
    yield Event({"type": "response.content_part.done", **place, "part": part})


def _function_events(item_id: str, draft: Draft) -> Iterator[Event]:
    place = {"item_id": item_id, "output_index": 0}
    for piece in split_into_pieces(draft.content):
        yield Event({"type": "response.function_call_arguments.delta", **place, "delta": piece}, piece)
    whole = {"name": draft.function, "arguments": draft.content}
    yield Event({"type": "response.function_call_arguments.done", **place, **whole})
