"""
The messages among a response's items, their texts, and the choice of the output among them.

No shape of an item raises: the response is paid for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SEPARATOR: Final = "\n\n"  # between two messages
TEXT_PARTS: Final = frozenset({"output_text", "text"})
# Parts whose text is not output. Any other part with a `text` is output, whatever its type.
NO_OUTPUT: Final = frozenset({"reasoning_text", "summary_text", "reasoning", "thinking"})
CUT_CHARACTER: Final = "\ufffd"  # replaces a character of which a delta holds only the beginning
# Items that are neither messages nor calls of tools.
OTHER_ITEMS: Final = frozenset({"reasoning", "compaction", "context_compaction", "item_reference"})


@dataclass(frozen=True, kw_only=True)
class ResponseMessage:
    """
    One message of a response.

    :param phase: ``commentary`` or ``final_answer``, if the model names one.
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
class FoundMessage:
    """
    A message and its item.

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
    """Whether an item is a call of a tool or its output."""
    kind = item.get("type")
    return isinstance(kind, str) and kind != "message" and kind not in OTHER_ITEMS


def parts_of(content: Any) -> list[dict[str, Any]]:
    """Return the parts of a ``content``, which may also be a text, or hold texts in place of parts."""
    values = content if isinstance(content, list) else [content]
    parts = (_text_part(value) if isinstance(value, str) else value for value in values)
    return [part for part in parts if isinstance(part, dict)]


def text_in(part: Mapping[str, Any]) -> str | None:
    """Return the output text of a part, None if it has none."""
    kind = part.get("type")
    if not (kind is None or isinstance(kind, str)) or kind in NO_OUTPUT or kind == "refusal":
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def refusal_in(part: Mapping[str, Any]) -> str | None:
    """Return the words of a refusal in a part, None if it has none."""
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


def find_messages(items: Iterable[Mapping[str, Any]]) -> list[FoundMessage]:
    """
    Return the messages in their order.

    Messages with the same id count once, and the most complete one counts. But if neither content extends the other,
    they are two messages, whatever their ids.
    """
    found: list[FoundMessage] = []
    known: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    turn = 0
    for item in items:
        if is_tool_call(item):
            turn += 1
        if not is_message(item):
            continue
        message = _read(item)
        name, words = message.id or "", _words(message)
        number = known.get(name)
        if number is not None and extends(words, old := _words(found[number].message)):
            if len(words) >= len(old):
                found[number] = FoundMessage(message, item, found[number].turn)
        elif number is None or not ((name, words) in seen or extends(_words(found[number].message), words)):
            if name:
                known[name] = len(found)
            found.append(FoundMessage(message, item, turn))
        seen.add((name, words))
    return found


def with_unique_ids(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return items in which each id belongs to one message; other messages with the same id have none."""
    given = list(items)
    found = find_messages(given)
    names = [one.message.id for one in found if one.message.id]
    if len(names) == len(set(names)):
        return given
    seen: set[str] = set()
    unique: dict[int, Mapping[str, Any]] = {}
    for one in found:
        name = one.message.id or ""
        unique[id(one.item)] = {**one.item, "id": None} if name in seen else one.item
        if name:
            seen.add(name)
    return [unique.get(id(item), item) for item in given if id(item) in unique or not is_message(item)]


def without_space(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())


def extends(text: str, beginning: str) -> bool:
    """
    Whether a text is equal to another one or extends it; white space is ignored.

    A delta may end inside a character, which becomes U+FFFD in it: this matches any characters.
    """
    if text.startswith(beginning):
        return True
    text = without_space(text)
    first, *others = without_space(beginning).split(CUT_CHARACTER)
    if not text.startswith(first):
        return False
    end = len(first)
    for other in others:
        end = text.find(other, end) + len(other)
        if end < len(other):
            return False
    return True


def choose_output(found: Iterable[FoundMessage]) -> list[ResponseMessage]:
    """
    Return the messages whose text is the output.

    These are the messages of phase ``final_answer``, or, if messages have no phases, those after the last tool call.
    If these have no text, the messages before count: an empty message never replaces one with text.
    """
    with_text = _with_text(found)
    if final := [one.message for one in with_text if one.message.phase == "final_answer"]:
        return final
    with_text = [one for one in with_text if one.message.phase != "commentary"] or with_text
    return [one.message for one in with_text if one.turn == with_text[-1].turn]


def output_candidates(found: Iterable[FoundMessage]) -> list[str]:
    """Return the texts that may hold a typed output: ``final_answer`` first, ``commentary`` last, later ones first."""
    ranks = {"final_answer": 0, "commentary": 2}
    messages = [one.message for one in _with_text(found)][::-1]
    messages.sort(key=lambda message: ranks.get(message.phase or "", 1))
    return list(dict.fromkeys(message.text for message in messages))


def _with_text(found: Iterable[FoundMessage]) -> list[FoundMessage]:
    """Return the messages with text; if all are blank, the blank ones."""
    with_text = [one for one in found if one.message.text]
    return [one for one in with_text if one.message.text.strip()] or with_text


def join_texts(texts: Iterable[str]) -> str:
    """Return the texts of several messages as one text."""
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
