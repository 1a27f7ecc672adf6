"""Files that are complete or missing, on local disk and in object stores, and errors that name them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from airflow_provider_responses.enrich.storage import LocalStorage, ObjectStorage, Storage, storage_at
from airflow_provider_responses.exceptions import StorageError
from tests.enrich.jobs import stored

# Raised by the path library of Airflow 2.11.
pytestmark = pytest.mark.filterwarnings("ignore:in a future version of UPath:PendingDeprecationWarning")


@pytest.fixture(params=["path", "object storage"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return storage_at(tmp_path / "out" if request.param == "path" else stored(tmp_path.name) / "out")


class Path3:
    """The parts of Airflow's ``ObjectStoragePath`` that are used."""

    def __init__(self, fs: Any, text: str = "s3://my_conn@bucket/out") -> None:
        self.fs, self.path, self._text = fs, text.partition("://")[2].rpartition("@")[2], text
        self.protocol = text.partition("://")[0]

    def __str__(self) -> str:
        return self._text


class Failing(AbstractFileSystem):
    """A filesystem of which every call raises."""

    cachable = False  # two errors with the same text are two errors

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def fail(self, *_: Any, **__: Any) -> Any:
        raise self.error

    cat_file = pipe_file = put_file = get_file = ls = rm_file = fail


# Files


def test_files_are_written_read_listed_and_deleted(storage: Storage, tmp_path: Path) -> None:
    assert storage.list_names() == storage.list_names("lease") == []
    assert storage.read_file("lease/one") is None
    storage.delete_file("lease/one")
    assert storage.create_file("lease/one", b"1")
    assert not storage.create_file("lease/one", b"2")
    storage.write_file("lease/two", b"2")
    storage.write_file("lease/two", b"two")
    assert (storage.read_file("lease/one"), storage.read_file("lease/two")) == (b"1", b"two")
    assert storage.list_names("lease") == ["one", "two"]
    local = tmp_path / "local"
    for data in (b"one" * 1_000_000, b"two"):
        local.write_bytes(data)
        storage.put_file(local, "put")
        assert storage.read_file("put") == data
        assert storage.get_file("put", tmp_path).read_bytes() == data
    assert storage.list_names() == ["lease", "put"]  # and no drafts
    storage.delete_file("lease/one")
    assert storage.list_names("lease") == ["two"]


def test_files_of_other_processes_are_listed(tmp_path: Path) -> None:
    """Although filesystems cache their listings."""
    calls = []

    class Cached(MemoryFileSystem):
        cachable = False
        store: dict[str, Any] = {}  # noqa: RUF012  as in the class that it is from
        pseudo_dirs = [""]  # noqa: RUF012

        def ls(self, path: str, detail: bool = True, **given: Any) -> Any:
            if path not in self.dircache:
                calls.append(path)
                self.dircache[path] = super().ls(path, detail=detail, **given)
            return self.dircache[path]

        def invalidate_cache(self, path: str | None = None) -> None:
            self.dircache.clear()

    fs = Cached()
    mine = storage_at(Path3(fs))
    mine.write_file("parts/a", b"a")
    assert mine.list_names("parts") == ["a"]
    fs.store["/bucket/out/parts/b"] = fs.store["/bucket/out/parts/a"]  # by another process
    assert mine.list_names("parts") == ["a", "b"]


@pytest.mark.parametrize("given", [str, Path])
def test_paths_on_local_disk(given: Any, tmp_path: Path) -> None:
    assert isinstance(storage_at(given(tmp_path)), LocalStorage)


def test_a_file_url_is_local_disk(tmp_path: Path) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    local = storage_at(ObjectStoragePath(f"file://{tmp_path}/out"))
    assert isinstance(local, LocalStorage)
    local.write_file("a/b", b"1")
    assert (tmp_path / "out/a/b").read_bytes() == b"1"
    assert local.can_append


def test_an_object_storage_path_is_no_local_disk(tmp_path: Path) -> None:
    """Although it is a ``Path`` on Airflow 2.11 to 3.1."""
    remote = storage_at(stored(tmp_path.name) / "out")
    assert isinstance(remote, ObjectStorage)
    assert (remote.is_local, remote.can_append) == (False, False)
    assert storage_at(remote) is remote


def test_no_folder_or_bucket_is_created_in_an_object_store(tmp_path: Path) -> None:
    class NoFolders(MemoryFileSystem):
        cachable = False

        def mkdir(self, *_: Any, **__: Any) -> None:
            raise AssertionError("a folder in an object store")

        makedirs = mkdirs = mkdir

        def put_file(self, lpath: str, rpath: str, **_: Any) -> None:  # as s3fs, adlfs and gcsfs have it
            self.pipe_file(rpath, Path(lpath).read_bytes())

        def open(self, path: str, mode: str = "rb", **given: Any) -> Any:
            assert "data" in given or mode == "rb", "an open write handle"
            return super().open(path, mode, **given)

    store = storage_at(Path3(NoFolders()))
    (tmp_path / "local").write_bytes(b"1")
    store.write_file("a/b", b"1")
    store.create_file("a/c", b"1")
    store.put_file(tmp_path / "local", "a/d")
    assert store.list_names("a") == ["b", "c", "d"]


# Local disk


def full(*args: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", [(os, "fsync"), (Path, "replace")], ids=["write", "rename"])
@pytest.mark.parametrize("before", [None, b"before"])
def test_a_failed_write_leaves_the_file_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], before: bytes | None
) -> None:
    if before is not None:
        (tmp_path / "file").write_bytes(before)
    monkeypatch.setattr(*where, full)
    with pytest.raises(StorageError, match=r"/file cannot be written \(OSError: .*No space left.*\): .*free some"):
        LocalStorage(tmp_path).write_file("file", b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("where", [(os, "fsync"), (Path, "replace"), None], ids=["fsync", "replace", "write"])
def test_a_failed_put_leaves_the_file_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str] | None
) -> None:
    local, target = tmp_path / "local", tmp_path / "out" / "file"
    target.parent.mkdir()
    local.write_bytes(b"after")
    target.write_bytes(b"before")
    if where is not None:
        monkeypatch.setattr(*where, full)
    with pytest.raises(StorageError, match=r"out/file cannot be written .*No space left"):
        LocalStorage(tmp_path / "out").put_file(local, "file", full if where is None else lambda: None)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"before"]


def test_a_large_file_is_put_in_steps(storage: Storage, tmp_path: Path) -> None:
    steps: list[int] = []
    local = tmp_path / "local"
    local.write_bytes(b"x" * 12_000_000)
    storage.put_file(local, "file", lambda: steps.append(1))
    assert len(steps) >= 3
    assert storage.read_file("file") == local.read_bytes()


def test_a_failed_create_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="cannot be created"):
            LocalStorage(tmp_path).create_file("file", b"1")
    assert LocalStorage(tmp_path).create_file("file", b"2")


def test_an_interrupt_during_a_write_leaves_the_file_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"before")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LocalStorage(tmp_path).write_file("file", b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


# Errors


def library_error(name: str, text: str, kind: type[Exception] = Exception, **fields: Any) -> Exception:
    """Return an error of a storage library's own class, which is no OSError."""
    return type(name, (kind,), fields)(text)


AWS_412 = {"Error": {"Code": "PreconditionFailed"}, "ResponseMetadata": {"HTTPStatusCode": 412}}
CALLS = {
    "read": lambda storage, _: storage.read_file("parts/p"),
    "written": lambda storage, _: storage.write_file("parts/p", b""),
    "created": lambda storage, _: storage.create_file("parts/p", b""),
    "listed": lambda storage, _: storage.list_names("parts/p"),
    "deleted": lambda storage, _: storage.delete_file("parts/p"),
    "put": lambda storage, path: storage.put_file(path, "parts/p"),
    "got": lambda storage, path: storage.get_file("parts/p", path),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (library_error("NoCredentialsError", "Unable to locate credentials"), "no credentials; .*connection 'my_conn'"),
        (library_error("EndpointConnectionError", 'Could not connect to the endpoint URL: "http://x"'), "be reached"),
        (library_error("ClientAuthenticationError", "Server failed", status_code=403), "not allowed; let the worker"),
        (library_error("HttpError", "Anonymous caller does not have storage.objects.get", code=401), "no credentials"),
        (library_error("ServiceRequestError", "Cannot connect to host"), "cannot be reached; check its endpoint"),
        (PermissionError("The provided token has expired."), "may have expired; renew them"),
        (OSError(errno.EINVAL, "Bad Request"), "may have expired; renew them"),
        (PermissionError("Access Denied"), "is not allowed"),
        (OSError(errno.EIO, "Please reduce your request rate."), "a retry continues with the saved responses"),
        (OSError(errno.ENOSPC, "No space left on device"), "free some"),
        (library_error("ResourceNotFoundError", "ContainerNotFound"), "no such bucket or container; create it"),
        (NotImplementedError(), r"\(NotImplementedError\): .*install or update it"),
        (TimeoutError(), r"\(TimeoutError\): the store cannot be reached"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_any_library_names_the_file_and_a_remedy(
    call: str, error: Exception, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=f"^s3://my_conn@bucket/out/parts/p cannot be .*{hint}") as caught:
        CALLS[call](storage_at(Path3(Failing(error))), tmp_path)
    assert caught.value.path == "s3://my_conn@bucket/out/parts/p"
    assert caught.value.__cause__ is error
    assert caught.value.retryable == ("no such bucket" not in hint)


@pytest.mark.parametrize("call", ["written", "created", "put"])
def test_a_write_that_finds_nothing_is_a_missing_bucket(call: str, tmp_path: Path) -> None:
    """Stores have no folders."""
    with pytest.raises(StorageError, match="there is no such bucket or container; create it, or correct") as caught:
        CALLS[call](storage_at(Path3(Failing(FileNotFoundError("bucket")))), tmp_path)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "error",
    [
        FileExistsError(),
        library_error("HttpError", "Precondition Failed", code=412),
        library_error("HttpResponseError", "The condition is not met", status_code=412),
        library_error("ClientError", "At least one of the pre-conditions did not hold", OSError, response=AWS_412),
        library_error(
            "ClientError",
            "Conflict",
            response={"Error": {"Code": "ConditionalRequestConflict"}, "ResponseMetadata": {}},
        ),
    ],
    ids=["FileExistsError", "gcsfs", "azure", "s3 412", "s3 409"],
)
def test_a_refused_create_is_recognized(error: Exception) -> None:
    assert not storage_at(Path3(Failing(error))).create_file("claim", b"")


def test_the_status_of_a_wrapped_error_is_found() -> None:
    wrapped = OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold")
    wrapped.__cause__ = library_error("ClientError", "412", response=AWS_412)
    assert not storage_at(Path3(Failing(wrapped))).create_file("claim", b"")


def test_no_signature_is_in_an_error() -> None:
    error = OSError("GET https://account.blob.core.windows.net/c/b?sv=2024&sig=S3CRET%3D&se=1 failed\nsecond line")
    with pytest.raises(StorageError) as caught:
        storage_at(Path3(Failing(error))).read_file("p")
    assert "S3CRET" not in str(caught.value)
    assert "https://account.blob.core.windows.net/c/b?… failed second line" in str(caught.value)


def test_an_error_is_short() -> None:
    with pytest.raises(StorageError) as caught:
        storage_at(Path3(Failing(OSError("x" * 10_000)))).read_file("p")
    assert len(str(caught.value)) < 600


def test_without_a_connection_the_remedy_is_to_name_one() -> None:
    error = library_error("NoCredentialsError", "Unable to locate credentials")
    with pytest.raises(StorageError, match=r"name a connection in output_path, as in gs://my_connection@bucket/…"):
        storage_at(Path3(Failing(error), "gs://bucket/out")).read_file("p")


def test_a_library_that_checks_and_then_writes_has_no_exclusive_create() -> None:
    assert not storage_at(Path3(AbstractFileSystem())).has_exclusive_create
    assert storage_at(Path3(MemoryFileSystem())).has_exclusive_create
