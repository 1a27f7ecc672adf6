"""
The files of the rows of a table.

A row is indexed with the digest, the type and the path of each of its files; the digest is part of its fingerprint, so
that a changed file is a new request, and an unchanged one is not. The content is read again when the row is sent. The
index never holds it: bytes from a column go into temporary files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_provider_responses.content.parts import BYTES, INDEXED, MAX_SIDE, PATH, is_url
from airflow_provider_responses.content.references import Part, find_references, has_references, replace_references
from airflow_provider_responses.content.request_files import (
    FilledRequest,
    add_content,
    checked_type,
    content_of,
    file_name,
    name_of,
    replace_files,
)
from airflow_provider_responses.content.snapshots import Snapshot
from airflow_provider_responses.content.wire_parts import wire_part
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError, StorageError

if TYPE_CHECKING:
    from airflow_provider_responses.content.reader import FileReader
    from airflow_provider_responses.models.file_content import Content

THREADS: Final = 16  # that read files while rows are indexed
MAX_REMEMBERED: Final = 10_000  # files that several rows may share
_MARK: Final = f'"{INDEXED}":'


class FileFacts(NamedTuple):
    """The properties of a file that are indexed."""

    digest: str
    media_type: str
    size: int


class RowFiles:
    """
    See the module.

    :param reader: of the files.
    """

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader
        self._found: dict[str, FileFacts | ResponsesError] = {}  # by the JSON of a part with a path
        self._spool: Path | None = None
        self._lock = threading.Lock()

    def read_ahead(self, requests: Iterable[Mapping[str, Any]]) -> None:
        """
        Read the files of several requests at once, for :meth:`index`. An error is raised there.

        :param requests: their fields.
        """
        if len(self._found) > MAX_REMEMBERED:
            self._found.clear()
        self._found = {name: facts for name, facts in self._found.items() if isinstance(facts, FileFacts)}
        parts: dict[str, Part] = {}
        for fields in requests:
            try:
                found = [part for _, part in find_references(fields)]
            except RequestValidationError:
                continue  # raised again when the row is indexed
            parts.update({_name(part): part for part in found if _is_readable(part)})
        missing = {name: part for name, part in parts.items() if name not in self._found}
        if not missing:
            return
        with ThreadPoolExecutor(min(THREADS, len(missing)), thread_name_prefix="responses-files") as pool:
            self._found.update(zip(missing, pool.map(self._try_facts, missing.values()), strict=True))

    def index(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return the fields of a request as they are indexed: JSON, without contents.

        :raises RequestValidationError: naming the place and the file, for one that cannot be sent.
        :raises StorageError: if a storage failed; a retry may succeed.
        """

        def describe(part: Part, facts: FileFacts) -> Part:
            others = {name: value for name, value in part.items() if name != BYTES}
            return {**others, INDEXED: {"digest": facts.digest, "type": facts.media_type, "size": facts.size}}

        return replace_files(fields, self._reader, read=self._facts, fill=describe)

    def is_indexed(self, fields: str) -> bool:
        """Return whether an indexed request, as JSON, has files that the worker reads."""
        return _MARK in fields and has_references(json.loads(fields))

    def described(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return an indexed request in its wire form, with digests in place of contents."""

        def describe(_: str, part: Part) -> Part:
            indexed = part[INDEXED]
            digest = f"digest:{indexed['digest']}"
            if part.get(MAX_SIDE) is not None:
                digest += f":{part[MAX_SIDE]}"
            return wire_part(part, media_type=indexed["type"], data=digest, name=file_name(part))

        return replace_references(fields, describe)

    def load(self, fields: Mapping[str, Any]) -> FilledRequest:
        """
        Return an indexed request with the contents of its files, which are read again.

        :raises RequestValidationError: if a file has changed since it was indexed, or cannot be read any more.
        :raises StorageError: if a storage failed; a retry may succeed.
        """
        contents: dict[str, Content] = {}

        def fill(_: str, part: Part) -> Part:
            indexed = part[INDEXED]
            snapshot = self._reader.read(part[PATH]) if PATH in part else self._spooled(indexed["digest"])
            if snapshot.digest() != indexed["digest"]:
                raise RequestValidationError(
                    f"{name_of(part)} has changed since the rows were read, and its row was not sent. Run the task "
                    "again to send the new content, and write files under new names",
                    fields=(PATH,),
                )
            return add_content(part, indexed["type"], snapshot, contents)

        return FilledRequest(replace_references(fields, fill), contents)

    def close(self) -> None:
        """Delete the temporary files."""
        if self._spool is not None:
            shutil.rmtree(self._spool, ignore_errors=True)
            self._spool = None

    def _facts(self, part: Part) -> FileFacts:
        facts = self._found.get(_name(part)) if PATH in part else None
        facts = self._try_facts(part) if facts is None else facts
        if isinstance(facts, ResponsesError):
            raise facts
        return facts

    def _try_facts(self, part: Part) -> FileFacts | ResponsesError:
        try:
            snapshot = content_of(part, self._reader)
            self._reader.check_size(snapshot.size, name_of(part))
            facts = FileFacts(snapshot.digest(), checked_type(part, snapshot), snapshot.size)
            if BYTES in part:
                self._spool_content(facts.digest, snapshot)
        except ResponsesError as error:
            return error
        return facts

    def _spool_content(self, digest: str, snapshot: Snapshot) -> None:
        """Write bytes of a column into a temporary file: the source is read once."""
        with self._lock:
            if self._spool is None:
                self._spool = Path(tempfile.mkdtemp(prefix="responses-files-"))
                weakref.finalize(self, shutil.rmtree, self._spool, ignore_errors=True)
        target = self._spool / digest
        if target.exists():
            return
        try:
            target.write_bytes(snapshot.read())
        except OSError as error:
            raise StorageError(
                f"bytes of a row cannot be written to {target} ({error}): they need as much space as the column. Free "
                "space on the worker, or set another TMPDIR",
                path=str(target),
            ) from error

    def _spooled(self, digest: str) -> Snapshot:
        assert self._spool is not None  # noqa: S101  its rows were indexed
        return Snapshot((self._spool / digest).read_bytes())


def _is_readable(part: Part) -> bool:
    return isinstance(path := part.get(PATH), str) and not is_url(path) and BYTES not in part and INDEXED not in part


def _name(part: Part) -> str:
    """Return the key of the facts about a part: what decides whether its file is valid."""
    return f"{part['type']}\0{part.get('filename')}\0{part[PATH]}"
