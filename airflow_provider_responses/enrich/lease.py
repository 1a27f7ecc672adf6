"""
The lease of an output: who may write it, and until when.

Where the store has an exclusive create, every claim is a new file with a number, and the highest owns: of two writers
who want the same number the store refuses one. Renewing makes the next claim, so that nobody takes over a lease that
was renewed a moment ago. Elsewhere the lease is one file, which is read, written and read again; two writers who start
in the same moments may then both believe that it is theirs.
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
_READS: Final = 6  # of a claim that is torn: on local disk it may be half written
_LOOKS: Final = 20  # for a claim that is there; its owner deletes it when there is a newer one
_PAUSE: Final = 0.02  # seconds before the second read; then twice as long each time

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """
    What a writer says of itself.

    :param owner: the task instance, in its attempt
    :param try_number: and since it was cleared
    :param idempotency key: the last time.
    :param token: tells writers apart who believe that they are the same attempt.
    :param generation: of the parts that are written and read.
    :param begun: the latest generation, also if it has no parts.
    :param expires: seconds since the epoch.
    """

    owner: str
    try_number: int
    idempotency_key: str
    token: str
    generation: int
    begun: int
    expires: float

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Return the claim in a file; None if it is torn, or none."""
        try:
            found: Any = json.loads(data)
            claim = cls(**{field.name: found[field.name] for field in fields(cls)})
            float(claim.expires), claim.generation + claim.begun + claim.try_number, claim.owner + claim.token
        except (ValueError, KeyError, TypeError):
            return None
        return claim

    def encoded(self) -> bytes:
        """Return the claim as a file."""
        return json.dumps(asdict(self)).encode()


class Lease(ABC):
    """
    The lease in a storage.

    :param sleep: waits before a torn claim is read again.
    :param probes: files that attempts left behind which were killed while they probed the store.
    """

    is_exclusive: ClassVar[bool]

    def __init__(self, storage: Storage, sleep: Callable[[float], object], probes: Sequence[str] = ()) -> None:
        self._storage, self._sleep, self._probes = storage, sleep, probes

    @abstractmethod
    def latest(self) -> tuple[int, Claim | None]:
        """
        Return the latest claim and its number: 0 and None if there is none.

        One that is damaged counts as the one before it; None if there is no other.
        """

    @abstractmethod
    def take(self, number: int, claim: Claim) -> int | None:
        """
        Put a claim after the one of this number; return its own, and None if another writer was faster.

        It is no lease before it is renewed.
        """

    @abstractmethod
    def renew(self, number: int, claim: Claim) -> int | None:
        """Put a claim after one's own of this number; return its own, and None if that one does not count any more."""

    def delete_probes(self) -> None:
        """
        Delete the probes of killed attempts. Only the holder of the lease may do so.

        An attempt that is probing now loses nothing: it finds the holder's claim afterwards.
        """
        for name in self._probes:
            self._storage.delete_file(f"{LEASES}/{name}")

    def _read(self, name: str) -> tuple[bool, Claim | None]:
        """Return whether a file is there, and its claim; one that is torn is read again, and None in the end."""
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
    """One file a claim; the store lets nobody make one that is there."""

    is_exclusive = True

    def latest(self) -> tuple[int, Claim | None]:
        for _ in range(_LOOKS):
            number, *older = sorted(self._numbers(), reverse=True) or [0]
            if number == 0:
                return 0, None
            is_there, claim = self._read(_name(number))
            if is_there:
                return number, claim or self._whole(older)
        url = self._storage.url(LEASES)
        raise StorageError(f"{url} has claims that go when they are read; a retry looks again", path=url)

    def _whole(self, numbers: list[int]) -> Claim | None:
        """Return the first that is whole: a writer that was killed while it renewed leaves its claim before that."""
        return next((claim for number in numbers if (claim := self._read(_name(number))[1]) is not None), None)

    def renew(self, number: int, claim: Claim) -> int | None:
        if (mine := self.take(number, claim)) is None:
            return None
        numbers = self._numbers()
        # A claim that was deleted can be made again: by a writer who has lost the lease, or whose output is gone.
        if mine != max(numbers, default=0) or number not in numbers:
            self._delete([mine])
            return None
        self._delete([number for number in numbers if number < mine])
        return mine

    def take(self, number: int, claim: Claim) -> int | None:
        # One that is there may be one's own: of a request whose response was lost.
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
            log.info("Claims that do not count any more are left there: %s", error)

    def _numbers(self) -> list[int]:
        return [number for name in self._storage.list_names(LEASES) if (number := _number(name))]


class SharedLease(Lease):
    """One file, which everybody may write."""

    is_exclusive = False

    def latest(self) -> tuple[int, Claim | None]:
        if _SHARED not in self._storage.list_names(LEASES):  # else a worker that may not list the bucket gets a 403
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
    Return the lease of an output, as those before had it; of a new one, as its store allows.

    :raises StorageError: if its store cannot be used, so that nothing is paid.
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
        log.info("The lease of %s is exclusive: its store refuses a second create", storage)
        return ExclusiveLease(storage, sleep, probes)
    log.warning(
        "The lease of %s is not exclusive, since its store takes a second create: two tasks that start on it within "
        "the same seconds may both send and pay. Start one at a time, or use a store with conditional writes",
        storage,
    )
    return SharedLease(storage, sleep, probes)


def _is_exclusive(storage: Storage, token: str) -> bool:
    """Return whether a store refuses to create a file that is there."""
    if _refuses_second(storage, token):
        return True
    # The holder of the lease may have deleted the probe between the two creates; its claim was there before that.
    return any(map(_number, storage.list_names(LEASES)))


def _refuses_second(storage: Storage, token: str) -> bool:
    """Create a file twice, and see whether the second is refused."""
    name = f"{LEASES}/probe-{token}"
    # The first may be refused too, if it had come through and its response was lost.
    was_refused = not storage.create_file(name, b"1") or not storage.create_file(name, b"2")
    storage.delete_file(name)
    return was_refused


def _name(number: int) -> str:
    return f"{_CLAIM}{number:09d}.json"


def _number(name: str) -> int:
    """Return the number of a claim, 0 if it is none."""
    text = name.removeprefix(_CLAIM).removesuffix(".json")
    return int(text) if name.startswith(_CLAIM) and name.endswith(".json") and text.isdecimal() else 0
