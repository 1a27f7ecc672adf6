"""The requests that are not in flight: in the order of the source, and those that are sent again when it is time."""

from __future__ import annotations

import heapq
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.enrich.budget import Paid
from airflow_provider_responses.enrich.index import Pending

if TYPE_CHECKING:
    from airflow_provider_responses.exceptions import ResponsesError

READ_AHEAD: Final = 100  # requests
MOST_PASSED: Final = 8_000_000  # bytes of requests that others, of other models, may go before
_OVERHEAD: Final = 500  # bytes of a request beside its text, about
_MODEL: Final = re.compile(r'"model": ?"((?:[^"\\]|\\.)*)"')


@dataclass(slots=True)
class Sending:
    """A request, and how often it was sent."""

    pending: Pending
    model: str = ""
    plain: int = 0  # failures that billed nothing
    ambiguous: int = 0  # failures that may have been billed
    busy: int = 0  # times that the service was too busy for it, though not for others
    sends: int = 0
    paid: Paid = field(default_factory=Paid)
    error: ResponsesError | None = None  # of the last send
    is_hung: bool = False  # its send from before an outage is being dropped, and it is sent again


class Waiting:
    """
    See the module. Rows of one model do not wait for those of another, as far as memory allows.

    :param take: gives the next requests of the source, at most as many as it is told; none when there are no more.
    """

    def __init__(self, take: Callable[[int], list[Pending]]) -> None:
        self._take = take
        self._exhausted = False
        self._fresh: dict[str, deque[Sending]] = {}
        self._size = 0  # bytes, of those
        self._due: dict[str, deque[Sending]] = {}  # sent before, and their time has come
        self._later: list[tuple[float, int, Sending]] = []  # when, a number that breaks ties, and what
        self._number = 0

    def __bool__(self) -> bool:
        """Whether anything is left; this may read the source."""
        return bool(self._later or any(self._due.values()) or any(self._fresh.values()) or self._read())

    def put(self, job: Sending, at: float) -> None:
        """Let a request be sent again, from then on."""
        self._number += 1
        heapq.heappush(self._later, (at, self._number, job))

    def next_due(self) -> float:
        """Return the time at which the next request that was sent before is to be sent again."""
        return self._later[0][0] if self._later else math.inf

    def next(self, now: float, may_send: Callable[[float, str], bool]) -> Sending | None:
        """
        Return the next request: one that was sent before, else the first of the source, of those that may be sent.

        :param may_send: tells of a time and a model whether one more of its requests may be in flight.
        """
        while self._later and self._later[0][0] <= now:
            job = heapq.heappop(self._later)[2]
            self._due.setdefault(job.model, deque()).append(job)
        for model, jobs in self._due.items():
            if jobs and may_send(now, model):
                return jobs.popleft()
        while True:
            open_ = [jobs for model, jobs in self._fresh.items() if jobs and may_send(now, model)]
            if open_:
                job = min(open_, key=lambda jobs: jobs[0].pending.first).popleft()
                self._size -= _size_of(job)
                return job
            if not self._read():
                return None

    def started(self) -> Iterator[Sending]:
        """Yield those that were sent before."""
        yield from (job for _, _, job in self._later)
        for jobs in self._due.values():
            yield from jobs

    def _read(self) -> bool:
        """Read on; return whether that brought anything."""
        if self._exhausted or self._size >= MOST_PASSED or (len(self._fresh) == 1 and self._size):
            return False  # as long as all were of one model, there is nobody to let go before
        found = self._take(READ_AHEAD)
        self._exhausted = not found
        for pending in found:
            job = Sending(pending, model_of(pending.fields))
            self._fresh.setdefault(job.model, deque()).append(job)
            self._size += _size_of(job)
        return bool(found)


def model_of(fields: str) -> str:
    """Return the model of a request, given as the JSON of its fields; empty if it is the connection's."""
    count = fields.count('"model":')  # text cannot hold this: its quotes are escaped
    if count == 1 and (found := _MODEL.search(fields)):
        return found[1]
    model = json.loads(fields).get("model") if count > 1 else None
    return model if isinstance(model, str) else ""


def _size_of(job: Sending) -> int:
    return len(job.pending.fields) + _OVERHEAD
