"""The requests of the steps after the first: to larger models, and to the judge. They are few, or short."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.json_values import dump
from airflow_provider_responses.enrich.next_step import Step
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.task.escalation import INVALID, fields_of_tier, next_tier

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.enrich.row_requests import RowRequests
    from airflow_provider_responses.enrich.row_steps import RowSteps
    from airflow_provider_responses.task.request import TaskRequest

MAX_CHECKED: Final = 1000  # requests without their input, whose later steps are remembered as checked
JUDGE_RETRIES: Final = 1  # of a request to the judge, after a response that is no score


class StepRequests:
    """
    See the module.

    :param requests: of the first steps.
    :param steps: of the requests.
    """

    def __init__(self, requests: RowRequests, steps: RowSteps) -> None:
        self._requests, self._steps = requests, steps
        self._task_requests: dict[Step, TaskRequest] = {}
        self._checked: set[str] = set()

    def check(self, fields: Mapping[str, Any]) -> None:
        """
        Check the requests that may follow one, before anything is paid.

        :param fields: of the first one.
        :raises ResponsesError: naming ``escalate[k]`` or ``judge``, and the field.
        """
        if self._steps.is_single:
            return
        common = dump({name: value for name, value in fields.items() if name != "input"})
        if common in self._checked:
            return
        for number in range(len(self._steps.escalations)):
            self._check_step(Step(number + 1), fields, f"escalate[{number}]")
        if self._steps.judge is not None:
            self._check_step(Step(is_judge=True), fields, "judge")
        if len(self._checked) >= MAX_CHECKED:
            self._checked.clear()
        self._checked.add(common)

    def task_request(self, step: Step) -> TaskRequest:
        """Return how the response of a step is read, and how often its request is sent again."""
        if self._steps.is_single:
            return self._requests.task_request
        if (found := self._task_requests.get(step)) is None:
            found = self._task_requests[step] = self._make_task_request(step)
        return found

    def fields(self, request: PendingRequest) -> dict[str, Any]:
        """Return the fields of the request of a step, with files as they are indexed."""
        step = request.step
        fields: Mapping[str, Any] = fields_of_tier(self._steps.escalations, step.tier, json.loads(request.fields))
        if step.is_judge and self._steps.judge is not None:
            value = self._steps.value_of(json.loads(request.earlier or "{}"))
            return self._steps.judge.fields(fields, value)
        return dict(fields)

    def _check_step(self, step: Step, fields: Mapping[str, Any], name: str) -> None:
        judge, tier_fields = self._steps.judge, fields_of_tier(self._steps.escalations, step.tier, fields)
        if step.is_judge and judge is not None:
            tier_fields = judge.fields(tier_fields, "")
        try:
            self._requests.prepare(tier_fields, self.task_request(step))
        except ResponsesError as error:
            raise error.about(name) from None

    def _make_task_request(self, step: Step) -> TaskRequest:
        request, judge = self._requests.task_request, self._steps.judge
        if step.is_judge and judge is not None:
            request = replace(
                request,
                output_type=judge.output_type,
                output_format=None,
                output_retries=JUDGE_RETRIES,
                output_feedback=True,
                result="text",
                on_invalid_output="fail",
            )
            return replace(request, output_format=request.text_format())
        if next_tier(self._steps.escalations, step.tier, INVALID, None) is not None:
            return replace(request, output_retries=0)  # the larger model is asked in place of this one
        return request
