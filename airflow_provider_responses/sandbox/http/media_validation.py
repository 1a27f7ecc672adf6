"""The checks of images, files, sounds and videos in a request."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final

# By the type of a part, the fields of which it needs one.
CONTENT_FIELDS: Final = {
    "input_image": ("image_url", "file_id"),
    "input_file": ("file_data", "file_url", "file_id"),
    "input_video": ("video_url",),
}
IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/webp", "image/gif")


def find_media_problem(items: Any) -> str | None:
    """Return what is wrong with the first part whose content the service could not read, None if all are right."""
    for place, part in _parts(items):
        if problem := _problem_of(part):
            return f"{place}{problem}"
    return None


def _parts(items: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, item in enumerate(items if isinstance(items, list) else ()):
        content = item.get("content") if isinstance(item, dict) else None
        for n, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict):
                yield f"input.{number}.content.{n}", part


def _problem_of(part: dict[str, Any]) -> str | None:
    kind = str(part.get("type"))
    if kind == "input_audio":
        return None if _is_base64((part.get("input_audio") or {}).get("data")) else ".input_audio.data must be base64"
    names = CONTENT_FIELDS.get(kind)
    if names is None:
        return None
    if not any(part.get(name) for name in names):
        return f" needs {' or '.join(names)}"
    for name in names:
        head, mark, data = str(part.get(name) or "").partition(";base64,")
        if not (mark and head[:5].lower() == "data:"):
            continue
        if kind == "input_image" and head[5:].lower() not in IMAGE_TYPES:
            return f".{name} must be an image ({', '.join(IMAGE_TYPES)}), got {head[5:]!r}"
        if not _is_base64(data):
            return f".{name} must be base64 after the comma"
    return None


def _is_base64(text: Any) -> bool:
    try:
        return bool(text) and bool(base64.b64decode(str(text), validate=True))
    except (binascii.Error, ValueError):
        return False
