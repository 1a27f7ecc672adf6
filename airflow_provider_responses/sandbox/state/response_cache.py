"""The response cache: completed generations, each with a time to live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_responses.sandbox.model.generation import Generation

# Key, models, endpoint, whether it is a stream, and the hash of the body.
CacheKey = tuple[str, str, str, bool, str]


@dataclass(frozen=True, kw_only=True)
class CachedGeneration:
    """
    A completed generation in the cache.

    :param cached_at: in seconds of the cache's clock.
    :param ttl: seconds.
    """

    generation: Generation
    model: str
    generation_id: str
    cached_at: float
    ttl: int


class ResponseCache:
    """Generations by the request that they were made for. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float], lock: threading.RLock) -> None:
        self._clock = clock
        self._lock = lock
        self._cached: dict[CacheKey, CachedGeneration] = {}

    def put(self, key: CacheKey, generation: Generation, *, model: str, generation_id: str, ttl: int) -> None:
        """Cache a completed generation for ``ttl`` seconds."""
        with self._lock:
            self._cached[key] = CachedGeneration(
                generation=generation, model=model, generation_id=generation_id, cached_at=self._clock(), ttl=ttl
            )

    def get(self, key: CacheKey) -> tuple[CachedGeneration, int] | None:
        """Return a cached generation that has not expired, and its age in seconds."""
        with self._lock:
            found = self._cached.get(key)
            if found is None:
                return None
            age = self._clock() - found.cached_at
            if age >= found.ttl:
                del self._cached[key]
                return None
            return found, int(age)

    def remove(self, key: CacheKey) -> None:
        """Remove a generation if it is cached."""
        with self._lock:
            self._cached.pop(key, None)

    def clear(self) -> None:
        """Remove all generations."""
        with self._lock:
            self._cached.clear()
