"""The events of a streamed response, in the order of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_responses.sandbox.http.response_body import (
    ServedRequest,
    content_part,
    error_object,
    output_items,
    started_body,
)
from airflow_provider_responses.sandbox.http.wire import json_bytes
from airflow_provider_responses.sandbox.model.generation import Failure, Generation, Part
from airflow_provider_responses.sandbox.model.sentences import split_into_pieces

COMMENT: Final = b": OPENROUTER PROCESSING\n\n"
LAST_LINE: Final = b"data: [DONE]\n\n"
Position = dict[str, Any]  # the ids and indexes of an item and its part


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``text`` is the generated text that it adds."""

    data: dict[str, Any]
    text: str = ""
    is_last: bool = False

    def encode(self, sequence_number: int, *, malformed: bool = False) -> bytes:
        """Return the event's bytes; malformed, its JSON ends half way."""
        data = json_bytes(self.data | {"sequence_number": sequence_number})
        return b"data: " + (data[: len(data) // 2] if malformed else data) + b"\n\n"


def response_events(served: ServedRequest, generation: Generation, final: dict[str, Any]) -> Iterator[Event]:
    """Yield all events of a response; the last one holds ``final``, the body of the response."""
    started = started_body(served)
    yield Event({"type": "response.created", "response": started})
    yield Event({"type": "response.in_progress", "response": started})
    items = output_items(served, generation)
    for index, (part, item) in enumerate(zip(generation.parts, items, strict=True)):
        is_cut_short = generation.failure is not None and index == len(items) - 1
        yield Event({"type": "response.output_item.added", "output_index": index, "item": _started_item(item)})
        position = {"item_id": item["id"], "output_index": index}
        yield from _EVENTS_OF_KIND[part.kind](position, part, is_cut_short)
        if not is_cut_short:
            yield Event({"type": "response.output_item.done", "output_index": index, "item": item})
    failure = generation.failure
    if failure and failure.event:
        yield _error_event(failure)
    else:
        yield Event({"type": f"response.{generation.status}", "response": final}, is_last=True)


def _error_event(failure: Failure) -> Event:
    error = error_object(failure)
    if failure.event == "error":
        return Event({"type": "error", **error, "param": None}, is_last=True)
    inner = error | {"error_type": failure.error_type}
    if failure.event == "response.error":
        return Event({"type": "response.error", "error": inner}, is_last=True)
    # The form of Open Responses.
    return Event({"type": "error", "error": inner | {"type": error["code"], "param": None}}, is_last=True)


def _started_item(item: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "function_call": {"arguments": ""},
        "message": {"content": []},
        "reasoning": {"summary": []},
    }
    fields = {name: value for name, value in item.items() if name not in {"content", "encrypted_content"}}
    return fields | empty[item["type"]] | {"status": "in_progress"}


def _message_events(position: Position, part: Part, is_cut_short: bool) -> Iterator[Event]:
    position = position | {"content_index": 0}
    kind = "refusal" if part.kind == "refusal" else "output_text"
    more: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
    yield Event({"type": "response.content_part.added", **position, "part": content_part(part.kind, "")})
    yield from _deltas(f"response.{kind}.delta", position, part, **more)
    if is_cut_short:
        return
    whole = {"refusal" if kind == "refusal" else "text": part.content}
    yield Event({"type": f"response.{kind}.done", **position, **whole, **more})
    yield Event({"type": "response.content_part.done", **position, "part": content_part(part.kind, part.content)})


def _function_events(position: Position, part: Part, is_cut_short: bool) -> Iterator[Event]:
    yield from _deltas("response.function_call_arguments.delta", position, part)
    if not is_cut_short:
        whole = {"name": part.function, "arguments": part.content}
        yield Event({"type": "response.function_call_arguments.done", **position, **whole})


def _reasoning_events(position: Position, part: Part, is_cut_short: bool) -> Iterator[Event]:
    if not part.is_summary:
        position = position | {"content_index": 0}
        yield from _deltas("response.reasoning_text.delta", position, part)
        if not is_cut_short:
            yield Event({"type": "response.reasoning_text.done", **position, "text": part.content})
        return
    position = position | {"summary_index": 0}
    empty, whole = ({"type": "summary_text", "text": text} for text in ("", part.content))
    yield Event({"type": "response.reasoning_summary_part.added", **position, "part": empty})
    yield from _deltas("response.reasoning_summary_text.delta", position, part)
    if not is_cut_short:
        yield Event({"type": "response.reasoning_summary_text.done", **position, "text": part.content})
        yield Event({"type": "response.reasoning_summary_part.done", **position, "part": whole})


def _deltas(kind: str, position: Position, part: Part, **more: Any) -> Iterator[Event]:
    for piece in split_into_pieces(part.content):
        yield Event({"type": kind, **position, "delta": piece, **more}, piece)


_EVENTS_OF_KIND: Final[dict[str, Callable[[Position, Part, bool], Iterator[Event]]]] = {
    "function_call": _function_events,
    "reasoning": _reasoning_events,
    "refusal": _message_events,
    "text": _message_events,
}
