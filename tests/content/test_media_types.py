"""The type of a file is that of its content, whatever its name is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.content.media_types import ALLOWED, HEAD, kind_of, media_type_of
from airflow_provider_responses.content.parts import AUDIO, FILE, IMAGE, VIDEO
from tests.content import samples

OFFICE = "application/vnd.openxmlformats-officedocument"


@pytest.mark.parametrize(
    ("data", "media_type", "kind"),
    [
        (samples.PDF, "application/pdf", FILE),
        (b"\n\n" + samples.PDF, "application/pdf", FILE),
        (samples.PNG, "image/png", IMAGE),
        (samples.JPEG, "image/jpeg", IMAGE),
        (samples.WEBP, "image/webp", IMAGE),
        (samples.GIF, "image/gif", IMAGE),
        (samples.WAV, "audio/wav", AUDIO),
        (samples.MP3, "audio/mpeg", AUDIO),
        (b"ID3\x04" + bytes(20), "audio/mpeg", AUDIO),
        (samples.MP4, "video/mp4", VIDEO),
        (samples.MOV, "video/quicktime", VIDEO),
        (samples.WEBM, "video/webm", VIDEO),
        (b"\x00\x00\x01\xba" + bytes(20), "video/mpeg", VIDEO),
        (samples.office("word"), f"{OFFICE}.wordprocessingml.document", FILE),
        (samples.office("xl"), f"{OFFICE}.spreadsheetml.sheet", FILE),
        (samples.office("ppt"), f"{OFFICE}.presentationml.presentation", FILE),
        ("Grüße\n".encode(), "text/plain", FILE),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
@pytest.mark.parametrize("name", ["", "a.exe", "a.docx.bin"])
def test_the_first_bytes_decide(data, media_type, kind, name):
    assert media_type_of(data, name, is_whole=True) == media_type
    assert kind_of(media_type) == kind
    assert kind in ALLOWED


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.csv", "text/csv"), ("A.MD", "text/markdown"), ("a.json", "application/json"), ("a.py", "text/plain")],
)
def test_a_name_tells_kinds_of_text_apart(name, media_type):
    assert media_type_of(b"a,b\n", name, is_whole=True) == media_type


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        samples.HEIC,
        b"PK\x03\x04" + bytes(60),
        b"\x7fELF" + bytes(20),
        b"\xff\xfe\x00a",
        b"RIFF1234AVI ",
        b"a\xff",
    ],
)
def test_other_content_has_no_type_even_under_a_good_name(data):
    assert media_type_of(data, "invoice.pdf", is_whole=True) is None


def test_a_character_that_the_head_cuts_is_no_error():
    head = ("a" + "é" * HEAD).encode()[:HEAD]
    assert media_type_of(head, "", is_whole=False) == "text/plain"
    assert media_type_of(head, "", is_whole=True) is None


@given(st.binary(max_size=200), st.text(max_size=10), st.booleans())
def test_any_bytes_have_a_type_or_none(data, name, is_whole):
    found = media_type_of(data, name, is_whole=is_whole)
    assert found is None or kind_of(found) in ALLOWED
