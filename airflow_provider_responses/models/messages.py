"""Which of a response's items are messages, what they hold, and which of them are the output. No shape raises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SEPARATOR: Final = "\n\n"  # between two messages
TEXT_PARTS: Final = frozenset({"output_text", "text"})
# Parts that hold text which is not the output. Any other part with a `text` is output, whatever its type is called.
NO_OUTPUT: Final = frozenset({"reasoning_text", "summary_text", "reasoning", "thinking"})
LOST: Final = "\ufffd"  # stands for half a character, at the end of a delta
# Items that are neither messages nor calls of tools.
SILENT: Final = frozenset({"reasoning", "compaction", "context_compaction", "item_reference"})


@dataclass(frozen=True, kw_only=True)
class ResponseMessage:
    """
    One message of a response.

    :param phase: ``commentary`` or ``final_answer``, where the model names one.
    :param status: ``completed``, ``incomplete`` or ``in_progress``.
    :param text: its text parts, joined.
    :param refusal: the words of a refusal; None if the model did not refuse.
    """

    id: str | None = None
    role: str | None = None
    phase: str | None = None
    status: str | None = None
    text: str = field(default="", repr=False)
    refusal: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """
    A message, with its item and its place.

    :param turn: number of tool calls before it; messages of one turn belong together.
    """

    message: ResponseMessage
    item: Mapping[str, Any]
    turn: int


def text_of(value: Any) -> str | None:
    """Return a text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def items_of(output: Any) -> list[dict[str, Any]]:
    """Return the items of an ``output``; some servers send one item, a part or a text in place of the list."""
    values = output if isinstance(output, list) else [output]
    return [item for value in values if (item := _item(value)) is not None]


def _item(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        return {"type": "message", "role": "assistant", "content": [_text_part(value)]} if value else None
    if not isinstance(value, dict):
        return None
    if value.get("type") in ("output_text", "text") and isinstance(value.get("text"), str) and "content" not in value:
        return {"type": "message", "role": "assistant", "content": [value]}
    return value


def is_message(item: Mapping[str, Any]) -> bool:
    """Whether an item is a message, also one without a ``type``."""
    return item.get("type") in (None, "message")


def is_tool_call(item: Mapping[str, Any]) -> bool:
    """Whether an item is a call of a tool, or what came of one."""
    kind = item.get("type")
    return isinstance(kind, str) and kind != "message" and kind not in SILENT


def parts_of(content: Any) -> list[dict[str, Any]]:
    """Return the parts of a ``content``, which may also be a text, or hold texts in place of parts."""
    values = content if isinstance(content, list) else [content]
    parts = (_text_part(value) if isinstance(value, str) else value for value in values)
    return [part for part in parts if isinstance(part, dict)]


def text_in(part: Mapping[str, Any]) -> str | None:
    """Return the output text of a part, None if it holds something else."""
    kind = part.get("type")
    if not (kind is None or isinstance(kind, str)) or kind in NO_OUTPUT or kind == "refusal":
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def refusal_in(part: Mapping[str, Any]) -> str | None:
    """Return a part's words of a refusal, None if it holds something else."""
    kind = part.get("type")
    if kind == "refusal":
        return text_of(part.get("refusal")) or text_of(part.get("text")) or ""
    return text_of(part.get("refusal")) if kind is None else None


def is_refused(item: Mapping[str, Any]) -> bool:
    """Whether a message holds a refusal."""
    if not is_message(item):
        return False
    content = item.get("content")
    parts = content if isinstance(content, list) else (content,)
    if any(isinstance(part, dict) and refusal_in(part) is not None for part in parts):
        return True
    return text_of(item.get("refusal")) is not None  # as in chat completions


def find_messages(items: Iterable[Mapping[str, Any]]) -> list[Found]:
    """
    Return the messages in their order.

    The same id counts once, with the most complete of its contents. But two contents of which neither extends the
    other are two messages, whatever their ids.
    """
    found: list[Found] = []
    places: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    turn = 0
    for item in items:
        if is_tool_call(item):
            turn += 1
        if not is_message(item):
            continue
        message = _read(item)
        name, words = message.id or "", _words(message)
        place = places.get(name)
        if place is not None and covers(words, old := _words(found[place].message)):
            if len(words) >= len(old):
                found[place] = Found(message, item, found[place].turn)
        elif place is None or not ((name, words) in seen or covers(_words(found[place].message), words)):
            if name:
                places[name] = len(found)
            found.append(Found(message, item, turn))
        seen.add((name, words))
    return found


def with_ids_apart(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return items in which an id stands for one message: others that a server gave the same id have none."""
    among = list(items)
    found = find_messages(among)
    names = [one.message.id for one in found if one.message.id]
    if len(names) == len(set(names)):
        return among
    seen: set[str] = set()
    kept: dict[int, Mapping[str, Any]] = {}
    for one in found:
        name = one.message.id or ""
        kept[id(one.item)] = {**one.item, "id": None} if name in seen else one.item
        if name:
            seen.add(name)
    return [kept.get(id(item), item) for item in among if id(item) in kept or not is_message(item)]


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


def choose_output(found: Iterable[Found]) -> list[ResponseMessage]:
    """
    Return the messages whose text is the output.

    These are the ``final_answer`` where the messages carry phases, else the ones after the last tool call. Where those
    hold no text, an earlier message does: text that came is never passed over for an empty one.
    """
    told = _with_text(found)
    if final := [one.message for one in told if one.message.phase == "final_answer"]:
        return final
    told = [one for one in told if one.message.phase != "commentary"] or told
    return [one.message for one in told if one.turn == told[-1].turn]


def candidates(found: Iterable[Found]) -> list[str]:
    """Return the texts that may hold a typed output: ``final_answer`` first, ``commentary`` last, later ones first."""
    ranks = {"final_answer": 0, "commentary": 2}
    messages = [one.message for one in _with_text(found)][::-1]
    messages.sort(key=lambda message: ranks.get(message.phase or "", 1))
    return list(dict.fromkeys(message.text for message in messages))


def _with_text(found: Iterable[Found]) -> list[Found]:
    """Return the messages that say something; where all are blank, the blank ones."""
    told = [one for one in found if one.message.text]
    return [one for one in told if one.message.text.strip()] or told


def join(texts: Iterable[str]) -> str:
    """Put the texts of several messages into one."""
    return SEPARATOR.join(text for text in texts if text)


def _read(item: Mapping[str, Any]) -> ResponseMessage:
    parts = parts_of(item.get("content"))
    refusals = [words for part in parts if (words := refusal_in(part)) is not None]
    if words := text_of(item.get("refusal")):  # as in chat completions
        refusals = [*refusals, words] if words not in refusals else refusals
    return ResponseMessage(
        id=text_of(item.get("id")),
        role=text_of(item.get("role")),
        phase=text_of(item.get("phase")),
        status=text_of(item.get("status")),
        text="".join(_texts(parts)),
        refusal="".join(refusals) if refusals else None,
    )


def _texts(parts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    return (text for part in parts if (text := text_in(part)))


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _words(message: ResponseMessage) -> str:
    return message.text + (message.refusal or "")
