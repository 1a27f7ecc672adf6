"""Finds the JSON in a response's text, and repairs it if the repair is no guess."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from pydantic_core import from_json

BLANK: Final = "\ufeff\u200b\u2060 \t\r\n\f\v"
MOST_THOUGHTS: Final = 100  # closing tags of thoughts that are tried
LONGEST_PROSE: Final = 300  # characters around the JSON
LONGEST_REPAIR: Final = 200_000  # characters
_FENCE: Final = re.compile(r"(?P<fence>`{3,}|~{3,})[ \t]*[A-Za-z0-9_+-]*[ \t]*")
_THOUGHT: Final = re.compile(r"</think(?:ing)?>|\[/THINK\]", re.IGNORECASE)
_MARKUP: Final = frozenset("{}[]<>")  # characters that do not occur in prose around the JSON
_QUOTES: Final = {'"': '"', "'": "'", "“": "”“", "”": "”“", "„": "”“"}  # an opening quote, and the quotes that close it
_SPACE: Final = re.compile(r"\s+")
_END: Final = re.compile(r"""\s*(?:[,:\]}"'“”„]|//|/\*|#|$)""")  # follows the quote that ends a string
_QUOTE_OPENS: Final = re.compile(r"(?:^|(?<=[\s(\[])).(?=\w)")  # inside a string
_QUOTE_CLOSES: Final = re.compile(r"(?<=[\w.!?)]).(?=[\s.;!?)])")
_APOSTROPHE: Final = re.compile(r"(?<=\w)'(?=\w)")
_ELLIPSIS: Final = re.compile(r"[\s.…]*(?:\.\.|…)[\s.…]*")
_OMITTED: Final = re.compile(r"\s*(?://|/\*|\.\.|…)")  # after the JSON: a part of it was left out
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?P<fraction>\.\d+)?(?P<power>[eE][+-]?\d+)?(?![\w.+-])")
_NAME: Final = re.compile(r"[A-Za-z_][\w-]*(?=\s*:)")
_WORD: Final = re.compile(r"(?:true|True|false|False|null|None)(?!\w)")
_WORDS: Final = {"True": "true", "False": "false", "None": "null"}
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}


def bare_json(text: str) -> str:
    """
    Return the JSON without a byte order mark, a code fence and thoughts around it.

    A text that is JSON is returned as it is, whatever its strings hold.
    """
    if is_json(text):
        return text
    candidates = list(_unwrapped(text))
    return next((candidate for candidate in candidates if is_json(candidate)), candidates[0])


def repaired_json(text: str) -> str | None:
    """
    Return the JSON that a text with errors stands for, None if a repair would be a guess.

    Repaired are: a comma after the last entry, a missing comma before a name or between objects, other quotes, pairs
    of quotes and line ends inside strings, Python's words for null and booleans, a few words around the JSON. The
    result has all brackets, strings, numbers and words of the text. A text is not repaired if a bracket or a string is
    still open at its end, since it is truncated, or if it holds comments, ellipses, empty entries or operators, which
    may replace something that the model left out.
    """
    if len(text) > LONGEST_REPAIR:
        return None
    *others, plain = _unwrapped(text)
    for candidate in [plain] if plain.startswith("{") else [*others, plain]:  # thoughts do not begin with a bracket
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
    """Yield the parts of a text that may be the JSON, the likeliest first; the last one is the whole text."""
    plain = _without_fence(text)
    for thought in islice(_THOUGHT.finditer(text), MOST_THOUGHTS):
        rest = _without_fence(text[thought.end() :])
        is_string = plain.startswith("{") and text.count('"', 0, thought.start()) % 2
        if rest.startswith("{") and not is_string:
            yield rest
    yield plain


def _without_fence(text: str) -> str:
    text = text.strip(BLANK)
    if (opening := _FENCE.match(text)) is None:
        return text
    inner = text[opening.end() :].strip(BLANK)
    return inner.removesuffix(opening["fence"]).strip(BLANK)


def _repaired(text: str) -> str | None:
    """Return the result of json-repair, None if it has other tokens than the text."""
    try:
        tokens = list(_tokens(text))
    except ValueError:
        return None
    from json_repair import loads  # imported here: few responses need it

    try:
        value = loads(text, skip_json_loads=True)
        return json.dumps(value) if tokens == list(_tokens_of(value)) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # json-repair raises all of them
        return None


class _Grammar:
    """Checks the order of tokens in JSON that may be repaired; its methods raise ValueError for a wrong order."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.before = ""  # the last token: one of , : { [ or "end" (of brackets), "name", "value"

    def open(self, bracket: str) -> None:
        lacks_comma = self.before == "end" and self.opened[-1] == "["
        self._require(self.before in ({"", ":", "[", ","} if self._in_list() else {"", ":"}) or lacks_comma)
        self.opened.append(bracket)
        self.before = bracket

    def close(self, bracket: str) -> None:
        self._require(bool(self.opened) and {"{": "}", "[": "]"}[self.opened.pop()] == bracket)
        self._require(self.before not in {":", "name"})
        self.before = "end"

    def separate(self, letter: str) -> None:
        self._require(self.before in ({"value", "end"} if letter == "," else {"name"}))
        self.before = letter

    def add(self, token: str) -> None:
        self._require(bool(self.opened) and not _ELLIPSIS.fullmatch(token[1:]))
        is_name = not self._in_list() and self.before != ":"
        if is_name:  # a comma may be missing before a name
            self._require(self.before != "name" and token[0] == '"')
        else:
            self._require(self.before in {"[", ",", ":"})
        self.before = "name" if is_name else "value"

    def _in_list(self) -> bool:
        return self.opened[-1:] == ["["]

    @staticmethod
    def _require(is_right: bool) -> None:
        if not is_right:
            raise ValueError


def _tokens(text: str) -> Iterator[str]:
    """
    Yield brackets, strings (after a quote), numbers and words.

    :raises ValueError: at any other character, at brackets that do not match, at the end of a truncated text, and
        where something may have been left out.
    """
    grammar = _Grammar()
    position = 0
    while position < len(text):
        letter = text[position]
        if space := _SPACE.match(text, position):
            position = space.end()
            continue
        if letter in ",:":
            grammar.separate(letter)
            position += 1
            continue
        if letter in "{[":
            grammar.open(letter)
            token, position = letter, position + 1
        elif letter in "}]":
            grammar.close(letter)
            if not grammar.opened and position != len(text) - 1:
                raise ValueError(letter)
            token, position = letter, position + 1
        else:
            token, position = _read_string(text, position) if letter in _QUOTES else _read_bare(text, position)
            grammar.add(token)
        yield token
    if grammar.opened:
        raise ValueError(grammar.opened)


def _read_string(text: str, position: int) -> tuple[str, int]:
    closing = _QUOTES[text[position]]
    end = start = position + 1
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


def _check_quotes(content: str, positions: list[int]) -> None:
    """
    Check that quotes inside a string enclose words of it; otherwise they end one string and begin another.

    :raises ValueError: if they do not.
    """
    quotes = [position for position in positions if not _APOSTROPHE.match(content, position)]
    for number, position in enumerate(quotes):
        if not (_QUOTE_CLOSES if number % 2 else _QUOTE_OPENS).match(content, position):
            raise ValueError(position)
    if len(quotes) % 2:
        raise ValueError(content[:0])


def _read_bare(text: str, position: int) -> tuple[str, int]:
    if number := _NUMBER.match(text, position):
        read = float if number["fraction"] or number["power"] else int
        return json.dumps(read(number[0]), allow_nan=False), number.end()
    if name := _NAME.match(text, position):
        return '"' + name[0], name.end()
    if word := _WORD.match(text, position):
        return _WORDS.get(word[0], word[0]), word.end()
    raise ValueError(text[position])


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    if found[2] not in _ESCAPES:  # an escape of Python, or a backslash in a path
        raise ValueError(found[0])
    return _ESCAPES[found[2]]


def _tokens_of(value: Any) -> Iterator[str]:
    """Yield the tokens of a value, as ``_tokens`` does."""
    if isinstance(value, dict):
        yield "{"
        for name, item in value.items():
            yield f'"{name}'
            yield from _tokens_of(item)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from _tokens_of(item)
        yield "]"
    else:
        yield f'"{value}' if isinstance(value, str) else json.dumps(value)
