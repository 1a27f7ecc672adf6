"""``@task.responses_enrich``: the function says what to ask about a row, the task asks it about all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from airflow.providers.common.compat.sdk import DecoratedOperator, determine_kwargs, task_decorator_factory

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.mapping import checking

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator
    from pydantic import BaseModel

    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.operators.sql import SqlTable

__all__ = ["responses_enrich_task"]


class _ResponsesEnrichDecoratedOperator(DecoratedOperator, ResponsesEnrichOperator):
    """
    Call the function for each row, and send what it returns.

    :param python_callable: takes ``row``, a dict, and anything else by name; returns the input, or a whole request.
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
        # Airflow checks the call when the DAG is parsed; each row takes this one's place.
        op_kwargs = {"row": None, **(op_kwargs or {})}
        super().__init__(python_callable=python_callable, op_kwargs=op_kwargs, input=python_callable, **kwargs)

    @classmethod
    def check_given(cls, given: Mapping[str, Any]) -> None:
        """Refuse what is wrong with a mapped task, whatever its function is given."""
        cls._check_function(given["python_callable"], given)
        super().check_given(given)

    @staticmethod
    def _check_function(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        if "input" in arguments:
            raise RequestValidationError("input: is what the decorated function returns; drop the argument")
        if inspect.iscoroutinefunction(function):
            raise RequestValidationError(
                f"{function.__name__} is async; a function of @task.responses_enrich returns its input directly"
            )
        if "row" not in inspect.signature(function).parameters:
            raise RequestValidationError(
                f"{function.__name__} takes no `row`, and @task.responses_enrich calls it for each row: "
                f"def {function.__name__}(row): ..."
            )

    @staticmethod
    def xcom_push(context: Context, key: str, value: Any) -> None:
        """Push an XCom: Airflow 3.0's DecoratedOperator asks for this, and its BaseOperator lacks it."""
        context["ti"].xcom_push(key=key, value=value)

    def execute(self, context: Context) -> dict[str, Any]:
        self._kwargs = determine_kwargs(
            self.python_callable, self.op_args, {**dict(context.items()), **self.op_kwargs, "row": None}
        )
        return ResponsesEnrichOperator.execute(self, context)

    def _call(self, function: Callable[..., Any], row: dict[str, Any], context: Context) -> Any:  # noqa: ARG002
        return function(*self.op_args, **{**self._kwargs, "row": row})


@overload
def responses_enrich_task(
    python_callable: None = None,
    multiple_outputs: bool | None = None,
    *,
    source: Any,
    output_path: str | PathLike[str],
    key: str | None = None,
    columns: Sequence[str] | None = None,
    output_format: Literal["jsonl", "parquet"] = "jsonl",
    resume: bool | str = True,
    on_changed_request: Literal["send", "fail"] = "send",
    limits: Limits | Mapping[str, Any] | None = None,
    shard: Sequence[int] | str = (0, 1),
    load_to: SqlTable | None = None,
    allow_empty: bool = True,
    model: str | None = None,
    output_type: type[BaseModel] | None = None,
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
    Turn a function of a row into a task that asks about all rows of a table.

    :param python_callable: the function; it takes ``row`` and returns a string, a list of input items, or a request.
    :param multiple_outputs: push each entry of the manifest under its own name as well.
    :param kwargs: arguments of :class:`ResponsesEnrichOperator`, but for ``input``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        return checking(
            task_decorator_factory(
                python_callable=function,
                multiple_outputs=bool(multiple_outputs),
                decorated_operator_class=_ResponsesEnrichDecoratedOperator,
                **kwargs,
            )
        )

    return decorate if python_callable is None else decorate(python_callable)  # type: ignore[return-value]
