"""One request's end, and the counts of an attempt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Pending
    from airflow_provider_responses.models.response import Response

REFUSED, INCOMPLETE, UNREADABLE = "refused", "incomplete", "unreadable"
LONGEST_ERROR: Final = 1000  # characters


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    pending: Pending
    status: str
    value: Any = None
    error: str | None = None
    response: Response | None = None
    cost: float | None = 0.0  # US dollars, of all sends together, and of a cached response; None is unknown
    tokens: int | None = None
    known: float = 0.0  # US dollars, of those of them whose price is known
    unknown: int = 0  # of them, sends that may have been billed
    generations: tuple[str, ...] = ()  # ids of the responses that are counted in `cost`
    tries: int = 1


@dataclass
class Progress:
    """What an attempt has done so far; costs in US dollars."""

    done: int = 0  # requests
    sent: int = 0
    cost: float = 0.0
    kept_cost: float = 0.0  # of cached responses: an earlier send had paid for them, and got lost
    unpriced: int = 0  # responses without a price, and sends that may have been billed
    unpriced_cached: int = 0  # of these, cached responses
    priced_responses: int = 0
    priced_cached: int = 0
    tokens: int = 0
    counted: int = 0  # responses whose tokens the server gave
    uncounted: int = 0
    cache_hits: int = 0
    repaired: int = 0  # responses whose JSON had to be repaired
    maybe_truncated: int = 0  # and those that bear the marks of `Response`
    inconsistent: int = 0
    in_flight: int = 0
    down_since: float | None = None  # on the run's clock, while the service is down
    hopeful: int = 0  # requests that failed, and that another attempt may answer
    failures: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)  # why requests are sent again: a status, or an error's class
    most_expensive: float = 0.0
    priced: bool = False  # whether a response had a price
