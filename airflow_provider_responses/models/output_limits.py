"""
Limits that a strict schema has no keyword for, at the end of a field's description.

The model reads them as a part of the description; `limits_of` reads them back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_INTRODUCTION: Final = "Must also satisfy: "
_LIMITS: Final = re.compile(rf"(?:^|\s){_INTRODUCTION}(\{{.*\}})$", re.DOTALL)


def add_limits(description: str | None, limits: Mapping[str, Any]) -> str:
    """Return a description that ends with the limits."""
    text = _INTRODUCTION + json.dumps(limits, ensure_ascii=False, sort_keys=True)
    return f"{description} {text}" if description else text


def limits_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits at the end of a schema's description, empty if there are none."""
    description = schema.get("description")
    found = _LIMITS.search(description) if isinstance(description, str) else None
    try:
        limits = json.loads(found[1]) if found else {}
    except ValueError:
        return {}
    return limits if isinstance(limits, dict) else {}
