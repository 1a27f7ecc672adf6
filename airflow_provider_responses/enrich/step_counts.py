"""The steps of all requests by the model that they were sent to: numbers and costs, for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.statuses import FAILED
from airflow_provider_responses.task.cost_total import CostTotal

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.enrich.next_step import Step
    from airflow_provider_responses.enrich.row_outcome import RowOutcome
    from airflow_provider_responses.task.escalation import Escalation


@dataclass(slots=True)
class TierCounts:
    """The counts of one model."""

    requests: int = 0  # that got a response
    escalated: int = 0  # that were sent on to a larger model
    cost: CostTotal = field(default_factory=CostTotal)


@dataclass(slots=True)
class StepCounts:
    """See the module. All attempts are counted, also those before this one."""

    tiers: list[TierCounts] = field(default_factory=list)
    judge_cost: CostTotal = field(default_factory=CostTotal)
    scored: int = 0
    below_min_score: int = 0
    scores: float = 0.0  # their sum

    def add(self, outcome: RowOutcome, judge: Judge | None) -> None:
        """Add the outcome of a step in this attempt."""
        step = outcome.request.step
        self.add_cost(step, outcome.paid)
        if outcome.has_failed:
            return
        if not step.is_judge:
            self.add_response(step, outcome.status, outcome.next)
        elif judge is not None:
            score = float(outcome.value["score"])
            self.add_score(score, is_accepted=judge.accepts(score))
            self.add_next(step, outcome.next)

    def add_cost(self, step: Step, paid: CostTotal) -> None:
        """Add the cost of a step, which may have failed."""
        if step.is_judge:
            self.judge_cost += paid
        else:
            self._tier(step.tier).cost += paid

    def add_response(self, step: Step, status: str, following: Step | None) -> None:
        """Add a response to a request, not that of the judge."""
        if status == FAILED:
            return
        counts = self._tier(step.tier)
        counts.requests += 1
        self.add_next(step, following)

    def add_next(self, step: Step, following: Step | None) -> None:
        """Count a request that is sent on to a larger model, or will be."""
        self._tier(step.tier).escalated += following is not None and not following.is_judge

    def add_score(self, score: float, *, is_accepted: bool) -> None:
        """Add a score."""
        self.scored += 1
        self.scores += score
        self.below_min_score += not is_accepted

    def tiers_to_json(self, model: str | None, escalations: tuple[Escalation, ...]) -> list[dict[str, Any]]:
        """
        Return the counts by tier as JSON.

        :param model: of the task's requests, None if they have several.
        """
        models = [model, *(it.model for it in escalations)]
        self._tier(len(models) - 1)
        models += [None] * (len(self.tiers) - len(models))  # of an `escalate` that had more
        return [
            {"model": name, "requests": it.requests, "escalated": it.escalated, "cost": it.cost.total}
            for name, it in zip(models, self.tiers, strict=True)
        ]

    def judge_to_json(self, judge: Judge, failed: int) -> dict[str, Any]:
        """
        Return the counts of the judge as JSON.

        :param failed: number of requests that it could not score.
        """
        return {
            "model": judge.model,
            "requests": self.scored + failed,
            "scored": self.scored,
            "failed": failed,
            "below_min_score": self.below_min_score,
            "mean_score": round(self.scores / self.scored, 6) if self.scored else None,
            "cost": self.judge_cost.total,
        }

    def _tier(self, number: int) -> TierCounts:
        while len(self.tiers) <= number:
            self.tiers.append(TierCounts())
        return self.tiers[number]


_TIER_COUNTS: Final = ("requests", "escalated")
_JUDGE_COUNTS: Final = ("requests", "scored", "failed", "below_min_score")


def merge_steps(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries of several manifests about larger models and the judge as those of one."""
    merged: dict[str, Any] = {}
    tiers = [it["tiers"] for it in manifests if it.get("tiers")]
    if tiers:
        merged["tiers"] = [
            _merge([them[number] for them in tiers if number < len(them)], _TIER_COUNTS)
            for number in range(max(map(len, tiers)))
        ]
    judges = [it["judge"] for it in manifests if it.get("judge")]
    if judges:
        found = _merge(judges, _JUDGE_COUNTS)
        cost = found.pop("cost")
        sum_ = sum((it["mean_score"] or 0.0) * it["scored"] for it in judges)
        mean = round(sum_ / found["scored"], 6) if found["scored"] else None
        merged["judge"] = {**found, "mean_score": mean, "cost": cost}
    return merged


def are_steps_valid(name: str, entry: Any) -> bool:
    """Return whether an entry of a manifest can be merged, or is not there."""
    if entry is None:
        return True
    if name == "tiers":
        return isinstance(entry, list) and all(_has_counts(it, _TIER_COUNTS) for it in entry)
    return _has_counts(entry, _JUDGE_COUNTS) and _is_amount(entry.get("mean_score", False))


def _merge(entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    models, costs = {it["model"] for it in entries}, [it["cost"] for it in entries if it["cost"] is not None]
    return {
        "model": models.pop() if len(models) == 1 else None,
        **{name: sum(it[name] for it in entries) for name in names},
        "cost": round(sum(costs), 9) if costs else None,
    }


def _has_counts(entry: Any, names: Sequence[str]) -> bool:
    return (
        isinstance(entry, dict)
        and all(type(entry.get(name)) is int for name in names)
        and "model" in entry
        and _is_amount(entry.get("cost", False))
    )


def _is_amount(value: Any) -> bool:
    return value is None or type(value) in {int, float}
