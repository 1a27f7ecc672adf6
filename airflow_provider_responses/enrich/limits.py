"""What a run may take, as the user sets it. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from airflow_provider_responses.validation import check_known, check_number, check_type, wrong_value

FIRST_WINDOW: Final = 128  # requests in flight at the start, at most, where the user names no number


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What a run may take.

    :param concurrency: requests in flight at most; fewer while the service is too busy.
    :param initial_concurrency: requests in flight at the start of the first attempt; by default ``concurrency``, but
        not more than 128. A later attempt starts with as many as the one before had in the end.
    :param requests_per_minute: sends in a minute at most.
    :param tokens_per_minute: tokens, in and out, in a minute at most; those of a response to come are estimated.
    :param max_cost: US dollars for all rows of an output, over all attempts; each response to come is counted as
        much as the most expensive one so far.
    :param max_failures: rows that may fail before the task does: a count, or, below 1 and as a float, a share.
    :param max_outage: seconds that a service, or a store, that is down is waited for.
    :param max_request_bytes: the largest request that is sent.
    :param max_unwritten: responses that may wait to be written, which the end of the process would lose; while more
        do, nothing is sent. On local disk there are at most 64.
    :param max_unwritten_seconds: that a response may wait before nothing more is sent.
    :raises RequestValidationError: naming the limit, what was given and what is allowed.
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

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_request_bytes", "max_unwritten"):
            check_number(f"limits.{name}", getattr(self, name), whole=True, at_least=1)
        first, most = self.initial_concurrency, self.concurrency
        check_number("limits.initial_concurrency", first, whole=True, at_least=1, optional=True)
        if first is not None and first > most:
            expected = f"a whole number from 1 to limits.concurrency ({most})"
            raise wrong_value("limits.initial_concurrency", expected, first)
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
        """Requests in flight at the start of the first attempt."""
        return min(self.concurrency, self.initial_concurrency or FIRST_WINDOW)

    @classmethod
    def parse(cls, value: Any) -> Limits:
        """Read limits given as such, as a dict of them, or as None for the defaults."""
        if isinstance(value, Limits):
            return value
        check_type("limits", value, Mapping, expected="Limits or a dict of them", optional=True)
        given = dict(value or {})
        check_known("limits", given, [f.name for f in fields(cls)])
        return cls(**given)

    def allows(self, failed: int, of: int) -> bool:
        """Whether so many failures of so many rows are within the limit."""
        if isinstance(self.max_failures, float) and self.max_failures < 1:
            return not failed or failed / of <= self.max_failures
        return failed <= self.max_failures
