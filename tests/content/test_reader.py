"""Reading a file: once, within its limit, and whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import random

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_responses.content import reader as reader_module
from airflow_provider_responses.content.reader import FileReader
from airflow_provider_responses.content.snapshots import IN_MEMORY, PIECE, Base64Content, Snapshot
from airflow_provider_responses.exceptions import RequestValidationError, StorageError
from airflow_provider_responses.operators.paths import open_path
from tests.enrich.jobs import attach

LARGE = random.Random(1).randbytes(IN_MEMORY + PIECE + 1)  # noqa: S311  the same in each process of the tests


class Store(MemoryFileSystem):
    """An object store that counts the reads, and may change or fail in between."""

    store: dict = {}  # noqa: RUF012  as fsspec has it
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False

    def __init__(self):
        super().__init__()
        self.calls = []
        self.after = {}  # a function by the call after which it runs
        self.error = None

    def cat_file(self, path, start=None, end=None, **kwargs):
        self.calls.append("get")
        if self.error is not None:
            raise self.error
        data = super().cat_file(path, start, end)
        self.after.pop("get", lambda: None)()
        return data

    def info(self, path, **kwargs):
        self.calls.append("head")
        found = super().info(path) | {"ETag": hash(self.store[f"/{path.strip('/')}"].getvalue())}
        self.after.pop("head", lambda: None)()
        return found

    def get_file(self, path, local, **kwargs):
        self.calls.append("get")
        with open(local, "wb") as file:
            file.write(self.store[f"/{path.strip('/')}"].getvalue())


class StorePath:
    """A path of such a store, as ``ObjectStoragePath`` is one."""

    protocol = "mem"
    conn_id = None

    def __init__(self, fs, path):
        self.fs, self.path = fs, path


@pytest.fixture
def store():
    Store.store.clear()
    return Store()


def read(store, name="a.pdf", **kwargs):
    reader = FileReader(
        lambda path: StorePath(store, path.partition("://")[2]), root=kwargs.pop("root", "mem://bucket/in"), **kwargs
    )
    return reader.read(name)


def test_a_small_object_is_one_get(store):
    store.pipe_file("bucket/in/a.pdf", b"content")
    assert read(store).read() == b"content"
    assert store.calls == ["get"]


def test_a_large_object_is_fetched_into_a_file_and_its_version_compared(store, tmp_path):
    store.pipe_file("bucket/in/a.pdf", LARGE)
    snapshot = read(store)
    assert snapshot.read() == LARGE
    assert snapshot.size == len(LARGE)
    assert store.calls == ["get", "head", "get", "head"]


def test_the_content_stays_the_same_when_the_file_changes_later(store, tmp_path):
    store.pipe_file("bucket/in/a.pdf", LARGE)
    local = tmp_path / "a.bin"
    local.write_bytes(LARGE)
    first, second = read(store), FileReader(open_path, root=str(tmp_path)).read("a.bin")
    store.pipe_file("bucket/in/a.pdf", b"other")
    local.write_bytes(b"other")
    for snapshot in (first, second):
        assert snapshot.read() == b"".join(snapshot.pieces()) == LARGE


@pytest.mark.parametrize(
    ("changed", "after"),
    [
        (LARGE[:-1], "head"),
        (LARGE[::-1], "head"),
        (LARGE + b"x", "head"),
        (LARGE[:-1] + b"\0", "head"),
        (LARGE[::-1], "get"),
    ],
    ids=["shorter", "other", "longer", "last byte", "other, after the first read"],
)
def test_an_object_that_changes_while_it_is_read_is_refused(store, changed, after):
    store.pipe_file("bucket/in/a.pdf", LARGE)
    store.after[after] = lambda: store.pipe_file("bucket/in/a.pdf", changed)
    with pytest.raises(RequestValidationError, match=r"a\.pdf changed while it was read"):
        read(store)


@pytest.mark.parametrize("change", [lambda path: path.write_bytes(b"y" * 10), lambda path: os.truncate(path, 3)])
def test_a_local_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 9)
    os_read = os.read

    def read_and_change(number, size):
        piece = os_read(number, 4)
        change(path)
        return piece

    monkeypatch.setattr(reader_module.os, "read", read_and_change)
    with pytest.raises(RequestValidationError, match=r"a\.txt changed while it was read"):
        FileReader(open_path, root=str(tmp_path)).read("a.txt")


@pytest.mark.parametrize("size", [11, IN_MEMORY * 2])
def test_a_file_above_the_limit_is_not_downloaded(store, size, tmp_path):
    store.pipe_file("bucket/in/a.pdf", bytes(size))
    (tmp_path / "a.pdf").write_bytes(bytes(size))
    expected = rf"a\.pdf has too many bytes \({size}\).*may have 10 \(max_file_bytes\)"
    with pytest.raises(RequestValidationError, match=expected):
        read(store, max_bytes=10)
    assert store.calls == ["get", "head"]
    with pytest.raises(RequestValidationError, match=expected):
        FileReader(open_path, root=str(tmp_path), max_bytes=10).read("a.pdf")


def test_empty_and_missing_files_are_refused(store, tmp_path):
    store.pipe_file("bucket/in/a.pdf", b"")
    (tmp_path / "a.pdf").touch()
    local = FileReader(open_path, root=str(tmp_path))
    for attempt in (lambda: read(store), lambda: local.read("a.pdf")):
        with pytest.raises(RequestValidationError, match=r"a\.pdf is empty"):
            attempt()
    for attempt in (lambda: read(store, "b.pdf"), lambda: local.read("b.pdf"), lambda: local.read("a.pdf/b.pdf")):
        with pytest.raises(RequestValidationError, match=r"b\.pdf (does not exist|is no file)"):
            attempt()


def test_an_empty_object_of_a_store_that_refuses_ranges_is_empty(store):
    store.pipe_file("bucket/in/a.pdf", b"")
    store.error = OSError("InvalidRange")
    with pytest.raises(RequestValidationError, match=r"a\.pdf is empty"):
        read(store)


def test_a_store_that_fails_may_be_tried_again_and_one_that_refuses_not(store):
    store.pipe_file("bucket/in/a.pdf", b"content")
    for error, retryable in ((TimeoutError("slow"), True), (PermissionError("no"), False)):
        store.error = error
        with pytest.raises(StorageError, match=r"a\.pdf cannot be read") as caught:
            read(store)
        assert caught.value.retryable is retryable


NO_NAMES = [
    OSError(errno.ENAMETOOLONG, "File name too long"),
    OSError(errno.EINVAL, "Bad Request"),  # of s3fs
    ValueError("embedded null byte"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    RuntimeError("An error occurred (KeyTooLongError) when calling the GetObject operation: Your key is too long"),
]


@pytest.mark.parametrize("error", NO_NAMES, ids=lambda error: type(error).__name__)
def test_a_name_that_no_store_can_have_is_an_error_of_its_row(store, error):
    store.pipe_file("bucket/in/a.pdf", b"content")
    store.error = error
    with pytest.raises(RequestValidationError, match=r"a\.pdf is no name of a file \(.*Correct the path"):
        read(store)


def test_a_response_of_a_store_that_is_no_json_may_be_tried_again(store):
    store.pipe_file("bucket/in/a.pdf", b"content")
    store.error = json.JSONDecodeError("Expecting value", "<html>", 0)
    with pytest.raises(StorageError) as caught:
        read(store)
    assert caught.value.retryable


def test_a_path_whose_store_reads_it_otherwise_is_refused(store):
    store.pipe_file("bucket/other/a.pdf", b"content")
    reader = FileReader(
        lambda path: StorePath(store, path.partition("://")[2].replace("in/a.pdf", "other/a.pdf")),
        root="mem://bucket/in",
    )
    with pytest.raises(RequestValidationError, match="leads out of files_root"):
        reader.read("a.pdf")
    assert store.calls == []


def test_without_a_root_only_paths_of_the_author_are_read(tmp_path):
    path = str(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("content")
    assert FileReader(open_path, trusted=frozenset({path})).read(path).read() == b"content"
    with pytest.raises(RequestValidationError, match=r"files_root is missing.*a\.txt"):
        FileReader(open_path).read(path)
    with pytest.raises(RequestValidationError, match="must be a complete path"):
        FileReader(open_path, trusted=frozenset({"a.txt"})).read("a.txt")


@pytest.mark.parametrize("size", [0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 2])
def test_base64_in_pieces_is_base64(size):
    import base64

    data = os.urandom(size)
    content = Base64Content(Snapshot(data))
    for _ in range(2):
        assert b"".join(content.chunks()) == base64.b64encode(data)
    assert content.length == len(base64.b64encode(data))


def test_airflows_class_is_read_as_well():
    fs = MemoryFileSystem()
    fs.pipe_file("/tables/in/a.txt", b"content")
    attach("memory", fs=fs)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    reader = FileReader(ObjectStoragePath, root="memory://tables/in")
    assert reader.read("memory://tables/in/a.txt").read() == b"content"
    with pytest.raises(RequestValidationError, match="is not under files_root"):
        reader.read("memory://tables/other/a.txt")
