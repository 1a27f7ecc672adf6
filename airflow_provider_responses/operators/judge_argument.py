"""The ``judge`` argument of an enrichment, and the models of ``escalate`` that its scores send rows to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.escalation import CONDITIONS, LOW_SCORE, Escalation
from airflow_provider_responses.validation import check_type

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.judge import Judge


def check_judge(value: Any, escalations: Sequence[Escalation]) -> Judge | None:
    """
    Return the argument ``judge``.

    :param escalations: the argument ``escalate``.
    :raises RequestValidationError: if it is no ``Judge``, or a model is for low scores, of which there are none.
    """
    judge = None if value is None else _as_judge(value)
    if judge is not None and judge.min_score is not None:
        return judge
    for number, it in enumerate(escalations):
        if LOW_SCORE in it.conditions and it.conditions != CONDITIONS:  # the default has it, with and without a judge
            missing = "a judge" if judge is None else "the judge's min_score"
            raise RequestValidationError(
                f"escalate[{number}]: when has 'low_score', which needs {missing}: set judge=Judge(..., min_score=...) "
                "or remove 'low_score'",
                fields=("escalate", "judge"),
            )
    return judge


def _as_judge(value: Any) -> Judge:
    from airflow_provider_responses.enrich.judge import Judge

    judge: Judge = check_type("judge", value, Judge, expected="Judge(model=..., rubric=...)", type_only=True)
    return judge
