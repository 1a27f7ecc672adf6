"""Values as they are sent, whatever type they were given as, and as Airflow's database can store them."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


def unwrap_enum(value: Any) -> Any:
    """Return the text of a member of a ``(str, Enum)``, which may print as ``Model.SMALL``; other values unchanged."""
    return value.value if isinstance(value, str) and isinstance(value, enum.Enum) else value


def unwrap_enums(value: Any) -> Any:
    """Return a value with the text of all such members in it, however deep."""
    if isinstance(value, str):
        return unwrap_enum(value)
    if isinstance(value, Mapping):
        return {unwrap_enums(name): unwrap_enums(item) for name, item in value.items()}
    return [unwrap_enums(item) for item in value] if isinstance(value, (list, tuple)) else value


def parse_number(value: Any) -> Any:
    """Return the number that a text holds, such as a rendered template; other values unchanged."""
    for kind in (int, float) if isinstance(value, str) else ():
        with suppress(ValueError):
            return kind(value)
    return value


def storable(value: Any) -> Any:
    """
    Return a value without the parts that PostgreSQL's JSON cannot hold.

    NUL and halves of surrogate pairs become U+FFFD, NaN and infinity become None.
    """
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [storable(item) for item in value] if isinstance(value, list) else value
