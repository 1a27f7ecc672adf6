"""The outcome of one row's request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.statuses import FAILED, INCOMPLETE, INVALID_OUTPUT, OK, REFUSED
from airflow_provider_responses.exceptions import RefusalError, ResponsesError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.budget import RequestCost
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.enrich.progress import Progress
    from airflow_provider_responses.models.response import Response
    from airflow_provider_responses.task.outcome import Outcome

MAX_ERROR_LENGTH: Final = 1000  # characters


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The outcome of one row's request, which other rows may share."""

    request: PendingRequest
    status: str
    value: Any = None
    error: str | None = None
    response: Response | None = None
    cost: float | None = 0.0  # US dollars, of all sends and of a cached response; None if unknown
    tokens: int | None = None
    known_cost: float = 0.0  # US dollars, of the sends whose price is known
    unknown_costs: int = 0  # sends that may have been billed
    generations: tuple[str, ...] = ()  # ids of the responses that `cost` includes
    sends: int = 1


def status_of(outcome: Outcome) -> str:
    """Return the status of a row whose response the task accepts."""
    response = outcome.response
    assert response is not None  # noqa: S101  for the type checker
    if response.refusal is not None:
        return REFUSED
    if response.status != "completed":
        return INCOMPLETE
    return INVALID_OUTPUT if outcome.invalid else OK


def end_request(
    progress: Progress,
    request: PendingRequest,
    cost: RequestCost,
    *,
    status: str,
    sends: int,
    value: Any = None,
    error: ResponsesError | None = None,
    response: Response | None = None,
    accepted: ResponsesError | None = None,
) -> RowOutcome:
    """
    Return the outcome of a request that ends, and count it.

    :param progress: the counts of the attempt.
    :param cost: of all sends of the request.
    :param sends: number of them.
    :param accepted: the error of a response that the task accepts.
    """
    progress.done += 1
    progress.unpriced += cost.unknown
    of_model = progress.of_model(response or (None if error is None else error.response))
    of_model.requests += 1
    of_model.unpriced += cost.unknown
    of_model.failed += error is not None
    is_unknown = response is None and error is not None and error.ambiguous
    if error is not None:
        progress.failures[type(error).__name__] += 1
        progress.retryable_failures += status == FAILED and error.retryable
    shown = error or accepted
    return RowOutcome(
        request=request,
        status=status,
        value=value,
        error=None if shown is None else describe_error(shown),
        response=response,
        cost=None if is_unknown else cost.cost,
        known_cost=cost.known,
        unknown_costs=cost.unknown,
        tokens=cost.tokens if response else None,
        generations=cost.generations,
        sends=sends,
    )


def count_marks(progress: Progress, outcome: Outcome) -> None:
    """Count a response that was repaired, may be truncated, or is inconsistent."""
    progress.repaired += outcome.repaired
    if outcome.response is not None:
        progress.maybe_truncated += outcome.response.maybe_truncated
        progress.inconsistent += outcome.response.inconsistent


def describe_error(error: ResponsesError) -> str:
    """Return the error of a row, of a refusal with the model's words, which are nowhere else."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, RefusalError) and error.response is not None and error.response.refusal:
        text = f"RefusalError: {error.response.refusal}"
    return text[:MAX_ERROR_LENGTH]


def loggable_error(status: str, error: str) -> str:
    """Return the error of a row for the log: a refusal without the model's words, which are content."""
    return "RefusalError: the model's words are in its `_error`" if status == REFUSED else error
