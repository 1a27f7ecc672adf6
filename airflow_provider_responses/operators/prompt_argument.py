"""The ``input`` argument of an enrichment: a template, or a function of the row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.exceptions import RequestValidationError, SourceError
from airflow_provider_responses.task.request import merge_fields, returned_fields
from airflow_provider_responses.validation import show, show_exception, wrong_value

MAX_ROW_SHOWN: Final = 100  # characters of a row that a function of the user's has failed for


def check_input(value: Any, request: Mapping[str, Any] | None) -> None:
    """
    Refuse a wrong input.

    :param request: the other fields of the request, of which a stored prompt needs no input.
    :raises RequestValidationError: for another type, or if it is missing.
    """
    if value is None and "prompt" not in (request or {}):
        raise RequestValidationError(
            "input is missing: set a template such as 'Sentiment of: {{ row.text }}', or a function of the row",
            fields=("input",),
        )
    if value is not None and not isinstance(value, str) and not callable(value):
        raise wrong_value("input", "a template or a function of the row", value, type_only=True)
    if inspect.iscoroutinefunction(value):
        raise RequestValidationError("input must be a plain function, got an async one", fields=("input",))


def template_from_data() -> RequestValidationError:
    """Return the error for a template that comes from another task."""
    return RequestValidationError(
        "input must be a template in the DAG's file, got one from another task through expand, which could read "
        "connections and variables. Write the template in the file, and pass the parts that differ as columns of "
        "`source`",
        fields=("input",),
    )


def function_builder(call: Callable[[Row], Any], shared: Mapping[str, Any]) -> Callable[[Row], Mapping[str, Any]]:
    """
    Return the function that builds the request of a row.

    :param call: calls the user's function with a row.
    :param shared: the fields that all requests have.
    """

    def build(row: Row) -> Mapping[str, Any]:
        try:
            returned = call(row)
        except (ConnectionError, TimeoutError) as error:  # it may succeed for the same row later
            raise SourceError(f"input: the function raised {show_exception(error)}") from error
        except Exception as error:  # any exception is the row's own error, and no other row fails by it
            raise RequestValidationError(
                f"the function raised {show_exception(error)}, for {show(row, most=MAX_ROW_SHOWN)}"
            ) from error
        return merge_fields(shared, returned_fields(returned))

    return build
