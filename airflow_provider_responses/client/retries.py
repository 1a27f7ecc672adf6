"""Decides whether a failed send is followed by another one, and after which wait. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from logging import getLogger
from typing import TYPE_CHECKING, Final

from tenacity import RetryCallState

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.exceptions import RequestCancelledError, ResponsesError

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response

log = getLogger(__name__)

FIRST_BACKOFF: Final = 0.5  # seconds; doubled with every retry
LONGEST_BACKOFF: Final = 30.0


def backoff(retry: int, draw: float) -> float:
    """Return the wait before a retry: full jitter, from 0 up to the doubled wait. ``draw`` is from 0 to 1."""
    return draw * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(retry, 16))


def next_wait(
    error: BaseException | None,
    *,
    plain: int,
    ambiguous: int,
    config: ClientConfig,
    remaining: float,
    draw: float,
) -> float | None:
    """
    Return the seconds until the next send, or None to give up.

    :param plain: retries so far after failures that billed nothing.
    :param ambiguous: retries so far after failures that may have been billed.
    :param remaining: seconds until the call's deadline.
    :param draw: a random number from 0 to 1.
    """
    if not isinstance(error, ResponsesError) or not error.retryable or isinstance(error, RequestCancelledError):
        return None
    if (ambiguous >= config.max_ambiguous_retries) if error.ambiguous else (plain >= config.max_retries):
        return None
    wait = min(backoff(plain + ambiguous, draw), config.max_retry_wait)
    if error.retry_after is not None:
        if error.retry_after > config.max_retry_wait:
            return None  # Airflow can wait that long without holding a worker
        # Not before the time that the server named, and spread, since all clients get the same time.
        wait = error.retry_after + draw * FIRST_BACKOFF
    return wait if wait < remaining else None


@dataclass(slots=True)
class Retries:
    """
    The failed sends of one call, and the decision after each, with the methods that tenacity expects.

    :param clock: seconds; read when the call begins, and at each decision.
    :param random: returns a number from 0 to 1.
    :param errors: those of the failed sends, oldest first.
    """

    config: ClientConfig
    clock: Callable[[], float]
    random: Callable[[], float]
    errors: list[ResponsesError] = field(default_factory=list)
    started: float = 0.0
    deadline: float = 0.0
    _wait: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.deadline = self.started + self.config.timeout

    def should_retry(self, state: RetryCallState) -> bool:
        """Decide after a send: tenacity's ``retry``."""
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, ResponsesError):
            return False
        error.redact(self.config.secrets)
        retried = self.errors.copy()
        self.errors.append(error)
        now = self.clock()
        ambiguous = sum(e.ambiguous for e in retried)
        wait = next_wait(
            error,
            plain=len(retried) - ambiguous,
            ambiguous=ambiguous,
            config=self.config,
            remaining=self.deadline - now,
            draw=self.random(),
        )
        self._wait = wait or 0.0
        error.wait, error.failed_after = wait, now - self.started
        return wait is not None

    def get_wait(self, state: RetryCallState) -> float:  # noqa: ARG002  tenacity's signature
        """Return the seconds until the next send: tenacity's ``wait``."""
        return self._wait

    def log_retry(self, state: RetryCallState) -> None:
        """Log the wait and the cause of a retry: tenacity's ``before_sleep``."""
        log.warning("Resending in %.1f s after send %d failed: %s", self._wait, state.attempt_number, self.errors[-1])

    def add_history(self, response: Response) -> Response:
        """Return a response with the failed sends before it, and the duration of the call."""
        return response.with_history(tuple(self.errors), self.clock() - self.started)

    def add_history_to_error(self, error: ResponsesError) -> None:
        """Add the failed sends before a final error to the error and its response."""
        error.set_previous(e for e in self.errors if e is not error)
        if error.response is not None:
            error.response = replace(error.response, previous=error.previous, seconds=self.clock() - self.started)
        if error.previous:
            kinds = ", ".join(type(e).__name__ for e in error.previous)
            error.add_note(f"{error.sends} requests were sent; the earlier ones failed with {kinds}")
