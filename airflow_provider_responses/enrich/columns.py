"""The names of the columns that a result has beside those of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_provider_responses.exceptions import RequestValidationError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.task.request import TaskRequest

TEXT_COLUMN: Final = "output"  # of a response without an `output_type`
META_COLUMNS: Final = ("_status", "_error", "_output_text", "_response_id", "_model", "_cost", "_tokens", "_sends")
# No column of the source may have one of these names.
RESERVED_COLUMNS: Final = frozenset({*META_COLUMNS, "_row", "_key", "_fingerprint", "_generations", "_paid", "_prompt"})


def columns_model(request: TaskRequest) -> type[BaseModel] | None:
    """Return the type whose fields become columns, None if the response is one column."""
    from pydantic import RootModel

    kind: type[BaseModel] | None = request.output_type
    return None if kind is None or request.result == "response" or issubclass(kind, RootModel) else kind


def response_columns(request: TaskRequest) -> tuple[str, ...]:
    """
    Return the names of the columns that hold the response.

    :raises RequestValidationError: if they cannot be read from ``output_type``, or two have the same name.
    """
    if (kind := columns_model(request)) is None:
        return (TEXT_COLUMN,)
    if kind.__pydantic_decorators__.model_serializers:
        raise RequestValidationError(
            f"output_type {kind.__name__} has a @model_serializer, so its output does not have its fields; use field "
            "serializers or computed fields instead",
            fields=("output_type",),
        )
    fields = [
        (info.serialization_alias or info.alias or name, info.exclude) for name, info in kind.model_fields.items()
    ]
    names = [name for name, excluded in fields if not excluded]
    names += [info.alias or name for name, info in kind.model_computed_fields.items()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RequestValidationError(
            f"output_type {kind.__name__}: two of its fields are called {twice!r} in the result; rename one",
            fields=("output_type",),
        )
    return tuple(names)
