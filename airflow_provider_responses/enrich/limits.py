"""The limits of an enrichment, as the user sets them. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from airflow_provider_responses.models.batch_sizes import MAX_BATCH_BYTES, MAX_BATCH_REQUESTS
from airflow_provider_responses.validation import check_known, check_number, check_type, wrong_value

MIN_BATCH_BYTES: Final = 100_000  # 65,536 of them are left free
DEFAULT_INITIAL_CONCURRENCY: Final = 128  # requests in flight at the start, at most


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    The limits of an enrichment.

    :param concurrency: maximum number of requests in flight; there are fewer while the service is too busy.
    :param initial_concurrency: number of requests in flight at the start of the first attempt, by default
        ``concurrency``, at most 128. A later attempt starts with the number that the one before ended with.
    :param requests_per_minute: maximum number of sends in a minute.
    :param tokens_per_minute: maximum number of tokens, in and out, in a minute. Those of open requests are estimated.
    :param max_cost: US dollars for all rows of an output, over all attempts. Each open request counts as much as the
        most expensive response so far.
    :param max_failures: number of rows that may fail before the task fails, or their share, as a float below 1.
    :param max_outage: seconds to wait for a service or a store that is down.
    :param max_request_bytes: size of the largest request that is sent.
    :param max_unwritten: maximum number of responses that wait to be written, and that the end of the process would
        lose. Nothing is sent while this many wait. On local disk at most 64 wait.
    :param max_unwritten_seconds: seconds that a response may wait before sending stops.
    :param max_batch_requests: number of requests in one batch; at most 5,000.
    :param max_batch_bytes: size of one batch; from 100 KB to 200 MB.
    :raises RequestValidationError: naming the limit, what was expected and what was given.
    """

    concurrency: int = 64
    initial_concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost: float | None = None
    max_failures: float = 0
    max_outage: float = 600.0
    max_request_bytes: int = 1_000_000
    max_unwritten: int = 2000
    max_unwritten_seconds: float = 60.0
    max_batch_requests: int = MAX_BATCH_REQUESTS
    max_batch_bytes: int = MAX_BATCH_BYTES

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_request_bytes", "max_unwritten"):
            check_number(f"limits.{name}", getattr(self, name), whole=True, at_least=1)
        first, most = self.initial_concurrency, self.concurrency
        check_number("limits.initial_concurrency", first, whole=True, at_least=1, optional=True)
        if first is not None and first > most:
            expected = f"a whole number from 1 to limits.concurrency ({most})"
            raise wrong_value("limits.initial_concurrency", expected, first)
        for name, least, most in (
            ("max_batch_requests", 1, MAX_BATCH_REQUESTS),
            ("max_batch_bytes", MIN_BATCH_BYTES, MAX_BATCH_BYTES),
        ):
            check_number(f"limits.{name}", getattr(self, name), whole=True, at_least=least, at_most=most)
        for name in ("requests_per_minute", "tokens_per_minute", "max_cost"):
            check_number(f"limits.{name}", getattr(self, name), above=0, optional=True)
        check_number("limits.max_unwritten_seconds", self.max_unwritten_seconds, above=0)
        for name in ("max_failures", "max_outage"):
            check_number(f"limits.{name}", getattr(self, name), at_least=0)
        if isinstance(self.max_failures, float) and self.max_failures >= 1:
            expected = "a count as a whole number, or a share as a float below 1"
            raise wrong_value("limits.max_failures", expected, self.max_failures)

    @property
    def first_window(self) -> int:
        """Number of requests in flight at the start of the first attempt."""
        return min(self.concurrency, self.initial_concurrency or DEFAULT_INITIAL_CONCURRENCY)

    @classmethod
    def parse(cls, value: Any) -> Limits:
        """Return limits that are given as such, as a dict of them, or as None for the defaults."""
        if isinstance(value, Limits):
            return value
        check_type("limits", value, Mapping, expected="Limits or a dict of them", optional=True)
        given = dict(value or {})
        check_known("limits", given, [f.name for f in fields(cls)])
        return cls(**given)

    def allows(self, failed: int, of: int) -> bool:
        """Return whether a number of failed rows, of all rows, is within ``max_failures``."""
        if isinstance(self.max_failures, float) and self.max_failures < 1:
            return not failed or failed / of <= self.max_failures
        return failed <= self.max_failures
