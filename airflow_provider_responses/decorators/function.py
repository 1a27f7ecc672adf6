"""The part that both decorators share: the checks of the function, and the decorator made of an operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import task_decorator_factory

from airflow_provider_responses.decorators.return_annotation import output_type_of
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.mapping import check_on_expand

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator


class PushesXComs:
    """The method ``xcom_push``, which Airflow 3.0's ``DecoratedOperator`` calls and its ``BaseOperator`` lacks."""

    @staticmethod
    def xcom_push(context: Context, key: str, value: Any) -> None:
        """Push an XCom."""
        context["ti"].xcom_push(key=key, value=value)


def check_function(function: Callable[..., Any], arguments: Mapping[str, Any], *, decorator: str) -> None:
    """
    Refuse a function that cannot be called for the input of a request.

    :param arguments: those of the decorator.
    :param decorator: its name for messages.
    """
    if "input" in arguments:
        raise RequestValidationError(
            f"input is the value that the function of {decorator} returns: remove the argument", fields=("input",)
        )
    if inspect.iscoroutinefunction(function):
        raise RequestValidationError(f"{function.__name__} must be a plain function for {decorator}, got an async one")


def make_decorator(
    operator: type, python_callable: Callable[..., Any] | None, *, multiple_outputs: bool | None, **kwargs: Any
) -> TaskDecorator:
    """
    Return a decorator of functions, or the decorated function if there is one already.

    :param operator: the class of the tasks that the function becomes.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        given = kwargs
        if "output_type" not in kwargs and (output_type := output_type_of(function)) is not None:
            given = {**kwargs, "output_type": output_type}
        # A bool: from None, Airflow would infer multiple_outputs from the return annotation of the function, which is
        # the type of the request and not that of the response.
        task = task_decorator_factory(
            python_callable=function,
            multiple_outputs=bool(multiple_outputs),
            decorated_operator_class=operator,
            **given,
        )
        return check_on_expand(task)

    return decorate if python_callable is None else decorate(python_callable)  # type: ignore[return-value]
