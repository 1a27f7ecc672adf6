"""
The steps of a request: sends to the models of its tiers, and to the judge. No I/O, no clock and no Airflow.

The next step is computed from the outcome of a step whenever that is read, in this attempt or a later one, and never
stored: so other ``escalate`` and ``judge`` apply to the responses that are there.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_provider_responses.enrich.statuses import (
    ESCALATING,
    INCOMPLETE,
    INVALID_OUTPUT,
    JUDGING,
    LOW_SCORE,
    OK,
    REFUSED,
)
from airflow_provider_responses.task import escalation
from airflow_provider_responses.task.escalation import Escalation, next_tier

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.judge import Judge

# The conditions of an `Escalation` by the status of a row.
_PROBLEMS: Final = {
    INVALID_OUTPUT: escalation.INVALID,
    REFUSED: escalation.REFUSED,
    INCOMPLETE: escalation.INCOMPLETE,
    LOW_SCORE: escalation.LOW_SCORE,
}
_MAX_OTHERS: Final = 64  # ranks of a tier


class Step(NamedTuple):
    """
    One send of a request, or several if it fails.

    :param tier: 0 for the task's own model, k for the model of ``escalate[k - 1]``.
    :param is_judge: whether the response of this tier is sent to the judge.
    :param other: of a stored response of a model that ``escalate`` does not have after this tier any more, its former
        tier; 0 for a response of this tier.
    """

    tier: int = 0
    is_judge: bool = False
    other: int = 0

    @property
    def rank(self) -> int:
        """A number that grows from step to step, for the index."""
        return 2 * (_MAX_OTHERS * self.tier + min(self.other, _MAX_OTHERS - 1)) + self.is_judge

    @property
    def price_kind(self) -> int:
        """The kind of the step for ``limits.max_cost``: each tier is one, and the judge of all tiers another."""
        return 1 if self.is_judge else 2 * self.tier

    @classmethod
    def of_rank(cls, rank: int) -> Step:
        """Return the step with a rank."""
        tier, other = divmod(rank // 2, _MAX_OTHERS)
        return cls(tier, bool(rank % 2), other)


FIRST: Final = Step()


def next_step(
    step: Step,
    status: str,
    value: Any,
    *,
    score: float | None = None,
    is_sampled: bool = False,
    escalations: Sequence[Escalation] = (),
    judge: Judge | None = None,
    skipped: Container[int] = (),
) -> Step | None:
    """
    Return the step after one that got a response, None if it was the last.

    :param status: of the row, by the response of the tier and its score.
    :param value: of the response of the tier, plain JSON types.
    :param score: of that response.
    :param is_sampled: whether the judge scores responses to this request.
    :param skipped: tiers whose response to this request was rejected before.
    :raises ConfigurationError: if a function of the user's in ``escalations`` fails.
    """
    tier = next_tier(escalations, step.tier, _PROBLEMS.get(status), value)
    while tier is not None and tier in skipped:
        tier = next_tier(escalations, tier, _PROBLEMS.get(status), value)
    if tier is not None:
        return Step(tier)
    if judge is not None and is_sampled and status == OK and score is None:
        return step._replace(is_judge=True)
    return None


def status_before(step: Step, status: str, judge: Judge | None) -> str:
    """
    Return the status of a row that waits for a step.

    :param status: by its last response.
    """
    if not step.is_judge:
        return ESCALATING
    return status if judge is None or judge.min_score is None else JUDGING
