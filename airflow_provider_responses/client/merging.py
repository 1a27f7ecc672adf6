"""Merges the response in the last event of a stream with the items of the other events. No I/O."""

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

    :param consistent: whether the last event holds the streamed text, or no text.
    """

    items: list[dict[str, Any]]
    consistent: bool


def merge(output: Any, items: Sequence[Item], *, status: str) -> Merged:
    """
    Return the items of the response in the last event, completed by the streamed ones.

    If the text of this response is equal to the streamed one or extends it, its messages are the output. Otherwise the
    streamed messages are: a bridge may end a stream with another text.

    :param output: the ``output`` of the response in the last event, if it has one.
    :param status: that of items that no event ended.
    """
    final = items_of(output)
    if not items:
        return Merged(final, consistent=True)
    streamed = [item.build(status) for item in items]
    texts = {number: text for number, built in enumerate(streamed) if (text := output_text(built))}
    finals = [text for item in final if (text := output_text(item))]
    final_wins = bool(finals) and is_superset(finals, [*texts.values()])
    known = {without_space(text) for text in finals}
    positions = {position: number for number, position in _pair(final, items, streamed).items()}
    paired = {*positions.values()}
    # The streamed items that the last event lacks. Its messages may hold the same text in another form.
    left = deque(
        number
        for number, built in enumerate(streamed)
        if number not in paired
        and items[number].has_content
        and not (is_message(built) and (final_wins or without_space(texts.get(number, "")) in known))
    )
    consistent = final_wins or not finals or not any(number in texts for number in left)
    merged: list[dict[str, Any]] = []
    for position, item in enumerate(final):
        number = positions.get(position)
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


class _UnpairedItems:
    """The items of the last event that are not paired yet, by type, id, name and text."""

    def __init__(self, final: Sequence[Mapping[str, Any]]) -> None:
        self._open = dict.fromkeys(range(len(final)))
        self._by: dict[tuple[Any, ...], deque[int]] = {}
        self._final = final
        for position, item in enumerate(final):
            kind, name = _type(item), text_of(item.get("name"))
            for key in (("all", kind), ("name", kind, name), *(("id", kind, one) for one in _names(item))):
                self._by.setdefault(key, deque()).append(position)
            if kind == "message" and (text := without_space(output_text(item))):
                self._by.setdefault(("text", text), deque()).append(position)

    def first(self, *key: Any) -> int | None:
        """Return the position of the first unpaired item with a key."""
        candidates = self._by.get(key)
        while candidates and candidates[0] not in self._open:
            candidates.popleft()
        return candidates[0] if candidates else None

    def first_alike(self, item: Mapping[str, Any]) -> int | None:
        """Return the position of the first unpaired item of the same type that has no other name."""
        kind, name = _type(item), text_of(item.get("name"))
        if name is None:
            return self.first("all", kind)
        found = (self.first("name", kind, name), self.first("name", kind, None))
        return min((position for position in found if position is not None), default=None)

    def close(self, position: int | None, item: Mapping[str, Any]) -> bool:
        """Mark the item at a position as paired, if it is unpaired and can be the given item."""
        if position is None or position not in self._open or not _are_alike(self._final[position], item):
            return False
        del self._open[position]
        return True


def _pair(
    final: Sequence[Mapping[str, Any]], items: Sequence[Item], streamed: Sequence[dict[str, Any]]
) -> dict[int, int]:
    """Return the positions of streamed items in the last event: by id, by text, by index, then by order."""
    pairs: dict[int, int] = {}
    unpaired = _UnpairedItems(final)

    def pair(number: int, found: Iterable[int | None]) -> None:
        for position in found:
            if number not in pairs and position is not None and unpaired.close(position, streamed[number]):
                pairs[number] = position

    for number, built in enumerate(streamed):
        names = {*_names(built), items[number].id or ""}
        pair(number, (unpaired.first("id", _type(built), name) for name in names))
    for number, built in enumerate(streamed):
        if number not in pairs and is_message(built):
            texts = {without_space(text) for text in items[number].full_texts()}
            pair(number, (unpaired.first("text", text) for text in texts))
    for number, one in enumerate(items):
        pair(number, (one.index,))
    for number, built in enumerate(streamed):
        if number not in pairs:
            pair(number, (unpaired.first_alike(built),))
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
