"""``@task.responses``: the function returns the input or the request, the task sends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, context_merge, determine_kwargs

from airflow_provider_responses.decorators.function import PushesXComs, check_function, make_decorator
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.request import merge_fields, returned_fields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_responses.task.arguments import Arguments
    from airflow_provider_responses.task.request import TaskRequest

__all__ = ["responses_task"]


class _ResponsesDecoratedOperator(PushesXComs, DecoratedOperator, ResponsesOperator):
    """
    Call the function when the task runs, and send the request that it returns.

    :param python_callable: returns the input (a text or a list of items) or a whole request (a dict).
    """

    custom_operator_name = "@task.responses"
    start_on_worker_reason = "a function returns its input"
    # Without `input`: the value that the function returns is data, and may hold braces.
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in ResponsesOperator.template_fields if name != "input"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **ResponsesOperator.template_fields_renderers,
    }

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        check_function(python_callable, kwargs, decorator="@task.responses")
        self._returned: Mapping[str, Any] | None = None
        super().__init__(python_callable=python_callable, **kwargs)

    @classmethod
    def check_mapped(cls, arguments: Mapping[str, Any]) -> None:
        check_function(arguments["python_callable"], arguments, decorator="@task.responses")
        super().check_mapped(arguments)

    def execute(self, context: Context) -> Any:
        if self._arguments_error is not None:
            self._fail_unsent(context, self._arguments_error)
        self._function_started_at = time.monotonic()  # the function's time counts against execution_timeout
        returned = self._call_function(context)
        try:
            self._returned = returned_fields(returned)
        except ResponsesError as error:
            self._fail_unsent(context, error)
        return super().execute(context)

    def _call_function(self, context: Context) -> Any:
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        return self.python_callable(*self.op_args, **kwargs)

    def request_to_estimate(self, context: Context) -> TaskRequest:
        self._returned = returned_fields(self._call_function(context))
        return super().request_to_estimate(context)

    def _arguments(self) -> Arguments:
        arguments = super()._arguments()
        if self._returned is None or not isinstance(arguments.request or {}, Mapping):
            return arguments
        return replace(arguments, request=merge_fields(arguments.request or {}, self._returned))


def responses_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """
    Turn a function into a task that sends the request which the function returns.

    :param python_callable: the function; it returns the input (a text or a list of items) or a whole request (a dict).
        A return annotation that fits no input, such as a pydantic model, is the ``output_type``.
    :param multiple_outputs: whether each field of a typed output is pushed as an XCom of its own, too.
    :param kwargs: arguments of :class:`ResponsesOperator`, without ``input``.
    """
    return make_decorator(_ResponsesDecoratedOperator, python_callable, multiple_outputs=multiple_outputs, **kwargs)
