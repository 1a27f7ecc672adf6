"""When Airflow tries a task again: as the service says (Airflow 3.3 and later)."""

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

# Seconds. Up to this long, a client with the default `max_retry_wait` waits by itself: a shorter wait arrives here only
# when the client's own retries are used up, from a server that goes on refusing, and that is what `retries` are for.
LONG_WAIT: Final = 60.0
# Per attempt; then `retries` count. A server that sends a task away for a minute each time is given half an hour, one
# that does so for an hour is given a day.
MAX_RESCHEDULES: Final = 24
RESCHEDULE_TIMEOUT: Final = datetime.timedelta(days=1)
# None before Airflow 3.4.
_RESCHEDULE: Final[Callable[..., RetryDecision] | None] = getattr(RetryDecision, "reschedule", None)


class ResponsesRetryPolicy(RetryPolicy):
    """
    Let a ``Retry-After`` (a day at most) delay the task, where the task's own delay is shorter.

    From Airflow 3.4 on, a wait of more than a minute uses up no retry if nothing can have been billed: the attempt is
    rescheduled, at most 24 times within a day. What would fail again fails at once.

    Operators of this package have it unless they are given another ``retry_policy``. Give it to tasks of your own
    that call ``ResponsesHook``. What is no ``ResponsesError`` is left to the task's ``retries`` and ``retry_delay``.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002  Airflow's signature
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide; see the class."""
        error = _find(exception)
        if error is None:
            return RetryDecision.default()
        if not error.retryable:
            return RetryDecision.fail(reason=f"{type(error).__name__}: a retry would bring the same")
        if error.retry_after is None:
            return RetryDecision.default()
        delay = datetime.timedelta(seconds=min(error.retry_after, MAX_RETRY_AFTER))
        reason = f"{type(error).__name__}: asked to wait {error.retry_after:g} s"
        if _RESCHEDULE is not None and _only_waits(error):
            return _RESCHEDULE(
                delay, max_reschedules=MAX_RESCHEDULES, reschedule_timeout=RESCHEDULE_TIMEOUT, reason=reason
            )
        if context is not None and delay <= _own_delay(context["task"], try_number):
            return RetryDecision.default()  # the task waits longer by itself
        return RetryDecision.retry(delay=delay, reason=reason)

    def serialize(self) -> dict[str, Any]:
        """Give nothing: there is nothing to set."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ResponsesRetryPolicy:  # noqa: ARG003  Airflow's signature
        """Give the policy."""
        return cls()


def _only_waits(error: ResponsesError) -> bool:
    """Whether a server sent the task away for long, and nothing can have been billed in the whole attempt."""
    if not isinstance(error, APIError) or (error.retry_after or 0.0) <= LONG_WAIT:
        return False
    sends = (error, *(before for before in error.previous if isinstance(before, ResponsesError)))
    return not any(send.may_have_been_billed for send in sends)


def _own_delay(task: Any, try_number: int) -> datetime.timedelta:
    """Give what Airflow waits at least before the next try; its scheduler adds chance, and workers cannot ask it."""
    delay: datetime.timedelta = task.retry_delay
    given = task.retry_exponential_backoff
    multiplier = 2.0 if given is True else float(given)  # a DAG is stored with 2 in the place of True
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
    """Give the error, also when it was raised from again."""
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        if isinstance(exception, ResponsesError):
            return exception
        seen.add(id(exception))  # causes may go round in a circle
        exception = exception.__cause__
    return None
