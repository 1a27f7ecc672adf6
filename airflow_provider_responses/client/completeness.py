"""The most complete of several sources of the same content. No I/O."""

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
    One part of an item as some of its sources hold it.

    :param kind: type of the part.
    :param place: of the part in its item.
    :param deltas: in the order of their events.
    :param wholes: the contents that events with all of it hold, in the order of these events.
    :param ends: number of events that ended it.
    :param part: its other fields.
    """

    kind: str
    place: int
    deltas: Sequence[str] = ()
    wholes: list[str] = field(default_factory=list)
    ends: int = 0
    part: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The most complete content."""
        return choose(self.deltas, self.wholes, times=self.ends)


def choose(deltas: Sequence[str], wholes: Iterable[str], *, times: int = 1) -> str:
    """
    Return the most complete content.

    Two wholes that agree are right. A single one is right if it is the text of the deltas or extends it; otherwise the
    deltas are right. White space is ignored.

    :param times: number of ends: a stream may bring its deltas twice.
    """
    pieced = "".join(deltas)
    present = [whole for whole in wholes if whole]
    if not present or all(whole == pieced for whole in present):
        return pieced
    if agreed := _agreed(present):
        return _longest(agreed, present)
    fitting = [whole for whole in present if not pieced or _fits(deltas, pieced, whole, times)]
    whole = _longest(fitting[0], fitting) if fitting else pieced
    has_more_space = len(pieced) > len(whole) and without_space(pieced) == without_space(whole)
    return pieced if has_more_space else whole


def choose_arguments(deltas: Sequence[str], wholes: Iterable[str]) -> str:
    """Return the most complete arguments of a call: those that are no JSON, or empty, only if there are no others."""
    present = [whole for whole in wholes if whole]
    pieced = "".join(deltas)
    if all(whole == pieced for whole in present):
        return pieced
    full = [whole for whole in present if parse_json(whole)]
    if not full:
        return pieced if parse_json(pieced) else choose(deltas, present)
    return choose(deltas if parse_json(pieced) else (), full)


def is_superset(texts: Sequence[str], others: Sequence[str]) -> bool:
    """Whether some texts hold all of some others, in their order and each from its beginning."""
    if extends("".join(texts), "".join(others)):
        return True
    left = deque(others)
    for text in texts:
        if left and extends(text, left[0]):
            left.popleft()
    return not left


def resolve(sources: Sequence[Source], contents: Iterable[Any]) -> Any:
    """
    Return the most complete content of an item.

    :param sources: its parts as they were streamed.
    :param contents: the content as the end of the item, and then the end of the response hold it.
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
    """Return a part as it stands in an item."""
    part = {"type": source.kind, **source.part}
    if name := TEXTS.get(source.kind) or ("text" if "text" in part else ""):
        name = name if name in part or "text" not in part else "text"
        part[name] = source.text
    return part


def text_within(value: Any) -> str:
    """Return all text of a content, whatever its form."""
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
    """Return the text that most wholes have, if two of them have it; the longest form of it."""
    votes: dict[str, list[str]] = {}
    for whole in present:
        votes.setdefault(without_space(whole), []).append(whole)
    most = max(votes.values(), key=len)
    return max(most, key=len) if len(most) > 1 else ""


def _longest(text: str, others: Iterable[str]) -> str:
    """Return a text, or the longest extension of it."""
    for other in others:
        if len(other) > len(text) and extends(other, text):
            text = other
    return text


def _fits(deltas: Sequence[str], pieced: str, whole: str, times: int) -> bool:
    """Whether a whole is the text of its deltas, or extends it."""
    if extends(whole, pieced):
        return True
    streamed, ended = without_space(pieced), without_space(whole)
    if not ended:
        return False
    if streamed in ended or (times > 1 and streamed == ended * (len(streamed) // len(ended))):
        return True
    # Deltas were lost: the others stand in the whole one after another, and are most of it.
    place = 0
    for piece in deltas:
        for known in without_space(piece).split(CUT_CHARACTER):
            place = ended.find(known, place) + len(known)
            if place < len(known):
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
        Source(_kind(part), place, wholes=[text], part=part)
        for place, (part, text) in enumerate(zip(parts_of(content), texts_within(content), strict=True))
    ]


def _align(sources: Sequence[Source], contents: Sequence[Any]) -> list[Source]:
    """Return the parts, each with all its sources: those of the content with most parts, and others that it lacks."""
    most = max(range(len(contents)), key=lambda number: (len(parts_of(contents[number])), number))
    base = _parts(contents[most])
    before = [sources, *(_with_text(_parts(content)) for content in contents[:most])]
    after = [_with_text(_parts(content)) for content in contents[most + 1 :]]
    known = _with_text(base)
    textless = [one for one in base if not one.wholes[0]]  # parts without text have no other source
    extra: list[Source] = []
    matched: list[list[Source]] = [[] for _ in known]
    for stream in before:
        _add(known, matched, stream, extra)
    for number, one in enumerate(known):
        matched[number].append(one)
    for stream in after:
        _add(known, matched, stream, extra)
    joined = [_joined(part, among) for part, among in zip(known, matched, strict=True)]
    return sorted([*joined, *textless, *extra], key=lambda one: one.place)


def _with_text(parts: Iterable[Source]) -> list[Source]:
    return [part for part in parts if part.wholes[0]]


def _joined(part: Source, sources: Sequence[Source]) -> Source:
    streamed: Mapping[str, Any] = next((one.part for one in sources if one.deltas), {})
    return Source(
        part.kind,
        part.place,
        deltas=[delta for one in sources for delta in one.deltas],
        wholes=[whole for one in sources for whole in one.wholes],
        ends=max(one.ends for one in sources),
        part={**streamed, **part.part},
    )


def _add(known: Sequence[Source], matched: list[list[Source]], stream: Sequence[Source], extra: list[Source]) -> None:
    """Add parts to the known ones that they equal: by the same text, else by the same place."""
    by_place = {one.place: number for number, one in enumerate(known)}
    by_text: dict[tuple[str, str], deque[int]] = {}
    for number, one in enumerate(known):
        by_text.setdefault((one.kind, without_space(one.wholes[0])), deque()).append(number)
    taken: set[int] = set()
    left: list[Source] = []
    for source in stream:
        key = (source.kind, without_space(source.text))
        same = by_text.get(key, deque())
        while same and same[0] in taken:
            same.popleft()
        here = by_place.get(source.place)
        if here is None or here in taken or (known[here].kind, without_space(known[here].wholes[0])) != key:
            here = same[0] if same else None
        if here is None:
            left.append(source)
        else:
            taken.add(here)
            matched[here].append(source)
    for source in left:
        here = by_place.get(source.place)
        if here is not None and here not in taken and known[here].kind == source.kind:
            taken.add(here)
            matched[here].append(source)
        else:
            extra.append(source)
