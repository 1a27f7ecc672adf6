"""
The output of an enrichment: part files, which are the truth, and the lease of whoever writes them.

Every part has a name that no other writer takes, so that two writers never replace each other's rows.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from airflow_provider_responses.enrich.bounded_calls import within
from airflow_provider_responses.enrich.lease import LEASES, Claim, Lease, lease_in
from airflow_provider_responses.enrich.sources import CHUNK_SIZE
from airflow_provider_responses.enrich.storage import Storage, drafted_name, storage_at
from airflow_provider_responses.exceptions import ConfigurationError, LeaseLostError, OutputLockedError, StorageError
from airflow_provider_responses.task.idempotency import region_of

PARTS: Final = "parts"
MANIFEST: Final = "manifest.json"
LEASE_SECONDS: Final = 120.0  # after its last renewal others may write
_MAP_INDEX: Final = " map_index="  # in a task instance's name
_PLACE: Final = " place="
_STARTS: Final = 10  # of writers who take the lease in the same moment
_SHORTEST: Final = 1.0  # seconds that a renewal may take, also when the lease has nearly lapsed
_AGAIN: Final = 1.0  # seconds after a renewal that failed
_LONGEST_RELEASE: Final = 10.0  # seconds that the end of a run waits for a store that hangs
_APPENDED_LINES: Final = 1000  # in one part; more begin the next
_OWN_FILE: Final = re.compile(rf"{re.escape(MANIFEST)}|result\.(jsonl|parquet)|part-g\d+-t\d+-[0-9a-f]{{8}}-\d+\.jsonl")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Writer:
    """
    Who writes.

    :param owner: the task instance; see :func:`name_of_owner`.
    :param try_number: of the task instance.
    :param idempotency key: changes when the task is cleared, and not between tries.
    """

    owner: str
    try_number: int = 1
    idempotency_key: str = ""


class OutputStore:
    """
    See the module. Its methods may be called from several threads at once.

    :param path: a ``Path``, an ``ObjectStoragePath`` of Airflow's, or a ``Storage``.
    :param writer: who writes.
    :param now: the time, in seconds since the epoch.
    :param lease_seconds: after the last renewal others may write.
    :param sleep: waits in the thread of whoever calls.
    """

    def __init__(
        self,
        path: Any,
        writer: Writer,
        now: Callable[[], float],
        *,
        lease_seconds: float = LEASE_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.storage = storage_at(path)
        self.path = self.storage.path
        self.writer = writer
        self.lease_seconds = lease_seconds
        self.generation = 1
        self._begun = 1  # the latest generation, also if it has no answers
        self._now, self._sleep = now, sleep
        self._token = secrets.token_hex(4)
        self._lease: Lease | None = None  # once it is known which the store has
        self._claim = 0  # the number of the latest claim, 0 while there is none
        self._expires = 0.0  # of it
        self._renewing = threading.Lock()
        self._number = 0  # of the next part
        self._writing = threading.Lock()
        self._appended = ("", 0, 0)  # the part that lines are added to, and its lines and bytes

    @property
    def can_append(self) -> bool:
        """Whether ``append`` works: on local disk."""
        return self.storage.can_append

    @property
    def lease_is_exclusive(self) -> bool:
        """Whether the store lets no two writers have the lease; known once it is acquired."""
        return self._lease is not None and self._lease.is_exclusive

    @property
    def lease_left(self) -> float:
        """Seconds until the lease lapses if it is not renewed; 0 if it has."""
        return max(0.0, self._expires - self._now())

    def acquire(self, *, resume: bool) -> None:
        """
        Take the lease.

        :param resume: whether responses that are there are used; else a new generation begins, unless this task has
            begun it. One that another began, and that has no responses, is passed over for those before it.
        :raises OutputLockedError: if another task writes here.
        :raises ConfigurationError: if a sibling of this task writes here: another mapped task, or another iteration.
        :raises StorageError: if nothing can be read or written here.
        """
        self._lease = lease = lease_in(self.storage, self._token, self._sleep)
        for _ in range(_STARTS):
            number, found = lease.latest()
            self._refuse_others(found)
            self._choose_generation(found, resume=resume)
            claim = self._claims(self.lease_seconds)
            if (mine := lease.take(number, claim)) is not None:
                self._claim, self._expires = mine, claim.expires
                self.confirm()
                self._delete_leftovers()
                return
        raise OutputLockedError(
            f"output_path {str(self.path)!r}: {_STARTS} times another task took its lease in the same moment; a retry "
            "tries again"
        )

    def confirm(self) -> None:
        """
        See whether another writer took the lease meanwhile.

        :raises OutputLockedError: if one did; nothing has been sent yet.
        """
        try:
            self.renew()
        except LeaseLostError as error:
            raise OutputLockedError(str(error)) from None

    def _delete_leftovers(self) -> None:
        """Delete small files that killed attempts left behind."""
        try:
            self._held.delete_probes()
            if not (self.storage.is_local and self.lease_is_exclusive):
                return
            # Only a holder of the lease writes drafts. One that has lost it, and still writes, must not go through.
            for folder in ("", PARTS):
                for name in self.storage.list_names(folder):
                    if (drafted := drafted_name(name)) is not None and _OWN_FILE.fullmatch(drafted):
                        self.storage.delete_file(f"{folder}/{name}" if folder else name)
        except StorageError as error:
            log.info("Files of killed attempts are left there: %s", error)

    def _refuse_others(self, found: Claim | None) -> None:
        if found is None:
            return
        self._refuse_siblings(found.owner)
        is_mine = found.owner == self.writer.owner and found.try_number <= self.writer.try_number
        left = found.expires - self._now()
        if left > 0 and not is_mine:
            raise OutputLockedError(
                f"output_path {str(self.path)!r} is being written by {found.owner}, try {found.try_number}. "
                f"Wait until it is done, or for {left:.0f} s after it died; or take another output_path",
                retry_after=left,
            )

    def _choose_generation(self, found: Claim | None, *, resume: bool) -> None:
        there = {_generation(name) for name in self._part_names()}
        self.generation = found.generation if found else max(there, default=1)
        self._begun = max({found.generation, found.begun} | there if found else {1} | there)
        is_new = found is None or found.idempotency_key != self.writer.idempotency_key
        if is_new and not resume:
            self._begun += found is not None or bool(there)
            self.generation = self._begun
        elif is_new and self.generation not in there:
            self.generation = max(there, default=self.generation)

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
        Keep the lease. What fails is tried again until the lease has lapsed.

        :raises LeaseLostError: if another writer has taken it; retryable, if the store was down until it lapsed, so
            that another writer may.
        """
        while True:
            try:
                self.try_renew()
            except StorageError as error:
                left = self.lease_left
                if left == 0.0:
                    raise LeaseLostError(
                        f"output_path {str(self.path)!r}: for {self.lease_seconds:.0f} s the lease could not be "
                        "renewed, and so it lapsed; nothing more is sent, since another task may write here now. A "
                        f"retry goes on from what is written. {error}",
                        retryable=True,
                    ) from error
                log.warning("The lease lapses in %.0f s, and could not be renewed yet: %s", left, error)
                self._sleep(min(_AGAIN, left))
            else:
                return

    def try_renew(self) -> None:
        """
        Keep the lease, or get it back where it has lapsed and nobody has taken it.

        :raises LeaseLostError: if another writer has taken it.
        :raises StorageError: if the store cannot be read or written now.
        """
        with self._renewing:
            while not self._renewed():
                number, found = self._held.latest()
                if found is None or found.token != self._token:
                    break
                self._claim = number  # of a renewal that was given up and came through late
            else:
                return
        who = f"{found.owner}, try {found.try_number}," if found else "somebody who deleted the lease"
        raise LeaseLostError(f"output_path {str(self.path)!r}: {who} writes here now; this one stops")

    def _renewed(self) -> bool:
        claim = self._claims(self.lease_seconds)
        # One request that hangs must use up neither the time of all others nor that of the lease.
        quarter = self.lease_seconds / 4
        seconds = max(min(self.lease_left or quarter, quarter), _SHORTEST)
        number = within(seconds, partial(self._held.renew, self._claim, claim), self.storage.url(LEASES))
        if number is not None:
            self._claim, self._expires = number, claim.expires
        return number is not None

    def release(self) -> None:
        """Let others write. The last claim stays, since it holds the generation."""
        with self._renewing:
            try:
                seconds = max(min(self.lease_seconds, _LONGEST_RELEASE), _SHORTEST)
                within(seconds, partial(self._held.renew, self._claim, self._claims(0.0)), self.storage.url(LEASES))
            except StorageError as error:
                log.warning("Others wait for %.0f s, since the lease could not be released: %s", self.lease_left, error)
            self._expires = 0.0

    @property
    def _held(self) -> Lease:
        if self._lease is None:
            raise RuntimeError("acquire() comes first")
        return self._lease

    def _claims(self, seconds: float) -> Claim:
        return Claim(
            **asdict(self.writer),
            token=self._token,
            generation=self.generation,
            begun=self._begun,
            expires=self._now() + seconds,
        )

    def write_part(self, lines: list[str]) -> str:
        """
        Write rows, each a JSON object; return the file's name.

        After a failure the next part has the same name: a store may have written what it says it has not.
        """
        with self._writing:
            name = self._part_name()
            self.storage.write_file(f"{PARTS}/{name}", _joined(lines))
            self._number += 1
            return name

    def append(self, lines: list[str]) -> None:
        """
        Add rows, each a JSON object, to this attempt's part, on local disk alone. The end of the process loses none.

        A part of some 1,000 rows, or 4 MiB, is full, and another begins. So it does after a failure: none of this
        call's rows are read back, so that they may be given again.
        """
        with self._writing:
            name, count, size = self._appended
            if not name or count >= _APPENDED_LINES or size >= CHUNK_SIZE:
                name, count, size = self._part_name(), 0, 0
                self._number += 1
            self._appended = ("", 0, 0)
            data = _joined(lines)
            self.storage.append(f"{PARTS}/{name}", data)
            self._appended = (name, count + len(lines), size + len(data))

    def read_parts(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of each part of this generation; of one that is torn, those that are whole."""
        for name in self._part_names():
            if _generation(name) != self.generation:
                continue
            url = self.storage.url(f"{PARTS}/{name}")
            if (data := self.storage.read_file(f"{PARTS}/{name}")) is None:
                raise StorageError(
                    f"{url} is gone, though it was there a moment ago; if nobody deletes files under output_path, a "
                    "retry goes on",
                    path=url,
                )
            yield _rows_of(data)

    def read_manifest(self) -> dict[str, Any]:
        """Return what the last run came to, empty if there is no manifest that can be read."""
        return read_manifest(self.storage)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write what a run came to."""
        self.storage.write_file(MANIFEST, json.dumps(manifest, indent=2).encode())

    def delete_parts(self, *, but_not: int) -> None:
        """Delete the parts of other generations."""
        for name in self._part_names():
            if _generation(name) != but_not:
                self.storage.delete_file(f"{PARTS}/{name}")

    def _part_name(self) -> str:
        # The token keeps two writers apart who both think that they are this attempt.
        return f"part-g{self.generation:04d}-t{self.writer.try_number:04d}-{self._token}-{self._number:06d}.jsonl"

    def _part_names(self) -> list[str]:
        found = self.storage.list_names(PARTS)
        return [name for name in found if name.startswith("part-") and name.endswith(".jsonl")]


def read_manifest(storage: Storage) -> dict[str, Any]:
    """Return the manifest of an output, empty if there is none that can be read."""
    # It is looked for first: to whoever may list by prefix alone, S3 answers 403 for a file that is not there.
    if MANIFEST not in storage.list_names():
        return {}
    try:
        found = json.loads(storage.read_file(MANIFEST) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


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


def name_of(path: Any, *, with_connection: bool = True) -> str:
    """
    Name an output: two paths are one if their names are. Doubled slashes make no other.

    :param with_connection: two connections may be two stores that have buckets of the same name, or one store.
    """
    scheme, separator, rest = str(path).partition("://")
    if not separator:
        return scheme
    place, _, key = rest.lstrip("/").partition("/")
    said, _, bucket = place.rpartition("@")
    # Where it is no part of the text, it is an attribute on Airflow 3.2 and later, and an option before.
    conn_id = said or getattr(path, "conn_id", None) or getattr(path, "storage_options", {}).get("conn_id")
    whole = "/".join(filter(None, (bucket, *key.split("/"))))
    return f"{scheme}://{conn_id}@{whole}" if conn_id and with_connection else f"{scheme}://{whole}"


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _is_fingerprint(value: Any) -> bool:
    try:
        return bool(bytes.fromhex(value))
    except (TypeError, ValueError):
        return False


def _is_paid(value: Any) -> bool:
    """Return whether a value is nothing, or US dollars and a number of sends whose price is unknown."""
    return value is None or (isinstance(value, list) and [*map(_is_number, value)] == [True, True])


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Of the fields that are read back, what makes a line a row: people may have edited it, or another version written it.
_READ: Final[Mapping[str, Callable[[Any], bool]]] = {
    "_fingerprint": _is_fingerprint,
    "_status": lambda value: isinstance(value, str),
    "_cost": lambda value: value is None or _is_number(value),
    "_paid": _is_paid,
    "_key": lambda value: value is None or isinstance(value, str),
    "_prompt": lambda value: value is None or isinstance(value, str),
    "_generations": _are_texts,
}


def _rows_of(part: bytes) -> list[dict[str, Any]]:
    """Return the rows of a part, up to the first that is torn: it and those after it are sent again."""
    rows: list[dict[str, Any]] = []
    for line in part.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not all(is_right(row.get(name)) for name, is_right in _READ.items()):
            break
        rows.append(row)
    return rows


def _generation(name: str) -> int:
    text = name.removeprefix("part-g").split("-")[0]
    return int(text) if text.isdigit() else 0
