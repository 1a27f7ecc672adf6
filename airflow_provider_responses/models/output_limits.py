"""
Limits that a strict schema has no keyword for, written into the field's description.

The model reads them there like everything else that a description says; `limits_of` reads them back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_SAID: Final = "Must also satisfy: "
_FOUND: Final = re.compile(rf"(?:^|\s){_SAID}(\{{.*\}})$", re.DOTALL)


def described(description: str | None, limits: Mapping[str, Any]) -> str:
    """Return a description that ends with the limits."""
    said = _SAID + json.dumps(limits, ensure_ascii=False, sort_keys=True)
    return f"{description} {said}" if description else said


def limits_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits at the end of a schema's description; empty where there are none."""
    description = schema.get("description")
    found = _FOUND.search(description) if isinstance(description, str) else None
    try:
        limits = json.loads(found[1]) if found else {}
    except ValueError:
        return {}
    return limits if isinstance(limits, dict) else {}
