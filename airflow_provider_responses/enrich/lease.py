"""
The lease of an output: which writer may write, and until when.

Where the store can create a file exclusively, each claim is a new file with a number, and the claim with the highest
number holds the lease. Of two writers that create the same number, the store refuses one. A renewal creates the next
number, so that no writer can take over a lease that was renewed a moment ago. Elsewhere the lease is one file, which is
read, written and read again; two writers that start within the same seconds may then both believe to hold it.
"""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, Self

from typing_extensions import override

from airflow_provider_responses.enrich.storage import Storage
from airflow_provider_responses.exceptions import StorageError

LEASES: Final = "lease"  # the folder
_SHARED: Final = "lease.json"
_CLAIM: Final = "claim-"
_PROBE: Final = re.compile(r"probe-[0-9a-f]{8}")
_READS: Final = 6  # of a claim that is cut off: on local disk it may be half written
_LOOKUPS: Final = 20  # of the latest claim: its owner deletes it when there is a newer one
_PAUSE: Final = 0.02  # seconds before the second read, doubled before each further one

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """
    A writer's claim to the lease.

    :param owner: the task instance.
    :param try_number: of the task instance.
    :param idempotency_key: changes when the task instance is cleared.
    :param token: differs between two processes that both run as the same attempt.
    :param generation: of the parts that are written and read.
    :param latest_generation: that was begun, even if it has no parts.
    :param expires: seconds since the epoch.
    :param begun_by: the idempotency key of the task instance that began the generation.
    """

    owner: str
    try_number: int
    idempotency_key: str
    token: str
    generation: int
    latest_generation: int
    expires: float
    begun_by: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Return the claim in a file, None if it is cut off or is no claim."""
        try:
            found: Any = json.loads(data)
            found = {"begun_by": "", **found}
            claim = cls(**{field.name: found[field.name] for field in fields(cls)})
            (
                float(claim.expires),
                claim.generation + claim.latest_generation + claim.try_number,
                claim.owner + claim.token + claim.begun_by,
            )
        except (ValueError, KeyError, TypeError):
            return None
        return claim

    def encoded(self) -> bytes:
        """Return the content of the claim's file."""
        return json.dumps(asdict(self)).encode()


class Lease(ABC):
    """
    The lease in a storage.

    :param sleep: waits before a claim that is cut off is read again.
    :param probes: files of attempts that were killed while they probed the store.
    """

    is_exclusive: ClassVar[bool]

    def __init__(self, storage: Storage, sleep: Callable[[float], object], probes: Sequence[str] = ()) -> None:
        self._storage, self._sleep, self._probes = storage, sleep, probes

    @abstractmethod
    def latest(self) -> tuple[int, Claim | None]:
        """
        Return the number of the latest claim, and the claim: 0 and None if there is none.

        If it is damaged, the claim before it is returned, None if there is no other.
        """

    @abstractmethod
    def take(self, number: int, claim: Claim) -> int | None:
        """
        Put a claim after the claim of a number; return its own number, None if another writer was faster.

        The writer does not hold the lease before the first renewal.
        """

    @abstractmethod
    def renew(self, number: int, claim: Claim) -> int | None:
        """Replace the writer's own claim of a number; return the new number, None if that claim is no longer valid."""

    def delete_probes(self) -> None:
        """
        Delete the probes of killed attempts. Only the holder of the lease may do so.

        An attempt that is probing now loses nothing: it finds the holder's claim afterwards.
        """
        for name in self._probes:
            self._storage.delete_file(f"{LEASES}/{name}")

    def _read(self, name: str) -> tuple[bool, Claim | None]:
        """Return whether a file is there, and its claim: None if it is still cut off after several reads."""
        pause = _PAUSE
        for attempt in range(_READS):
            if (data := self._storage.read_file(f"{LEASES}/{name}")) is None:
                return False, None
            if (claim := Claim.parse(data)) is not None:
                return True, claim
            if attempt < _READS - 1:
                self._sleep(pause)
                pause *= 2
        return True, None


class ExclusiveLease(Lease):
    """One file for each claim. The store refuses to create a file that is there."""

    is_exclusive = True

    def latest(self) -> tuple[int, Claim | None]:
        for _ in range(_LOOKUPS):
            number, *older = sorted(self._numbers(), reverse=True) or [0]
            if number == 0:
                return 0, None
            is_there, claim = self._read(_name(number))
            if is_there:
                return number, claim or self._first_readable(older)
        url = self._storage.url(LEASES)
        raise StorageError(f"{url} has claims that disappear while they are read; a retry reads them again", path=url)

    def _first_readable(self, numbers: list[int]) -> Claim | None:
        """Return the first claim that is complete: that of a writer which was killed while it wrote the next one."""
        return next((claim for number in numbers if (claim := self._read(_name(number))[1]) is not None), None)

    def renew(self, number: int, claim: Claim) -> int | None:
        if (mine := self.take(number, claim)) is None:
            return None
        numbers = self._numbers()
        # A number that was deleted can be created again: by a writer that has lost the lease, or whose output is gone.
        if mine != max(numbers, default=0) or number not in numbers:
            self._delete([mine])
            return None
        self._delete([number for number in numbers if number < mine])
        return mine

    def take(self, number: int, claim: Claim) -> int | None:
        # An existing claim may be the writer's own, of a request whose response was lost.
        while not self._storage.create_file(f"{LEASES}/{_name(number + 1)}", claim.encoded()):
            _, found = self._read(_name(number + 1))
            if found is None or found.token != claim.token:
                return None
            number += 1
        return number + 1

    def _delete(self, numbers: list[int]) -> None:
        try:
            for number in numbers:
                self._storage.delete_file(f"{LEASES}/{_name(number)}")
        except StorageError as error:
            log.info("Older claims could not be deleted: %s", error)

    def _numbers(self) -> list[int]:
        return [number for name in self._storage.list_names(LEASES) if (number := _number(name))]


class SharedLease(Lease):
    """One file, which every writer can replace."""

    is_exclusive = False

    def latest(self) -> tuple[int, Claim | None]:
        if _SHARED not in self._storage.list_names(
            LEASES
        ):  # a worker without the right to list the bucket would get a 403
            return 0, None
        is_there, claim = self._read(_SHARED)
        return int(is_there), claim

    @override
    def take(self, number: int, claim: Claim) -> int | None:
        self._storage.write_file(f"{LEASES}/{_SHARED}", claim.encoded())
        return 1

    def renew(self, number: int, claim: Claim) -> int | None:
        _, found = self.latest()
        if found is None or found.token != claim.token:
            return None
        return self.take(number, claim)


def lease_in(storage: Storage, token: str, sleep: Callable[[float], object]) -> Lease:
    """
    Return the lease of an output: of the same kind as before, or for a new output, exclusive if its store allows that.

    :raises StorageError: if the store cannot be used.
    """
    there = storage.list_names(LEASES)
    has_claims, probes = any(map(_number, there)), [name for name in there if _PROBE.fullmatch(name)]
    if has_claims and not storage.has_exclusive_create:
        url = storage.url(LEASES)
        raise StorageError(
            f"{url} has claims that need an exclusive create, which the storage library of this worker does not have; "
            "update it",
            path=url,
        )
    if has_claims or (_SHARED not in there and storage.has_exclusive_create and _is_exclusive(storage, token)):
        log.info("%s is locked: one task at a time writes it (exclusive lease)", storage)
        return ExclusiveLease(storage, sleep, probes)
    log.warning(
        "The lease of %s is not exclusive, since its store accepts a second create: two tasks that start on it within "
        "the same seconds may both send and pay. Start one at a time, or use a store with conditional writes",
        storage,
    )
    return SharedLease(storage, sleep, probes)


def latest_claim(storage: Storage, sleep: Callable[[float], object]) -> Claim | None:
    """Return the latest claim of an output, None if there is none. Nothing is written."""
    there = storage.list_names(LEASES)
    kind = ExclusiveLease if any(map(_number, there)) else SharedLease
    return kind(storage, sleep).latest()[1]


def _is_exclusive(storage: Storage, token: str) -> bool:
    """Return whether a store refuses to create a file that is there."""
    if _refuses_second(storage, token):
        return True
    # The holder of the lease may have deleted the probe between the two creates; its claim was there before that.
    return any(map(_number, storage.list_names(LEASES)))


def _refuses_second(storage: Storage, token: str) -> bool:
    """Create a file twice, and see whether the second is refused."""
    name = f"{LEASES}/probe-{token}"
    # The first create may be refused, too: if it took effect, its response was lost, and the library repeated it.
    was_refused = not storage.create_file(name, b"1") or not storage.create_file(name, b"2")
    storage.delete_file(name)
    return was_refused


def _name(number: int) -> str:
    return f"{_CLAIM}{number:09d}.json"


def _number(name: str) -> int:
    """Return the number of a claim's file, 0 for another file."""
    text = name.removeprefix(_CLAIM).removesuffix(".json")
    return int(text) if name.startswith(_CLAIM) and name.endswith(".json") and text.isdecimal() else 0
