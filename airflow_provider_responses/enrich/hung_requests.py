"""Requests from before an outage, or from before others were silent: they are sent again once they are overdue."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from airflow_provider_responses.exceptions import TransportError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.model_throttle import Ticket
    from airflow_provider_responses.enrich.request_queue import QueuedRequest
    from airflow_provider_responses.enrich.throttle import Throttle

log = logging.getLogger(__name__)

HUNG: Final = (
    "no response before the service was down, and none since: the request was dropped. It may have been billed"
)

Flights = Mapping[asyncio.Task[None], "tuple[QueuedRequest, Ticket]"]


def hung_error() -> TransportError:
    """Return the error of a request that hung."""
    return TransportError(HUNG, kind="read", ambiguous=True)


class HungRequests:
    """
    See the module.

    :param throttle: decides which requests are overdue.
    :param flights: the requests in flight.
    :param max_ambiguous_retries: of a request.
    """

    def __init__(self, throttle: Throttle, flights: Flights, max_ambiguous_retries: int) -> None:
        self._throttle, self._flights, self._max_retries = throttle, flights, max_ambiguous_retries
        self._hung: list[asyncio.Task[None]] = []

    def note_end_of_outage(self) -> None:
        """Note that the service is back."""
        self._hung = self._flights_before_outage()
        log.info("The service is back; %d requests from before are still open", len(self._hung))

    def note_silence(self) -> None:
        """Note that requests in flight are silent, while new ones get responses."""
        self._hung = self._flights_before_outage()
        log.warning(
            "%d requests have had no response for longer than any other took, and new ones get theirs: new ones "
            "no longer wait for them",
            len(self._hung),
        )

    def cancel_overdue(self, now: float) -> None:
        """Cancel requests that take longer than any response; they are sent again."""
        if not self._hung:
            return
        left = []
        for task in self._hung:
            request, ticket = self._flights.get(task, (None, None))
            if request is None or ticket is None or not self._may_resend(request):
                continue
            if now < self._throttle.overdue_at(ticket):
                left.append(task)
            elif task.cancel():
                request.is_hung = True
        self._hung = left

    def next_overdue(self, now: float) -> float:
        """Return the next time at which a request is overdue."""
        tickets = (self._flights[task][1] for task in self._hung if task in self._flights)
        return min((at for ticket in tickets if (at := self._throttle.overdue_at(ticket)) > now), default=math.inf)

    def _may_resend(self, request: QueuedRequest) -> bool:
        """Return whether a request may be sent again, although its send from before an outage may be billed."""
        return request.ambiguous_retries < self._max_retries

    def _flights_before_outage(self) -> list[asyncio.Task[None]]:
        current = asyncio.current_task()
        flights = ((task, ticket) for task, (_, ticket) in self._flights.items() if task is not current)
        return [task for task, ticket in flights if self._throttle.predates_outage(ticket)]
