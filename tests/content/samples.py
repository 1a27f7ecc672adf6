"""The smallest files of each kind, and messages with them."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(20)
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(20)
GIF = b"GIF89a\x01\x00\x01\x00" + bytes(20)
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(20)
MP3 = b"\xff\xfb\x90\x64" + bytes(20)
MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(20)
MOV = b"\x00\x00\x00\x20ftypqt  " + bytes(20)
WEBM = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm" + bytes(20)
HEIC = b"\x00\x00\x00\x20ftypheic" + bytes(20)


def office(folder: str) -> bytes:
    """Return a document as Word, Excel or PowerPoint write it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        # With a time of their own: the processes of the tests must have the same bytes.
        archive.writestr(zipfile.ZipInfo("[Content_Types].xml"), "<Types/>")
        archive.writestr(zipfile.ZipInfo(f"{folder}/document.xml"), "<x/>")
    return target.getvalue()


def message(*parts: Any, text: str = "What is it?") -> list[dict[str, Any]]:
    """Return the input of a message with files."""
    return [{"role": "user", "content": [{"type": "input_text", "text": text}, *parts]}]


def content_of(part: dict[str, Any]) -> bytes:
    """Return the bytes that a part had on the wire."""
    found = part.get("image_url") or part.get("file_data") or part.get("video_url") or part["input_audio"]["data"]
    return base64.b64decode(found.rpartition(",")[2], validate=True)


def parts_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a request's first message, without the text."""
    return [part for part in body["input"][0]["content"] if part["type"] != "input_text"]
