"""
What stands in the DAG file of a mapped task is looked at when the file is parsed.

Airflow makes a mapped task only when it runs, and what is refused then, before it is executed, uses up its retries.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.task.arguments import comes_from_upstream, is_upstream


def checking(made: Any) -> Any:
    """
    Let what mapped tasks are made with check them as soon as they are expanded.

    :param made: what Airflow's ``Operator.partial()`` returns, or a decorated function.
    """
    made.__class__ = _checking(made.__class__)  # all that is made from it, as by `override`, is of this class as well
    return made


@functools.cache
def _checking(kind: Any) -> Any:
    class Checking(kind):  # type: ignore[misc]  # Airflow has several of them, and each release has them elsewhere
        __slots__ = ()

        def expand(self, **mapped: Any) -> Any:
            return _checked(super().expand(**mapped))

        def expand_kwargs(self, *args: Any, **kwargs: Any) -> Any:
            return _checked(super().expand_kwargs(*args, **kwargs))

    return Checking


def _checked(expanded: Any) -> Any:
    mapped = getattr(expanded, "operator", expanded)  # a decorated function gives the task's output
    cls = mapped.operator_class
    # A subclass may make other arguments of those that it is given.
    if inspect.unwrap(cls.__init__).__module__.partition(".")[0] == __name__.partition(".")[0]:
        try:
            for arguments in _given(mapped):
                cls.check_given(arguments)
        except ResponsesError as error:
            raise error.add_place("Task", mapped.task_id) from None
        for name, value in cls.stored_of(_common(mapped)).items():
            setattr(mapped, name, value)
    return expanded


def _common(mapped: Any) -> dict[str, Any]:
    """Return the arguments that all tasks have which are made of a mapped one."""
    common: dict[str, Any] = {}
    for parent in (mapped.dag, mapped.task_group):
        common |= getattr(parent, "default_args", None) or {}
    common |= mapped.partial_kwargs
    if hasattr(mapped, "python_callable"):
        common |= {"python_callable": mapped.python_callable, "multiple_outputs": mapped.multiple_outputs}
    return common


def _given(mapped: Any) -> Iterator[dict[str, Any]]:
    """Return the arguments that the DAG's author wrote; those that come from other tasks are left out."""
    common = _common(mapped)
    if hasattr(mapped, "python_callable"):  # what is expanded are the function's arguments
        yield common
        return
    expanded = mapped._get_specified_expand_input().value
    if is_upstream(expanded):
        # It may hold an output_type.
        yield common if common.get("output_type") else common | {"multiple_outputs": False}
    elif isinstance(expanded, Mapping):
        common = {name: value for name, value in common.items() if name not in expanded}
        if "output_type" in expanded:
            common["multiple_outputs"] = False
        yield common
        for name, values in expanded.items():
            if isinstance(values, (list, tuple)):
                yield from (common | {name: value} for value in values if not comes_from_upstream(value))
    else:
        yield from (common | dict(item) for item in expanded if isinstance(item, Mapping))
