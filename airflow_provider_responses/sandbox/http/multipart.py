"""The parts of a ``multipart/form-data`` body."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from typing import Final

END: Final = b"\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class FormPart:
    """One part; a field has no ``filename``."""

    name: str
    filename: str | None
    content: bytes


def parse_form(content_type: str, body: bytes) -> dict[str, FormPart]:
    """
    Return the parts of a form by their names.

    :raises ValueError: if the body is not a form.
    """
    boundary = _parameter("content-type", content_type, "boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise ValueError(f"the content type must be multipart/form-data with a boundary, got {content_type!r}")
    # The first delimiter has no line break before it, the others have one that belongs to them.
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("the form has no end")
    parts = [_part(piece) for piece in pieces[1:-1]]
    return {part.name: part for part in parts}


def _part(piece: bytes) -> FormPart:
    head, separator, content = piece.partition(END)
    lines = head.decode(errors="replace").splitlines()
    disposition = next((line for line in lines if line.lower().startswith("content-disposition:")), "")
    _, _, value = disposition.partition(":")
    name = _parameter("content-disposition", value, "name")
    if not separator or not name:
        raise ValueError("a part of the form has no name")
    return FormPart(name=name, filename=_parameter("content-disposition", value, "filename"), content=content)


def _parameter(header: str, value: str, name: str) -> str | None:
    message = Message()
    message[header] = value.strip()
    found = message.get_param(name, header=header)
    return found if isinstance(found, str) else None
