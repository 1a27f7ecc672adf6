"""The files of one request: read, checked, and put into it as contents that are sent in pieces."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from airflow_provider_responses.content.confinement import shown_path
from airflow_provider_responses.content.media_types import HEAD, kind_of, media_type_of
from airflow_provider_responses.content.parts import (
    BY_CONTENT,
    BYTES,
    IMAGE,
    INDEXED,
    MAX_SIDE,
    PATH,
    SMALLEST_SIDE,
    is_url,
)
from airflow_provider_responses.content.references import Part, replace_references
from airflow_provider_responses.content.snapshots import Base64Content, Snapshot
from airflow_provider_responses.content.wire_parts import refuse_kind, url_part, wire_part
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.validation import check_number, check_type

if TYPE_CHECKING:
    from airflow_provider_responses.content.reader import FileReader
    from airflow_provider_responses.models.file_content import Content

MARKER_BYTES = 16


class FilledRequest(NamedTuple):
    """The fields of a request, in which texts stand for the contents of files, and these contents."""

    fields: dict[str, Any]
    contents: dict[str, Content]


def read_files(fields: Mapping[str, Any], reader: FileReader) -> FilledRequest:
    """
    Return a request with the contents of its files.

    :raises RequestValidationError: naming the place and the file, for one that cannot be sent.
    :raises StorageError: if a storage failed; a retry may succeed.
    """
    contents: dict[str, Content] = {}

    def fill(part: Part, snapshot: Snapshot) -> Part:
        return add_content(part, checked_type(part, snapshot), snapshot, contents)

    return FilledRequest(replace_files(fields, reader, read=lambda part: content_of(part, reader), fill=fill), contents)


class Sized(Protocol):
    """A content, or facts about one."""

    @property
    def size(self) -> int:
        """Number of bytes."""


Found = TypeVar("Found", bound=Sized)


def replace_files(
    fields: Mapping[str, Any],
    reader: FileReader,
    *,
    read: Callable[[Part], Found],
    fill: Callable[[Part, Found], Part],
) -> dict[str, Any]:
    """
    Return the fields of a request with its files replaced. Those at URLs stay with their server.

    :param reader: bounds the size of all files together.
    :param read: returns the content of a part, or facts about it.
    :param fill: returns the part that replaces it.
    :raises ResponsesError: naming the place, for a file that cannot be sent.
    """
    size = 0

    def replace(place: str, part: Part) -> Part:
        nonlocal size
        try:
            check_part(part)
            if PATH in part and is_url(str(part[PATH])):
                return url_part(part)
            found = read(part)
            size += found.size
            reader.check_size(size, name_of(part))
            return fill(part, found)
        except ResponsesError as error:
            raise error.add_place("Field", place) from error

    return replace_references(fields, replace)


def check_part(part: Part) -> None:
    """
    Refuse a part of a wrong form.

    :raises RequestValidationError: naming the field.
    """
    if INDEXED in part:
        raise RequestValidationError(f"{INDEXED} is not a field of a part; use {PATH}", fields=(INDEXED,))
    if (PATH in part) == (BYTES in part):
        raise RequestValidationError(f"a file needs {PATH} or {BYTES}, and not both", fields=(PATH,))
    if PATH in part:
        check_type(PATH, part[PATH], str, expected="text")
    else:
        check_type(BYTES, part[BYTES], (bytes, bytearray, memoryview), expected="bytes", type_only=True)
    if (side := part.get(MAX_SIDE)) is not None:
        check_number(MAX_SIDE, side, whole=True, at_least=SMALLEST_SIDE)


def content_of(part: Part, reader: FileReader) -> Snapshot:
    """Return the content of a part that has a path or bytes."""
    if PATH in part:
        return reader.read(str(part[PATH]))
    snapshot = Snapshot(bytes(part[BYTES]))
    if not snapshot.size:
        raise RequestValidationError("the file's bytes are empty: leave it out", fields=(BYTES,))
    return snapshot


def checked_type(part: Part, snapshot: Snapshot) -> str:
    """
    Return the media type of a content.

    :raises RequestValidationError: if the part does not hold it.
    """
    name, kind = name_of(part), str(part["type"])
    media_type = media_type_of(snapshot.head(HEAD), file_name(part), is_whole=snapshot.size <= HEAD)
    if media_type is None or kind not in {BY_CONTENT, kind_of(media_type)}:
        refuse_kind(kind, media_type, name)
    return media_type


def add_content(part: Part, media_type: str, snapshot: Snapshot, contents: dict[str, Content]) -> dict[str, Any]:
    """Return the wire form of a part, whose content is added under the text that stands for it."""
    side = part.get(MAX_SIDE)
    if side is not None and kind_of(media_type) == IMAGE:
        from airflow_provider_responses.content.image_scaling import scale_down

        snapshot = scale_down(snapshot, int(side), name_of(part))
    marker = secrets.token_hex(MARKER_BYTES)  # nobody can guess it, so no other text of the request holds it
    contents[marker] = Base64Content(snapshot)
    return wire_part(part, media_type=media_type, data=marker, name=file_name(part))


def name_of(part: Part) -> str:
    """Return the name of a part's file for messages."""
    return shown_path(part[PATH]) if PATH in part else "the file's bytes"


def file_name(part: Part) -> str:
    """Return the name of a file that the model sees."""
    given = part.get("filename")
    if isinstance(given, str) and given:
        return given
    return str(part.get(PATH, "")).rpartition("/")[2] or "file"
