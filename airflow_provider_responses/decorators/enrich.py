"""``@task.responses_enrich``: the function returns the request of a row, the task sends those of all rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from airflow.providers.common.compat.sdk import DecoratedOperator, determine_kwargs

from airflow_provider_responses.batch.options import BATCH_THRESHOLD
from airflow_provider_responses.decorators.function import PushesXComs, check_function, make_decorator
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_responses.batch.waiting import WaitOutcome
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.operators.sql import SqlTable
    from airflow_provider_responses.task.escalation import Escalation

__all__ = ["responses_enrich_task"]


class _ResponsesEnrichDecoratedOperator(PushesXComs, DecoratedOperator, ResponsesEnrichOperator):
    """
    Call the function for each row, and send the request that it returns.

    :param python_callable: takes ``row``, a dict, and other arguments by name; returns the input or a whole request.
    """

    custom_operator_name = "@task.responses_enrich"
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ResponsesEnrichOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ResponsesEnrichOperator.template_fields_renderers,
    }

    def __init__(
        self, *, python_callable: Callable[..., Any], op_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        self._check_function(python_callable, kwargs)
        # A placeholder: Airflow checks the function's arguments when the DAG is parsed.
        op_kwargs = {"row": None, **(op_kwargs or {})}
        super().__init__(python_callable=python_callable, op_kwargs=op_kwargs, input=python_callable, **kwargs)

    @classmethod
    def check_mapped(cls, arguments: Mapping[str, Any]) -> None:
        cls._check_function(arguments["python_callable"], arguments)
        super().check_mapped(arguments)

    @staticmethod
    def _check_function(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        check_function(function, arguments, decorator="@task.responses_enrich")
        if "row" not in inspect.signature(function).parameters:
            raise RequestValidationError(
                f"{function.__name__} must have a parameter `row`, since @task.responses_enrich calls it for each row: "
                f"def {function.__name__}(row): ..."
            )

    def execute(self, context: Context) -> dict[str, Any]:
        return ResponsesEnrichOperator.execute(self, context)

    def _run_steps(self, context: Context, waited: WaitOutcome | None) -> dict[str, Any]:
        self._kwargs = determine_kwargs(
            self.python_callable, self.op_args, {**dict(context.items()), **self.op_kwargs, "row": None}
        )
        return super()._run_steps(context, waited)

    def _call_function(self, function: Callable[..., Any], row: dict[str, Any], context: Context) -> Any:  # noqa: ARG002
        return function(*self.op_args, **{**self._kwargs, "row": row})


@overload
def responses_enrich_task(
    python_callable: None = None,
    multiple_outputs: bool | None = None,
    *,
    source: Any,
    files: str | None = None,
    files_root: Any = None,
    output_path: str | PathLike[str],
    key: str | None = None,
    columns: Sequence[str] | None = None,
    output_format: Literal["jsonl", "parquet"] = "jsonl",
    resume: bool | str = True,
    on_changed_request: Literal["send", "fail"] = "send",
    limits: Limits | Mapping[str, Any] | None = None,
    shard: Sequence[int] | str = (0, 1),
    load_to: SqlTable | None = None,
    escalate: Sequence[Escalation] | None = None,
    judge: Judge | None = None,
    allow_empty: bool = True,
    mode: Literal["live", "batch", "auto"] = "live",
    deferrable: bool = True,
    batch_threshold: int = BATCH_THRESHOLD,
    finish_within: timedelta | float | None = None,
    on_batch_failure: Literal["resubmit", "live", "fail"] = "resubmit",
    on_orphaned_intent: Literal["fail", "resubmit"] = "fail",
    delete_after: bool = False,
    callback_url: str | None = None,
    estimate_only: bool | str = False,
    preview: int | str | None = None,
    model: str | None = None,
    output_type: Any = None,
    result: Literal["text", "response"] = "text",
    on_invalid_output: Literal["fail", "return"] = "fail",
    **kwargs: Any,
) -> TaskDecorator: ...


@overload
def responses_enrich_task(
    python_callable: Callable[..., Any], multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator: ...


def responses_enrich_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """
    Turn a function of a row into a task that sends the requests of all rows of a table.

    :param python_callable: the function; it takes ``row`` and returns the input or a whole request.
        A return annotation that fits no input, such as a pydantic model, is the ``output_type``.
    :param multiple_outputs: whether each entry of the manifest is pushed as an XCom of its own, too.
    :param kwargs: arguments of :class:`ResponsesEnrichOperator`, without ``input``.
    """
    operator = _ResponsesEnrichDecoratedOperator
    return make_decorator(operator, python_callable, multiple_outputs=multiple_outputs, **kwargs)
