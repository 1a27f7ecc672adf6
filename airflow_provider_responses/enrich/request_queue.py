"""
The requests that are not in flight: the first sends in the order of the source, and resends by their time.

A request whose response is not its last step goes on with the next one, before new requests are sent.
"""

from __future__ import annotations

import heapq
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from airflow_provider_responses.enrich.budget import RequestCost
from airflow_provider_responses.enrich.index import PendingRequest

if TYPE_CHECKING:
    from airflow_provider_responses.exceptions import ResponsesError

READ_AHEAD: Final = 100  # requests
MAX_WAITING_BYTES: Final = 8_000_000  # of requests that requests to other models may overtake
MAX_WAITING_STEPS: Final = 1000  # requests that wait for the step after a response
_OVERHEAD: Final = 500  # bytes of a request in memory beside its text, about
_MODEL: Final = re.compile(r'"model": ?"((?:[^"\\]|\\.)*)"')


class Lane(NamedTuple):
    """Requests of one model and one kind of step, which do not wait for those of another."""

    model: str
    price_kind: int


@dataclass(slots=True)
class QueuedRequest:
    """A request with its sends so far."""

    pending: PendingRequest
    model: str = ""
    retries: int = 0  # after failures that billed nothing
    ambiguous_retries: int = 0  # after failures that may have been billed
    busy: int = 0  # failures because the service was too busy for it, though not for others
    sends: int = 0
    cost: RequestCost = field(default_factory=RequestCost)
    error: ResponsesError | None = None  # of the last send
    is_hung: bool = False  # its send from before an outage is being cancelled, and it is sent again

    @property
    def lane(self) -> Lane:
        """The requests among which it keeps its place."""
        return Lane(self.model, self.pending.step.price_kind)


class RequestQueue:
    """
    See the module. Requests of one lane do not wait for those of another, as far as memory allows.

    :param read: returns the next requests of the source, at most the given number; none when there are no more.
    :param get_model: returns the model of a request, by default that of its fields.
    """

    def __init__(
        self,
        read: Callable[[int], list[PendingRequest]],
        get_model: Callable[[PendingRequest], str] = lambda pending: model_of(pending.fields),
    ) -> None:
        self._read_source, self._get_model = read, get_model
        self._is_exhausted = False
        self._new: dict[Lane, deque[QueuedRequest]] = {}
        self._size = 0  # bytes of the new ones
        self._due: dict[Lane, deque[QueuedRequest]] = {}  # resends that may be sent now
        self._later: list[tuple[float, int, QueuedRequest]] = []  # resends: time, tie-breaker, request
        self._number = 0
        self._steps, self._steps_size = 0, 0  # waiting requests after their first step, and their bytes

    def __bool__(self) -> bool:
        """Return whether any request is left; this may read the source."""
        return bool(self._later or any(self._due.values()) or any(self._new.values()) or self._read())

    def put(self, request: QueuedRequest, at: float) -> None:
        """Add a request that is to be sent again from a time on."""
        self._number += 1
        heapq.heappush(self._later, (at, self._number, request))
        self._count_step(request, 1)

    def put_next_step(self, pending: PendingRequest, generations: tuple[str, ...] = ()) -> None:
        """
        Add the next step of a request, which may be sent now.

        :param generations: ids of the responses that are counted. A judge may get the same request again, if the
            larger model's response is that of the small one; then its cached response costs nothing.
        """
        request = QueuedRequest(pending, self._get_model(pending), cost=RequestCost(generations=generations))
        self._due.setdefault(request.lane, deque()).append(request)
        self._count_step(request, 1)

    def next_due(self) -> float:
        """Return the time of the next resend."""
        return self._later[0][0] if self._later else math.inf

    def next(
        self,
        now: float,
        may_send: Callable[[float, str], bool],
        may_pay: Callable[[Lane], bool] = lambda _: True,
    ) -> QueuedRequest | None:
        """
        Return the next request that may be sent: a resend or a next step, otherwise the first of the source.

        None of the source is returned while too many wait for their next step, such as that to a larger model that is
        too busy.

        :param may_send: returns for a time and a model whether one more of its requests may be in flight.
        :param may_pay: returns for a lane whether the budget has room for one more of its requests.
        """
        while self._later and self._later[0][0] <= now:
            request = heapq.heappop(self._later)[2]
            self._due.setdefault(request.lane, deque()).append(request)
        for lane, requests in self._due.items():
            if requests and may_send(now, lane.model) and may_pay(lane):
                request = requests.popleft()
                self._count_step(request, -1)
                return request
        while self._steps < MAX_WAITING_STEPS and self._steps_size < MAX_WAITING_BYTES:
            allowed = [
                requests
                for lane, requests in self._new.items()
                if requests and may_send(now, lane.model) and may_pay(lane)
            ]
            if allowed:
                request = min(allowed, key=lambda requests: requests[0].pending.first_row).popleft()
                self._size -= _size_of(request)
                return request
            if not self._read():
                return None
        return None

    def resends(self) -> Iterator[QueuedRequest]:
        """Yield the requests that were sent before."""
        yield from (request for _, _, request in self._later)
        for requests in self._due.values():
            yield from requests

    def _read(self) -> bool:
        """Read more of the source; return whether there was any."""
        if self._is_exhausted or self._size >= MAX_WAITING_BYTES or (len(self._new) == 1 and self._size):
            return False  # while all requests are in one lane, none can overtake another
        found = self._read_source(READ_AHEAD)
        self._is_exhausted = not found
        for pending in found:
            request = QueuedRequest(pending, self._get_model(pending))
            self._new.setdefault(request.lane, deque()).append(request)
            self._size += _size_of(request)
        return bool(found)

    def _count_step(self, request: QueuedRequest, change: int) -> None:
        if request.pending.earlier is not None:
            self._steps += change
            self._steps_size += change * _size_of(request)


def model_of(fields: str) -> str:
    """Return the model of a request from the JSON of its fields, empty for the model of the connection."""
    count = fields.count('"model":')  # text cannot hold this: its quotes are escaped
    if count == 1 and (found := _MODEL.search(fields)):
        return found[1]
    model = json.loads(fields).get("model") if count > 1 else None
    return model if isinstance(model, str) else ""


def _size_of(request: QueuedRequest) -> int:
    return len(request.pending.fields) + len(request.pending.earlier or "") + _OVERHEAD
