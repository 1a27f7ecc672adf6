"""Whether OpenRouter's cache holds a response for long enough, so that a worker can fetch it. No I/O and no Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response

MIN_CACHED_SECONDS: Final = 1800  # that a response must stay cached, for a worker to resume and fetch it


def can_be_fetched(response: Response) -> bool:
    """Whether a worker gets the same from OpenRouter, whose cache does not hold the costs of earlier sends."""
    return not response.previous and _stays_cached(response)


def _stays_cached(response: Response) -> bool:
    """Whether OpenRouter's headers promise that a response stays cached for long enough."""
    status, ttl, age = (response.headers.get(f"x-openrouter-cache-{name}", "") for name in ("status", "ttl", "age"))
    age = "0" if status.upper() == "MISS" else age
    # OpenRouter caches only complete responses.
    known = response.status == "completed" and status.upper() in {"MISS", "HIT"} and _is_count(ttl) and _is_count(age)
    return known and int(ttl) - int(age) >= MIN_CACHED_SECONDS


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) < 10
