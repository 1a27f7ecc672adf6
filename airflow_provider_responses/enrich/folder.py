"""
The output folder: part files, which are the truth, and the lease of whoever writes them.

Object storage has neither appends nor locks: every file is written once and whole, under a name that no other writer
takes, and the lease is a file that is looked at now and then.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, Final

from airflow_provider_responses.exceptions import ConfigurationError, LeaseLostError
from airflow_provider_responses.runs import region_of

PARTS: Final = "parts"
LEASE: Final = "lease.json"
MANIFEST: Final = "manifest.json"
LEASE_SECONDS: Final = 120.0  # after its last renewal others may write
_MAP_INDEX: Final = " map_index="  # in a task instance's name
_PLACE: Final = " place="
_LOCAL: Final = (PosixPath, WindowsPath)  # with Airflow 2.11 an ObjectStoragePath is a Path as well


@dataclass(frozen=True, kw_only=True)
class Writer:
    """
    Who writes.

    :param owner: the task instance; see :func:`name_of_owner`.
    :param try_number: of the task instance.
    :param stamp: changes when the task is cleared, and not between tries.
    """

    owner: str
    try_number: int = 1
    stamp: str = ""


class Folder:
    """
    See the module.

    :param path: a ``Path``, or what works like one, such as Airflow's ``ObjectStoragePath``.
    :param writer: who writes.
    :param now: the time, in seconds since the epoch.
    :param lease_seconds: after the lease's last renewal, others may write.
    """

    def __init__(
        self, path: Any, writer: Writer, now: Callable[[], float], *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.path = path
        self.writer = writer
        self.generation = 1
        self._begun = 1  # the latest generation, also if it has no answers
        self._now, self._lease_seconds = now, lease_seconds
        self._token = secrets.token_hex(4)
        self._parts = 0

    def acquire(self, *, resume: bool) -> None:
        """
        Take the lease.

        :param resume: whether answers that are there are used; else a new generation begins, unless this task has
            begun it. One that another began, and that has no answers, is passed over for those before it.
        :raises ConfigurationError: retryable, if another task writes here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        found = self._lease()
        if found is not None:
            self._refuse_siblings(found["owner"])
            mine = found["owner"] == self.writer.owner and found["try_number"] <= self.writer.try_number
            left = found["expires"] - self._now()
            if left > 0 and not mine:
                raise ConfigurationError(
                    f"output_path {str(self.path)!r} is being written by {found['owner']}, try {found['try_number']}. "
                    f"Wait until it is done, or for {left:.0f} s after it died; or take another output_path",
                    retryable=True,
                    retry_after=left,
                )
        there = {_generation(path) for path in self._part_paths()}
        self.generation = found["generation"] if found else max(there, default=1)
        self._begun = max({found["begun"] if found else 1} | there)
        is_new = found is None or found["stamp"] != self.writer.stamp
        if is_new and not resume:
            self._begun += found is not None or bool(there)
            self.generation = self._begun
        elif is_new and self.generation not in there:
            self.generation = max(there, default=self.generation)
        self._write_lease(self._lease_seconds)
        self.confirm()

    def confirm(self) -> None:
        """
        Look whether another writer took the lease at the same moment: there are no locks.

        :raises ConfigurationError: retryable; nothing has been sent yet.
        """
        try:
            self.renew()
        except LeaseLostError as error:
            raise ConfigurationError(str(error), retryable=True) from None

    def _refuse_siblings(self, owner: str) -> None:
        """Mapped tasks of one run, and iterations of one loop, would put their results over one another's."""
        (task, map_index, place), (mine, number, here) = (_parts_of_owner(name) for name in (owner, self.writer.owner))
        if not task or task != mine:
            return
        if map_index != number:
            raise ConfigurationError(
                f"output_path {str(self.path)!r} is also that of map_index {map_index}, whose result this one would "
                "replace; give each mapped task its own, such as …/{{ ti.map_index }}/, or take `shard`"
            )
        if place and here and place != here:
            raise ConfigurationError(
                f"output_path {str(self.path)!r} is also that of another iteration of the task's loop, whose result "
                "this one would replace; give each iteration its own, such as …/{{ ti.region_index }}/"
            )

    def renew(self) -> None:
        """
        Keep the lease.

        :raises LeaseLostError: if another writer has taken it.
        """
        found = self._lease()
        if found is None or found["token"] != self._token:
            who = f"{found['owner']}, try {found['try_number']}," if found else "somebody who deleted the lease"
            raise LeaseLostError(f"output_path {str(self.path)!r}: {who} writes here now; this one stops")
        self._write_lease(self._lease_seconds)

    def release(self) -> None:
        """Let others write; the file stays, since it holds the generation."""
        with suppress(LeaseLostError):
            self.renew()
            self._write_lease(0.0)

    def write_part(self, lines: list[str]) -> str:
        """Write rows, each a JSON object; give the file's name."""
        # The token keeps two writers apart who both think that they are this try.
        name = f"part-g{self.generation:04d}-t{self.writer.try_number:04d}-{self._token}-{self._parts:06d}.jsonl"
        self._parts += 1
        folder = self.path / PARTS
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, "".join(f"{line}\n" for line in lines).encode())
        return name

    def read_parts(self) -> Iterator[list[dict[str, Any]]]:
        """Give the rows of each part of this generation; of one that is torn, those that are whole."""
        for path in self._part_paths():
            if _generation(path) != self.generation:
                continue
            rows = []
            for line in path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # torn: its rows are sent again
                    break
                if not isinstance(row, dict) or not {"_fingerprint", "_status"} <= row.keys():
                    break
                rows.append(row)
            yield rows

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write what a run came to."""
        write_whole(self.path / MANIFEST, json.dumps(manifest, indent=2).encode())

    def delete_parts(self, *, but_not: int) -> None:
        """Delete the parts of other generations."""
        for path in self._part_paths():
            if _generation(path) != but_not:
                path.unlink(missing_ok=True)

    def _part_paths(self) -> list[Any]:
        folder = self.path / PARTS
        try:
            found = [
                path for path in folder.iterdir() if path.name.startswith("part-") and path.name.endswith(".jsonl")
            ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, key=lambda path: path.name)

    def _lease(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / LEASE).read_bytes())
            lease = {name: found[name] for name in ("owner", "try_number", "stamp", "token", "generation", "expires")}
            return lease | {"begun": max(found["generation"], found.get("begun", 0))}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None  # torn: nobody can be told from it, and parts are kept apart by their names

    def _write_lease(self, seconds: float) -> None:
        lease = asdict(self.writer) | {
            "token": self._token,
            "generation": self.generation,
            "begun": self._begun,
            "expires": self._now() + seconds,
        }
        write_whole(self.path / LEASE, json.dumps(lease).encode())


def name_of_owner(ti: Any) -> str:
    """Name a task instance, such as ``dag.task run=… map_index=-1``; in a task loop its place in it follows."""
    region = region_of(ti)
    map_index = -1 if ti.map_index is None else ti.map_index
    owner = f"{ti.dag_id}.{ti.task_id} run={ti.run_id}{_MAP_INDEX}{map_index}"
    return owner if region is None else f"{owner}{_PLACE}{region}"


def _parts_of_owner(owner: str) -> tuple[str, str, str]:
    """Return the task in its run, the map index and the place in a task loop."""
    task, _, rest = owner.rpartition(_MAP_INDEX)
    map_index, _, place = rest.partition(_PLACE)
    return task, map_index, place


def name_of(path: Any) -> str:
    """Name a folder, whoever opens it in whichever way: a connection's name and doubled slashes make no other."""
    scheme, separator, rest = str(path).partition("://")
    if not separator:
        return scheme
    bucket, _, key = rest.partition("/")
    return f"{scheme}://" + "/".join(filter(None, (bucket.rpartition("@")[2], *key.split("/"))))


def _generation(path: Any) -> int:
    text = path.name.removeprefix("part-g").split("-")[0]
    return int(text) if text.isdigit() else 0


def write_whole(path: Any, data: bytes) -> None:
    """Write a file that is there whole or not at all. An object of an object store is so by itself."""
    if not isinstance(path, _LOCAL):
        path.write_bytes(data)
        return
    with _draft_of(path) as draft, draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def put(local: Path, path: Any) -> None:
    """Put a local file in its place, whole or not at all."""
    if isinstance(path, _LOCAL):
        with _draft_of(path) as draft:
            shutil.copyfile(local, draft)
        return
    with local.open("rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1024 * 1024)


@contextmanager
def _draft_of(path: Path) -> Iterator[Path]:
    """Take the place of a file when all of it is written."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
