"""One item of a stream, as its events bring it: in deltas, by the ends of its parts, as a whole. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.models.messages import parts_of, refusal_in, text_in, text_of

# The fields of an item that hold its parts, and of items without parts the field that holds their content.
WITH_PARTS: Final = ("content", "summary")
WITHOUT_PARTS: Final[Mapping[str, str]] = {
    "function_call": "arguments",
    "mcp_call": "arguments",
    "custom_tool_call": "input",
    "code_interpreter_call": "code",
}
SUMMARY: Final = "summary_text"
LOST: Final = "\ufffd"
TEXTS: Final[Mapping[str, str]] = {
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "text",
    SUMMARY: "text",
}


@dataclass(slots=True)
class Piece:
    """
    One part of an item.

    :param deltas: in the order in which they came.
    :param whole: the most complete content of the events that ended it.
    :param ends: number of events that ended it.
    :param fields: what else these events hold.
    :param notes: annotations that came one by one.
    """

    kind: str
    deltas: list[str] = field(default_factory=list)
    whole: str = ""
    ends: int = 0
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def take(self, content: str, *, ends: bool) -> None:
        """Take the content of an event that holds the whole part."""
        self.ends += ends
        if len(content) >= len(self.whole):
            self.whole = content

    @property
    def is_empty(self) -> bool:
        """Whether it is announced at most."""
        return not (self.deltas or self.whole or (self.ends and self.fields and self.kind not in TEXTS))

    @property
    def text(self) -> str:
        """The content."""
        pieced = "".join(self.deltas)
        text = most_complete(pieced, self.whole, times=self.ends)
        if not self.ends and self.whole and text is pieced and not covers(pieced, self.whole):
            return self.whole + pieced  # it was announced with its beginning
        return text

    def as_part(self) -> dict[str, Any]:
        """Return the part as it stands in an item."""
        part: dict[str, Any] = {"type": self.kind}
        if self.kind in TEXTS:
            part[TEXTS[self.kind]] = self.text
        if self.kind == "output_text":
            part["annotations"] = self.notes
        return part | self.fields


@dataclass(slots=True, eq=False)
class Item:
    """
    One item.

    :param fields: what the events about the whole item say of it, without its content.
    :param whole: the content that these events hold, by its field.
    :param ended: the item as the last event that ended it holds it.
    :param repeats: the item that was ended before under the same name, and may have come once more.
    """

    kind: str
    id: str | None = None
    index: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    pieces: dict[tuple[str, int], Piece] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)
    ends: int = 0
    announced: bool = False
    repeats: Item | None = None

    def piece(self, kind: str, index: int | None) -> Piece:
        """Return a part, made if it is new; without an index it is the last one of its kind."""
        if index is None:
            index = next((place for name, place in reversed(self.pieces) if name == kind), 0)
        return self.pieces.setdefault((kind, index), Piece(kind))

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
                if part and len(text_within(part)) >= len(text_within(self.whole.get(name))):
                    self.whole[name] = part
            elif part not in (None, ""):
                self.fields[name] = part

    def _begin(self, content: Any) -> None:
        """Take the content that a message is announced with: deltas may go on from it."""
        for place, part in enumerate(parts_of(content)):
            if text := text_in(part):
                piece = self.piece("output_text", place)
                piece.take(text, ends=False)
                piece.fields |= {name: value for name, value in part.items() if name not in ("type", "text")}

    @property
    def has_content(self) -> bool:
        """Whether there is more of it than its announcement."""
        return bool(self.ends or self.whole) or not all(piece.is_empty for piece in self.pieces.values())

    @property
    def is_ended(self) -> bool:
        """Whether its events have ended it."""
        ends = [piece.ends for piece in self.pieces.values() if not piece.is_empty]
        return bool(self.ends) or (bool(ends) and all(ends))

    @property
    def said(self) -> str:
        """All text of its content."""
        return said_by(self.kind, self.content())

    def is_again(self, item: Item) -> bool:
        """Whether it is the beginning of another item, or all of it."""
        name, other = self.fields.get("name"), item.fields.get("name")
        return (name == other or name is None) and covers(item.said, self.said)

    def known(self) -> dict[str, Any]:
        """Return all that its events have said of it."""
        return self.fields | self.content()

    def build(self, status: str) -> dict[str, Any]:
        """
        Return the item as it stands in a response.

        :param status: for an item whose end was not told.
        """
        if self.ends:
            return self.ended | self.known()
        made: dict[str, Any] = {"type": self.kind}
        if self.id:
            made["id"] = self.id
        if self.kind == "message":
            made |= {"role": "assistant", "content": []}
        elif self.kind == "reasoning":
            made["summary"] = []
        elif self.kind == "function_call":
            made |= {"call_id": self.id, "arguments": ""}
        item = made | self.known()
        if item.get("status") in (None, "in_progress"):
            item["status"] = status
        return item

    def content(self) -> dict[str, Any]:
        """Return the content by its fields; of its pieces and of the whole, the more complete one."""
        chosen = dict(self.whole)
        for name, value in self._from_pieces().items():
            pieced, whole = text_within(value), text_within(self.whole.get(name))
            if name not in chosen or (pieced != whole and most_complete(pieced, whole, times=self.ends) is pieced):
                chosen[name] = value
        return chosen

    def _from_pieces(self) -> dict[str, Any]:
        pieces = [(place, piece) for (_, place), piece in self.pieces.items() if not piece.is_empty]
        if name := WITHOUT_PARTS.get(self.kind):
            return {name: "".join(piece.text for _, piece in pieces)} if pieces else {}
        found: dict[str, Any] = {}
        for _, piece in sorted(pieces, key=lambda pair: pair[0]):
            found.setdefault("summary" if piece.kind == SUMMARY else "content", []).append(piece.as_part())
        return found


def said_by(kind: str, value: Mapping[str, Any]) -> str:
    """Return all text of an item's content."""
    return "".join(text_within(value.get(name)) for name in (*WITH_PARTS, WITHOUT_PARTS.get(kind, "")))


def text_within(value: Any) -> str:
    """Return all text of a content, whatever its form."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "type" not in value:  # arguments as an object
        return json.dumps(value)
    parts = parts_of(value) if value else []
    return "".join(text_of(part.get("text")) or text_of(part.get("refusal")) or "" for part in parts)


def output_text(item: Mapping[str, Any]) -> str:
    """Return a message's text and refusal, without what separates its parts."""
    if item.get("type") not in (None, "message"):
        return ""
    return "".join(text_in(part) or refusal_in(part) or "" for part in parts_of(item.get("content")))


def squeeze(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())


def covers(text: str, part: str) -> bool:
    """
    Whether a text is another one or an extension of it, white space aside.

    A delta may end in the middle of a character, which is U+FFFD in it: that stands for anything.
    """
    if text.startswith(part):
        return True
    whole, place = squeeze(text), 0
    first, *others = squeeze(part).split(LOST)
    if not whole.startswith(first):
        return False
    place = len(first)
    for other in others:
        place = whole.find(other, place) + len(other)
        if place < len(other):
            return False
    return True


def are_related(text: str, other: str) -> bool:
    """Whether one of two texts is the beginning of the other, or all of it."""
    return covers(text, other) or covers(other, text)


def most_complete(pieced: str, whole: str, *, times: int = 1) -> str:
    """
    Return the more complete one of what pieces brought and of the whole that ended them.

    :param times: number of ends: a stream may bring its pieces twice.
    """
    if not pieced or not whole or pieced == whole:
        return whole or pieced
    said, ended = squeeze(pieced), squeeze(whole)
    if said == ended:
        return max(whole, pieced, key=len)  # some servers drop deltas of white space
    if (
        said in ended
        or (LOST in said and covers(ended, said))
        or (times > 1 and ended and said == ended * (len(said) // len(ended)))
    ):
        return whole
    return pieced
