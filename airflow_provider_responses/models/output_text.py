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
_MARKUP: Final = frozenset("{}[]<>")  # what is no prose
_QUOTES: Final = {'"': '"', "'": "'", "“": "”“", "”": "”“", "„": "”“"}  # what opens, and what closes it
_SPACE: Final = re.compile(r"\s+")
_END: Final = re.compile(r"""\s*(?:[,:\]}"'“”„]|//|/\*|#|$)""")  # what comes after the quote that ends a string
_QUOTE_OPENS: Final = re.compile(r"(?:^|(?<=[\s(\[])).(?=\w)")  # inside of a string
_QUOTE_CLOSES: Final = re.compile(r"(?<=[\w.!?)]).(?=[\s.;!?)])")
_APOSTROPHE: Final = re.compile(r"(?<=\w)'(?=\w)")
_ELLIPSIS: Final = re.compile(r"[\s.…]*(?:\.\.|…)[\s.…]*")
_OMITTED: Final = re.compile(r"\s*(?://|/\*|\.\.|…)")  # says behind the JSON that it is not all
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?P<fraction>\.\d+)?(?P<power>[eE][+-]?\d+)?(?![\w.+-])")
_NAME: Final = re.compile(r"[A-Za-z_][\w-]*(?=\s*:)")
_WORD: Final = re.compile(r"(?:true|True|false|False|null|None)(?!\w)")
_WORDS: Final = {"True": "true", "False": "false", "None": "null"}
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}


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

    Wrong may be a comma after the last entry, or none before a name or between objects, the kind of quotes, pairs of
    quotes and line ends inside of strings, Python's words for null and booleans; there may be a few words around the
    JSON. All brackets, strings, numbers and words of the text are those of the result. What is open at the end of the
    text was cut off, and is not closed. Comments, ellipses, entries that are empty and operators may stand for what
    was left out or has to be worked out: such a text is not repaired.
    """
    if len(text) > LONGEST_REPAIR:
        return None
    *others, whole = _unwrapped(text)
    for candidate in [whole] if whole.startswith("{") else [*others, whole]:  # what begins as JSON is no thought
        start, end = candidate.find("{"), candidate.rfind("}") + 1
        core, around = candidate[start:end], candidate[:start] + candidate[end:]
        if start < 0 or not core or len(around) > LONGEST_PROSE or _MARKUP & set(around):
            continue
        if _OMITTED.match(candidate, end):
            continue
        if is_json(core):
            return core
        if (repaired := _repaired(core)) is not None:
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
    whole = _without_fence(text)
    for thought in islice(_THOUGHT.finditer(text), MOST_THOUGHTS):
        rest = _without_fence(text[thought.end() :])
        is_string = whole.startswith("{") and text.count('"', 0, thought.start()) % 2
        if rest.startswith("{") and not is_string:
            yield rest
    yield whole


def _without_fence(text: str) -> str:
    text = text.strip(BLANK)
    if (opening := _FENCE.match(text)) is None:
        return text
    inner = text[opening.end() :].strip(BLANK)
    return inner.removesuffix(opening["fence"]).strip(BLANK)


def _repaired(text: str) -> str | None:
    """Return what json-repair makes of a text, if it is what the text says."""
    try:
        said = list(_tokens(text))
    except ValueError:
        return None
    from json_repair import loads  # here, since few responses need it

    try:
        value = loads(text, skip_json_loads=True)
        return json.dumps(value) if said == list(_written(value)) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # it fails in many ways
        return None


class _Grammar:
    """What may follow what in JSON that is repaired."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.before = ""  # the last of , : { [ or an "end" of brackets, a "name", a "value"

    def opens(self, bracket: str) -> None:
        beside = self.before == "end" and self.opened[-1] == "["  # a comma is missing
        self._need(self.before in ({"", ":", "[", ","} if self._in_list() else {"", ":"}) or beside)
        self.opened.append(bracket)
        self.before = bracket

    def closes(self, bracket: str) -> None:
        self._need(bool(self.opened) and {"{": "}", "[": "]"}[self.opened.pop()] == bracket)
        self._need(self.before not in {":", "name"})
        self.before = "end"

    def separates(self, letter: str) -> None:
        self._need(self.before in ({"value", "end"} if letter == "," else {"name"}))
        self.before = letter

    def says(self, token: str) -> None:
        self._need(bool(self.opened) and not _ELLIPSIS.fullmatch(token[1:]))
        is_name = not self._in_list() and self.before != ":"
        if is_name:  # before it a comma may be missing: what follows a name says that it is one
            self._need(self.before != "name" and token[0] == '"')
        else:
            self._need(self.before in {"[", ",", ":"})
        self.before = "name" if is_name else "value"

    def _in_list(self) -> bool:
        return self.opened[-1:] == ["["]

    @staticmethod
    def _need(is_right: bool) -> None:
        if not is_right:
            raise ValueError


def _tokens(text: str) -> Iterator[str]:
    """
    Yield brackets, strings (after a quote), numbers and words.

    :raises ValueError: at whatever else there is, at brackets that do not pair, at what is open at the end, and where
        something may have been left out.
    """
    grammar = _Grammar()
    place = 0
    while place < len(text):
        letter = text[place]
        if space := _SPACE.match(text, place):
            place = space.end()
            continue
        if letter in ",:":
            grammar.separates(letter)
            place += 1
            continue
        if letter in "{[":
            grammar.opens(letter)
            token, place = letter, place + 1
        elif letter in "}]":
            grammar.closes(letter)
            if not grammar.opened and place != len(text) - 1:
                raise ValueError(letter)
            token, place = letter, place + 1
        else:
            token, place = _string(text, place) if letter in _QUOTES else _bare(text, place)
            grammar.says(token)
        yield token
    if grammar.opened:
        raise ValueError(grammar.opened)


def _string(text: str, place: int) -> tuple[str, int]:
    closing = _QUOTES[text[place]]
    end = start = place + 1
    inner: list[int] = []
    while end < len(text):
        if text[end] == "\\":
            end += 2
            continue
        if text[end] in closing:
            if _END.match(text, end + 1):
                _check_quotes(text[start:end], [quote - start for quote in inner])
                content = _ESCAPE.sub(_unescaped, text[start:end]).encode("utf-16-le", "surrogatepass")
                return '"' + content.decode("utf-16-le", "surrogatepass"), end + 1
            inner.append(end)
        end += 1
    raise ValueError(closing)


def _check_quotes(content: str, places: list[int]) -> None:
    """
    Check that quotes inside of a string are around words of it: else two strings are joined there.

    :raises ValueError: if they are not.
    """
    quotes = [place for place in places if not _APOSTROPHE.match(content, place)]
    for number, place in enumerate(quotes):
        if not (_QUOTE_CLOSES if number % 2 else _QUOTE_OPENS).match(content, place):
            raise ValueError(place)
    if len(quotes) % 2:
        raise ValueError(content[:0])


def _bare(text: str, place: int) -> tuple[str, int]:
    if number := _NUMBER.match(text, place):
        read = float if number["fraction"] or number["power"] else int
        return json.dumps(read(number[0]), allow_nan=False), number.end()
    if name := _NAME.match(text, place):
        return '"' + name[0], name.end()
    if word := _WORD.match(text, place):
        return _WORDS.get(word[0], word[0]), word.end()
    raise ValueError(text[place])


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    if found[2] not in _ESCAPES:  # one of Python's, or the backslash of a path?
        raise ValueError(found[0])
    return _ESCAPES[found[2]]


def _written(value: Any) -> Iterator[str]:
    """Yield the tokens of a value."""
    if isinstance(value, dict):
        yield "{"
        for name, item in value.items():
            yield f'"{name}'
            yield from _written(item)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _written(item)
        yield "]"
    else:
        yield f'"{value}' if isinstance(value, str) else json.dumps(value)
