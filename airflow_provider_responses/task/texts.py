"""Text as it is sent, whatever class of text it was given as, and as it can be stored."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


def plain_text(text: str) -> str:
    """Return the value of a member of a ``(str, Enum)``, which elsewhere may read as ``Model.SMALL``."""
    return text.value if isinstance(text, enum.Enum) else text


def plain_of(value: Any) -> Any:
    """Return the value of such a member; anything else as it is."""
    return plain_text(value) if isinstance(value, str) else value


def plain(value: Any) -> Any:
    """Return a value with the values of such members, however deep."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {plain(name): plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def number_of(value: Any) -> Any:
    """Return the number that a text, such as a template renders, stands for; anything else as it is."""
    for kind in (int, float) if isinstance(value, str) else ():
        with suppress(ValueError):
            return kind(value)
    return value


def storable(value: Any) -> Any:
    """
    Replace what PostgreSQL's JSON cannot hold.

    NUL and halves of surrogate pairs become U+FFFD, NaN and infinity None.
    """
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [storable(item) for item in value] if isinstance(value, list) else value
