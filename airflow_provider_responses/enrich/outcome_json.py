"""The outcome of a row as JSON, for the parts and for the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.columns import ESCALATED, SCORE, SCORE_REASON, TEXT_COLUMN, has_columns
from airflow_provider_responses.enrich.index import IndexedOutcome
from airflow_provider_responses.enrich.json_values import dump, joined, number
from airflow_provider_responses.enrich.next_step import Step, status_before
from airflow_provider_responses.enrich.statuses import REJECTED
from airflow_provider_responses.task.cost import total_cost
from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index, PendingRequest
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.row_outcome import RowOutcome

TIER: Final = "_tier"  # in a line of a part, of a response of a larger model
ESCALATION: Final = "_escalation"  # beside it: the fingerprint and the model of the `Escalation`, and the tier before
OTHER: Final = "other"  # in place of a fingerprint, of a response of a model that `escalate` does not have any more
JUDGE: Final = "_judge"  # in a line of the judge: its fingerprint


class OutcomeForms:
    """
    The forms of outcomes: the columns of the result, the line in a part, and the entry in the index.

    :param job: whose outcomes they are.
    :param columns: that hold the response.
    """

    def __init__(self, job: Job, columns: tuple[str, ...]) -> None:
        self._columns, self._has_fields = columns, has_columns(job.request)
        self._names = (*columns, *job.meta_columns)
        self._prompt = (job.prompt or {}).get("fingerprint")
        self._escalations = job.escalate
        self._judge, self._escalates, self._is_judged = job.judge, bool(job.escalate), job.judge is not None

    def columns(self, outcome: RowOutcome) -> str:
        """
        Return the columns of an outcome as a JSON object.

        Costs, tokens and sends are those of all steps of the request.
        """
        if outcome.request.step.is_judge:
            return _judged_columns(outcome)
        response, value = outcome.response, outcome.value
        output: dict[str, Any] = dict.fromkeys(self._columns)
        if not self._has_fields:
            output[TEXT_COLUMN] = value
        elif isinstance(value, Mapping):
            output |= {name: value.get(name) for name in self._columns}
        text = dump(
            output
            | {
                "_status": outcome.status,
                "_error": outcome.error,
                "_output_text": storable(response.output_text) if response and outcome.status in REJECTED else None,
                "_response_id": response.id if response else None,
                "_model": response.model if response else None,
            }
        )
        cost, tokens, sends = outcome.cost, outcome.tokens, outcome.sends
        if outcome.request.earlier is not None:
            cost, tokens, sends = _sums(outcome)
        # Small costs have exponents, which would make `dump` slow for all of the object.
        tail = f'"_cost":{number(cost)},"_tokens":{number(tokens)},"_sends":{sends}'
        if self._escalates:
            tail += f',"{ESCALATED}":{"true" if outcome.request.step.tier else "false"}'
        if self._is_judged:
            tail += f',"{SCORE}":null,"{SCORE_REASON}":null'
        return f"{text[:-1]},{tail}}}"

    def empty(self) -> dict[str, Any]:
        """Return the columns of a row without a response."""
        return dict.fromkeys(self._names) | ({ESCALATED: False} if self._escalates else {})

    def line(self, row: tuple[int, str, str], outcome: RowOutcome, columns: str) -> str:
        """
        Return the line of an outcome in a part.

        :param row: position, key and columns of the first row with the request.
        :param columns: of the outcome.
        """
        position, key, source_columns = row
        own: dict[str, Any] = {"_row": position, "_key": key}
        self._add_own_keys(own, outcome)
        if self._prompt is not None:
            own["_prompt"] = self._prompt
        return joined(dump(own), joined(source_columns, columns))

    def line_without_row(self, outcome: RowOutcome, columns: str) -> str:
        """Return the line of an outcome whose row is not in the source any more."""
        own: dict[str, Any] = {}
        self._add_own_keys(own, outcome)
        return joined(dump(own), columns)

    def line_of_first_row(self, index: Index, outcome: RowOutcome, columns: str) -> str:
        """Return the line of an outcome in a part, with the first row that has the request."""
        return self.line(index.row_at(outcome.request.first_row), outcome, columns)

    def indexed(self, outcome: RowOutcome, columns: str) -> IndexedOutcome:
        """Return the entry of an outcome in the index."""
        request, following = outcome.request, outcome.next
        if following is None and request.earlier is None:
            return IndexedOutcome(request.fingerprint, outcome.status, columns)
        rank = request.step.rank
        has_failed = outcome.has_failed and request.earlier is not None
        score = outcome.value["score"] if request.step.is_judge and outcome.value is not None else None
        if following is None:
            return IndexedOutcome(request.fingerprint, outcome.status, columns, rank, None, has_failed, score)
        status = status_before(following, outcome.status, self._judge)
        shown = with_status(columns, status)
        return IndexedOutcome(
            request.fingerprint, status, shown, rank, following.rank, score=score, response=outcome.status
        )

    def pending(self, outcome: RowOutcome, following: Step) -> PendingRequest:
        """Return the request of an outcome with its next step."""
        return outcome.request._replace(step=following, earlier=self.columns(outcome), before=outcome.request.step)

    def _escalation(self, tier: int) -> dict[str, Any]:
        """Return which `Escalation` a tier is, for a line in a part."""
        escalation = self._escalations[tier - 1]
        return {"fingerprint": escalation.fingerprint, "model": escalation.model}

    def _before(self, step: Step) -> list[Any] | None:
        """Return the tier and the `Escalation` of the response that was sent on, for a line in a part."""
        if step.other:
            return None
        return [step.tier, self._escalations[step.tier - 1].fingerprint if step.tier else None]

    def _add_own_keys(self, own: dict[str, Any], outcome: RowOutcome) -> None:
        request = outcome.request
        own["_fingerprint"], own["_generations"] = request.fingerprint.hex(), outcome.generations
        # Otherwise `_cost` is all that was paid for the step.
        if outcome.unknown_costs or outcome.cost is None or request.earlier is not None:
            own["_paid"] = [outcome.known_cost, max(outcome.unknown_costs, int(outcome.cost is None))]
        if request.earlier is None:
            return
        if request.step.other:
            own[TIER], own[ESCALATION] = request.step.other, {"fingerprint": OTHER, "model": None}
        elif tier := request.step.tier:
            own[TIER], own[ESCALATION] = tier, self._escalation(tier)
            if not request.step.is_judge:
                own[ESCALATION]["before"] = self._before(request.before)
        if request.step.is_judge and self._judge is not None:
            own[JUDGE] = self._judge.fingerprint


def with_status(columns: str, status: str) -> str:
    """Return the columns of an outcome with another status."""
    return dump(json.loads(columns) | {"_status": status})


def without_cost(outcome: str) -> str:
    """Return the columns of an outcome for another row with the same request, which cost nothing more."""
    columns = json.loads(outcome)
    columns["_cost"] = 0.0 if columns["_cost"] is not None else None
    return dump(columns)


def step_of(line: Mapping[str, Any]) -> Step:
    """Return the step of a line in a part when it was written."""
    return Step(line.get(TIER, 0), JUDGE in line)


def tier_of(line: Mapping[str, Any]) -> tuple[int, str | None]:
    """Return the tier of a line in a part when it was written, and the fingerprint of its `Escalation`."""
    if not (tier := line.get(TIER, 0)):
        return 0, None
    return tier, str((line.get(ESCALATION) or {}).get("fingerprint", OTHER))


def _judged_columns(outcome: RowOutcome) -> str:
    """Return the columns of a response with the score of the judge."""
    columns, value = json.loads(outcome.request.earlier or "{}"), outcome.value or {}
    cost, tokens, sends = _sums(outcome)
    return dump(
        columns
        | {"_status": outcome.status, "_error": outcome.error, "_cost": cost, "_tokens": tokens, "_sends": sends}
        | {SCORE: value.get("score"), SCORE_REASON: value.get("reason")}
    )


def _sums(outcome: RowOutcome) -> tuple[float | None, int | None, int]:
    """Return cost, tokens and sends of an outcome and of the steps before it."""
    earlier = json.loads(outcome.request.earlier or "{}")
    tokens = [it for it in (earlier.get("_tokens"), outcome.tokens) if it is not None]
    cost = total_cost((earlier.get("_cost"), outcome.cost))
    return cost, sum(tokens) if tokens else None, (earlier.get("_sends") or 0) + outcome.sends
