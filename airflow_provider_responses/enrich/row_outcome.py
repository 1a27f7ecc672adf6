"""The outcome of one row's request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.statuses import REFUSED

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.models.response import Response

MAX_ERROR_LENGTH: Final = 1000  # characters


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The outcome of one row's request, which other rows may share."""

    request: PendingRequest
    status: str
    value: Any = None
    error: str | None = None
    response: Response | None = None
    cost: float | None = 0.0  # US dollars, of all sends and of a cached response; None if unknown
    tokens: int | None = None
    known_cost: float = 0.0  # US dollars, of the sends whose price is known
    unknown_costs: int = 0  # sends that may have been billed
    generations: tuple[str, ...] = ()  # ids of the responses that `cost` includes
    sends: int = 1


def loggable_error(status: str, error: str) -> str:
    """Return the error of a row for the log: a refusal without the model's words, which are content."""
    return "RefusalError: the model's words are in its `_error`" if status == REFUSED else error
