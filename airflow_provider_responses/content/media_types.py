"""
The type of a file by its first bytes.

The kinds that the API takes are few, so this table replaces a library, which would know hundreds. No I/O.
"""

from __future__ import annotations

import codecs
from typing import Final

from airflow_provider_responses.content.parts import AUDIO, FILE, IMAGE, VIDEO

HEAD: Final = 4096  # bytes that are looked at

_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"ID3", "audio/mpeg"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"{\\rtf", "application/rtf"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_OPEN_DOCUMENT: Final = b"application/vnd.oasis.opendocument."
_ZIPPED: Final = (
    (b"word/", f"{_OFFICE}wordprocessingml.document"),
    (b"xl/", f"{_OFFICE}spreadsheetml.sheet"),
    (b"ppt/", f"{_OFFICE}presentationml.presentation"),
)
_OFFICE_SUFFIXES: Final = {"docx": _ZIPPED[0][1], "xlsx": _ZIPPED[1][1], "pptx": _ZIPPED[2][1]}
_OLD_OFFICE: Final = {
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
}
# Kinds of text look alike, so the name decides among them.
_TEXTS: Final = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "html": "text/html",
    "htm": "text/html",
    "md": "text/markdown",
    "json": "application/json",
    "xml": "text/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}
_KIND_OF: Final = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}
_AUDIO_FORMATS: Final = {"audio/mpeg": "mp3", "audio/wav": "wav"}
ALLOWED: Final = {
    IMAGE: "PNG, JPEG, WebP or GIF",
    FILE: "PDF, Word, Excel, PowerPoint, OpenDocument, RTF or text in UTF-8",
    AUDIO: "MP3 or WAV",
    VIDEO: "MP4, MPEG, MOV or WebM",
}


def media_type_of(head: bytes, name: str, *, is_whole: bool) -> str | None:
    """
    Return the media type of a file, None if it is of no kind that the API takes.

    :param head: its first :data:`HEAD` bytes.
    :param name: of the file, which tells kinds of text apart.
    :param is_whole: whether these are all of its bytes.
    """
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    if found := next((kind for magic, kind in _MAGIC if head.startswith(magic)), None):
        return found
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if b"%PDF-" in head[:1024]:  # readers allow bytes before it
        return "application/pdf"
    if head.startswith(b"PK\x03\x04"):
        return _zipped(head, suffix)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _OLD_OFFICE.get(suffix)
    if head[4:8] == b"ftyp":
        return _in_boxes(head[8:12])
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head[:64] else None
    if _is_mp3_frame(head):
        return "audio/mpeg"
    return _TEXTS.get(suffix, "text/plain") if _is_text(head, is_whole=is_whole) else None


def kind_of(media_type: str) -> str:
    """Return the kind of part that holds a media type."""
    return _KIND_OF.get(media_type.partition("/")[0], FILE)


def audio_format(media_type: str) -> str:
    """Return the API's name of a format of sounds."""
    return _AUDIO_FORMATS[media_type]


def _zipped(head: bytes, suffix: str) -> str | None:
    if head[30:38] == b"mimetype":
        start = head.find(_OPEN_DOCUMENT)
        end = head.find(b"PK", start)
        return head[start:end].decode("ascii", "replace") if 0 < start < end <= HEAD else None
    if found := next((kind for folder, kind in _ZIPPED if folder in head), None):
        return found
    return _OFFICE_SUFFIXES.get(suffix) if b"[Content_Types].xml" in head or b"_rels/" in head else None


def _in_boxes(brand: bytes) -> str | None:
    """Return the type of a file in boxes; images such as HEIC, and sounds, are of other brands."""
    if brand == b"qt  ":
        return "video/quicktime"
    return "video/mp4" if brand[:3] in {b"iso", b"mp4", b"avc", b"M4V", b"das", b"MSN"} else None


def _is_mp3_frame(head: bytes) -> bool:
    """Return whether a frame of MPEG layer 3 with a valid bit rate and sample rate begins here."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bit_rate, sample_rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer == 1 and bit_rate not in {0, 15} and sample_rate != 3


def _is_text(head: bytes, *, is_whole: bool) -> bool:
    if b"\x00" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_whole)
    except UnicodeDecodeError:
        return False
    return bool(head.strip())
