"""
The record of the batches of an output, in files beside its parts, so that nothing is submitted twice.

Each batch has up to three files, each written once: the *intent* before it is submitted, its *id* right after, and
*landed*, by the attempt that has written all of its results into the parts. An intent without an id is orphaned: the
batch may exist. Files without an intent are left over from a deletion, and mean nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow_provider_responses.enrich.output_store import PARTS
from airflow_provider_responses.exceptions import StorageError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.output_store import OutputStore, Writer

INTENT, ID, LANDED = "intent", "id", "landed"
_T = TypeVar("_T")
_FINGERPRINT: Final = re.compile(r"(?:[0-9a-f]{2})+")

NONCE_DIGITS: Final = 12
_NAME: Final = re.compile(r"batch-g(\d+)-([0-9a-f]{8})-([0-9a-f]{12})\.(intent|id|landed)\.json")


@dataclass(frozen=True, kw_only=True)
class Intent:
    """
    A batch before it is submitted.

    :param nonce: a random text that the custom ids of its requests end with.
    :param number: higher than those of the batches that were submitted before. Clocks jump, and this does not.
    :param created: seconds since the epoch.
    :param fingerprints: of its requests, in order, as hex digits.
    :param estimate: its highest expected price in US dollars, None if unknown.
    """

    nonce: str
    created: float
    model: str
    fingerprints: list[str] = field(repr=False)
    estimate: float | None = None
    number: int = 0

    def __post_init__(self) -> None:
        _check_types(
            text=(self.nonce, self.model),
            numbers=(self.created, self.estimate or 0.0, self.number),
            fingerprints=(self.fingerprints,),
        )

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
    :param resend: fingerprints of the requests that failed or have no result, and are sent again.
    :param invalid: fingerprints of the requests whose output was invalid, and which are sent again.
    :param feedback: texts that are added to these, by fingerprint; left out of the file if there are none.
    """

    status: str
    results: int
    cost: float | None
    put_back: list[str] = field(default_factory=list, repr=False)
    resend: list[str] = field(default_factory=list, repr=False)
    invalid: list[str] = field(default_factory=list, repr=False)
    feedback: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check_types(
            text=(self.status, *self.feedback.values()),
            numbers=(self.results, self.cost or 0.0),
            fingerprints=(self.put_back, self.resend, self.invalid, list(self.feedback)),
        )


@dataclass(frozen=True)
class _Id:
    id: str

    def __post_init__(self) -> None:
        _check_types(text=(self.id,))


@dataclass(kw_only=True)
class BatchRecord:
    """
    The files of one batch.

    :param attempt: the attempt that submitted it; see :func:`attempt_id`.
    :param landed: its end, if this attempt has written its results.
    :param names: of its files.
    """

    attempt: str
    intent: Intent
    batch_id: str | None = None
    landed: Landed | None = None
    names: set[str] = field(default_factory=set)


class BatchJournal:
    """
    See the module.

    :param store: of the output, whose lease is held.
    :param attempt: this attempt; see :func:`attempt_id`.
    """

    def __init__(self, store: OutputStore, attempt: str) -> None:
        self._store, self._storage, self._attempt = store, store.storage, attempt
        self.records: list[BatchRecord] = []  # of this generation, without those that landed in earlier attempts
        self.abandoned = 0  # batches of earlier generations that have not landed
        self._obsolete: list[str] = []  # names of files that are of no use once this attempt has succeeded

    def read(self) -> None:
        """
        Read the files.

        :raises StorageError: if a file cannot be read.
        """
        found: dict[tuple[int, str], list[tuple[str, str, str]]] = {}
        for name in self._storage.list_names(PARTS):
            if (match := _NAME.fullmatch(name)) is not None:
                generation, attempt, nonce, kind = match.groups()
                found.setdefault((int(generation), nonce), []).append((kind, attempt, name))
        self.records, self._obsolete, self.abandoned = [], [], 0
        for (generation, _), files in found.items():
            self._read_batch(generation, files)
        self.records.sort(key=lambda record: record.intent.number)

    def _read_batch(self, generation: int, files: list[tuple[str, str, str]]) -> None:
        """Read the files of one batch, each given as kind, attempt and name."""
        kinds = {kind for kind, _, _ in files}
        is_landed = LANDED in kinds
        is_mine = (LANDED, self._attempt) in {(kind, attempt) for kind, attempt, _ in files}
        is_present = generation == self._store.generation
        if INTENT in kinds and is_present and (is_mine or not is_landed):
            self.records.append(self._read_record(files))
            return
        self._obsolete += [name for _, _, name in files]
        self.abandoned += INTENT in kinds and not is_landed

    @property
    def unlanded(self) -> list[BatchRecord]:
        """The batches whose results are not in the parts yet, also orphaned ones."""
        return [record for record in self.records if record.landed is None]

    @property
    def landed(self) -> list[tuple[BatchRecord, Landed]]:
        """The batches whose results this attempt has written, in the order of their submission."""
        return [(record, record.landed) for record in self.records if record.landed is not None]

    @property
    def next_number(self) -> int:
        """The number of the next intent."""
        return max((record.intent.number for record in self.records), default=0) + 1

    def add(self, intent: Intent) -> BatchRecord:
        """Write an intent before its batch is submitted."""
        record = BatchRecord(attempt=self._attempt, intent=intent)
        self._write(record, INTENT, record.attempt, asdict(intent))
        self.records.append(record)
        return record

    def set_id(self, record: BatchRecord, batch_id: str) -> None:
        """Write the id of a batch."""
        record.batch_id = batch_id  # also where the file cannot be written
        self._write(record, ID, record.attempt, asdict(_Id(batch_id)))

    def set_landed(self, record: BatchRecord, landed: Landed) -> None:
        """Write that all results of a batch are in the parts."""
        written = asdict(landed)
        if not landed.feedback:
            del written["feedback"]
        self._write(record, LANDED, self._attempt, written)
        record.landed = landed

    def discard(self, record: BatchRecord) -> None:
        """Delete the files of a batch that does not exist, or that is given up."""
        self._delete(record.names)
        self.records.remove(record)

    def clean_up(self) -> None:
        """Delete the files of batches that no later attempt needs, after this attempt has succeeded."""
        for record, _ in self.landed:
            self._obsolete += record.names
        self._delete(self._obsolete)
        self._obsolete = []

    def _delete(self, names: Iterable[str]) -> None:
        # An intent without the others would look orphaned, so it goes first.
        for name in sorted(names, key=lambda name: f".{INTENT}." not in name):
            self._storage.delete_file(f"{PARTS}/{name}")

    def _read_record(self, files: list[tuple[str, str, str]]) -> BatchRecord:
        names = {kind: name for kind, attempt, name in files if kind != LANDED or attempt == self._attempt}
        intent = self._read(names[INTENT], Intent)
        if f"-{intent.nonce}." not in names[INTENT]:
            raise self._damaged(names[INTENT])
        return BatchRecord(
            attempt=next(attempt for kind, attempt, _ in files if kind == INTENT),
            intent=intent,
            batch_id=self._read(names[ID], _Id).id if ID in names else None,
            landed=self._read(names[LANDED], Landed) if LANDED in names else None,
            names={name for _, _, name in files},
        )

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

    def _write(self, record: BatchRecord, kind: str, attempt: str, data: Mapping[str, Any]) -> None:
        name = f"batch-g{self._store.generation:04d}-{attempt}-{record.intent.nonce}.{kind}.json"
        record.names.add(name)  # also where its write seems to fail
        self._storage.write_file(f"{PARTS}/{name}", json.dumps(data).encode())


def _check_types(
    *, text: Iterable[object], numbers: Iterable[object] = (), fingerprints: Iterable[object] = ()
) -> None:
    """Raise ``TypeError`` for values that this version has not written."""
    is_valid = (
        all(isinstance(it, str) and it for it in text)
        and all(isinstance(it, (int, float)) and math.isfinite(it) for it in numbers)
        and all(isinstance(them, list) and all(map(_is_fingerprint, them)) for them in fingerprints)
    )
    if not is_valid:
        raise TypeError("a value has a wrong type")


def _is_fingerprint(value: object) -> bool:
    return isinstance(value, str) and _FINGERPRINT.fullmatch(value) is not None


def attempt_id(writer: Writer) -> str:
    """Return 8 hex digits that differ between attempts of a task instance, and between task instances."""
    return blake2b(f"{writer.owner}\0{writer.idempotency_key}\0{writer.try_number}".encode(), digest_size=4).hexdigest()
