"""The ``history`` argument: which task's response it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.base import BaseResponsesOperator
from airflow_provider_responses.task.arguments import is_upstream
from airflow_provider_responses.validation import show


def note_history(history: Any) -> None:
    """
    Let the task whose response is a history add its input to it, by ``result="conversation"``.

    :param history: the argument, when the DAG is parsed.
    :raises RequestValidationError: if it is the output of a task without whole responses.
    """
    task = getattr(history, "operator", None) if is_upstream(history) else None
    if not isinstance(task, BaseResponsesOperator):  # a list, or the output of another kind of task
        return
    if task.result not in ("response", "conversation"):
        raise RequestValidationError(
            f"history is the output of task {show(task.task_id)}, whose result is {show(task.result)}, and only a "
            "whole response can be continued: set result='response' on that task",
            fields=("history",),
        )
    _check_images(task)
    task.result = "conversation"


def _check_images(task: Any) -> None:
    """Refuse to move the images of a continued response: the next request needs them, and its XCom would lack them."""
    if getattr(task, "output_path", None) is not None:
        raise RequestValidationError(
            f"output_path: the response of task {show(task.task_id)} is the history of another task, which needs its "
            "images, and output_path moves them to files. Remove output_path, or do not continue this task: give the "
            "next one the files, with InputImage.from_path()",
            fields=("output_path",),
        )


def check_turn(task: Any) -> None:
    """
    Check that a task with a history has an input, and that its own response can be continued if it has to.

    :raises RequestValidationError: if not.
    """
    if task.result == "conversation":
        _check_images(task)
    if task.history is None or task.input is not None or "input" not in task.template_fields:
        return
    if not isinstance(task.request or {}, Mapping) or "input" not in (task.request or {}):
        raise RequestValidationError("input is missing: set the next turn after `history`", fields=("input",))
