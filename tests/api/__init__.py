"""
The API's schema, as structure: names, types, required fields, choices and limits.

``openrouter.json`` is the published schema; ``tools/schema_structure.py`` writes it. ``openrouter-changes.json`` is
what the official SDK has beyond it, written by hand as a merge patch: a null removes a key, ``{"+": [...]}`` adds to a
list, ``{"@": [index, change]}`` changes one element of a list.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PUBLISHED_FILE = HERE / "openrouter.json"
CHANGES_FILE = HERE / "openrouter-changes.json"


def merged(old: Any, change: Any) -> Any:
    """Return ``old`` with a change made."""
    if isinstance(old, list) and isinstance(change, dict):
        if "+" in change:
            return old + [value for value in change["+"] if value not in old]
        place, inner = change["@"]
        return [*old[:place], merged(old[place], inner), *old[place + 1 :]]
    if not isinstance(change, dict):
        return change
    base = old if isinstance(old, dict) else {}
    found = base | {key: merged(base.get(key), value) for key, value in change.items()}
    return {key: value for key, value in found.items() if value is not None or key not in change}


PUBLISHED: dict[str, Any] = json.loads(PUBLISHED_FILE.read_text())
CURRENT: dict[str, Any] = merged(PUBLISHED, json.loads(CHANGES_FILE.read_text()))
