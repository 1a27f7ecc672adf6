"""The terminal response of a stream and the items of its events become one response. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_responses.client.completeness import is_superset
from airflow_provider_responses.client.pieces import Item, output_text
from airflow_provider_responses.models.messages import is_message, items_of, parts_of, text_in, text_of, without_space


@dataclass(frozen=True, slots=True)
class Merged:
    """
    The items of a response.

    :param consistent: whether the terminal response holds the text that was streamed, if it holds a text at all.
    """

    items: list[dict[str, Any]]
    consistent: bool


def merge(output: Any, items: Sequence[Item], *, status: str) -> Merged:
    """
    Return the items of a terminal response, completed by those that were streamed.

    If it holds a text that is the streamed one or extends it, its messages are the output. Otherwise the streamed ones
    are: a bridge may end a stream with a text of its own.

    :param output: the ``output`` of the terminal response, if it has one.
    :param status: for items whose events did not end them.
    """
    final = items_of(output)
    if not items:
        return Merged(final, consistent=True)
    streamed = [item.build(status) for item in items]
    texts = {number: text for number, built in enumerate(streamed) if (text := output_text(built))}
    finals = [text for item in final if (text := output_text(item))]
    final_wins = bool(finals) and is_superset(finals, [*texts.values()])
    known = {without_space(text) for text in finals}
    places = {place: number for number, place in _pair(final, items, streamed).items()}
    paired = {*places.values()}
    # The items that the terminal response lacks; its messages may have the same text in another form.
    left = deque(
        number
        for number, built in enumerate(streamed)
        if number not in paired
        and items[number].has_content
        and not (is_message(built) and (final_wins or without_space(texts.get(number, "")) in known))
    )
    consistent = final_wins or not finals or not any(number in texts for number in left)
    merged: list[dict[str, Any]] = []
    for place, item in enumerate(final):
        number = places.get(place)
        if number is None:
            merged.append(item)
            continue
        while left and left[0] < number:
            merged.append(streamed[left.popleft()])
        filled = items[number].build(status, item)
        if is_message(item):
            if final_wins:
                filled["content"] = item.get("content")
            elif ended := _words(item):
                consistent = consistent and without_space(_words(filled)) == without_space(ended)
        merged.append(filled)
    return Merged(merged + [streamed[number] for number in left], consistent=consistent)


def _words(item: Mapping[str, Any]) -> str:
    """Return the text of a message, without its refusal."""
    return "".join(text_in(part) or "" for part in parts_of(item.get("content")))


class _Places:
    """The unpaired items of the terminal response, by their type, id, name and text."""

    def __init__(self, final: Sequence[Mapping[str, Any]]) -> None:
        self._open = dict.fromkeys(range(len(final)))
        self._by: dict[tuple[Any, ...], deque[int]] = {}
        self._final = final
        for place, item in enumerate(final):
            kind, name = _type(item), text_of(item.get("name"))
            for key in (("all", kind), ("name", kind, name), *(("id", kind, one) for one in _names(item))):
                self._by.setdefault(key, deque()).append(place)
            if kind == "message" and (text := without_space(output_text(item))):
                self._by.setdefault(("text", text), deque()).append(place)

    def first(self, *key: Any) -> int | None:
        """Return the first open place of a key."""
        among = self._by.get(key)
        while among and among[0] not in self._open:
            among.popleft()
        return among[0] if among else None

    def alike(self, item: Mapping[str, Any]) -> int | None:
        """Return the first open place of an item with the same type, whose name is not another one."""
        kind, name = _type(item), text_of(item.get("name"))
        if name is None:
            return self.first("all", kind)
        found = (self.first("name", kind, name), self.first("name", kind, None))
        return min((place for place in found if place is not None), default=None)

    def take(self, place: int | None, item: Mapping[str, Any]) -> bool:
        """Close a place, if it is open and can be that of the item."""
        if place is None or place not in self._open or not _are_alike(self._final[place], item):
            return False
        del self._open[place]
        return True


def _pair(
    final: Sequence[Mapping[str, Any]], items: Sequence[Item], streamed: Sequence[dict[str, Any]]
) -> dict[int, int]:
    """Return for each streamed item its place in the terminal response: by id, by text, by index, then by order."""
    pairs: dict[int, int] = {}
    places = _Places(final)

    def pair(number: int, found: Iterable[int | None]) -> None:
        for place in found:
            if number not in pairs and place is not None and places.take(place, streamed[number]):
                pairs[number] = place

    for number, built in enumerate(streamed):
        names = {*_names(built), items[number].id or ""}
        pair(number, (places.first("id", _type(built), name) for name in names))
    for number, built in enumerate(streamed):
        if number not in pairs and is_message(built):
            pair(
                number, (places.first("text", text) for text in {without_space(one) for one in items[number].wholes()})
            )
    for number, one in enumerate(items):
        pair(number, (one.index,))
    for number, built in enumerate(streamed):
        if number not in pairs:
            pair(number, (places.alike(built),))
    return pairs


def _type(item: Mapping[str, Any]) -> Any:
    kind = item.get("type") or "message"
    return kind if isinstance(kind, str) else str(kind)


def _names(item: Mapping[str, Any]) -> set[str]:
    return {name for key in ("id", "call_id") if (name := text_of(item.get(key)))}


def _are_alike(item: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if _type(item) != _type(other):
        return False
    return len({name for one in (item, other) if (name := text_of(one.get("name")))}) < 2
