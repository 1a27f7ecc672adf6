"""What OpenRouter wants of a history that some servers leave out: ids and statuses of what a model made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_responses.models.content import OUTPUT_PARTS


def filled(items: Sequence[Any]) -> list[Any]:
    """
    Return the items with what is missing filled in; the same items are always filled in the same way.

    A response's id is made of its content and its place: an attempt that is repeated must be the same bytes.
    """
    return [_filled(item, place) if isinstance(item, Mapping) else item for place, item in enumerate(items)]


def _filled(item: Mapping[str, Any], place: int) -> Mapping[str, Any]:
    if item.get("type") == "reasoning":
        wanted = {"id": _id("rs", item, place), "summary": []}
    elif _is_of_a_model(item):
        wanted = {"type": "message", "id": _id("msg", item, place), "status": "completed"}
    else:
        return item
    missing = {name: value for name, value in wanted.items() if item.get(name) is None}
    return {**item, **missing} if missing else item


def _is_of_a_model(item: Mapping[str, Any]) -> bool:
    content = item.get("content")
    return (
        item.get("role") == "assistant"
        and item.get("type", "message") == "message"
        and isinstance(content, Sequence)
        and any(isinstance(part, Mapping) and part.get("type") in tuple(OUTPUT_PARTS) for part in content)
    )


def _id(prefix: str, item: Mapping[str, Any], place: int) -> str:
    text = json.dumps([place, item], sort_keys=True, default=str)
    return f"{prefix}_{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:32]}"
