"""
The steps of a job's requests: their models, and which step follows an outcome. No I/O and no clock.

See :mod:`next_step` for the rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.columns import TEXT_COLUMN, has_columns, response_columns
from airflow_provider_responses.enrich.next_step import Step, next_step, status_before
from airflow_provider_responses.enrich.outcome_json import JUDGE, tier_of
from airflow_provider_responses.enrich.request_queue import model_of
from airflow_provider_responses.enrich.row_outcome import JUDGE_ERROR
from airflow_provider_responses.enrich.statuses import FAILED, INVALID_OUTPUT, LOW_SCORE, OK
from airflow_provider_responses.exceptions import ConfigurationError, OutputValidationError
from airflow_provider_responses.models.response import Response

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.row_outcome import RowOutcome


class RowSteps:
    """
    See the module.

    :param job: whose requests they are.
    """

    def __init__(self, job: Job) -> None:
        self.escalations, self.judge = job.escalate, job.judge
        self._request, self._columns = job.request, response_columns(job.request)
        self._has_fields = has_columns(job.request)
        self._reads_values = any(it.has_check for it in job.escalate)  # of responses that are ok
        self._places = {it.fingerprint: place for place, it in reversed([*enumerate(job.escalate, 1)])}
        self.asked: dict[bytes, set[int]] = {}  # by fingerprint: tiers that precede their place in the list
        self.is_single = not job.escalate and job.judge is None  # whether each request has one step

    def model_of(self, request: PendingRequest) -> str:
        """Return the model of the next step of a request, empty for the model of the connection."""
        step = request.step
        if step.is_judge and self.judge is not None:
            return self.judge.model
        return self.escalations[step.tier - 1].model if step.tier else model_of(request.fields)

    def find_tier(self, tier: int, fingerprint: str | None) -> int | None:
        """
        Return the present tier of a stored response, None if `escalate` does not have its model and request any more.

        :param tier: at which it was requested.
        :param fingerprint: of the `Escalation`, None for the task's own model.
        """
        if not tier or fingerprint is None:
            return 0
        if tier <= len(self.escalations) and self.escalations[tier - 1].fingerprint == fingerprint:
            return tier  # also if `escalate` has it twice
        return self._places.get(fingerprint)

    def stored_step(self, request: bytes, tier: int, fingerprint: str | None, *, is_judge: bool) -> Step:
        """
        Return the step of a stored response, by the present `escalate`.

        That of a model that is not in the list any more, or comes later in it now, counts as one after the tier
        before it: models that are new there are asked if it is rejected, and it is not requested again.

        :param request: its fingerprint.
        :param tier: see :meth:`find_tier`.
        """
        place = self.find_tier(tier, fingerprint)
        if place is not None and place <= tier:
            return Step(place, is_judge)
        if place is not None:
            self.asked.setdefault(request, set()).add(place)
        return Step(min(tier - 1, len(self.escalations)), is_judge, tier)

    def complete(self, outcome: RowOutcome) -> RowOutcome:
        """Return an outcome with the status of its row and the next step."""
        request, status, value = outcome.request, outcome.status, outcome.value
        if request.step.is_judge:
            outcome = self._judge(outcome)
            if outcome.has_failed or self.is_single:
                return outcome
            columns = None if request.earlier is None or not self._reads_values else self._value_in(request.earlier)
            return self._with_next(outcome, columns, self.score_of(value))
        if self._has_fields and status == OK and not isinstance(value, Mapping):
            outcome = replace(outcome, status=INVALID_OUTPUT)  # a text, which on_invalid_output="return" accepts
        if self.is_single or status == FAILED or (not request.row_count and self.calls_function(outcome.status)):
            return outcome
        found = None
        if self._reads_values and outcome.status == OK:
            found = self.value_of(value if self._has_fields else {TEXT_COLUMN: value})
        return self._with_next(outcome, found, None)

    def calls_function(self, status: str) -> bool:
        """Return whether a function of the user's checks a response with a status."""
        return self._reads_values and status == OK

    def next_of(
        self, fingerprint: bytes, step: Step, status: str, columns: Mapping[str, Any], score: float | None
    ) -> Step | None:
        """
        Return the step after one, from the columns of its outcome.

        :raises ConfigurationError: if a function of the user's fails.
        """
        if self.is_single:
            return None
        value = self.value_of(columns) if self._reads_values and status in {OK, LOW_SCORE} else None
        return self._next(fingerprint, step, status, value, score)

    def is_escalated(self, step: Step, status: str) -> bool:
        """Return whether a rejected response is followed by a request to a larger model."""
        return next_step(step, status, None, escalations=self.escalations) is not None

    def shown_status(self, status: str, following: Step | None) -> str:
        """Return the status of a row in the result, by its last response and the next step."""
        return status if following is None else status_before(following, status, self.judge)

    def is_same_judge(self, fingerprint: str) -> bool:
        """Return whether a score counts: that of the present judge, or of any if there is none now."""
        return self.judge is None or self.judge.fingerprint == fingerprint

    def price_kind_of(self, line: Mapping[str, Any]) -> int | None:
        """Return the ``Step.price_kind`` of a line in a part by the present models, None if they do not include its."""
        if JUDGE in line:
            return (
                Step(is_judge=True).price_kind
                if self.judge is not None and self.judge.fingerprint == line[JUDGE]
                else None
            )
        tier = self.find_tier(*tier_of(line))
        return None if tier is None else Step(tier).price_kind

    def status_of_score(self, score: float) -> str:
        """Return the status of a row with a score."""
        return OK if self.judge is None or self.judge.accepts(score) else LOW_SCORE

    def status_without_score(self) -> str:
        """Return the status of a row whose judge has failed."""
        return OK if self.judge is None or self.judge.min_score is None else FAILED

    def low_score_error(self, score: float) -> str:
        """Return the error of a row with a low score."""
        return f"{JUDGE_ERROR}the score {score} is below min_score, {self.judge.min_score if self.judge else None}"

    def value_of(self, columns: Mapping[str, Any]) -> Any:
        """Return the value of a response from its columns: the typed output, otherwise the text."""
        if self._has_fields:
            return {name: columns.get(name) for name in self._columns}
        value = columns.get(TEXT_COLUMN)
        if self._request.result != "response" or not isinstance(value, Mapping):
            return value
        text = Response(raw=dict(value)).output_text or ""
        if self._request.output_type is None:
            return text
        from airflow_provider_responses.models.output import load_output

        try:
            return load_output(self._request.output_type, text)
        except OutputValidationError:  # repaired when it arrived
            return text

    @staticmethod
    def score_of(value: Any) -> float | None:
        """Return the score in the value of the judge's response."""
        found: float | None = value.get("score") if isinstance(value, Mapping) else None
        return found

    def _value_in(self, columns: str) -> Any:
        return self.value_of(json.loads(columns))

    def _judge(self, outcome: RowOutcome) -> RowOutcome:
        """Return an outcome of the judge with the status of its row."""
        score = self.score_of(outcome.value)
        if score is None:
            return replace(outcome, status=self.status_without_score())
        status = self.status_of_score(score)
        return replace(outcome, status=status, error=self.low_score_error(score) if status == LOW_SCORE else None)

    def _with_next(self, outcome: RowOutcome, value: Any, score: float | None) -> RowOutcome:
        request = outcome.request
        try:
            following = self._next(request.fingerprint, request.step, outcome.status, value, score)
        except ConfigurationError as error:
            return replace(outcome, next=Step(request.step.tier + 1), fatal=error)
        return outcome if following is None else replace(outcome, next=following)

    def _next(self, fingerprint: bytes, step: Step, status: str, value: Any, score: float | None) -> Step | None:
        return next_step(
            step,
            status,
            value,
            score=score,
            is_sampled=self.judge is not None and self.judge.samples(fingerprint),
            escalations=self.escalations,
            judge=self.judge,
            skipped=self.asked.get(fingerprint, ()),
        )
