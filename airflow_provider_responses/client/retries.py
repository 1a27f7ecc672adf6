"""Is a failure worth another try, and after how long? No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from logging import getLogger
from typing import Final

from tenacity import RetryCallState

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.exceptions import RequestCancelledError, ResponsesError

log = getLogger(__name__)

FIRST_BACKOFF: Final = 0.5  # seconds; doubled with every retry
LONGEST_BACKOFF: Final = 30.0


def backoff(retry: int, draw: float) -> float:
    """Full jitter: anything from nothing to the doubled wait. ``draw`` is from 0 to 1."""
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
    Seconds until the next try, or None to give up.

    :param plain: retries made so far after failures that billed nothing.
    :param ambiguous: retries made so far after failures that may have been billed.
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
        # Never before the server says, and a little apart from all others that it said it to.
        wait = error.retry_after + draw * FIRST_BACKOFF
    return wait if wait < remaining else None


@dataclass(slots=True)
class Judge:
    """Decides over the tries of one call, in the shape that tenacity asks for."""

    config: ClientConfig
    clock: Callable[[], float]
    draw: Callable[[], float]
    errors: list[ResponsesError] = field(default_factory=list)
    started: float = 0.0
    deadline: float = 0.0
    _wait: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.clock()
        self.deadline = self.started + self.config.timeout

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.clock()

    def again(self, state: RetryCallState) -> bool:
        """Tenacity's ``retry``."""
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, ResponsesError):
            return False
        error.hide(self.config.secrets)
        retried = self.errors.copy()
        self.errors.append(error)
        ambiguous = sum(e.ambiguous for e in retried)
        wait = next_wait(
            error,
            plain=len(retried) - ambiguous,
            ambiguous=ambiguous,
            config=self.config,
            remaining=self.remaining,
            draw=self.draw(),
        )
        self._wait = wait or 0.0
        error.wait = wait
        return wait is not None

    def wait(self, state: RetryCallState) -> float:  # noqa: ARG002  tenacity's signature
        """Tenacity's ``wait``."""
        return self._wait

    def before_sleep(self, state: RetryCallState) -> None:
        """One line per retry: cause and wait."""
        log.warning("Try %d failed; trying again in %.1f s. %s", state.attempt_number, self._wait, self.errors[-1])
