"""Text as it is sent, whatever class of text it was given as."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any


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
