"""The events of a streamed answer, in the order of the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_responses.sandbox.answers import Draft, Part
from airflow_provider_responses.sandbox.results import Served, content_part, failure, output_items, started
from airflow_provider_responses.sandbox.wire import json_bytes
from airflow_provider_responses.sandbox.words import split_into_pieces

COMMENT: Final = b": OPENROUTER PROCESSING\n\n"
LAST_LINE: Final = b"data: [DONE]\n\n"
Place = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``generated`` is the text that it brings."""

    data: dict[str, Any]
    generated: str = ""
    is_last: bool = False

    def encode(self, sequence_number: int, *, malformed: bool = False) -> bytes:
        """Give the event's bytes; those of a malformed one end in the middle of the JSON."""
        data = json_bytes(self.data | {"sequence_number": sequence_number})
        return b"data: " + (data[: len(data) // 2] if malformed else data) + b"\n\n"


def events(call: Served, draft: Draft, final: dict[str, Any]) -> Iterator[Event]:
    """Give all events of an answer; the last one holds ``final``, the finished body."""
    begun = started(call)
    yield Event({"type": "response.created", "response": begun})
    yield Event({"type": "response.in_progress", "response": begun})
    items = output_items(call, draft)
    for index, (part, item) in enumerate(zip(draft.parts, items, strict=True)):
        is_cut_short = draft.status == "failed" and index == len(items) - 1
        yield Event({"type": "response.output_item.added", "output_index": index, "item": _empty(item)})
        place = {"item_id": item["id"], "output_index": index}
        yield from _MAKERS[part.kind](place, part, is_cut_short)
        if not is_cut_short:
            yield Event({"type": "response.output_item.done", "output_index": index, "item": item})
    yield _last_event(draft, final)


def _last_event(draft: Draft, final: dict[str, Any]) -> Event:
    if not draft.error_event:
        return Event({"type": f"response.{draft.status}", "response": final}, is_last=True)
    error = failure(draft)
    if draft.error_event == "error":
        return Event({"type": "error", **error, "param": None}, is_last=True)
    inner = error | {"error_type": draft.error_type}
    if draft.error_event == "response.error":
        return Event({"type": "response.error", "error": inner}, is_last=True)
    # Open Responses' form of it.
    return Event({"type": "error", "error": inner | {"type": error["code"], "param": None}}, is_last=True)


def _empty(item: dict[str, Any]) -> dict[str, Any]:
    hollow: dict[str, dict[str, Any]] = {
        "function_call": {"arguments": ""},
        "message": {"content": []},
        "reasoning": {"summary": []},
    }
    known = {name: value for name, value in item.items() if name not in {"content", "encrypted_content"}}
    return known | hollow[item["type"]] | {"status": "in_progress"}


def _message_events(place: Place, part: Part, is_cut_short: bool) -> Iterator[Event]:
    place = place | {"content_index": 0}
    kind = "refusal" if part.kind == "refusal" else "output_text"
    more: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
    yield Event({"type": "response.content_part.added", **place, "part": content_part(part.kind, "")})
    yield from _deltas(f"response.{kind}.delta", place, part, **more)
    if is_cut_short:
        return
    whole = {"refusal" if kind == "refusal" else "text": part.content}
    yield Event({"type": f"response.{kind}.done", **place, **whole, **more})
    yield Event({"type": "response.content_part.done", **place, "part": content_part(part.kind, part.content)})


def _function_events(place: Place, part: Part, is_cut_short: bool) -> Iterator[Event]:
    yield from _deltas("response.function_call_arguments.delta", place, part)
    if not is_cut_short:
        whole = {"name": part.function, "arguments": part.content}
        yield Event({"type": "response.function_call_arguments.done", **place, **whole})


def _reasoning_events(place: Place, part: Part, is_cut_short: bool) -> Iterator[Event]:
    if not part.is_summary:
        place = place | {"content_index": 0}
        yield from _deltas("response.reasoning_text.delta", place, part)
        if not is_cut_short:
            yield Event({"type": "response.reasoning_text.done", **place, "text": part.content})
        return
    place = place | {"summary_index": 0}
    empty, whole = ({"type": "summary_text", "text": text} for text in ("", part.content))
    yield Event({"type": "response.reasoning_summary_part.added", **place, "part": empty})
    yield from _deltas("response.reasoning_summary_text.delta", place, part)
    if not is_cut_short:
        yield Event({"type": "response.reasoning_summary_text.done", **place, "text": part.content})
        yield Event({"type": "response.reasoning_summary_part.done", **place, "part": whole})


def _deltas(kind: str, place: Place, part: Part, **more: Any) -> Iterator[Event]:
    for piece in split_into_pieces(part.content):
        yield Event({"type": kind, **place, "delta": piece, **more}, piece)


_MAKERS: Final[dict[str, Callable[[Place, Part, bool], Iterator[Event]]]] = {
    "function_call": _function_events,
    "reasoning": _reasoning_events,
    "refusal": _message_events,
    "text": _message_events,
}
