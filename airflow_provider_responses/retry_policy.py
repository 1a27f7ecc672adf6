"""When Airflow tries a task again: as the service says (Airflow 3.3 and later)."""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy, conf

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.runs import LONGEST_WAIT

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

__all__ = ["ResponsesRetryPolicy"]


class ResponsesRetryPolicy(RetryPolicy):
    """
    Let a ``Retry-After`` that is longer than the task's own delay (a day at most) delay its next try.

    What would fail again fails at once.

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
        delay = datetime.timedelta(seconds=min(error.retry_after, LONGEST_WAIT))
        if context is not None and delay <= _own_delay(context["task"], try_number):
            return RetryDecision.default()  # the task waits longer by itself
        return RetryDecision.retry(delay=delay, reason=f"{type(error).__name__}: asked to wait {error.retry_after:g} s")

    def serialize(self) -> dict[str, Any]:
        """Give nothing: there is nothing to set."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ResponsesRetryPolicy:  # noqa: ARG003  Airflow's signature
        """Give the policy."""
        return cls()


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
    longest = conf.getint("core", "max_task_retry_delay", fallback=int(LONGEST_WAIT))
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
