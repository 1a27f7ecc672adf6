"""The outcome of one row's request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.statuses import FAILED, INCOMPLETE, INVALID_OUTPUT, LOW_SCORE, OK, REFUSED
from airflow_provider_responses.exceptions import RefusalError, ResponsesError
from airflow_provider_responses.task.cost_total import CostTotal

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.budget import RequestCost
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.enrich.next_step import Step
    from airflow_provider_responses.enrich.progress import Progress
    from airflow_provider_responses.enrich.row_steps import RowSteps
    from airflow_provider_responses.exceptions import ConfigurationError
    from airflow_provider_responses.models.response import Response
    from airflow_provider_responses.task.outcome import Outcome

MAX_ERROR_LENGTH: Final = 1000  # characters
JUDGE_ERROR: Final = "judge: "  # the beginning of the error of a row because of its judge


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The outcome of one step of one row's request, which other rows may share. Costs and sends are of this step."""

    request: PendingRequest
    status: str  # of the row
    value: Any = None  # of the judge: its score and reason, None if it has failed
    error: str | None = None
    response: Response | None = None
    cost: float | None = 0.0  # US dollars, of all sends and of a cached response; None if unknown
    tokens: int | None = None
    known_cost: float = 0.0  # US dollars, of the sends whose price is known
    unknown_costs: int = 0  # sends that may have been billed
    generations: tuple[str, ...] = ()  # ids of the responses that `cost` includes
    sends: int = 1
    next: Step | None = None  # that follows at once; a request with one has not ended
    fatal: ConfigurationError | None = None  # of a function of the user's: the attempt ends

    @property
    def has_failed(self) -> bool:
        """Whether the step brought no response, so that the next attempt repeats it."""
        return self.value is None if self.request.step.is_judge else self.status == FAILED

    @property
    def paid(self) -> CostTotal:
        """The cost of the step."""
        unknown = max(self.unknown_costs, int(self.cost is None))
        is_priced = self.known_cost > 0 or (self.cost is not None and self.response is not None)
        return CostTotal(self.known_cost, int(is_priced), unknown)


def status_of(outcome: Outcome) -> str:
    """Return the status of a row whose response the task accepts."""
    response = outcome.response
    assert response is not None  # noqa: S101  for the type checker
    if response.refusal is not None:
        return REFUSED
    if response.status != "completed":
        return INCOMPLETE
    return INVALID_OUTPUT if outcome.invalid else OK


def end_step(
    progress: Progress,
    steps: RowSteps,
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
    Return the outcome of a step of a request, and count it. The request ends, unless there is a next step.

    :param progress: the counts of the attempt.
    :param steps: of all requests.
    :param cost: of all sends of the step.
    :param sends: number of them.
    :param status: of the row, by the response.
    :param accepted: the error of a response that the task accepts.
    """
    is_unknown = response is None and error is not None and error.ambiguous
    shown = error or accepted
    outcome = RowOutcome(
        request=request,
        status=status,
        value=value,
        error=None if shown is None else describe_error(shown, of_judge=request.step.is_judge),
        response=response,
        cost=None if is_unknown else cost.cost,
        known_cost=cost.known,
        unknown_costs=cost.unknown,
        tokens=cost.tokens if response else None,
        generations=cost.generations,
        sends=sends,
    )
    outcome = steps.complete(outcome)
    _count_end(progress, outcome, error)
    return outcome


def _count_end(progress: Progress, outcome: RowOutcome, error: ResponsesError | None) -> None:
    progress.unpriced += outcome.unknown_costs
    of_model = progress.of_model(outcome.response or (None if error is None else error.response))
    of_model.requests += 1
    of_model.unpriced += outcome.unknown_costs
    of_model.failed += error is not None
    if outcome.next is not None:
        progress.escalated += not outcome.next.is_judge
        return
    progress.done += 1
    if error is not None and outcome.status != OK:
        progress.failures[type(error).__name__] += 1
        progress.retryable_failures += outcome.status == FAILED and error.retryable
    elif outcome.status == LOW_SCORE:
        progress.failures[LOW_SCORE] += 1


def count_marks(progress: Progress, outcome: Outcome) -> None:
    """Count a response that was repaired, may be truncated, or is inconsistent."""
    progress.repaired += outcome.repaired
    if outcome.response is not None:
        progress.maybe_truncated += outcome.response.maybe_truncated
        progress.inconsistent += outcome.response.inconsistent


def describe_error(error: ResponsesError, *, of_judge: bool = False) -> str:
    """Return the error of a row, of a refusal with the model's words, which are nowhere else."""
    text = f"{type(error).__name__}: {error}"
    if of_judge:
        return f"{JUDGE_ERROR}{text}"[:MAX_ERROR_LENGTH]
    if isinstance(error, RefusalError) and error.response is not None and error.response.refusal:
        text = f"RefusalError: {error.response.refusal}"
    return text[:MAX_ERROR_LENGTH]


def loggable_error(status: str, error: str) -> str:
    """Return the error of a row for the log: a refusal without the model's words, which are content."""
    return "RefusalError: the model's words are in its `_error`" if status == REFUSED else error
