"""The limits of requests and tokens per minute that the user sets. No I/O and no clock."""

from __future__ import annotations

import math
from typing import Final

from airflow_provider_responses.enrich.limits import Limits

MINUTE: Final = 60.0
BURST: Final = 0.5  # seconds that requests may make up for after they were held up
BYTES_PER_TOKEN: Final = 4  # about


class RateLimits:
    """
    Computes when the next request may be sent, so that no minute holds more than the limits.

    :param limits: of which ``requests_per_minute`` and ``tokens_per_minute`` are used.
    """

    def __init__(self, limits: Limits) -> None:
        self._requests, self._tokens = limits.requests_per_minute, limits.tokens_per_minute
        self._next_request = self._next_token = -math.inf
        self._tokens_seen, self._responses_seen = 0, 0

    def allowed_from(self) -> float:
        """Return the time from which the next request may be sent."""
        return max(self._next_request, self._next_token) - BURST

    def count_send(self, now: float, size: int) -> float:
        """
        Count a request that is sent; return the number of tokens that it is expected to use.

        :param size: bytes of the request.
        """
        if self._requests:
            self._next_request = max(now, self._next_request) + (MINUTE + BURST) / self._requests
        if not self._tokens:
            return 0.0
        tokens = self._tokens_seen / self._responses_seen if self._responses_seen else size / BYTES_PER_TOKEN
        self._next_token = max(now, self._next_token) + self._seconds_for(tokens)
        return tokens

    def correct_tokens(self, tokens: int | None, expected: float) -> None:
        """Replace the tokens that a request was expected to use by those that it used, None if unknown."""
        if not self._tokens or tokens is None:
            return
        self._tokens_seen += tokens
        self._responses_seen += tokens > 0  # a cached response uses none, which says nothing about the next
        self._next_token += self._seconds_for(tokens) - self._seconds_for(expected)

    def _seconds_for(self, tokens: float) -> float:
        """Return the seconds for which a request holds up the next one. A minute holds a whole number of requests."""
        if not self._tokens or tokens <= 0:
            return 0.0
        return (MINUTE + BURST) / (self._tokens // tokens or self._tokens / tokens)
