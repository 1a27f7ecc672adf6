"""The JSON in a response's text: out of what models and servers wrap it in, and repaired where nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from pydantic_core import from_json

BLANK: Final = "\ufeff\u200b\u2060 \t\r\n\f\v"
MOST_THOUGHTS: Final = 100  # closing tags that are tried
LONGEST_PROSE: Final = 300  # characters around the JSON
LONGEST_REPAIR: Final = 200_000  # characters
_FENCE: Final = re.compile(r"(?P<fence>`{3,}|~{3,})[ \t]*[A-Za-z0-9_+-]*[ \t]*")
_THOUGHT: Final = re.compile(r"</think(?:ing)?>|\[/THINK\]", re.IGNORECASE)
_OPENED: Final = re.compile(r"<think(?:ing)?>|\[THINK\]", re.IGNORECASE)
_PAIRS: Final = {"}": "{", "]": "["}
_ESCAPE: Final = re.compile(r"\\(?:u(?P<code>[0-9a-fA-F]{4})|(?P<letter>.))", re.DOTALL)
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)(?![\w.])")
_COMMENT: Final = re.compile(r"(?<![\w:\"'])(?://[^\n]*|/\*.*?\*/)", re.DOTALL)
_PUNCTUATION: Final = re.compile(r"[\s{}\[\],:\"'`\\“”„‟‘’‚‛«»\x08\ufeff\u200b\u2060]+")  # noqa: RUF001  # quotes that models write


def bare_json(text: str) -> str:
    """
    Return the JSON without a byte order mark, a code fence and a block of thought around it.

    What is JSON already is returned as it is, whatever its strings hold.
    """
    if is_json(text):
        return text
    candidates = list(_unwrapped(text))
    return next((candidate for candidate in candidates if is_json(candidate)), candidates[0])


def repaired_json(text: str) -> str | None:
    """
    Return the JSON of a text that is none; None where a repair would be a guess.

    Only punctuation may be wrong: quotes, commas, brackets' neighbours, comments, Python's words for null and
    booleans, a few words around the JSON. Every letter and digit of the text is in the result, in the same order.
    What is open at the end of the text was cut off, and is not closed.
    """
    if len(text) > LONGEST_REPAIR:
        return None
    for candidate in _unwrapped(text):
        core = candidate[candidate.find("{") : candidate.rfind("}") + 1]
        around = len(candidate) - len(core)
        if not core or around > LONGEST_PROSE or (around and _OPENED.search(candidate)):
            continue
        if is_json(core):
            return core
        if _is_whole(core) and (repaired := _repaired(core)) is not None:
            return repaired
    return None


def is_json(text: str) -> bool:
    """Whether the text is JSON as a whole."""
    try:
        from_json(text, cache_strings="keys")
    except (ValueError, TypeError):  # a TypeError for half a surrogate pair
        return False
    return True


def _unwrapped(text: str) -> Iterator[str]:
    """Yield what may be the JSON in a text, the likeliest first."""
    for thought in islice(_THOUGHT.finditer(text), MOST_THOUGHTS):
        rest = _without_fence(text[thought.end() :])
        if rest.startswith("{"):
            yield rest
    yield _without_fence(text)


def _without_fence(text: str) -> str:
    text = text.strip(BLANK)
    if (opening := _FENCE.match(text)) is None:
        return text
    inner = text[opening.end() :].strip(BLANK)
    return inner.removesuffix(opening["fence"]).strip(BLANK)


def _is_whole(text: str) -> bool:
    """Whether brackets and quotes close, the outermost bracket at the very end."""
    opened: list[str] = []
    quote, before = "", ""
    escaped = False
    for position, letter in enumerate(text):
        if quote:
            if letter == quote and not escaped and (quote == '"' or _ends_here(text, position)):
                quote = ""
            escaped = letter == "\\" and not escaped
            continue
        if letter == '"' or (letter == "'" and before in "{[,:"):
            quote, escaped = letter, False
        elif letter in "{[":
            opened.append(letter)
        elif letter in _PAIRS and (not opened or opened.pop() != _PAIRS[letter]):
            return False
        if not opened:
            return position == len(text) - 1
        before = before if letter.isspace() else letter
    return False


def _ends_here(text: str, position: int) -> bool:
    """Whether a single quote is no apostrophe: what follows it is punctuation."""
    return text[position + 1 :].lstrip()[:1] in {",", ":", "}", "]"}


def _repaired(text: str) -> str | None:
    from json_repair import loads  # here, since few responses need it

    try:
        value = loads(text, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    kept = _words("".join(_written(value)))
    given = _ESCAPE.sub(_unescaped, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(value) if kept in (_words(given), _words(_COMMENT.sub("", given))) else None


def _words(text: str) -> list[str]:
    """Return everything but punctuation, numbers in one form and Python's words as JSON's."""
    same_numbers = _NUMBER.sub(lambda found: repr(float(found[0])), text.casefold())
    return ["null" if word == "none" else word for word in _PUNCTUATION.sub(" ", same_numbers).split()]


def _written(value: Any) -> Iterator[str]:
    """Yield the words and numbers of a value, in order."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield f" {name} "
            yield from _written(item)
    elif isinstance(value, list):
        for item in value:
            yield from _written(item)
    else:
        yield f" {value} " if isinstance(value, str) else f" {json.dumps(value)} "


def _unescaped(found: re.Match[str]) -> str:
    if code := found["code"]:
        return chr(int(code, 16))
    return " " if found["letter"] in "nrtbf" else found[0]
