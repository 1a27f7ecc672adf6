"""Chooses the most complete of several sources of the same content. No I/O."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.client.bodies import parse_json
from airflow_provider_responses.models.messages import (
    CUT_CHARACTER,
    extends,
    parts_of,
    refusal_in,
    text_in,
    text_of,
    without_space,
)

TEXTS: Final[Mapping[str, str]] = {
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "text",
    "summary_text": "text",
}


@dataclass(slots=True)
class Source:
    """
    One part of an item, with the sources of its text.

    :param kind: type of the part.
    :param position: of the part in its item.
    :param deltas: in the order of their events.
    :param full_texts: texts in events that hold the full text, in the order of these events.
    :param ends: number of events that ended the part.
    :param part: the other fields of the part.
    """

    kind: str
    position: int
    deltas: Sequence[str] = ()
    full_texts: list[str] = field(default_factory=list)
    ends: int = 0
    part: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The most complete text."""
        return most_complete_text(self.deltas, self.full_texts, times=self.ends)


def most_complete_text(deltas: Sequence[str], full_texts: Iterable[str], *, times: int = 1) -> str:
    """
    Return the most complete text.

    If two full texts agree, they count. A single full text counts if it is equal to the text of the deltas or extends
    it; otherwise the deltas count. White space is ignored.

    :param times: number of events that ended the part: a stream may hold all deltas twice.
    """
    from_deltas = "".join(deltas)
    present = [full_text for full_text in full_texts if full_text]
    if not present or all(full_text == from_deltas for full_text in present):
        return from_deltas
    if agreed := _agreed(present):
        return _longest(agreed, present)
    matching = [text for text in present if not from_deltas or _matches_deltas(text, deltas, from_deltas, times)]
    full_text = _longest(matching[0], matching) if matching else from_deltas
    has_more_space = len(from_deltas) > len(full_text) and without_space(from_deltas) == without_space(full_text)
    return from_deltas if has_more_space else full_text


def most_complete_arguments(deltas: Sequence[str], full_texts: Iterable[str]) -> str:
    """Return the most complete arguments of a call; invalid JSON and empty arguments only if there are no others."""
    present = [full_text for full_text in full_texts if full_text]
    from_deltas = "".join(deltas)
    if all(full_text == from_deltas for full_text in present):
        return from_deltas
    valid = [full_text for full_text in present if parse_json(full_text)]
    if not valid:
        return from_deltas if parse_json(from_deltas) else most_complete_text(deltas, present)
    return most_complete_text(deltas if parse_json(from_deltas) else (), valid)


def is_superset(texts: Sequence[str], others: Sequence[str]) -> bool:
    """Whether each of the other texts is, in their order, the beginning of one of these texts."""
    if extends("".join(texts), "".join(others)):
        return True
    left = deque(others)
    for text in texts:
        if left and extends(text, left[0]):
            left.popleft()
    return not left


def most_complete_content(sources: Sequence[Source], contents: Iterable[Any]) -> Any:
    """
    Return the most complete content of an item.

    :param sources: its parts as they were streamed.
    :param contents: the content in the last event of the item, and that in the last event of the response.
    """
    present = [content for content in contents if text_within(content)]
    if not present:
        return [as_part(source) for source in sources]
    streamed = [source.text for source in sources]
    for content in reversed(present):
        texts = texts_within(content)
        if is_superset(texts, streamed) and all(is_superset(texts, texts_within(other)) for other in present):
            return content
    return [as_part(source) for source in _align(sources, present)]


def as_part(source: Source) -> dict[str, Any]:
    """Return a part in the form that it has in an item."""
    part = {"type": source.kind, **source.part}
    if name := TEXTS.get(source.kind) or ("text" if "text" in part else ""):
        name = name if name in part or "text" not in part else "text"
        part[name] = source.text
    return part


def text_within(value: Any) -> str:
    """Return all text of a content in any form."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "type" not in value and "text" not in value:  # arguments as an object
        return as_json(value)
    return "".join(texts_within(value))


def texts_within(value: Any) -> list[str]:
    """Return the texts of the parts of a content."""
    return [text_of(part.get("text")) or text_of(part.get("refusal")) or "" for part in parts_of(value)]


def as_json(value: Any) -> str:
    """Return arguments, which may also be an object, as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) if value else ""


def _agreed(present: Sequence[str]) -> str:
    """Return the most frequent text in its longest form, empty if no two texts agree."""
    votes: dict[str, list[str]] = {}
    for full_text in present:
        votes.setdefault(without_space(full_text), []).append(full_text)
    most = max(votes.values(), key=len)
    return max(most, key=len) if len(most) > 1 else ""


def _longest(text: str, others: Iterable[str]) -> str:
    """Return a text, or the longest extension of it."""
    for other in others:
        if len(other) > len(text) and extends(other, text):
            text = other
    return text


def _matches_deltas(full_text: str, deltas: Sequence[str], from_deltas: str, times: int) -> bool:
    """Whether a full text is equal to the text of the deltas, or extends it."""
    if extends(full_text, from_deltas):
        return True
    streamed, ended = without_space(from_deltas), without_space(full_text)
    if not ended:
        return False
    if streamed in ended or (times > 1 and streamed == ended * (len(streamed) // len(ended))):
        return True
    # Deltas were lost: the remaining ones occur in the full text one after another, and are most of it.
    position = 0
    for piece in deltas:
        for known in without_space(piece).split(CUT_CHARACTER):
            position = ended.find(known, position) + len(known)
            if position < len(known):
                return False
    return 2 * len(streamed) >= len(ended)


def _kind(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if refusal_in(part) is not None:
        return "refusal"
    if text_in(part) is not None:
        return "output_text"
    return kind if isinstance(kind, str) else "unknown"


def _parts(content: Any) -> list[Source]:
    return [
        Source(_kind(part), position, full_texts=[text], part=part)
        for position, (part, text) in enumerate(zip(parts_of(content), texts_within(content), strict=True))
    ]


def _align(sources: Sequence[Source], contents: Sequence[Any]) -> list[Source]:
    """Return the parts of the content with most parts, and parts that it lacks, each with all its sources."""
    most = max(range(len(contents)), key=lambda number: (len(parts_of(contents[number])), number))
    base = _parts(contents[most])
    before = [sources, *(_with_text(_parts(content)) for content in contents[:most])]
    after = [_with_text(_parts(content)) for content in contents[most + 1 :]]
    known = _with_text(base)
    textless = [one for one in base if not one.full_texts[0]]  # parts without text have no other source
    extra: list[Source] = []
    matched: list[list[Source]] = [[] for _ in known]
    for stream in before:
        _match(known, matched, stream, extra)
    for number, one in enumerate(known):
        matched[number].append(one)
    for stream in after:
        _match(known, matched, stream, extra)
    joined = [_join_sources(part, its_sources) for part, its_sources in zip(known, matched, strict=True)]
    return sorted([*joined, *textless, *extra], key=lambda one: one.position)


def _with_text(parts: Iterable[Source]) -> list[Source]:
    return [part for part in parts if part.full_texts[0]]


def _join_sources(part: Source, sources: Sequence[Source]) -> Source:
    streamed: Mapping[str, Any] = next((one.part for one in sources if one.deltas), {})
    return Source(
        part.kind,
        part.position,
        deltas=[delta for one in sources for delta in one.deltas],
        full_texts=[full_text for one in sources for full_text in one.full_texts],
        ends=max(one.ends for one in sources),
        part={**streamed, **part.part},
    )


def _match(known: Sequence[Source], matched: list[list[Source]], stream: Sequence[Source], extra: list[Source]) -> None:
    """Add each part of a source to the known part with the same text, else to that at the same position."""
    by_position = {one.position: number for number, one in enumerate(known)}
    by_text: dict[tuple[str, str], deque[int]] = {}
    for number, one in enumerate(known):
        by_text.setdefault((one.kind, without_space(one.full_texts[0])), deque()).append(number)
    taken: set[int] = set()
    left: list[Source] = []
    for source in stream:
        key = (source.kind, without_space(source.text))
        same = by_text.get(key, deque())
        while same and same[0] in taken:
            same.popleft()
        here = by_position.get(source.position)
        if here is None or here in taken or (known[here].kind, without_space(known[here].full_texts[0])) != key:
            here = same[0] if same else None
        if here is None:
            left.append(source)
        else:
            taken.add(here)
            matched[here].append(source)
    for source in left:
        here = by_position.get(source.position)
        if here is not None and here not in taken and known[here].kind == source.kind:
            taken.add(here)
            matched[here].append(source)
        else:
            extra.append(source)
