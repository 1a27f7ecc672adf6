"""No path from data leads out of ``files_root``."""

from __future__ import annotations

import os
import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.content.confinement import is_below, parse_root, path_under, shown_path
from airflow_provider_responses.content.reader import FileReader
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.paths import open_path

S3 = "s3://store@tables/invoices"

# The pieces that attacks are made of, beside harmless ones.
PIECES = st.sampled_from(
    [
        *(
            "..",
            ".",
            "/",
            "//",
            "\\",
            "%2e",
            "%2E%2e",
            "%252e",
            "%2f",
            "%5c",
            "%00",
            "\x00",
            "\n",
            " ",
            "~",
            "::",
            "@",
            ":",
        ),
        *("s3://", "S3://", "file://", "file:", "FILE:///", "gs://", "https://", "zip://", "simplecache::"),
        *(
            "tables",
            "tables/invoices",
            "store@tables/invoices",
            "other",
            "invoices",
            "invoices-secret",
            "a.pdf",
            "etc/passwd",
        ),
        *("?versionId=1", "#", "*", "[ab]", "{x}", "localhost", "root", "ü", "\ud800"),
    ]
)
PATHS = st.lists(PIECES, max_size=8).map("".join)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.pdf", f"{S3}/a.pdf"),
        ("2026/a b.pdf", f"{S3}/2026/a b.pdf"),
        ("s3://store@tables/invoices/a.pdf", f"{S3}/a.pdf"),
        ("s3://tables/invoices/a.pdf", f"{S3}/a.pdf"),  # by the root's connection
        ("S3://tables/invoices/a.pdf", f"{S3}/a.pdf"),
        ("100%.pdf", f"{S3}/100%.pdf"),
        ("x~a..b.pdf", f"{S3}/x~a..b.pdf"),
    ],
)
def test_a_path_below_the_root_is_that_of_the_root_and_its_names(path, expected):
    assert path_under(S3, path) == expected
    assert path_under(f"{S3}/", path) == expected


@pytest.mark.parametrize(
    "path",
    [
        *("", " ", " a.pdf", "a.pdf ", "a.pdf/", "a//b.pdf", "a\x00.pdf", "a\nb"),
        *("../a.pdf", "a/../../b", "./a.pdf", "%2e%2e/a", "%252e%252e/a", "..\\a", "a%2f..%2f..%2fb", "a/..%5c..%5cb"),
        *("/etc/passwd", "file:///etc/passwd", "file://host/x", "~/x", "~root/x"),
        *("s3://tables/invoices", "s3://tables/invoices/", "s3://tables/invoices-secret/a.pdf", "s3://tables/other/a"),
        *("s3://other/invoices/a.pdf", "s3://admin@tables/invoices/a.pdf", "s3://@tables/invoices/a.pdf"),
        *("gs://tables/invoices/a.pdf", "s3a://tables/invoices/a.pdf", "a::file:///etc/passwd", "x/file:///etc/passwd"),
        *("\ud800.pdf", "a/\udcff", "é" * 2049, f"{'a/' * 2048}b.pdf"),
        *("s3://tables:80/invoices/a", "s3://tables/invoices/../other/a", "s3:///tables/invoices/a"),
    ],
)
def test_any_other_path_is_refused_with_the_root(path):
    with pytest.raises(RequestValidationError, match="files_root") as caught:
        path_under(S3, path)
    assert "s3://store@tables/invoices" in str(caught.value)


@pytest.mark.parametrize(
    "root", ["", "/", "//", "invoices", "s3://", "s3://@", "file://", "a/../b", "/data/..", "s3://b/../c"]
)
def test_a_root_that_confines_nothing_is_refused(root):
    with pytest.raises(RequestValidationError, match="files_root must be a folder"):
        parse_root(root)


@given(PATHS)
def test_whatever_is_accepted_lies_below_the_root_for_every_reading_of_it(path):
    try:
        full = path_under(S3, path)
    except RequestValidationError:
        return
    assert full.startswith(f"{S3}/")
    rest = full.removeprefix(f"{S3}/")
    for reading in (
        rest,
        unquote(rest),
        unquote(unquote(rest)),
        rest.replace("\\", "/"),
        unquote(rest).replace("\\", "/"),
    ):
        assert not reading.startswith("/")
        assert posixpath.normpath(posixpath.join("/base", reading)).startswith("/base/")
    assert not any(token in rest for token in ("::", "://", "\x00"))


@given(PATHS)
def test_what_airflows_class_opens_is_the_accepted_path_or_it_is_refused(path):
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    opened = []

    class Opened:
        protocol, conn_id = "s3", "store"

        def __init__(self, text):
            self.path = str(ObjectStoragePath(text).path)
            opened.append(self.path)

        @property
        def fs(self):
            raise FileNotFoundError

    with pytest.raises(RequestValidationError) as caught:
        FileReader(Opened, root=S3).read(path)
    if "does not exist" in str(caught.value):  # it would have been read
        assert opened[-1] == f"tables/invoices/{path_under(S3, path).removeprefix(f'{S3}/')}"
        assert is_below(opened[-1], "tables/invoices")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder with files, links out of it and into it, and a secret beside it."""
    folder = tmp_path_factory.mktemp("tree")
    root, outside = folder / "root", folder / "root-secret"
    for made in (root / "sub", outside):
        made.mkdir(parents=True)
    (root / "a.txt").write_text("fine")
    (root / "sub" / "b.txt").write_text("fine")
    (outside / "secret.txt").write_text("SECRET")
    (root / "file-link").symlink_to(outside / "secret.txt")
    (root / "folder-link").symlink_to(outside)
    (root / "relative-link").symlink_to("../root-secret/secret.txt")
    (root / "inner-link").symlink_to(root / "a.txt")
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "pipe")
    return root


LOCAL = st.lists(
    st.sampled_from(
        [
            *("a.txt", "sub", "b.txt", "file-link", "folder-link", "relative-link", "inner-link", "secret.txt"),
            *("..", ".", "/", "//", "\\", "%2e%2e", "%2f", "file://", "localhost", "~", "root-secret", "ROOT", "\x00"),
        ]
    ),
    max_size=7,
)


@given(LOCAL)
def test_no_path_reads_a_file_outside_of_a_local_root(tree, pieces):
    path = "".join(pieces).replace("ROOT", str(tree))
    reader = FileReader(open_path, root=str(tree))
    try:
        content = reader.read(path).read()
    except RequestValidationError as error:
        refused = str(error)
        content = b"fine"
    else:
        refused = ""
    assert "SECRET" not in refused
    assert content == b"fine"


@pytest.mark.parametrize("name", ["file-link", "folder-link/secret.txt", "relative-link"])
def test_a_link_out_of_the_root_is_refused(tree, name):
    for path in (name, f"{tree}/{name}", f"file://{tree}/{name}"):
        with pytest.raises(RequestValidationError, match="leads out of files_root"):
            FileReader(open_path, root=str(tree)).read(path)


def test_a_link_within_the_root_is_read(tree):
    assert FileReader(open_path, root=str(tree)).read("inner-link").read() == b"fine"


@pytest.mark.parametrize(
    ("name", "problem"), [("pipe", "is no ordinary file"), ("sub", "is a folder"), ("loop", "is no ordinary file")]
)
def test_what_is_no_file_is_refused_at_once(tree, name, problem):
    with pytest.raises(RequestValidationError, match=problem):
        FileReader(open_path, root=str(tree)).read(name)


def test_a_message_holds_neither_a_password_nor_a_signature():
    shown = shown_path("s3://key:secret@bucket/a.pdf?X-Amz-Signature=abc")
    assert shown == "s3://key:…@bucket/a.pdf?…"
    with pytest.raises(RequestValidationError) as caught:
        path_under(S3, "s3://key:secret@bucket/a.pdf?X-Amz-Signature=abc")
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)
