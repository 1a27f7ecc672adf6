"""
Reads the files of a request: where they may lie, how large they may be, and whether they change meanwhile.

A small object is one ranged GET, which no writer can tear. A larger one is fetched into a temporary file, and its
version is compared before and after.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from airflow_provider_responses.content.confinement import LOCAL, is_below, parse_root, path_under, shown_path
from airflow_provider_responses.content.parts import MAX_FILE_BYTES
from airflow_provider_responses.content.snapshots import IN_MEMORY, Recorder, Snapshot
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError, StorageError
from airflow_provider_responses.validation import show_exception

_PIECE: Final = 1024 * 1024
_VERSION: Final = ("ETag", "etag", "generation", "LastModified", "last_modified", "mtime", "size")
_NO_NAMES: Final = frozenset({errno.ENAMETOOLONG, errno.EINVAL})
_LOOPS: Final = frozenset({errno.ELOOP, errno.ENXIO})
# Errors of storage libraries that say that there is no such object, or that reading it is not allowed.
_MISSING: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class FileReader:
    """
    See the module.

    :param open_path: returns a ``Path``, or an ``ObjectStoragePath``, for a path as text.
    :param root: ``files_root``: the folder under which all paths lie that come from data; None without one.
    :param trusted: paths that the author of the DAG wrote, which may lie anywhere.
    :param max_bytes: of all files of one request together.
    """

    def __init__(
        self,
        open_path: Callable[[str], Any],
        *,
        root: str | None = None,
        trusted: frozenset[str] = frozenset(),
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._open_path, self._trusted = open_path, trusted
        self.max_bytes = max_bytes
        self._root_path: Any = None
        self._root = None
        if root is not None:
            parse_root(root)
            self._root_path = open_path(root)
            self._root = str(self._root_path) if _is_local(self._root_path) else root

    def read(self, path: str) -> Snapshot:
        """
        Return the content of a file.

        :raises RequestValidationError: if it may not be read, is missing, empty or too large, or changed meanwhile.
        :raises StorageError: if the storage failed; a retry may succeed.
        """
        is_confined = path not in self._trusted
        opened = self._open_confined(path) if is_confined else self._open_trusted(path)
        with _naming(path):
            if _is_local(opened):
                snapshot = self._read_local(opened, path, is_confined=is_confined)
            else:
                snapshot = self._read_object(opened, path)
        if not snapshot.size:
            _refuse(path, "is empty", "Write its content, or leave it out")
        return snapshot

    def check_size(self, size: int, path: str) -> None:
        """
        Refuse more bytes than a request may have.

        :raises RequestValidationError: naming the file.
        """
        if size > self.max_bytes:
            _refuse(
                path,
                f"has too many bytes ({size}): the files of a request may have {self.max_bytes} (max_file_bytes)",
                "Split it, or raise the limit if the model takes more",
            )

    def _open_trusted(self, path: str) -> Any:
        if "://" not in path and not path.startswith(("/", "~")):
            raise RequestValidationError(
                f"{shown_path(path)!r} must be a complete path, such as /data/a.pdf or s3://bucket/a.pdf: a relative "
                "one would depend on the worker's folder",
                fields=("path",),
            )
        return self._open_path(path)

    def _open_confined(self, path: str) -> Any:
        if self._root is None:
            raise RequestValidationError(
                f"files_root is missing, and {shown_path(path)!r} may come from data (a template, a function, another "
                "task or a row): set the folder under which all files lie, as in files_root='s3://bucket/invoices'",
                fields=("files_root",),
            )
        full = path_under(self._root, path)
        opened = self._open_path(full)
        # Once more by the library's own reading of the path, which may drop a part of it.
        names = full.removeprefix(f"{self._root.rstrip('/')}/")
        is_inside = _is_local(opened) == _is_local(self._root_path)
        if is_inside and _is_local(opened):
            is_inside = os.path.abspath(opened) == f"{os.path.abspath(self._root_path)}/{names}"
        elif is_inside:
            root = self._root_path
            store = (opened.protocol, getattr(opened, "conn_id", None))
            is_inside = store == (root.protocol, getattr(root, "conn_id", None))
            is_inside = is_inside and str(opened.path) == f"{str(root.path).rstrip('/')}/{names}"
        if not is_inside:
            self._refuse_outside(path)
        return opened

    def _refuse_outside(self, path: str) -> NoReturn:
        raise RequestValidationError(
            f"{shown_path(path)!r} leads out of files_root, {shown_path(self._root)}: a path from data, and the link "
            "that it may be, must lie under it. Correct the path, or move the file there",
            fields=("files_root",),
        )

    def _read_local(self, opened: Path, path: str, *, is_confined: bool) -> Snapshot:
        real = os.path.realpath(opened, strict=True)
        if is_confined and not is_below(real, os.path.realpath(self._root_path)):
            self._refuse_outside(path)
        # Without O_NONBLOCK, a named pipe would block; with O_NOFOLLOW, nothing can replace the file by a link.
        number = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if is_confined and os.path.realpath(real) != real:
                self._refuse_outside(path)
            return self._copy(number, path)
        finally:
            os.close(number)

    def _copy(self, number: int, path: str) -> Snapshot:
        """Return the content of an open file on this machine."""
        before = os.fstat(number)
        if not stat.S_ISREG(before.st_mode):
            kind = "a folder" if stat.S_ISDIR(before.st_mode) else "no ordinary file"
            _refuse(path, f"is {kind}", "Name a file")
        self.check_size(before.st_size, path)
        recorder = Recorder(in_memory=before.st_size <= IN_MEMORY)
        try:
            while recorder.size <= before.st_size and (piece := os.read(number, _PIECE)):
                recorder.add(piece)
            after = os.fstat(number)
            is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            if not is_same or recorder.size != before.st_size:
                _refuse_changed(path)
            return recorder.finish()
        except BaseException:
            recorder.discard()
            raise

    def _read_object(self, opened: Any, path: str) -> Snapshot:
        fs, key = opened.fs, str(opened.path)
        most = min(IN_MEMORY, self.max_bytes) + 1
        try:
            data: bytes = fs.cat_file(key, start=0, end=most)
        except _MISSING:
            raise
        except Exception:
            # An empty object has no range.
            if not _info(fs, key).get("size"):
                return Snapshot(b"")
            raise
        if len(data) < most:
            return Snapshot(data)
        return self._fetch_object(fs, key, path, data)

    def _fetch_object(self, fs: Any, key: str, path: str, beginning: bytes) -> Snapshot:
        before = _info(fs, key)
        self.check_size(int(before.get("size") or len(beginning)), path)
        with tempfile.TemporaryDirectory(prefix="responses-file-") as folder:
            local = os.path.join(folder, "content")
            fs.get_file(key, local)
            file = open(local, "rb")  # noqa: SIM115  the snapshot closes it
        snapshot = Snapshot(file)
        is_same = snapshot.size == before.get("size", snapshot.size) and snapshot.head(len(beginning)) == beginning
        if not is_same or _version(_info(fs, key)) != _version(before):
            _refuse_changed(path)
        return snapshot


def _is_local(path: Any) -> bool:
    """Return whether a path is on this machine. Until Airflow 3.1, an ``ObjectStoragePath`` is a ``Path`` as well."""
    return getattr(path, "protocol", "") in LOCAL


def _info(fs: Any, key: str) -> Mapping[str, Any]:
    fs.invalidate_cache(key.rpartition("/")[0])
    found: Mapping[str, Any] = fs.info(key)
    return found


def _version(info: Mapping[str, Any]) -> list[Any]:
    return [info.get(name) for name in _VERSION]


def _refuse(path: str, problem: str, advice: str) -> NoReturn:
    raise RequestValidationError(f"{shown_path(path)} {problem}. {advice}", fields=("path",))


def _refuse_changed(path: str) -> NoReturn:
    _refuse(path, "changed while it was read", "Write a file under another name, and rename it once it is complete")


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Raise a storage's errors as one that names the file."""
    try:
        yield
    except ResponsesError:
        raise
    except FileNotFoundError as error:
        raise _missing(path, "does not exist") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise _missing(path, "is no file") from error
    except Exception as error:  # libraries have classes of their own
        if isinstance(error, OSError) and error.errno in _LOOPS:
            raise _missing(path, "is no ordinary file") from error
        if _is_no_name(error):
            reason = getattr(error, "strerror", None) or show_exception(error)
            raise _missing(path, f"is no name of a file ({shown_path(reason)})") from error
        if isinstance(error, OSError) and error.errno == errno.EBUSY:  # s3fs: the object was replaced meanwhile
            _refuse_changed(path)
        hint = "let the worker read it" if isinstance(error, PermissionError) else "a retry reads it again"
        raise StorageError(
            f"{shown_path(path)} cannot be read ({shown_path(show_exception(error))}): {hint}",
            path=shown_path(path),
            retryable=not isinstance(error, PermissionError),
        ) from error


def _is_no_name(error: Exception) -> bool:
    """Return whether a storage can have no object of such a name, whatever it holds."""
    if isinstance(error, OSError):
        return error.errno in _NO_NAMES or "KeyTooLongError" in str(error)
    if isinstance(error, json.JSONDecodeError):  # of a service's response
        return False
    return isinstance(error, ValueError) or "KeyTooLongError" in str(error)


def _missing(path: str, problem: str) -> RequestValidationError:
    return RequestValidationError(
        f"{shown_path(path)} {problem}. Correct the path, or write the file before this task runs", fields=("path",)
    )
