"""
The parts of a message that stand for a file. They are plain dicts, so that XComs and stored DAGs can hold them.

A part with a ``path`` (or ``bytes``) is replaced by its wire form, with the content, when the request is built.
"""

from __future__ import annotations

import os
from typing import Any, Final

from airflow_provider_responses.validation import check_choice, check_number, check_type

IMAGE: Final = "input_image"
FILE: Final = "input_file"
AUDIO: Final = "input_audio"
VIDEO: Final = "input_video"
BY_CONTENT: Final = "input_by_content"  # any of them: the content decides
PART_TYPES: Final = frozenset({IMAGE, FILE, AUDIO, VIDEO, BY_CONTENT})

PATH: Final = "path"
BYTES: Final = "bytes"
MAX_SIDE: Final = "max_side"
INDEXED: Final = "file"  # of a part in an index: where the content is, and its digest

MAX_FILE_BYTES: Final = 50_000_000  # of all files of a request; OpenAI's limit
DETAILS: Final = ("auto", "high", "low", "original")
SMALLEST_SIDE: Final = 16


class InputFile:
    """A document as input: PDF, Office, text, or another kind that the model reads."""

    @staticmethod
    def from_path(path: Any, *, filename: str | None = None) -> dict[str, Any]:
        """
        Return a part that stands for a file, which is read when the request is built.

        :param path: text, a ``Path`` or an ``ObjectStoragePath``; an http or https URL is passed to the server.
        :param filename: that the model sees; by default the last part of the path.
        """
        return _part(FILE, path=path, filename=filename)

    @staticmethod
    def from_bytes(data: bytes, *, filename: str | None = None) -> dict[str, Any]:
        """Return a part with a content that is in memory."""
        return _part(FILE, data=data, filename=filename)


class InputImage:
    """An image as input: PNG, JPEG, WebP or GIF."""

    @staticmethod
    def from_path(path: Any, *, detail: str = "auto", max_side: int | None = None) -> dict[str, Any]:
        """
        Return a part that stands for an image, which is read when the request is built.

        :param path: text, a ``Path`` or an ``ObjectStoragePath``; an http or https URL is passed to the server.
        :param detail: ``auto``, ``high``, ``low`` or ``original``.
        :param max_side: pixels of the longer side, to which a larger image is scaled down; needs the extra ``images``.
        """
        return _image(detail, max_side, path=path)

    @staticmethod
    def from_bytes(data: bytes, *, detail: str = "auto", max_side: int | None = None) -> dict[str, Any]:
        """Return a part with an image that is in memory."""
        return _image(detail, max_side, data=data)


class InputAudio:
    """A sound as input: MP3 or WAV."""

    @staticmethod
    def from_path(path: Any) -> dict[str, Any]:
        """
        Return a part that stands for a sound, which is read when the request is built.

        :param path: text, a ``Path`` or an ``ObjectStoragePath``. The API takes no sounds by URL.
        """
        return _part(AUDIO, path=path)

    @staticmethod
    def from_bytes(data: bytes) -> dict[str, Any]:
        """Return a part with a sound that is in memory."""
        return _part(AUDIO, data=data)


class InputVideo:
    """A video as input: MP4, MPEG, MOV or WebM."""

    @staticmethod
    def from_path(path: Any) -> dict[str, Any]:
        """
        Return a part that stands for a video, which is read when the request is built.

        :param path: text, a ``Path`` or an ``ObjectStoragePath``; an http or https URL is passed to the server.
        """
        return _part(VIDEO, path=path)

    @staticmethod
    def from_bytes(data: bytes) -> dict[str, Any]:
        """Return a part with a video that is in memory."""
        return _part(VIDEO, data=data)


def part_by_content(value: str | bytes) -> dict[str, Any]:
    """Return a part that stands for a path or holds bytes, whose kind the content decides."""
    return {"type": BY_CONTENT, BYTES if isinstance(value, bytes) else PATH: value}


def path_text(path: Any) -> Any:
    """
    Return a path as text, with its connection if it names one; another task's output unchanged.

    :raises RequestValidationError: if it is no path.
    """
    if isinstance(path, os.PathLike) and not hasattr(path, "protocol"):
        return str(os.fspath(path))
    if hasattr(path, "protocol"):  # an ObjectStoragePath
        return str(path)
    if hasattr(path, "resolve"):  # another task's output, which Airflow replaces by its value
        return path
    return str(check_type("path", path, str, expected="text, a Path or an ObjectStoragePath"))


def is_url(path: str) -> bool:
    """Return whether a path is a URL that the server, and not the worker, reads."""
    return path[:8].lower().startswith(("http://", "https://"))


def _image(detail: str, max_side: int | None, **source: Any) -> dict[str, Any]:
    check_choice("detail", detail, DETAILS)
    check_number(MAX_SIDE, max_side, whole=True, at_least=SMALLEST_SIDE, optional=True)
    return _part(IMAGE, detail=detail, **source, **{MAX_SIDE: max_side})


def _part(kind: str, *, path: Any = None, data: Any = None, **options: Any) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    if data is not None:
        check_type(BYTES, data, (bytes, bytearray, memoryview), expected="bytes", type_only=True)
        return {"type": kind, BYTES: bytes(data), **given}
    return {"type": kind, PATH: path_text(path), **given}
