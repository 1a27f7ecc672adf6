"""Files as input, read from real object stores."""

from __future__ import annotations

import os

import pytest

from airflow_provider_responses.content.reader import FileReader
from airflow_provider_responses.content.snapshots import IN_MEMORY
from airflow_provider_responses.exceptions import RequestValidationError
from tests.parts.services import opened
from tests.parts.stores import Bucket


def reader_of(bucket: Bucket, **kwargs) -> FileReader:
    return FileReader(lambda path: opened(path, bucket.filesystem()), root=f"s3://{bucket.name}/in", **kwargs)


@pytest.mark.parametrize("size", [1, IN_MEMORY, IN_MEMORY + 1, 6 * IN_MEMORY])
def test_an_object_of_any_size_is_read_whole(moto, size):
    data = os.urandom(size)
    moto.filesystem().pipe_file(f"{moto.name}/in/a.pdf", data)
    assert reader_of(moto).read("a.pdf").read() == data
    assert reader_of(moto).read(f"s3://{moto.name}/in/a.pdf").size == size


def test_missing_empty_large_and_foreign_objects_are_refused(moto):
    fs = moto.filesystem()
    fs.pipe_file(f"{moto.name}/in/empty.pdf", b"")
    fs.pipe_file(f"{moto.name}/in/large.pdf", bytes(100))
    fs.pipe_file(f"{moto.name}/out/a.pdf", b"SECRET")
    reader = reader_of(moto, max_bytes=99)
    for path, problem in {
        "missing.pdf": "does not exist",
        "empty.pdf": "is empty",
        "large.pdf": r"has too many bytes \(100\)",
        f"s3://{moto.name}/out/a.pdf": "is not under files_root",
        "../out/a.pdf": "files_root",
        "%2e%2e/out/a.pdf": "files_root",
    }.items():
        with pytest.raises(RequestValidationError, match=problem):
            reader.read(path)


def test_an_object_that_is_replaced_while_it_is_read_is_refused(moto, monkeypatch):
    fs, data = moto.filesystem(), os.urandom(2 * IN_MEMORY)
    fs.pipe_file(f"{moto.name}/in/a.pdf", data)
    get_file = fs.get_file

    def replace_and_get(key, local, **kwargs):
        fs.pipe_file(key, data[:-1] + b"x")
        return get_file(key, local, **kwargs)

    monkeypatch.setattr(fs, "get_file", replace_and_get)
    reader = FileReader(lambda path: opened(path, fs), root=f"s3://{moto.name}/in")
    with pytest.raises(RequestValidationError, match="changed while it was read"):
        reader.read("a.pdf")
