"""Builds one item of a stream from its events: deltas, ends of parts, events with the whole item. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.client.completeness import (
    TEXTS,
    Source,
    as_json,
    most_complete_arguments,
    most_complete_content,
    most_complete_text,
    text_within,
    texts_within,
)
from airflow_provider_responses.models.messages import extends, parts_of, refusal_in, text_in, text_of

# The fields of an item that hold its parts, and of items without parts the field that holds their content.
WITH_PARTS: Final = ("content", "summary")
WITHOUT_PARTS: Final[Mapping[str, str]] = {
    "function_call": "arguments",
    "mcp_call": "arguments",
    "custom_tool_call": "input",
    "code_interpreter_call": "code",
}
SUMMARY: Final = "summary_text"


@dataclass(slots=True)
class Piece:
    """
    One part of an item.

    :param deltas: in the order of their events.
    :param beginning: the text in the event that announced the part.
    :param full_texts: the texts in the events that ended the part, by the kind of event.
    :param ends: number of events that ended the part.
    :param fields: the other fields of these events.
    :param notes: annotations that arrived in events of their own.
    """

    kind: str
    deltas: list[str] = field(default_factory=list)
    beginning: str = ""
    full_texts: dict[str, str] = field(default_factory=dict)
    ends: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def add_full_text(self, content: str, *, end: str) -> None:
        """
        Add the content of an event that holds the full text of the part.

        :param end: kind of the event, if it ends the part.
        """
        self.ends += bool(end)
        if end and len(content) >= len(self.full_texts.get(end, "")):
            self.full_texts[end] = content
        elif not end and len(content) >= len(self.beginning):
            self.beginning = content

    @property
    def is_empty(self) -> bool:
        """Whether the part has no content."""
        if self.deltas or self.beginning or any(self.full_texts.values()):
            return False
        return not (self.ends and self.fields and self.kind not in TEXTS)

    @property
    def streamed(self) -> Sequence[str]:
        """The deltas, after the text in the event that announced the part."""
        if not self.beginning or (self.deltas and extends("".join(self.deltas), self.beginning)):
            return self.deltas
        return [self.beginning, *self.deltas]

    @property
    def text(self) -> str:
        """The most complete text."""
        return most_complete_text(self.streamed, self.full_texts.values(), times=self.ends)

    def may_end(self, content: str, end: str) -> bool:
        """Whether an event can end this part, and not another one at the same position."""
        full_text = self.full_texts.get(end)
        return not full_text or are_related(full_text, content)

    def as_source(self, position: int) -> Source:
        """Return the part with all its sources."""
        notes = {"annotations": self.notes} if self.kind == "output_text" else {}
        return Source(self.kind, position, self.streamed, [*self.full_texts.values()], self.ends, notes | self.fields)


@dataclass(slots=True, eq=False)
class Item:
    """
    One item.

    :param fields: the fields in the events that hold the item, without its content.
    :param full_content: the content in these events, by its field.
    :param ended: the item in the last event that ended it.
    :param repeats: the item with the same id that ended before, and of which this may be a repetition.
    """

    kind: str
    id: str | None = None
    index: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    pieces: dict[tuple[str, int, int], Piece] = field(default_factory=dict)
    full_content: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    ends: int = 0
    announced: bool = False
    content_index: int | None = None  # index in the events about its content
    is_named: bool = False  # whether events with its content have the id of the event that announced it
    repeats: Item | None = None
    last: dict[str, tuple[int, int]] = field(default_factory=dict)  # position of the last part of a kind
    times: dict[tuple[str, int], int] = field(default_factory=dict)  # how many more parts were at the same index
    ends_at: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)

    def piece(self, kind: str, index: int | None, *, full_text: str | None = None, end: str = "") -> Piece:
        """
        Return a part, which is created if it is new.

        Without an index it is the last one of its kind, or a new one if that one has ended.

        :param full_text: the text in the event; None for a delta.
        :param end: kind of the event, if it ends the part.
        """
        position = self.last.get(kind, (0, 0)) if index is None else (index, self.times.get((kind, index), 0))
        piece = self.pieces.get((kind, *position))
        if piece is not None and self.kind not in WITHOUT_PARTS:
            if full_text and end and not piece.may_end(full_text, end):
                position = self.ends_at.get((kind, end, full_text), (position[0], position[1] + 1))
            elif full_text is None and index is None and piece.ends:
                position = (position[0], position[1] + 1)
            piece = self.pieces.get((kind, *position))
        if piece is None:
            piece = self.pieces[(kind, *position)] = Piece(kind)
            self.times[kind, position[0]] = position[1]
        self.last[kind] = position
        if full_text and end:
            self.ends_at.setdefault((kind, end, full_text), position)
        return piece

    def may_end(self, kind: str, index: int | None, full_text: str) -> bool:
        """Whether an event without an id can end a part of this item."""
        position = self.last.get(kind, (0, 0)) if index is None else (index, self.times.get((kind, index), 0))
        piece = self.pieces.get((kind, *position))
        full_texts = [one for one in piece.full_texts.values() if one] if piece else []
        return not full_texts or any(are_related(one, full_text) for one in full_texts)

    def update(self, value: Mapping[str, Any], *, ends: bool) -> None:
        """Add the item in an event that announces or ends it."""
        self.announced = True
        if ends:
            self.ends += 1
            self.ended = dict(value)
        own = WITHOUT_PARTS.get(self.kind)
        for name, part in value.items():
            if name == "content" and self.kind == "message" and not ends:
                self._read_beginning(part)
            elif name == own or name in WITH_PARTS:
                content = as_json(part) if name == own else part
                if content and len(text_within(content)) >= len(text_within(self.full_content.get(name))):
                    self.full_content[name] = content
            elif part not in (None, ""):
                self.fields[name] = part

    def _read_beginning(self, content: Any) -> None:
        """Add the content in the event that announces a message; deltas may follow."""
        for position, part in enumerate(parts_of(content)):
            if text := text_in(part):
                piece = self.piece("output_text", position)
                piece.add_full_text(text, end="")
                piece.fields |= {name: value for name, value in part.items() if name not in ("type", "text")}

    @property
    def has_content(self) -> bool:
        """Whether more than the announcement has arrived, which is enough for a tool call."""
        if self.announced and self.kind not in ("message", "reasoning"):
            return True
        return bool(self.ends or self.full_content) or not all(piece.is_empty for piece in self.pieces.values())

    @property
    def is_ended(self) -> bool:
        """Whether an event has ended the item, or each of its parts."""
        ends = [piece.ends for piece in self.pieces.values() if not piece.is_empty]
        return bool(self.ends) or (bool(ends) and all(ends))

    @property
    def all_text(self) -> str:
        """The text of all content."""
        return all_text_of(self.kind, self.content())

    def is_repeat_of(self, item: Item) -> bool:
        """Whether this item is the beginning of another one, or equal to it."""
        name, other = self.fields.get("name"), item.fields.get("name")
        return (name == other or name is None) and extends(item.all_text, self.all_text)

    def build(self, status: str, final: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Return the item in the form that it has in a response.

        :param status: that of an item that no event ended.
        :param final: the item in the last event of the response.
        """
        known = self.fields | self.content(final)
        if final is not None:
            content = {*WITH_PARTS, WITHOUT_PARTS.get(self.kind)}
            return {**final} | {
                name: value
                for name, value in known.items()
                if final.get(name) in (None, "", [], {}) or (name in content and value != final[name])
            }
        if self.ends:
            return self.ended | known
        built: dict[str, Any] = {"type": self.kind}
        if self.id:
            built["id"] = self.id
        if self.kind == "message":
            built |= {"role": "assistant", "content": []}
        elif self.kind == "reasoning":
            built["summary"] = []
        elif self.kind == "function_call":
            built |= {"call_id": self.id, "arguments": ""}
        item = built | known
        if item.get("status") in (None, "in_progress"):
            item["status"] = status
        return item

    def content(self, final: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the content by field, each from its most complete source."""
        final = final or {}
        if name := WITHOUT_PARTS.get(self.kind):
            return self._without_parts(name, final)
        found: dict[str, list[Source]] = {}
        for (_, position, _), piece in sorted(self.pieces.items(), key=lambda pair: pair[0][1:]):
            if not piece.is_empty:
                found.setdefault("summary" if piece.kind == SUMMARY else "content", []).append(
                    piece.as_source(position)
                )
        names = [name for name in WITH_PARTS if name in found or name in self.full_content or final.get(name)]
        contents: dict[str, Any] = {}
        for name in names:
            others = (self.full_content.get(name), final.get(name))
            contents[name] = most_complete_content(found.get(name, ()), others)
            if name not in found and not contents[name]:
                contents[name] = self.full_content.get(name, final.get(name))
        return contents

    def _without_parts(self, name: str, final: Mapping[str, Any]) -> dict[str, Any]:
        pieces = [piece for piece in self.pieces.values() if not piece.is_empty]
        full_texts = [full_text for piece in pieces for full_text in piece.full_texts.values()]
        full_texts += [as_json(one) for one in (self.full_content.get(name), final.get(name)) if one]
        if not pieces and not full_texts:
            return {}
        deltas = [delta for piece in pieces for delta in piece.streamed]
        if name == "arguments":
            return {name: most_complete_arguments(deltas, full_texts)}
        return {name: most_complete_text(deltas, full_texts, times=max((piece.ends for piece in pieces), default=1))}

    def full_texts(self) -> Iterator[str]:
        """Yield the full texts in events that hold a part, or the item."""
        for piece in self.pieces.values():
            yield from piece.full_texts.values()
        yield from texts_within(self.full_content.get("content"))


def all_text_of(kind: str, value: Mapping[str, Any]) -> str:
    """Return the text of all content of an item."""
    return "".join(text_within(value.get(name)) for name in (*WITH_PARTS, WITHOUT_PARTS.get(kind, "")))


def output_text(item: Mapping[str, Any]) -> str:
    """Return a message's text and refusal, without separators between its parts."""
    if item.get("type") not in (None, "message"):
        return ""
    words = "".join(text_in(part) or refusal_in(part) or "" for part in parts_of(item.get("content")))
    return words or text_of(item.get("refusal")) or ""


def are_related(text: str, other: str) -> bool:
    """Whether one of two texts is the beginning of the other, or equal to it."""
    return extends(text, other) or extends(other, text)
