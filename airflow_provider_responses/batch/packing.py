"""Packs requests into batches, by model, size and price. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.batch.requests import Group
from airflow_provider_responses.client.batch_body import HEAD_ROOM

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.enrich.limits import Limits

PILOT_REQUESTS: Final = 20  # in the first batch, if its price is unknown and `limits.max_cost` is set


@dataclass
class Package:
    """The requests of one batch that is to be submitted."""

    group: Group
    fingerprints: list[bytes] = field(default_factory=list)
    size: int = HEAD_ROOM  # bytes
    estimate: float | None = 0.0  # US dollars, None if unknown


@dataclass(frozen=True)
class Candidate:
    """
    A request that may be packed.

    :param size: bytes that it adds to a batch.
    :param estimate: US dollars, None if unknown.
    """

    request: PendingRequest
    group: Group
    size: int
    estimate: float | None


class Packer:
    """
    See the module.

    :param limits: number and bytes of the requests in one batch.
    :param room: US dollars that all packages together may cost; None without a limit.
    :param has_pilot: whether a first, small batch of unknown price may be submitted to learn it.
    """

    def __init__(self, limits: Limits, *, room: float | None, has_pilot: bool) -> None:
        self._limits, self._room, self._has_pilot = limits, room, has_pilot
        self._open: dict[Group, Package] = {}
        self._piloted = 0  # requests of unknown price
        self.is_out_of_money = False  # whether a request did not fit into `room`

    def pack(self, candidates: Iterable[Candidate], leave_out: Callable[[PendingRequest], None]) -> Iterator[Package]:
        """
        Yield packages, each as soon as it is full.

        :param leave_out: is called with each request that does not fit into ``room``.
        """
        for candidate in candidates:
            if not self._is_affordable(candidate):
                self.is_out_of_money = True
                leave_out(candidate.request)
                continue
            package = self._open.get(candidate.group)
            if package is not None and not self._fits(package, candidate):
                yield self._open.pop(candidate.group)
                package = None
            if package is None:
                package = self._open[candidate.group] = Package(candidate.group)
            package.fingerprints.append(candidate.request.fingerprint)
            package.size += candidate.size
            if package.estimate is not None:
                package.estimate = None if candidate.estimate is None else package.estimate + candidate.estimate
        yield from self._open.values()
        self._open.clear()

    def _fits(self, package: Package, candidate: Candidate) -> bool:
        return (
            len(package.fingerprints) < self._limits.max_batch_requests
            and package.size + candidate.size <= self._limits.max_batch_bytes
        )

    def _is_affordable(self, candidate: Candidate) -> bool:
        """Return whether a request fits into the room that is left, and use that room."""
        if self._room is None:
            return True
        if candidate.estimate is None:
            self._piloted += 1
            return self._has_pilot and self._room > 0 and self._piloted <= PILOT_REQUESTS
        if candidate.estimate > self._room or self.is_out_of_money:
            return False  # also a smaller one after it: rows are sent in their order
        self._room -= candidate.estimate
        return True
