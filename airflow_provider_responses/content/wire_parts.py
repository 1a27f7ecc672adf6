"""A part with a file in its wire form: the data URL or the base64 that the API takes. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from airflow_provider_responses.content.confinement import shown_path
from airflow_provider_responses.content.media_types import ALLOWED, audio_format, kind_of
from airflow_provider_responses.content.parts import (
    AUDIO,
    BY_CONTENT,
    BYTES,
    FILE,
    IMAGE,
    INDEXED,
    MAX_SIDE,
    PATH,
    VIDEO,
)
from airflow_provider_responses.exceptions import RequestValidationError

_OWN: Final = frozenset({"type", PATH, BYTES, MAX_SIDE, INDEXED})
_FIELDS: Final = {
    IMAGE: frozenset({"image_url", "file_id"}),
    FILE: frozenset({"file_data", "file_url", "file_id"}),
    AUDIO: frozenset({"input_audio"}),
    VIDEO: frozenset({"video_url"}),
}
_IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_VIDEO_SUFFIXES: Final = (".mp4", ".mpeg", ".mpg", ".mov", ".webm")


def wire_part(part: Mapping[str, Any], *, media_type: str, data: str, name: str) -> dict[str, Any]:
    """
    Return a part with a content.

    :param data: the base64, or a text that stands for it.
    :param name: of the file, from its path.
    """
    kind = part_kind(part, media_type)
    url = f"data:{media_type};base64,{data}"
    others = _others(part, kind)
    if kind == IMAGE:
        return {"type": IMAGE, "detail": "auto", **others, "image_url": url}
    if kind == AUDIO:
        return {"type": AUDIO, **others, "input_audio": {"data": data, "format": audio_format(media_type)}}
    if kind == VIDEO:
        return {"type": VIDEO, **others, "video_url": url}
    return {"type": FILE, "filename": name, **others, "file_data": url}


def url_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a part with a URL that the server reads.

    :raises RequestValidationError: for a sound, or an image that is to be scaled down.
    """
    url, kind = str(part[PATH]), str(part["type"])
    if kind == BY_CONTENT:
        suffix = urlsplit(url).path.lower()
        kind = IMAGE if suffix.endswith(_IMAGE_SUFFIXES) else VIDEO if suffix.endswith(_VIDEO_SUFFIXES) else FILE
    if kind == AUDIO or part.get(MAX_SIDE) is not None:
        what = "a sound" if kind == AUDIO else "an image with max_side"
        raise RequestValidationError(
            f"{shown_path(url)} must be a path that the worker can read, got a URL: {what} cannot be sent by URL. "
            "Copy the file to a folder or bucket",
            fields=(PATH,),
        )
    others = _others(part, kind)
    if kind == IMAGE:
        return {"type": IMAGE, "detail": "auto", **others, "image_url": url}
    return {"type": kind, **others, ("video_url" if kind == VIDEO else "file_url"): url}


def part_kind(part: Mapping[str, Any], media_type: str) -> str:
    """Return the kind of a part: its own, or that of its content."""
    kind = str(part["type"])
    return kind_of(media_type) if kind == BY_CONTENT else kind


def refuse_kind(kind: str, media_type: str | None, name: str) -> NoReturn:
    """
    Refuse a file of a kind that its part does not hold.

    :raises RequestValidationError: naming what is allowed.
    """
    allowed = "; ".join(ALLOWED.values()) if kind == BY_CONTENT else ALLOWED[kind]
    found = "an unknown type" if media_type is None else f"the type {media_type}"
    raise RequestValidationError(
        f"{name} has {found} by its content: {kind} takes {allowed}. Convert the file, or leave it out",
        fields=(PATH,),
    )


def _others(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    others = {name: value for name, value in part.items() if name not in _OWN}
    if twice := sorted(_FIELDS[kind] & others.keys()):
        raise RequestValidationError(
            f"{twice[0]} must not be set beside a path: the file is sent in its place. Remove one", fields=(twice[0],)
        )
    return others
