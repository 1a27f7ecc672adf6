"""
Mapped tasks, whose arguments are checked when the DAG's file is parsed.

Airflow creates a mapped task only when it runs. An error in its constructor would use up the task's retries.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_origin

from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.operators.prompt_files import check_prompt_files
from airflow_provider_responses.task.arguments import comes_from_upstream, is_upstream


def check_on_expand(partial: Any) -> Any:
    """
    Return a partial operator, or a decorated function, whose mapped tasks are checked when they are expanded.

    :param partial: the result of Airflow's ``Operator.partial()``, or a decorated function.
    """
    partial.__class__ = _checking_class(partial.__class__)  # copies of it, as by `override`, have this class as well
    return partial


@functools.cache
def _checking_class(base: Any) -> Any:
    class Checking(base):  # type: ignore[misc]  # Airflow has several such classes, in other modules in each release
        __slots__ = ()

        def expand(self, **mapped: Any) -> Any:
            _refuse_generics(mapped.get("output_type"))
            return _check(super().expand(**mapped))

        def expand_kwargs(self, *args: Any, **kwargs: Any) -> Any:
            for item in args[0] if args and isinstance(args[0], list) else ():
                _refuse_generics([item.get("output_type")] if isinstance(item, Mapping) else None)
            return _check(super().expand_kwargs(*args, **kwargs))

    return Checking


def _refuse_generics(output_types: Any) -> None:
    """Refuse types over which a task is expanded, and which Airflow would iterate without an end."""
    for output_type in output_types if isinstance(output_types, (list, tuple)) else ():
        if get_origin(output_type) is not None and isinstance(output_type, Iterable):
            raise RequestValidationError(
                f"output_type cannot be {output_type} in expand, since Airflow cannot read its DAG then: set it in "
                "partial, or expand over a model with one field",
                fields=("output_type",),
            )


def _check(expanded: Any) -> Any:
    mapped = getattr(expanded, "operator", expanded)  # a decorated function returns the task's output
    cls = mapped.operator_class
    # The constructor of a user's subclass may take other arguments.
    if inspect.unwrap(cls.__init__).__module__.partition(".")[0] == __name__.partition(".")[0]:
        try:
            for arguments in _authors_arguments(mapped):
                cls.check_mapped(arguments)
                if mapped.dag is not None:
                    check_prompt_files(arguments, cls, mapped.dag.get_template_env())
        except ResponsesError as error:
            raise error.add_place("Task", mapped.task_id) from None
        for name, value in cls.computed_template_fields(_partial_arguments(mapped)).items():
            setattr(mapped, name, value)
    return expanded


def _partial_arguments(mapped: Any) -> dict[str, Any]:
    """Return the arguments that all tasks of a mapped one share."""
    arguments: dict[str, Any] = {}
    for parent in (mapped.dag, mapped.task_group):
        arguments |= getattr(parent, "default_args", None) or {}
    arguments |= mapped.partial_kwargs
    if hasattr(mapped, "python_callable"):
        arguments |= {"python_callable": mapped.python_callable, "multiple_outputs": mapped.multiple_outputs}
    return arguments


def _authors_arguments(mapped: Any) -> Iterator[dict[str, Any]]:
    """Yield the arguments that the DAG's author wrote, without those that come from other tasks."""
    shared = _partial_arguments(mapped)
    if hasattr(mapped, "python_callable"):  # its function's arguments are expanded, not its own
        yield shared
        return
    expanded = mapped._get_specified_expand_input().value
    if is_upstream(expanded):
        # It may hold an output_type, which multiple_outputs needs.
        yield shared if shared.get("output_type") else shared | {"multiple_outputs": False}
    elif isinstance(expanded, Mapping):
        shared = {name: value for name, value in shared.items() if name not in expanded}
        if "output_type" in expanded:
            shared["multiple_outputs"] = False
        yield shared
        for name, values in expanded.items():
            if isinstance(values, (list, tuple)):
                yield from (shared | {name: value} for value in values if not comes_from_upstream(value))
    else:
        yield from (shared | dict(item) for item in expanded if isinstance(item, Mapping))
