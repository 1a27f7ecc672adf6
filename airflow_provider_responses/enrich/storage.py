"""
All reads and writes of an output: complete files, by name, on local disk or in an object store.

A ``Path`` is on local disk. Anything else has ``.fs`` (an fsspec filesystem) and ``.path``, as Airflow's
``ObjectStoragePath`` has in every version; on 2.11 to 3.1 that class is a ``Path`` as well.
Object stores have neither folders nor appends. Their files are never written through an open handle, because fsspec
would store the written bytes even when an exception ends the writing.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar, Final

from typing_extensions import override

from airflow_provider_responses.enrich.storage_errors import naming, refuses_create

_DRAFT: Final = re.compile(r"\.(.+)\.[0-9a-f]{8}")
_PIECE: Final = 1024 * 1024  # bytes that are copied at once on local disk
_on_disk = partial(naming, kinds=OSError)


class Storage(ABC):
    """
    The files under one path. Each is named relative to it, with ``/`` between folders.

    :raises StorageError: from every method, naming the file and what to do.
    """

    can_append: ClassVar[bool]
    is_local: ClassVar[bool]

    def __init__(self, path: Any) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def url(self, name: str = "") -> str:
        """Return the address of a file, with the connection."""
        return f"{str(self.path).rstrip('/')}/{name}" if name else str(self.path)

    @abstractmethod
    def read_file(self, name: str) -> bytes | None:
        """Return the bytes of a file, None if there is no such file."""

    @abstractmethod
    def write_file(self, name: str, data: bytes) -> None:
        """Write a file, or replace it: completely, or not at all."""

    @abstractmethod
    def create_file(self, name: str, data: bytes) -> bool:
        """Write a file that is not there yet; return False if it is there."""

    @abstractmethod
    def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
        """
        Write a file, or replace it, with one from local disk: completely, or not at all.

        :param step: is called after each piece of the file. An exception in it ends the writing.
        """

    @abstractmethod
    def get_file(self, name: str, scratch: Path) -> Path:
        """Return the path of a file on local disk: of the file itself, or of a copy in the scratch folder."""

    @abstractmethod
    def list_names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the files and folders in a folder; none if there is no such folder."""

    @abstractmethod
    def delete_file(self, name: str) -> None:
        """Delete a file, if it is there."""

    def append(self, name: str, data: bytes) -> None:
        """Add to the end of a file, so that the end of the process loses nothing. Only on local disk."""
        raise NotImplementedError(f"{self.url(name)}: object stores have no appends")

    @property
    def has_exclusive_create(self) -> bool:
        """Whether the library has an exclusive ``create_file``. The store may still ignore it."""
        return True


class LocalStorage(Storage):
    """Local disk, or a mounted file system."""

    can_append = is_local = True

    def _at(self, name: str, *, with_folder: bool = False) -> Path:
        path: Path = self.path / name if name else self.path
        if with_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def read_file(self, name: str) -> bytes | None:
        with _on_disk(self.url(name), "read"):
            try:
                return self._at(name).read_bytes()
            except FileNotFoundError:
                return None

    def write_file(self, name: str, data: bytes) -> None:
        with (
            _on_disk(self.url(name), "written"),
            _draft_of(self._at(name, with_folder=True)) as draft,
            draft.open("wb") as file,
        ):
            file.write(data)
            _sync(file)

    def create_file(self, name: str, data: bytes) -> bool:
        with _on_disk(self.url(name), "created"):
            path = self._at(name, with_folder=True)
            try:
                file = path.open("xb")
            except FileExistsError:
                return False
            try:
                with file:
                    file.write(data)
                    _sync(file)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            return True

    def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
        with (
            _on_disk(self.url(name), "written"),
            _draft_of(self._at(name, with_folder=True)) as draft,
            local.open("rb") as source,
            draft.open("wb") as target,
        ):
            while data := source.read(_PIECE):
                target.write(data)
                step()
            _sync(target)
            step()

    @override
    def get_file(self, name: str, scratch: Path) -> Path:
        with _on_disk(self.url(name), "read"):
            path = self._at(name)
            path.stat()
            return path

    def list_names(self, folder: str = "") -> list[str]:
        with _on_disk(self.url(folder), "listed"):
            try:
                return sorted(os.listdir(self._at(folder)))
            except FileNotFoundError:
                return []

    def delete_file(self, name: str) -> None:
        with _on_disk(self.url(name), "deleted"):
            self._at(name).unlink(missing_ok=True)

    def append(self, name: str, data: bytes) -> None:
        with _on_disk(self.url(name), "written"), self._appending(name) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                file.write(data)
                file.flush()
            except BaseException:
                with contextlib.suppress(OSError):  # the first error is raised; readers skip a line that is cut
                    os.ftruncate(file.fileno(), before)
                raise

    def _appending(self, name: str) -> IO[bytes]:
        path = self._at(name)
        try:
            return path.open("ab")
        except FileNotFoundError:
            return self._at(name, with_folder=True).open("ab")


class ObjectStorage(Storage):
    """An object store, through fsspec."""

    can_append = is_local = False

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self._fs = path.fs
        self._root = str(path.path).rstrip("/")

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def read_file(self, name: str) -> bytes | None:
        with naming(self.url(name), "read"):
            try:
                data: bytes = self._fs.cat_file(self._key(name))
            except FileNotFoundError:
                return None
            return data

    def write_file(self, name: str, data: bytes) -> None:
        with naming(self.url(name), "written", is_object=True):
            self._fs.pipe_file(self._key(name), data)

    def create_file(self, name: str, data: bytes) -> bool:
        with naming(self.url(name), "created", is_object=True):
            try:
                self._fs.pipe_file(self._key(name), data, mode="create")
            except Exception as error:
                if refuses_create(error):
                    return False
                raise
            return True

    def put_file(self, local: Path, name: str, step: Callable[[], None] = lambda: None) -> None:
        from fsspec.callbacks import Callback

        with naming(self.url(name), "written", is_object=True):
            self._fs.put_file(str(local), self._key(name), callback=Callback(hooks={"step": lambda *_: step()}))

    def get_file(self, name: str, scratch: Path) -> Path:
        with naming(self.url(name), "read"):
            target = scratch / f"{secrets.token_hex(8)}-{name.rpartition('/')[2]}"
            self._fs.get_file(self._key(name), str(target))
            return target

    def list_names(self, folder: str = "") -> list[str]:
        with naming(self.url(folder), "listed"):
            self._fs.invalidate_cache(self._key(folder))  # or files that others wrote since would be missing
            try:
                found = self._fs.ls(self._key(folder), detail=False)
            except FileNotFoundError:
                return []
            return sorted(filter(None, (str(key).rstrip("/").rpartition("/")[2] for key in found)))

    def delete_file(self, name: str) -> None:
        with naming(self.url(name), "deleted"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._key(name))

    @property
    def has_exclusive_create(self) -> bool:
        """Other libraries check whether the file is there, and then write it."""
        from fsspec import AbstractFileSystem
        from fsspec.asyn import AsyncFileSystem

        kind = type(self._fs)
        if isinstance(self._fs, AsyncFileSystem):
            return kind._pipe_file is not AsyncFileSystem._pipe_file
        return kind.pipe_file is not AbstractFileSystem.pipe_file


def storage_at(path: Any) -> Storage:
    """Return the storage of a path: a ``str`` or ``Path`` (local disk), an ``ObjectStoragePath``, or a storage."""
    if isinstance(path, Storage):
        return path
    if not hasattr(path, "fs"):
        return LocalStorage(Path(path))
    if getattr(path, "protocol", "") in {"", "file", "local"}:
        return LocalStorage(Path(path.path))
    with naming(str(path), "opened"):
        return ObjectStorage(path)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def drafted_name(name: str) -> str | None:
    """Return the name of the file that a draft was to become, None for a file that is no draft."""
    found = _DRAFT.fullmatch(name)
    return found and found[1]


@contextmanager
def _draft_of(path: Path) -> Iterator[Path]:
    """Yield the path of a draft, which replaces a file once it is written completely."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
