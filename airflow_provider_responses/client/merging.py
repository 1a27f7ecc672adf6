"""The terminal response of a stream and the items that its events brought become one response. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_responses.client.bodies import parse_json
from airflow_provider_responses.client.pieces import WITHOUT_PARTS, Item, covers, output_text
from airflow_provider_responses.models.messages import is_message, items_of, text_of


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
    Return the items of a terminal response, with what it lacks of what was streamed.

    Where it holds a text, it wins over the messages that were streamed, if that text is theirs or an extension of it.
    Otherwise theirs is the output: a bridge may end a stream with a text of its own.

    :param output: the ``output`` of the terminal response, if it has one.
    :param status: for items whose events did not end them.
    """
    final = items_of(output)
    if not items:
        return Merged(final, consistent=True)
    streamed = [item.build(status) for item in items]
    pairs = _pair(final, items, streamed)
    texts = {number: text for number, built in enumerate(streamed) if (text := output_text(built))}
    finals = [text for item in final if (text := output_text(item))]
    ended = "".join(finals)
    consistent = covers(ended, "".join(texts.values())) or all(
        any(covers(one, text) for one in finals) for text in texts.values()
    )
    consistent = consistent or not ended
    final_wins = bool(ended) and consistent
    places = {place: number for number, place in pairs.items()}
    # What the terminal response lacks; its messages may have the same text under another form.
    left = deque(
        number
        for number, built in enumerate(streamed)
        if number not in pairs and items[number].has_content and not (final_wins and is_message(built))
    )
    merged: list[dict[str, Any]] = []
    for place, item in enumerate(final):
        paired = places.get(place)
        if paired is None:
            if consistent or not is_message(item):
                merged.append(item)
            continue
        while left and left[0] < paired:
            merged.append(streamed[left.popleft()])
        filled = _filled(item, items[paired], streamed[paired])
        if paired in texts:
            filled["content"] = item.get("content") if final_wins else streamed[paired]["content"]
        merged.append(filled)
    return Merged(merged + [streamed[number] for number in left], consistent=consistent)


def _pair(final: list[dict[str, Any]], items: Sequence[Item], streamed: list[dict[str, Any]]) -> dict[int, int]:
    """Return for each streamed item its place in the terminal response: by id, else by index, else by order."""
    pairs: dict[int, int] = {}
    open_places = dict.fromkeys(range(len(final)))

    def pair(number: int, places: Iterable[int]) -> None:
        place = next((p for p in places if p in open_places and _are_alike(final[p], streamed[number])), None)
        if place is not None and number not in pairs:
            pairs[number] = place
            del open_places[place]

    named: dict[str, list[int]] = {}
    for place, item in enumerate(final):
        for name in _names(item):
            named.setdefault(name, []).append(place)
    for number, built in enumerate(streamed):
        for name in {*_names(built), items[number].id or ""}:
            pair(number, named.get(name, ()))
    for number, one in enumerate(items):
        if one.index is not None:
            pair(number, (one.index,))
    for number in range(len(items)):
        pair(number, list(open_places) if number not in pairs else ())
    return pairs


def _names(item: Mapping[str, Any]) -> set[str]:
    return {name for key in ("id", "call_id") if (name := text_of(item.get(key)))}


def _are_alike(item: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if (item.get("type") or "message") != (other.get("type") or "message"):
        return False
    return len({name for one in (item, other) if (name := text_of(one.get("name")))}) < 2


def _filled(item: dict[str, Any], known: Item, built: dict[str, Any]) -> dict[str, Any]:
    """Return an item of the terminal response with what it lacks of the same item as it was streamed."""
    lacking = {name: built[name] for name in known.known() if item.get(name) in (None, "", [], {}) and built[name]}
    name = WITHOUT_PARTS.get(known.kind, "")
    said, ended = built.get(name), item.get(name)
    if isinstance(said, str) and isinstance(ended, str) and not covers(ended, said) and not parse_json(ended):
        lacking[name] = said  # the terminal response holds its beginning, or empty arguments
    return {**item, **lacking}
