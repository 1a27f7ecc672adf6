"""One item of a stream, built of its events: deltas, ends of parts, the whole item. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.client.completeness import (
    TEXTS,
    Source,
    as_json,
    choose,
    choose_arguments,
    resolve,
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
    :param begin: the content in the event that announced it.
    :param wholes: the contents of the events that ended it, by the kind of event.
    :param ends: number of events that ended it.
    :param fields: the other fields of these events.
    :param notes: annotations that arrived one by one.
    """

    kind: str
    deltas: list[str] = field(default_factory=list)
    begin: str = ""
    wholes: dict[str, str] = field(default_factory=dict)
    ends: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def take(self, content: str, *, end: str) -> None:
        """
        Take the content of an event that holds the whole part.

        :param end: kind of the event, if it ends the part.
        """
        self.ends += bool(end)
        if end and len(content) >= len(self.wholes.get(end, "")):
            self.wholes[end] = content
        elif not end and len(content) >= len(self.begin):
            self.begin = content

    @property
    def is_empty(self) -> bool:
        """Whether it has no content."""
        if self.deltas or self.begin or any(self.wholes.values()):
            return False
        return not (self.ends and self.fields and self.kind not in TEXTS)

    @property
    def streamed(self) -> Sequence[str]:
        """The deltas, after the content that the part was announced with."""
        if not self.begin or (self.deltas and extends("".join(self.deltas), self.begin)):
            return self.deltas
        return [self.begin, *self.deltas]

    @property
    def text(self) -> str:
        """The content."""
        return choose(self.streamed, self.wholes.values(), times=self.ends)

    def may_end(self, content: str, end: str) -> bool:
        """Whether an event can be the end of this part, and not of another one at the same place."""
        whole = self.wholes.get(end)
        return not whole or are_related(whole, content)

    def as_source(self, place: int) -> Source:
        """Return the part with all its sources."""
        notes = {"annotations": self.notes} if self.kind == "output_text" else {}
        return Source(self.kind, place, self.streamed, [*self.wholes.values()], self.ends, notes | self.fields)


@dataclass(slots=True, eq=False)
class Item:
    """
    One item.

    :param fields: the fields in the events about the whole item, without its content.
    :param whole: the content that these events hold, by its field.
    :param ended: the item as the last event that ended it holds it.
    :param repeats: the item that ended before with the same id, and may have arrived once more.
    """

    kind: str
    id: str | None = None
    index: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    pieces: dict[tuple[str, int, int], Piece] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    ends: int = 0
    announced: bool = False
    content_index: int | None = None  # index in the events about its content
    is_named: bool = False  # whether the events about its content have the id that it was announced with
    repeats: Item | None = None
    last: dict[str, tuple[int, int]] = field(default_factory=dict)  # place of the last part of a kind
    times: dict[tuple[str, int], int] = field(default_factory=dict)  # how often a place was used again
    ends_at: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)

    def piece(self, kind: str, index: int | None, *, whole: str | None = None, end: str = "") -> Piece:
        """
        Return a part, made if it is new.

        Without an index it is the last one of its kind, or one after it if that one has ended.

        :param whole: the content that an event holds; None for a delta.
        :param end: kind of the event, if it ends the part.
        """
        place = self.last.get(kind, (0, 0)) if index is None else (index, self.times.get((kind, index), 0))
        piece = self.pieces.get((kind, *place))
        if piece is not None and self.kind not in WITHOUT_PARTS:
            if whole and end and not piece.may_end(whole, end):
                place = self.ends_at.get((kind, end, whole), (place[0], place[1] + 1))
            elif whole is None and index is None and piece.ends:
                place = (place[0], place[1] + 1)
            piece = self.pieces.get((kind, *place))
        if piece is None:
            piece = self.pieces[(kind, *place)] = Piece(kind)
            self.times[kind, place[0]] = place[1]
        self.last[kind] = place
        if whole and end:
            self.ends_at.setdefault((kind, end, whole), place)
        return piece

    def may_end(self, kind: str, index: int | None, whole: str) -> bool:
        """Whether an event without an id can be the end of a part of this item."""
        place = self.last.get(kind, (0, 0)) if index is None else (index, self.times.get((kind, index), 0))
        piece = self.pieces.get((kind, *place))
        wholes = [one for one in piece.wholes.values() if one] if piece else []
        return not wholes or any(are_related(one, whole) for one in wholes)

    def take(self, value: Mapping[str, Any], *, ends: bool) -> None:
        """Take the item as an event that adds or ends it holds it."""
        self.announced = True
        if ends:
            self.ends += 1
            self.ended = dict(value)
        own = WITHOUT_PARTS.get(self.kind)
        for name, part in value.items():
            if name == "content" and self.kind == "message" and not ends:
                self._begin(part)
            elif name == own or name in WITH_PARTS:
                content = as_json(part) if name == own else part
                if content and len(text_within(content)) >= len(text_within(self.whole.get(name))):
                    self.whole[name] = content
            elif part not in (None, ""):
                self.fields[name] = part

    def _begin(self, content: Any) -> None:
        """Take the content that a message is announced with: deltas may add to it."""
        for place, part in enumerate(parts_of(content)):
            if text := text_in(part):
                piece = self.piece("output_text", place)
                piece.take(text, end="")
                piece.fields |= {name: value for name, value in part.items() if name not in ("type", "text")}

    @property
    def has_content(self) -> bool:
        """Whether more than its announcement has arrived; a tool call needs no more."""
        if self.announced and self.kind not in ("message", "reasoning"):
            return True
        return bool(self.ends or self.whole) or not all(piece.is_empty for piece in self.pieces.values())

    @property
    def is_ended(self) -> bool:
        """Whether its events have ended it."""
        ends = [piece.ends for piece in self.pieces.values() if not piece.is_empty]
        return bool(self.ends) or (bool(ends) and all(ends))

    @property
    def all_text(self) -> str:
        """All text of its content."""
        return all_text_of(self.kind, self.content())

    def is_again(self, item: Item) -> bool:
        """Whether it is the beginning of another item, or all of it."""
        name, other = self.fields.get("name"), item.fields.get("name")
        return (name == other or name is None) and extends(item.all_text, self.all_text)

    def build(self, status: str, final: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Return the item as it stands in a response.

        :param status: for an item that no event ended.
        :param final: the item as the terminal response holds it.
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
        made: dict[str, Any] = {"type": self.kind}
        if self.id:
            made["id"] = self.id
        if self.kind == "message":
            made |= {"role": "assistant", "content": []}
        elif self.kind == "reasoning":
            made["summary"] = []
        elif self.kind == "function_call":
            made |= {"call_id": self.id, "arguments": ""}
        item = made | known
        if item.get("status") in (None, "in_progress"):
            item["status"] = status
        return item

    def content(self, final: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the content by its fields, each from its most complete source."""
        final = final or {}
        if name := WITHOUT_PARTS.get(self.kind):
            return self._without_parts(name, final)
        found: dict[str, list[Source]] = {}
        for (_, place, _), piece in sorted(self.pieces.items(), key=lambda pair: pair[0][1:]):
            if not piece.is_empty:
                found.setdefault("summary" if piece.kind == SUMMARY else "content", []).append(piece.as_source(place))
        names = [name for name in WITH_PARTS if name in found or name in self.whole or final.get(name)]
        return {
            name: resolve(found[name], (self.whole.get(name), final.get(name)))
            if name in found
            else resolve((), (self.whole.get(name), final.get(name))) or self.whole.get(name, final.get(name))
            for name in names
        }

    def _without_parts(self, name: str, final: Mapping[str, Any]) -> dict[str, Any]:
        pieces = [piece for piece in self.pieces.values() if not piece.is_empty]
        wholes = [whole for piece in pieces for whole in piece.wholes.values()]
        wholes += [as_json(one) for one in (self.whole.get(name), final.get(name)) if one]
        if not pieces and not wholes:
            return {}
        deltas = [delta for piece in pieces for delta in piece.streamed]
        if name == "arguments":
            return {name: choose_arguments(deltas, wholes)}
        return {name: choose(deltas, wholes, times=max((piece.ends for piece in pieces), default=1))}

    def wholes(self) -> Iterator[str]:
        """Return the texts that events with all of a part, or all of the item, hold."""
        for piece in self.pieces.values():
            yield from piece.wholes.values()
        yield from texts_within(self.whole.get("content"))


def all_text_of(kind: str, value: Mapping[str, Any]) -> str:
    """Return all text of an item's content."""
    return "".join(text_within(value.get(name)) for name in (*WITH_PARTS, WITHOUT_PARTS.get(kind, "")))


def output_text(item: Mapping[str, Any]) -> str:
    """Return a message's text and refusal, without separators between its parts."""
    if item.get("type") not in (None, "message"):
        return ""
    words = "".join(text_in(part) or refusal_in(part) or "" for part in parts_of(item.get("content")))
    return words or text_of(item.get("refusal")) or ""


def are_related(text: str, other: str) -> bool:
    """Whether one of two texts is the beginning of the other, or all of it."""
    return extends(text, other) or extends(other, text)
