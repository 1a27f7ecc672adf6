"""
The output of an enrichment: the part files, which hold all responses, the manifest, and the lease of the writer.

Every part has a name that no other writer uses, so that two writers never replace each other's rows.
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
from airflow_provider_responses.enrich.lease import LEASES, Claim, Lease, latest_claim, lease_in
from airflow_provider_responses.enrich.sources import CHUNK_SIZE
from airflow_provider_responses.enrich.storage import Storage, drafted_name, storage_at
from airflow_provider_responses.exceptions import ConfigurationError, LeaseLostError, OutputLockedError, StorageError
from airflow_provider_responses.task.idempotency import region_of

PARTS: Final = "parts"
MANIFEST: Final = "manifest.json"
LEASE_SECONDS: Final = 120.0  # after the last renewal, until other writers may take over
_MAP_INDEX: Final = " map_index="  # in the name of a task instance
_REGION: Final = " region="
_MAX_ACQUIRES: Final = 10  # attempts to take the lease, while others take it in the same moment
_MIN_RENEWAL: Final = 1.0  # seconds that a renewal may take, even if the lease has nearly lapsed
_RENEWAL_PAUSE: Final = 1.0  # seconds after a renewal that failed
_MAX_RELEASE: Final = 10.0  # seconds that the end of an attempt waits for a store that hangs
_MAX_APPENDED_LINES: Final = 1000  # in one part
_MAX_TIERS: Final = 1000  # of an escalation
_OWN_FILE: Final = re.compile(
    rf"{re.escape(MANIFEST)}|result\.(jsonl|parquet)|part-g\d+-t\d+-[0-9a-f]{{8}}-\d+\.jsonl|batch-g\d+-[0-9a-f-]+\.\w+\.json"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Writer:
    """
    The task instance that writes.

    :param owner: its name; see :func:`owner_name`.
    :param try_number: of the task instance.
    :param idempotency_key: changes when the task is cleared, and not between its attempts.
    """

    owner: str
    try_number: int = 1
    idempotency_key: str = ""


class OutputStore:
    """
    See the module. Its methods may be called from several threads at once.

    :param path: a ``Path``, an ``ObjectStoragePath`` of Airflow's, or a ``Storage``.
    :param writer: the task instance that writes.
    :param now: the time, in seconds since the epoch.
    :param lease_seconds: after the last renewal, until other writers may take over.
    :param sleep: waits in the caller's thread.
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
        self._latest_generation = 1  # that was begun, even if it has no responses
        self._begun_by = ""  # the idempotency key of the task that began the generation
        self._now, self._sleep = now, sleep
        self._token = secrets.token_hex(4)
        self._lease: Lease | None = None  # once it is known of which kind the store's is
        self._claim = 0  # number of the writer's latest claim, 0 while there is none
        self._expires = 0.0  # of that claim
        self._renewing = threading.Lock()
        self._number = 0  # of the next part
        self._writing = threading.Lock()
        self._appended = ("", 0, 0)  # the part that lines are added to, its lines and its bytes

    @property
    def can_append(self) -> bool:
        """Whether ``append`` works, as it does on local disk."""
        return self.storage.can_append

    @property
    def lease_is_exclusive(self) -> bool:
        """Whether no two writers can hold the lease; known once it is acquired."""
        return self._lease is not None and self._lease.is_exclusive

    @property
    def lease_left(self) -> float:
        """Seconds until the lease lapses, 0 if it has lapsed."""
        return max(0.0, self._expires - self._now())

    def acquire(self, *, resume: bool, generation: int | None = None) -> None:
        """
        Take the lease.

        :param resume: whether to use the responses that are there. Otherwise a new generation begins, unless this task
            has begun one already. A generation without responses that another task began is skipped.
        :param generation: of an earlier step of this attempt, which let go of the lease.
        :raises OutputLockedError: if another task writes here.
        :raises ConfigurationError: if another mapped task, or another iteration of the task's loop, writes here, or if
            another task has begun a generation since that step.
        :raises StorageError: if nothing can be read or written here.
        """
        self._lease = lease = lease_in(self.storage, self._token, self._sleep)
        for _ in range(_MAX_ACQUIRES):
            number, found = lease.latest()
            self._refuse_others(found)
            self._choose_generation(found, resume=resume)
            if generation is not None:
                self._keep_generation(found, generation)
            claim = self._claims(self.lease_seconds)
            if (mine := lease.take(number, claim)) is not None:
                self._claim, self._expires = mine, claim.expires
                self.confirm()
                self._delete_leftovers()
                return
        raise OutputLockedError(
            f"output_path {str(self.path)!r}: other tasks took its lease in the same moment, {_MAX_ACQUIRES} times in "
            "a row; a retry may succeed"
        )

    def look(self, *, resume: bool) -> None:
        """Find the responses that :meth:`acquire` would use, without the lease. Nothing is written."""
        self._choose_generation(latest_claim(self.storage, self._sleep), resume=resume)

    def confirm(self) -> None:
        """
        Check, before anything is sent, that no other writer took the lease meanwhile.

        :raises OutputLockedError: if one did.
        """
        try:
            self.renew()
        except LeaseLostError as error:
            raise OutputLockedError(str(error)) from None

    def _delete_leftovers(self) -> None:
        """Delete temporary files of attempts that were killed."""
        try:
            self._held.delete_probes()
            if not (self.storage.is_local and self.lease_is_exclusive):
                return
            # Only the holder of the lease writes drafts. A writer that has lost the lease must not complete its draft.
            for folder in ("", PARTS):
                for name in self.storage.list_names(folder):
                    if (drafted := drafted_name(name)) is not None and _OWN_FILE.fullmatch(drafted):
                        self.storage.delete_file(f"{folder}/{name}" if folder else name)
        except StorageError as error:
            log.info("Temporary files of killed attempts could not be deleted: %s", error)

    def _refuse_others(self, found: Claim | None) -> None:
        if found is None:
            return
        self._refuse_siblings(found.owner)
        is_mine = found.owner == self.writer.owner and found.try_number <= self.writer.try_number
        left = found.expires - self._now()
        if left > 0 and not is_mine:
            raise OutputLockedError(
                f"output_path {str(self.path)!r} is being written by {found.owner}, try {found.try_number}. "
                f"Wait until it ends, or for {left:.0f} s if it was killed; or use another output_path",
                retry_after=left,
            )

    def _keep_generation(self, found: Claim | None, generation: int) -> None:
        """Refuse to send the rows once more, after another task has begun to do so with ``resume=False``."""
        if found is not None and found.generation != generation:
            raise ConfigurationError(
                f"output_path {str(self.path)!r} was taken over by {found.owner} with resume=False while this task "
                "waited for its batches, which are billed, unused; let one run at a time write there, or give each its "
                "own output_path"
            )
        self.generation = generation
        self._latest_generation = max(generation, found.latest_generation if found else generation)

    def _choose_generation(self, found: Claim | None, *, resume: bool) -> None:
        files = self.storage.list_names(PARTS)
        there = {_generation(name) for name in files if name.startswith(("part-g", "batch-g"))}
        self.generation = found.generation if found else max(there, default=1)
        self._latest_generation = max({found.generation, found.latest_generation} | there if found else {1} | there)
        key = self.writer.idempotency_key
        # While a task waits for batches without the lease, another one may have written here.
        is_new = found is None or key not in {found.idempotency_key, found.begun_by}
        self._begun_by = key if found is None else found.begun_by
        if is_new and not resume:
            self._latest_generation += found is not None or bool(there)
            self.generation, self._begun_by = self._latest_generation, key
        elif is_new and self.generation not in there:
            self.generation = max(there, default=self.generation)
            self._begun_by = ""  # an earlier generation, whoever began it

    def _refuse_siblings(self, owner: str) -> None:
        """Refuse mapped tasks of one run, and iterations of one loop, that would replace each other's results."""
        (task, map_index, region), mine = (_split_owner(name) for name in (owner, self.writer.owner))
        if not task or task != mine[0]:
            return
        if map_index != mine[1]:
            raise ConfigurationError(
                f"output_path {str(self.path)!r} is also used by map_index {map_index}, whose result this one would "
                "replace; give each mapped task its own, such as …/{{ ti.map_index }}/, or use `shard`"
            )
        if region and mine[2] and region != mine[2]:
            raise ConfigurationError(
                f"output_path {str(self.path)!r} is also used by another iteration of the task's loop, whose result "
                "this one would replace; give each iteration its own, such as …/{{ ti.region_index }}/"
            )

    def renew(self) -> None:
        """
        Renew the lease. A renewal that fails is tried again until the lease has lapsed.

        :raises LeaseLostError: if another writer has taken it, or, retryable, if the store was down until it lapsed.
        """
        while True:
            try:
                self.try_renew()
            except StorageError as error:
                left = self.lease_left
                if left == 0.0:
                    raise LeaseLostError(
                        f"output_path {str(self.path)!r}: the lease lapsed, because it could not be renewed for "
                        f"{self.lease_seconds:.0f} s; nothing more is sent, since another task may write here now. A "
                        f"retry continues with the saved responses. {error}",
                        retryable=True,
                    ) from error
                log.warning("The lease could not be renewed, and lapses in %.0f s: %s", left, error)
                self._sleep(min(_RENEWAL_PAUSE, left))
            else:
                return

    def try_renew(self) -> None:
        """
        Renew the lease once, also if it has lapsed and no other writer has taken it.

        :raises LeaseLostError: if another writer has taken it.
        :raises StorageError: if the store cannot be read or written now.
        """
        with self._renewing:
            while not self._renewed():
                number, found = self._held.latest()
                if found is None or found.token != self._token:
                    break
                self._claim = number  # of a renewal that was given up, and took effect late
            else:
                return
        if found is None:
            raise LeaseLostError(f"output_path {str(self.path)!r}: the lease was deleted; this attempt stops")
        raise LeaseLostError(
            f"output_path {str(self.path)!r}: {found.owner}, try {found.try_number}, writes here now; this attempt "
            "stops"
        )

    def _renewed(self) -> bool:
        claim = self._claims(self.lease_seconds)
        # One request that hangs must leave time for others before the lease lapses.
        quarter = self.lease_seconds / 4
        seconds = max(min(self.lease_left or quarter, quarter), _MIN_RENEWAL)
        number = within(seconds, partial(self._held.renew, self._claim, claim), self.storage.url(LEASES))
        if number is not None:
            self._claim, self._expires = number, claim.expires
        return number is not None

    def release(self) -> None:
        """Release the lease. The last claim stays, since it holds the generation."""
        with self._renewing:
            try:
                seconds = max(min(self.lease_seconds, _MAX_RELEASE), _MIN_RENEWAL)
                within(seconds, partial(self._held.renew, self._claim, self._claims(0.0)), self.storage.url(LEASES))
            except StorageError as error:
                log.warning("The lease could not be released, and lapses in %.0f s: %s", self.lease_left, error)
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
            begun_by=self._begun_by,
            generation=self.generation,
            latest_generation=self._latest_generation,
            expires=self._now() + seconds,
        )

    def write_part(self, lines: list[str]) -> str:
        """
        Write rows, each a JSON object; return the name of the file.

        After a failure the next part has the same name, since the failed write may have taken effect.
        """
        with self._writing:
            name = self._part_name()
            self.storage.write_file(f"{PARTS}/{name}", _joined(lines))
            self._number += 1
            return name

    def append(self, lines: list[str]) -> None:
        """
        Add rows, each a JSON object, to this attempt's part. Only on local disk; the end of the process loses none.

        A new part begins after 1,000 rows or 4 MiB, and after a failure: the rows of a failed call are never read, so
        that the caller can add them again.
        """
        with self._writing:
            name, count, size = self._appended
            if not name or count >= _MAX_APPENDED_LINES or size >= CHUNK_SIZE:
                name, count, size = self._part_name(), 0, 0
                self._number += 1
            self._appended = ("", 0, 0)
            data = _joined(lines)
            self.storage.append(f"{PARTS}/{name}", data)
            self._appended = (name, count + len(lines), size + len(data))

    def read_parts(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of each part of this generation; of a part that is cut off, those before the cut."""
        for name in self._part_names():
            if _generation(name) != self.generation:
                continue
            url = self.storage.url(f"{PARTS}/{name}")
            if (data := self.storage.read_file(f"{PARTS}/{name}")) is None:
                raise StorageError(
                    f"{url} disappeared while it was read; if no other process deletes files under output_path, a "
                    "retry continues",
                    path=url,
                )
            yield _rows_of(data)

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest, empty if there is none that can be read."""
        return read_manifest(self.storage)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest."""
        self.storage.write_file(MANIFEST, json.dumps(manifest, indent=2).encode())

    def delete_parts(self, *, but_not: int) -> None:
        """Delete the parts of other generations."""
        for name in self._part_names():
            if _generation(name) != but_not:
                self.storage.delete_file(f"{PARTS}/{name}")

    def _part_name(self) -> str:
        # The token keeps apart the parts of two processes that both run as this attempt.
        return f"part-g{self.generation:04d}-t{self.writer.try_number:04d}-{self._token}-{self._number:06d}.jsonl"

    def _part_names(self) -> list[str]:
        found = self.storage.list_names(PARTS)
        return [name for name in found if name.startswith("part-") and name.endswith(".jsonl")]


def read_manifest(storage: Storage) -> dict[str, Any]:
    """Return the manifest of an output, empty if there is none that can be read."""
    # S3 returns 403 for a missing file to a worker that may only list by prefix, so the folder is listed first.
    if MANIFEST not in storage.list_names():
        return {}
    try:
        found = json.loads(storage.read_file(MANIFEST) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def owner_name(ti: Any) -> str:
    """Return the name of a task instance, such as ``dag.task run=… map_index=-1``, in a task loop with its region."""
    region = region_of(ti)
    map_index = -1 if ti.map_index is None else ti.map_index
    owner = f"{ti.dag_id}.{ti.task_id} run={ti.run_id}{_MAP_INDEX}{map_index}"
    return owner if region is None else f"{owner}{_REGION}{region}"


def _split_owner(owner: str) -> tuple[str, str, str]:
    """Return the task with its run, the map index and the region of a task loop."""
    task, _, rest = owner.rpartition(_MAP_INDEX)
    map_index, _, region = rest.partition(_REGION)
    return task, map_index, region


def output_name(path: Any, *, with_connection: bool = True) -> str:
    """
    Return the name of an output. Two paths are the same output if their names are equal; double slashes do not count.

    :param with_connection: whether the connection is part of the name. Two connections may be two stores that have
        buckets of the same name, or one store.
    """
    scheme, separator, rest = str(path).partition("://")
    if not separator:
        return scheme
    authority, _, key = rest.lstrip("/").partition("/")
    in_text, _, bucket = authority.rpartition("@")
    # If the text lacks the connection, it is an attribute on Airflow 3.2 and later, and an option before.
    conn_id = in_text or getattr(path, "conn_id", None) or getattr(path, "storage_options", {}).get("conn_id")
    location = "/".join(filter(None, (bucket, *key.split("/"))))
    return f"{scheme}://{conn_id}@{location}" if conn_id and with_connection else f"{scheme}://{location}"


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _is_fingerprint(value: Any) -> bool:
    try:
        return bool(bytes.fromhex(value))
    except (TypeError, ValueError):
        return False


def _is_paid(value: Any) -> bool:
    """Return whether a value is None, or US dollars and a number of sends whose price is unknown."""
    return value is None or (isinstance(value, list) and [*map(_is_number, value)] == [True, True])


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_escalation(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("fingerprint"), str):
        return value is None
    model, before = value.get("model"), value.get("before")
    is_tier = isinstance(before, list) and len(before) == 2 and type(before[0]) is int
    return (model is None or isinstance(model, str)) and (before is None or is_tier)


def _is_step(row: Mapping[str, Any]) -> bool:
    """Return whether the fields of a step are those of one. Without a judge, ``_score`` may be of the source."""
    tier, score = row.get("_tier", 0), row.get("_score")
    if type(tier) is not int or not 0 <= tier < _MAX_TIERS:
        return False
    if tier and not _is_escalation(row.get("_escalation")):
        return False
    return "_judge" not in row or (isinstance(row["_judge"], str) and (score is None or _is_number(score)))


# Checks of the fields that are read: a line may have been edited, or written by another version.
_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "_fingerprint": _is_fingerprint,
    "_status": lambda value: isinstance(value, str),
    "_cost": lambda value: value is None or _is_number(value),
    "_paid": _is_paid,
    "_key": lambda value: value is None or isinstance(value, str),
    "_prompt": lambda value: value is None or isinstance(value, str),
    "_generations": _are_texts,
}


def _rows_of(part: bytes) -> list[dict[str, Any]]:
    """Return the rows of a part, up to the first that is damaged. Its request and those after it are sent again."""
    rows: list[dict[str, Any]] = []
    for line in part.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not all(is_valid(row.get(name)) for name, is_valid in _CHECKS.items()):
            break
        if not _is_step(row):
            break
        rows.append(row)
    return rows


def _generation(name: str) -> int:
    text = name.removeprefix("batch-g").removeprefix("part-g").split("-")[0]
    return int(text) if text.isdigit() else 0
