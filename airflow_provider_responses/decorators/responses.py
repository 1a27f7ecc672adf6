"""``@task.responses``: the function says what to ask, the task asks it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.operators.mapping import checking
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.request import merge_fields, returned_fields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_responses.task.arguments import Arguments

__all__ = ["responses_task"]


class _ResponsesDecoratedOperator(DecoratedOperator, ResponsesOperator):
    """
    Call the function when the task runs, and send what it returns.

    :param python_callable: returns a string, a list of input items, or a dict that is a whole request.
    """

    custom_operator_name = "@task.responses"
    never_starts_in_triggerer = "its input is what a function returns"
    # What the function returns is data and is not rendered: it may hold braces of its own.
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in ResponsesOperator.template_fields if name != "input"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ResponsesOperator.template_fields_renderers,
    }

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        self._check_function(python_callable, kwargs)
        self._returned: Mapping[str, Any] | None = None
        super().__init__(python_callable=python_callable, **kwargs)

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
                f"{function.__name__} is async; a function of @task.responses returns its input directly"
            )

    @staticmethod
    def xcom_push(context: Context, key: str, value: Any) -> None:
        """Push an XCom: Airflow 3.0's DecoratedOperator asks for this, and its BaseOperator lacks it."""
        context["ti"].xcom_push(key=key, value=value)

    def execute(self, context: Context) -> Any:
        if self._refused is not None:
            self._refuse(context, self._refused)
        self._began = time.monotonic()  # what the function takes counts against execution_timeout
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        returned = self.python_callable(*self.op_args, **kwargs)
        try:
            self._returned = returned_fields(returned)
        except ResponsesError as error:
            self._refuse(context, error)
        return super().execute(context)

    def _arguments(self) -> Arguments:
        arguments = super()._arguments()
        if self._returned is None or not isinstance(arguments.request or {}, Mapping):
            return arguments
        return replace(arguments, request=merge_fields(arguments.request or {}, self._returned))


def responses_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """
    Turn a function into a task that sends what it returns.

    :param python_callable: the function; it returns a string, a list of input items, or a whole request.
    :param multiple_outputs: push each field of a typed output under its own name as well.
    :param kwargs: arguments of :class:`ResponsesOperator`, but for ``input``.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        # Airflow would guess multiple_outputs from the function's return annotation, which here is the request's and
        # not the answer's.
        return checking(
            task_decorator_factory(
                python_callable=function,
                multiple_outputs=bool(multiple_outputs),
                decorated_operator_class=_ResponsesDecoratedOperator,
                **kwargs,
            )
        )

    return decorate if python_callable is None else decorate(python_callable)  # type: ignore[return-value]
