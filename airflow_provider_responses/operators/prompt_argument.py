"""The ``input`` argument of an enrichment: a template, or a function of the row."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.validation import wrong_value


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
