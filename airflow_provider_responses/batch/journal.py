"""
The record of the batches of an output, in files beside its parts, so that nothing is submitted twice.

Each batch has up to three files, each written once: the *intent* before it is submitted, its *id* right after, and
*landed* once all of its results are in the parts. An intent without an id is orphaned: the batch may exist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_responses.enrich.output_store import PARTS
from airflow_provider_responses.exceptions import StorageError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.output_store import OutputStore, Writer

INTENT, ID, LANDED = "intent", "id", "landed"
_T = TypeVar("_T")

NONCE_DIGITS: Final = 12
_NAME: Final = re.compile(r"batch-g(\d+)-([0-9a-f]{8})-([0-9a-f]{12})\.(intent|id|landed)\.json")


@dataclass(frozen=True, kw_only=True)
class Intent:
    """
    A batch before it is submitted.

    :param nonce: a random text that the custom ids of its requests end with.
    :param created: seconds since the epoch.
    :param fingerprints: of its requests, in order, as hex digits.
    :param estimate: its highest expected price in US dollars, None if unknown.
    """

    nonce: str
    created: float
    model: str
    fingerprints: list[str] = field(repr=False)
    estimate: float | None = None

    def custom_id(self, fingerprint: str) -> str:
        """Return the ``custom_id`` of a request of this batch."""
        return f"{fingerprint}-{self.nonce}"

    def fingerprint_of(self, custom_id: str) -> str | None:
        """Return the fingerprint of the request with a ``custom_id``, None if it is not of this batch."""
        fingerprint, _, nonce = custom_id.rpartition("-")
        return fingerprint if nonce == self.nonce else None


@dataclass(frozen=True, kw_only=True)
class Landed:
    """
    A batch whose results are in the parts.

    :param status: its final status.
    :param results: number of results.
    :param cost: US dollars of the results, None if unknown.
    :param put_back: fingerprints of the requests without a result, since the batch ended early.
    :param resend: fingerprints of the requests whose result is not final, such as an invalid output.
    """

    status: str
    results: int
    cost: float | None
    put_back: list[str] = field(default_factory=list, repr=False)
    resend: list[str] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class _Id:
    id: str


@dataclass(kw_only=True)
class BatchRecord:
    """
    The files of one batch.

    :param attempt: the attempt that submitted it; see :func:`attempt_id`.
    """

    attempt: str
    intent: Intent
    batch_id: str | None = None
    landed: Landed | None = None


class BatchJournal:
    """
    See the module.

    :param store: of the output, whose lease is held.
    :param attempt: this attempt; see :func:`attempt_id`.
    """

    def __init__(self, store: OutputStore, attempt: str) -> None:
        self._store, self._storage, self._attempt = store, store.storage, attempt
        self.records: list[BatchRecord] = []  # of this generation, without those that landed in earlier attempts
        self._obsolete: list[str] = []  # names of files that are of no use once this attempt has succeeded
        self._abandoned: dict[tuple[str, str], set[str]] = {}  # kinds of files by batch, of earlier generations

    def read(self) -> None:
        """
        Read the files.

        :raises StorageError: if a file cannot be read.
        """
        found: dict[tuple[str, str], dict[str, str]] = {}
        for name in self._storage.list_names(PARTS):
            if (match := _NAME.fullmatch(name)) is None:
                continue
            generation, attempt, nonce, kind = match.groups()
            if int(generation) != self._store.generation:
                self._obsolete.append(name)
                self._abandoned.setdefault((attempt, nonce), set()).add(kind)
                continue
            found.setdefault((attempt, nonce), {})[kind] = name
        for (attempt, nonce), names in found.items():
            if LANDED in names and attempt != self._attempt:
                self._obsolete += names.values()
            elif INTENT in names:
                self.records.append(self._read_record(attempt, nonce, names))
        self.records.sort(key=lambda record: record.intent.created)

    @property
    def abandoned(self) -> int:
        """Number of batches of earlier generations without a landed file."""
        return sum(LANDED not in kinds for kinds in self._abandoned.values())

    @property
    def unlanded(self) -> list[BatchRecord]:
        """The batches whose results are not in the parts yet, also orphaned ones."""
        return [record for record in self.records if record.landed is None]

    @property
    def landed(self) -> list[tuple[BatchRecord, Landed]]:
        """The batches that this attempt submitted and whose results are in the parts."""
        return [
            (record, record.landed)
            for record in self.records
            if record.landed is not None and record.attempt == self._attempt
        ]

    def add(self, intent: Intent) -> BatchRecord:
        """Write an intent before its batch is submitted."""
        record = BatchRecord(attempt=self._attempt, intent=intent)
        self._write(record, INTENT, asdict(intent))
        self.records.append(record)
        return record

    def set_id(self, record: BatchRecord, batch_id: str) -> None:
        """Write the id of a batch."""
        record.batch_id = batch_id  # also where the file cannot be written
        self._write(record, ID, asdict(_Id(batch_id)))

    def set_landed(self, record: BatchRecord, landed: Landed) -> None:
        """Write that all results of a batch are in the parts."""
        self._write(record, LANDED, asdict(landed))
        record.landed = landed

    def discard(self, record: BatchRecord) -> None:
        """Delete the files of a batch that does not exist, or that is given up."""
        for kind in (ID, INTENT):  # without its intent, a batch is forgotten
            if kind == INTENT or record.batch_id is not None:
                self._storage.delete_file(f"{PARTS}/{self._name(record, kind)}")
        self.records.remove(record)

    def clean_up(self) -> None:
        """Delete the files of batches that no later attempt needs, after this attempt has succeeded."""
        for record, _ in self.landed:
            self._obsolete += [self._name(record, kind) for kind in (INTENT, ID, LANDED)]
        # An intent without the other two would look orphaned, so it goes first.
        for name in sorted(self._obsolete, key=lambda name: f".{INTENT}." not in name):
            self._storage.delete_file(f"{PARTS}/{name}")
        self._obsolete.clear()

    def _read_record(self, attempt: str, nonce: str, names: Mapping[str, str]) -> BatchRecord:
        intent = self._read(names[INTENT], Intent)
        if intent.nonce != nonce:
            raise self._damaged(names[INTENT])
        landed = self._read(names[LANDED], Landed) if LANDED in names else None
        batch_id = self._read(names[ID], _Id).id if ID in names else None
        return BatchRecord(attempt=attempt, intent=intent, batch_id=batch_id, landed=landed)

    def _read(self, name: str, kind: type[_T]) -> _T:
        try:
            return kind(**self._read_json(name))
        except TypeError as error:
            raise self._damaged(name) from error

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._storage.read_file(f"{PARTS}/{name}") or b"")
        except ValueError as error:
            raise self._damaged(name) from error
        if not isinstance(found, dict):
            raise self._damaged(name)
        return found

    def _damaged(self, name: str) -> StorageError:
        url = self._storage.url(f"{PARTS}/{name}")
        return StorageError(
            f"{url} is damaged or was written by another version: it records a batch that may have been billed, so "
            "nothing is sent. Restore the file, or delete all files of this batch to send its rows again",
            path=url,
            retryable=False,
        )

    def _write(self, record: BatchRecord, kind: str, data: Mapping[str, Any]) -> None:
        self._storage.write_file(f"{PARTS}/{self._name(record, kind)}", json.dumps(data).encode())

    def _name(self, record: BatchRecord, kind: str) -> str:
        return f"batch-g{self._store.generation:04d}-{record.attempt}-{record.intent.nonce}.{kind}.json"


def attempt_id(writer: Writer) -> str:
    """Return 8 hex digits that differ between attempts of a task instance, and between task instances."""
    return blake2b(f"{writer.owner}\0{writer.idempotency_key}\0{writer.try_number}".encode(), digest_size=4).hexdigest()
