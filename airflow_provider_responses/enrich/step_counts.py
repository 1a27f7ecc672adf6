"""The steps of all requests by the model that they were sent to: numbers and costs, for the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.task.cost_total import CostTotal

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Scores
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.enrich.row_outcome import RowOutcome
    from airflow_provider_responses.task.escalation import Escalation


@dataclass(slots=True)
class TierCounts:
    """The counts of one model."""

    model: str | None = None  # of one that `escalate` does not have any more
    requests: int = 0  # also those that failed
    escalated: int = 0  # whose response was sent on to a larger model
    cost: CostTotal = field(default_factory=CostTotal)

    def add(self, paid: CostTotal) -> None:
        """Add a request."""
        self.requests += 1
        self.cost += paid

    def to_json(self, model: str | None, escalated: int) -> dict[str, Any]:
        """
        Return the counts as JSON.

        :param escalated: number of requests that wait to be sent on.
        """
        counts = {"requests": self.requests, "escalated": self.escalated + escalated, "cost": self.cost.total}
        return {"model": model, **counts}


@dataclass(slots=True)
class StepCounts:
    """See the module. All attempts are counted, also those before this one."""

    tiers: dict[int | str, TierCounts] = field(default_factory=dict)  # by tier, or the fingerprint of its `Escalation`
    judges: dict[str, TierCounts] = field(default_factory=dict)  # by fingerprint

    def add(self, outcome: RowOutcome, judge: Judge | None) -> None:
        """Add the outcome of a step in this attempt."""
        request = outcome.request
        if not request.step.is_judge:
            before = None if outcome.has_failed or request.before.other else request.before.tier
            self.add_tier(request.step.tier, outcome.paid, before)
        elif judge is not None:
            self.add_judge(judge.fingerprint, outcome.paid)

    def add_tier(
        self, tier: int | str, paid: CostTotal, before: int | str | None = None, *, model: str | None = None
    ) -> None:
        """
        Add a request to a model.

        :param before: whose response was sent on to this one; None if this has no response.
        """
        counts = self.tiers.setdefault(tier, TierCounts(model))
        counts.model = model
        counts.add(paid)
        if tier and before is not None:
            self.tiers.setdefault(before, TierCounts()).escalated += 1

    def add_judge(self, fingerprint: str, paid: CostTotal) -> None:
        """Add a request to a judge."""
        self.judges.setdefault(fingerprint, TierCounts()).add(paid)

    def tiers_to_json(
        self,
        model: str | None,
        escalations: tuple[Escalation, ...],
        waiting: Mapping[int, int],
        judge: Judge | None,
    ) -> list[dict[str, Any]]:
        """
        Return the counts by tier as JSON: of the present tiers, and of earlier models.

        :param model: of the task's requests, None if they have several.
        :param waiting: by tier, the number of requests that were not sent on yet.
        """
        models = [model, *(it.model for it in escalations)]
        found = [
            self.tiers.get(tier, TierCounts()).to_json(name, waiting.get(tier, 0)) for tier, name in enumerate(models)
        ]
        found += [it.to_json(it.model, 0) for tier, it in self.tiers.items() if tier not in range(len(models))]
        if judge is None and self.judges:
            found.append(self._other_judges(None).to_json(None, 0))
        return found

    def judge_to_json(self, judge: Judge, scores: Scores) -> dict[str, Any]:
        """
        Return the counts of the judge as JSON.

        :param scores: of the rows.
        """
        counts, others = self.judges.get(judge.fingerprint, TierCounts()), self._other_judges(judge)
        found = {
            "model": judge.model,
            "requests": counts.requests,
            "scored": scores.scored,
            "failed": scores.failed,
            "below_min_score": scores.below_min_score,
            "mean_score": None if scores.mean is None else round(scores.mean, 6),
            "cost": counts.cost.total,
        }
        return found | {"cost_of_other_judges": others.cost.total} if others.requests else found

    def _other_judges(self, judge: Judge | None) -> TierCounts:
        found = TierCounts()
        for fingerprint, counts in self.judges.items():
            if judge is None or fingerprint != judge.fingerprint:
                found.requests += counts.requests
                found.cost += counts.cost
        return found


_TIER_COUNTS: Final = ("requests", "escalated")
_JUDGE_COUNTS: Final = ("requests", "scored", "failed", "below_min_score")


def merge_steps(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entries of several manifests about larger models and the judge as those of one."""
    merged: dict[str, Any] = {}
    tiers = [it["tiers"] for it in manifests if it.get("tiers")]
    if tiers:
        merged["tiers"] = [_merge(them, _TIER_COUNTS) for them in _by_model(tiers)]
    judges = [it["judge"] for it in manifests if it.get("judge")]
    if judges:
        found = _merge(judges, _JUDGE_COUNTS)
        cost = found.pop("cost")
        sum_ = sum((it["mean_score"] or 0.0) * it["scored"] for it in judges)
        mean = round(sum_ / found["scored"], 6) if found["scored"] else None
        merged["judge"] = {**found, "mean_score": mean, "cost": cost}
        others = [it["cost_of_other_judges"] for it in judges if it.get("cost_of_other_judges") is not None]
        if others:
            merged["judge"]["cost_of_other_judges"] = round(sum(others), 9)
    return merged


def are_steps_valid(name: str, entry: Any) -> bool:
    """Return whether an entry of a manifest can be merged, or is not there."""
    if entry is None:
        return True
    if name == "tiers":
        return isinstance(entry, list) and all(_has_counts(it, _TIER_COUNTS) for it in entry)
    is_valid = _has_counts(entry, _JUDGE_COUNTS) and _is_amount(entry.get("mean_score", False))
    return is_valid and _is_amount(entry.get("cost_of_other_judges"))


def _by_model(tiers: Sequence[Sequence[Mapping[str, Any]]]) -> Iterable[list[Mapping[str, Any]]]:
    """Return the entries of several manifests by model, the task's own first; a model may be twice in one of them."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for entries in tiers:
        seen: Counter[Any] = Counter()
        for number, entry in enumerate(entries):
            model = entry["model"] if number else "own"
            found.setdefault((number == 0, model, seen[model, number == 0]), []).append(entry)
            seen[model, number == 0] += 1
    return found.values()


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
