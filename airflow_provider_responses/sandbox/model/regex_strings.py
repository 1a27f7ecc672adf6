"""Strings that match a regular expression."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

ALPHABET: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,/:;!?@#+"
LONGEST: Final = 400
_CATEGORIES: Final = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w"}


def matching_string(pattern: str, is_valid: Callable[[str], bool], choice: int) -> str | None:
    """Return a valid string that matches a pattern; ``None`` if none was found."""
    try:
        # The standard library's own parser; it has no public name.
        parsed = importlib.import_module("re._parser").parse(pattern)
        compiled = re.compile(pattern)
    except (ImportError, re.error, RecursionError, OverflowError):
        return None
    for growth in (*range(40), 60, 90, 130, 200, 300, LONGEST):
        text = "".join(_generate(parsed, growth, choice))
        if compiled.search(text) and is_valid(text):
            return text
    return None


def _generate(parsed: Iterable[tuple[Any, Any]], growth: int, choice: int) -> list[str]:
    pieces: list[str] = []
    for operation, argument in parsed:
        pieces += _piece(str(operation), argument, growth, choice)
    return pieces


def _piece(operation: str, argument: Any, growth: int, choice: int) -> list[str]:
    if operation == "LITERAL":
        return [chr(argument)]
    if operation == "ANY":
        return [ALPHABET[choice % 26]]
    if operation in {"IN", "NOT_LITERAL"}:
        return [_member(argument if operation == "IN" else [("NEGATE", None), ("LITERAL", argument)], choice)]
    if operation.endswith("_REPEAT"):
        low, high, inner = argument
        times = min(int(high), int(low) + growth, LONGEST)
        return [piece for turn in range(times) for piece in _generate(inner, 0, choice + turn)]
    if operation == "SUBPATTERN":
        return _generate(argument[3], growth, choice)
    if operation == "ATOMIC_GROUP":
        return _generate(argument, growth, choice)
    if operation == "BRANCH":
        branches = argument[1]
        return _generate(branches[choice % len(branches)], growth, choice)
    return []


def _member(allowed: Iterable[tuple[Any, Any]], choice: int) -> str:
    tests = [(str(operation), argument) for operation, argument in allowed]
    negated = any(operation == "NEGATE" for operation, _ in tests)
    literals = [] if negated else [chr(argument) for operation, argument in tests if operation == "LITERAL"]
    literals += [chr(argument[0]) for operation, argument in tests if operation == "RANGE" and not negated]
    found = [letter for letter in ALPHABET if any(_is_member(letter, *test) for test in tests) != negated]
    candidates = found or literals or [" "]
    return candidates[choice % len(candidates)]


def _is_member(letter: str, operation: str, argument: Any) -> bool:
    if operation == "LITERAL":
        return letter == chr(argument)
    if operation == "RANGE":
        return bool(argument[0] <= ord(letter) <= argument[1])
    if operation == "CATEGORY":
        name = str(argument)
        inside = re.match(_CATEGORIES[name.replace("_NOT", "")], letter) is not None
        return inside != ("_NOT" in name)
    return False
