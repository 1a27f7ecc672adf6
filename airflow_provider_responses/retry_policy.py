"""The time of a task's next attempt, as the service asks for it (Airflow 3.3 and later)."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy, conf

from airflow_provider_responses.exceptions import APIError, ResponsesError
from airflow_provider_responses.task.attempt import MAX_RETRY_AFTER

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["ResponsesRetryPolicy"]

# Seconds. Up to this long, a client with the default `max_retry_wait` waits by itself. An error with a shorter wait
# arrives here only after the client has used up its own retries, and then Airflow's `retries` count.
LONG_WAIT: Final = 60.0
# Per attempt; after that, `retries` count. With a `Retry-After` of a minute the attempt lasts up to half an hour, with
# one of an hour up to a day.
MAX_RESCHEDULES: Final = 24
RESCHEDULE_TIMEOUT: Final = datetime.timedelta(days=1)
# None before Airflow 3.4.
_RESCHEDULE: Final[Callable[..., RetryDecision] | None] = getattr(RetryDecision, "reschedule", None)


class ResponsesRetryPolicy(RetryPolicy):
    """
    Delay a task's next attempt by the ``Retry-After`` of the service (at most a day), if its own delay is shorter.

    From Airflow 3.4 on, a wait of more than a minute uses no retry if nothing can have been billed: the attempt is
    rescheduled, at most 24 times within a day. Errors that are not retryable fail the task at once.

    The operators of this package have it unless their ``retry_policy`` is another one. Set it for your own tasks that
    call ``ResponsesHook``. Other exceptions than ``ResponsesError`` are left to the task's ``retries`` and
    ``retry_delay``.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002  Airflow's signature
        context: Context | None = None,
    ) -> RetryDecision:
        """Return the decision; see the class."""
        error = _find(exception)
        if error is None:
            return RetryDecision.default()
        if not error.retryable:
            return RetryDecision.fail(reason=f"{type(error).__name__}: a retry would fail in the same way")
        if error.retry_after is None:
            return RetryDecision.default()
        delay = datetime.timedelta(seconds=min(error.retry_after, MAX_RETRY_AFTER))
        reason = f"{type(error).__name__}: the service asks to wait {error.retry_after:g} s"
        if _RESCHEDULE is not None and _only_waits(error):
            return _RESCHEDULE(
                delay, max_reschedules=MAX_RESCHEDULES, reschedule_timeout=RESCHEDULE_TIMEOUT, reason=reason
            )
        if context is not None and delay <= _own_delay(context["task"], try_number):
            return RetryDecision.default()  # the task's own delay is longer
        return RetryDecision.retry(delay=delay, reason=reason)

    def serialize(self) -> dict[str, Any]:
        """Return the arguments: there are none."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ResponsesRetryPolicy:  # noqa: ARG003  Airflow's signature
        """Return the policy."""
        return cls()


def _only_waits(error: ResponsesError) -> bool:
    """Whether the service asks for a long wait, and nothing in the attempt can have been billed."""
    if not isinstance(error, APIError) or (error.retry_after or 0.0) <= LONG_WAIT:
        return False
    sends = (error, *(before for before in error.previous if isinstance(before, ResponsesError)))
    return not any(send.may_have_been_billed for send in sends)


def _own_delay(task: Any, try_number: int) -> datetime.timedelta:
    """Return Airflow's shortest delay before the next attempt; its scheduler adds a random part to it."""
    delay: datetime.timedelta = task.retry_delay
    backoff = task.retry_exponential_backoff
    multiplier = 2.0 if backoff is True else float(backoff)  # a stored DAG has 2 instead of True
    if multiplier <= 0 or multiplier == 1:
        return delay
    try:
        seconds = delay.total_seconds() * multiplier ** (try_number - 1)
    except OverflowError:
        seconds = math.inf
    longest = conf.getint("core", "max_task_retry_delay", fallback=int(MAX_RETRY_AFTER))
    delay = datetime.timedelta(seconds=min(seconds, longest))
    return min(delay, task.max_retry_delay) if task.max_retry_delay else delay


def _find(exception: BaseException | None) -> ResponsesError | None:
    """Return the ``ResponsesError`` that is an exception, or its cause; None if there is none."""
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        if isinstance(exception, ResponsesError):
            return exception
        seen.add(id(exception))  # causes may form a circle
        exception = exception.__cause__
    return None
