"""
Builds the items of a response from the events of its stream. No I/O.

Servers send content in deltas, in events that end a part or an item, in the last event of the response, or in any
combination of these, with or without ids and indices. Of several sources of the same item the most complete one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from airflow_provider_responses.client.completeness import as_json
from airflow_provider_responses.client.merging import Merged, merge
from airflow_provider_responses.client.pieces import SUMMARY, Item, Piece, all_text_of, are_related, output_text
from airflow_provider_responses.models.messages import (
    SEPARATOR,
    is_message,
    items_of,
    parts_of,
    refusal_in,
    text_in,
    text_of,
)


class Carrier(NamedTuple):
    """
    A kind of event that carries content.

    :param item: type of the item.
    :param part: type of its part.
    :param position: name of the event's field with the index of the part.
    :param key: name of the event's field with the full text; empty for a delta.
    """

    item: str
    part: str
    position: str
    key: str = ""


def _carriers() -> dict[str, Carrier]:
    found: dict[str, Carrier] = {"response.content_part.delta": Carrier("message", "output_text", "content_index")}
    for item, part, position, key, names in (
        ("message", "output_text", "content_index", "text", ("output_text", "text")),
        ("message", "refusal", "content_index", "refusal", ("refusal",)),
        ("reasoning", "reasoning_text", "content_index", "text", ("reasoning_text", "reasoning")),
        ("reasoning", SUMMARY, "summary_index", "text", ("reasoning_summary_text", "reasoning_summary")),
        ("function_call", "arguments", "", "arguments", ("function_call_arguments",)),
        ("mcp_call", "arguments", "", "arguments", ("mcp_call_arguments",)),
        ("custom_tool_call", "input", "", "input", ("custom_tool_call_input",)),
        ("code_interpreter_call", "code", "", "code", ("code_interpreter_call_code",)),
    ):
        for name in names:
            found[f"response.{name}.delta"] = Carrier(item, part, position)
            found[f"response.{name}.done"] = Carrier(item, part, position, key)
    return found


CARRIERS: Final = _carriers()
NAMES: Final = ("name", "call_id", "namespace")  # fields of a call that any of its events may hold


class Assembler:
    """
    Builds the items of a response from the events of its stream.

    ``has_output`` is true once any output has arrived; ``snapshot`` is the response in the first events.
    """

    def __init__(self) -> None:
        self.snapshot: dict[str, Any] = {}
        self.has_output = False
        self.has_unknown_text = False  # an event of an unknown kind held text
        self._first_output: Any = None  # output of the response in the first events
        self._items: list[Item] = []
        self._by_id: dict[tuple[str, str], Item] = {}
        self._by_index: dict[tuple[str, int], Item] = {}
        self._last: dict[str, Item] = {}
        # Nearly all events of a stream add to the same part as the event before.
        self._carrier: Carrier | None = None
        self._id = self._index = self._part = None
        self._deltas: list[str] = []
        self._others: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "response.output_item.added": self._add_item,
            "response.output_item.done": self._end_item,
            "response.content_part.added": self._add_part,
            "response.content_part.done": self._end_part,
            "response.reasoning_summary_part.added": self._add_part,
            "response.reasoning_summary_part.done": self._end_part,
            "response.output_text.annotation.added": self._annotate,
            "response.created": self._read_snapshot,
            "response.queued": self._read_snapshot,
            "response.in_progress": self._read_snapshot,
        }

    def add_content(self, carrier: Carrier, event: Mapping[str, Any]) -> None:
        """Add an event that carries content."""
        _, _, index, key = carrier
        if key:
            self._carrier = None
            content = event.get(key)
            self._end(carrier, event, as_json(content) if not carrier.position else text_of(content) or "")
            return
        delta = event.get("delta")
        if delta and (isinstance(delta, str) or (delta := _other_delta(event))):
            name, number, part = event.get("item_id"), event.get("output_index"), event.get(index)
            if carrier is not self._carrier or name != self._id or number != self._index or part != self._part:
                self._deltas = self._piece(carrier, event).deltas
                self._carrier, self._id, self._index, self._part = carrier, name, number, part
            self._deltas.append(delta)

    def add_other(self, kind: str, event: Mapping[str, Any]) -> None:
        """Add another event; one without output is ignored."""
        if other := self._others.get(kind):
            self._carrier = None
            other(event)
        elif kind.endswith((".delta", ".done")) and "reasoning" not in kind:
            self.has_unknown_text = self.has_unknown_text or bool(
                text_of(event.get("delta")) or text_of(event.get("text"))
            )
            self.has_output = self.has_output or self.has_unknown_text

    @property
    def text(self) -> str:
        """The text so far."""
        return self._streamed_text or SEPARATOR.join(
            text for item in items_of(self._first_output) if (text := output_text(item))
        )

    @property
    def _streamed_text(self) -> str:
        """The text in events other than the first ones."""
        texts = (output_text(item.build("in_progress")) for item in self._sorted())
        return SEPARATOR.join(text for text in texts if text)

    @property
    def is_ended(self) -> bool:
        """Whether there are items, and all of them have ended."""
        items = [item for item in self._items if item.has_content]
        return bool(items) and all(item.is_ended for item in items)

    def merge(self, output: Any, *, status: str) -> Merged:
        """
        Return the items of the response.

        :param output: the ``output`` of the response in the last event, if it has one.
        :param status: that of items that no event ended.
        """
        if self._first_output and not any(map(output_text, items_of(output))) and not self._streamed_text:
            output = [*items_of(self._first_output), *(one for one in items_of(output) if not is_message(one))]
        return merge(output, self._sorted(), status=status)

    def _sorted(self) -> list[Item]:
        """Return the items by index, each once; an item without an index follows the one before it."""
        replaced_by: dict[Item, Item] = {}  # by an item that arrived more than once, the most complete one
        for item in self._items:
            old = replaced_by.get(item.repeats, item.repeats) if item.repeats else None
            if old is None:
                continue
            shorter, longer = sorted((item, old), key=lambda one: len(one.all_text))
            if shorter.is_repeat_of(longer):
                replaced_by[shorter] = longer
        index, ranked = 0, []
        for item in self._items:
            index = index if item.index is None else item.index
            if item not in replaced_by:
                ranked.append((index, item))
        return [item for _, item in sorted(ranked, key=lambda pair: pair[0])]

    def _read_snapshot(self, event: Mapping[str, Any]) -> None:
        response = event.get("response")
        if isinstance(response, dict):
            self.snapshot |= response
            if any(map(output_text, items_of(response.get("output")))):
                self._first_output = response["output"]
                self.has_output = True

    def _add_item(self, event: Mapping[str, Any]) -> None:
        self._read_item(event, ends=False)

    def _end_item(self, event: Mapping[str, Any]) -> None:
        self._read_item(event, ends=True)

    def _read_item(self, event: Mapping[str, Any], *, ends: bool) -> None:
        value = next(iter(items_of(event.get("item"))), None)
        kind = (value or {}).get("type") or "message"
        if not value or not isinstance(kind, str):
            return
        names = [name for key in ("id", "call_id") if (name := text_of(value.get(key)))]
        name = next((name for name in names if (kind, name) in self._by_id), names[0] if names else None)
        where = {**event, "item_id": name} if name else event
        item = self._find_or_create(kind, where, adds=not ends, full_text=all_text_of(kind, value) if ends else None)
        if item.ends:  # it is repeated, or another item has the same id
            item = self._create(kind, where, repeats=item)
        item.update(value, ends=ends)
        for name in names:
            self._by_id[kind, name] = item
        self.has_output = self.has_output or ends or item.has_content

    def _add_part(self, event: Mapping[str, Any]) -> None:
        self._read_part(event, ends=False)

    def _end_part(self, event: Mapping[str, Any]) -> None:
        self._read_part(event, ends=True)

    def _read_part(self, event: Mapping[str, Any], *, ends: bool) -> None:
        part = next(iter(parts_of(event.get("part"))), None)
        if part is None:
            return
        carrier, content = _carrier_of(part, position="summary_index" if "summary_index" in event else "content_index")
        if not content and not (ends and self._find(carrier.item, event, full_text=content)):
            return  # the deltas have their own index
        end = "part" if ends else ""
        piece = self._piece(carrier, event, full_text=content, end=end)
        piece.add_full_text(content, end=end)
        piece.fields |= {name: value for name, value in part.items() if name not in ("type", "text", "refusal")}

    def _annotate(self, event: Mapping[str, Any]) -> None:
        if isinstance(event.get("annotation"), dict):
            self._piece(CARRIERS["response.output_text.delta"], event).notes.append(event["annotation"])

    def _end(self, carrier: Carrier, event: Mapping[str, Any], content: str) -> None:
        if content or self._find(carrier.item, event, full_text=content):
            self._piece(carrier, event, full_text=content, end="text").add_full_text(content, end="text")

    def _piece(
        self, carrier: Carrier, event: Mapping[str, Any], *, full_text: str | None = None, end: str = ""
    ) -> Piece:
        item = self._find_or_create(carrier.item, event, full_text=full_text)
        item.content_index = _index(event.get("output_index")) if item.content_index is None else item.content_index
        self.has_output = self.has_output or full_text != ""
        position = _index(event.get(carrier.position))
        if (
            full_text
            and end
            and not text_of(event.get("item_id"))
            and not item.may_end(carrier.part, position, full_text)
        ):
            item = self._create(carrier.item, event)  # another item with the same id, or without an id
        piece = item.piece(carrier.part, position, full_text=full_text, end=end)
        if not carrier.position:
            item.fields |= {name: event[name] for name in NAMES if text_of(event.get(name))}
        return piece

    def _find_or_create(
        self, kind: str, event: Mapping[str, Any], *, adds: bool = False, full_text: str | None = None
    ) -> Item:
        """Return the item of an event, which is created if it is new."""
        item = self._find(kind, event, adds=adds, full_text=full_text)
        return self._create(kind, event) if item is None else self._register(item, event)

    def _find(
        self, kind: str, event: Mapping[str, Any], *, adds: bool = False, full_text: str | None = None
    ) -> Item | None:
        """
        Return the item of an event, if there is one.

        An id counts more than an index, since some servers send one index for all items. Others send another id with
        each event: an event with an unknown id may belong to the item that is open at its index.

        :param adds: whether the event announces an item.
        :param full_text: the text of an event that ends a part or an item; None for a delta.
        """
        name, index = text_of(event.get("item_id")), _index(event.get("output_index"))
        item = self._by_id.get((kind, name)) if name else None
        if item is not None and not adds:
            item.is_named = item.is_named or item.announced
            if (
                index is not None
                and item.content_index not in (None, index)
                and not (full_text and are_related(item.all_text, full_text))
            ):
                # Items with the same id differ in their index.
                other = self._by_index.get((kind, index))
                return other if other is not None and other.id == name else None
        if item is None and index is not None:
            item = self._by_index.get((kind, index))
            if item is not None and name and item.id and (adds or _belongs_to_another(item, full_text)):
                item = None
        if item is None and (name is None or index is None):
            item = self._last.get(kind)
            if item is not None and not _may_belong_to(item, name, index, adds=adds, full_text=full_text):
                item = None
        return item

    def _create(self, kind: str, event: Mapping[str, Any], *, repeats: Item | None = None) -> Item:
        item = Item(kind, repeats=repeats)
        self._items.append(item)
        return self._register(item, event)

    def _register(self, item: Item, event: Mapping[str, Any]) -> Item:
        """Register the id and the index of an event for the item, so that later events find it."""
        name, index = text_of(event.get("item_id")), _index(event.get("output_index"))
        item.id = item.id or name
        item.index = index if item.index is None else item.index
        if name is not None and item.id == name:
            self._by_id[item.kind, name] = item
        if index is not None:
            self._by_index[item.kind, index] = item
        self._last[item.kind] = item
        return item


def _belongs_to_another(item: Item, full_text: str | None) -> bool:
    """Whether an event with another id belongs to another item than that at its index."""
    if full_text is None:
        return bool(item.ends) if item.announced else item.is_ended
    if item.announced and not item.ends:
        return False
    return not are_related(item.all_text, full_text)


def _may_belong_to(item: Item, name: str | None, index: int | None, *, adds: bool, full_text: str | None) -> bool:
    """Whether an event without an id, or without an index, can belong to the last item of its kind."""
    if name and item.id:
        # Some servers send another id with each event: the event belongs to the announced item, or ends its text.
        if adds or item.ends or item.is_named or (index is not None and item.index is not None):
            return False
        return item.announced or bool(full_text and item.all_text and are_related(item.all_text, full_text))
    if index is not None and item.index is not None:
        return False
    if adds:
        return not item.announced
    return not item.ends or (name is None and index is None)


def _carrier_of(part: Mapping[str, Any], *, position: str) -> tuple[Carrier, str]:
    """Return the carrier for an event with this part, and the text of the part."""
    kind = part.get("type")
    if position == "summary_index":
        return Carrier("reasoning", SUMMARY, position), text_of(part.get("text")) or ""
    if kind in ("reasoning_text", SUMMARY):
        return Carrier("reasoning", kind, position), text_of(part.get("text")) or ""
    if (words := refusal_in(part)) is not None:
        return Carrier("message", "refusal", position), words
    if (text := text_in(part)) is not None:
        return Carrier("message", "output_text", position), text
    return Carrier("message", kind if isinstance(kind, str) else "unknown", position), ""


def _other_delta(event: Mapping[str, Any]) -> str:
    """Return the text of a delta that is an object."""
    delta = event["delta"]
    return (text_of(delta.get("text")) if isinstance(delta, dict) else None) or ""


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
