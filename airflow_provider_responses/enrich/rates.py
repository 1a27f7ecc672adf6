"""Requests and tokens per minute, as the user limits them. No I/O and no clock."""

from __future__ import annotations

import math
from typing import Final

from airflow_provider_responses.enrich.limits import Limits

MINUTE: Final = 60.0
BURST: Final = 0.5  # seconds that requests may make up for after they were held up
BYTES_PER_TOKEN: Final = 4  # about


class Rates:
    """
    When the next request may go out, so that no minute holds more than is allowed.

    :param limits: of which ``requests_per_minute`` and ``tokens_per_minute`` count.
    """

    def __init__(self, limits: Limits) -> None:
        self._requests, self._tokens = limits.requests_per_minute, limits.tokens_per_minute
        self._next_request = self._next_token = -math.inf
        self._tokens_seen, self._responses_seen = 0, 0

    def allowed_from(self) -> float:
        """Return the time from which the next request may go out."""
        return max(self._next_request, self._next_token) - BURST

    def spend(self, now: float, size: int) -> float:
        """
        Take note of a request that goes out; return the tokens that it is expected to need.

        :param size: its bytes.
        """
        if self._requests:
            self._next_request = max(now, self._next_request) + (MINUTE + BURST) / self._requests
        if not self._tokens:
            return 0.0
        tokens = self._tokens_seen / self._responses_seen if self._responses_seen else size / BYTES_PER_TOKEN
        self._next_token = max(now, self._next_token) + self._seconds_of(tokens)
        return tokens

    def settle(self, tokens: int | None, expected: float) -> None:
        """Replace the tokens that a request was expected to need by those that it took, None if that is unknown."""
        if not self._tokens or tokens is None:
            return
        self._tokens_seen += tokens
        self._responses_seen += tokens > 0  # a cached response tells nothing of the next
        self._next_token += self._seconds_of(tokens) - self._seconds_of(expected)

    def _seconds_of(self, tokens: float) -> float:
        """Return how long a request of so many tokens holds the next one back; a minute holds only whole ones."""
        if not self._tokens or tokens <= 0:
            return 0.0
        return (MINUTE + BURST) / (self._tokens // tokens or self._tokens / tokens)
