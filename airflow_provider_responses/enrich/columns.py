"""The names of the columns that a result has beside those of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import RequestValidationError

if TYPE_CHECKING:
    from airflow_provider_responses.models.output_reader import OutputReader
    from airflow_provider_responses.task.request import TaskRequest

TEXT_COLUMN: Final = "output"  # of a response without an `output_type`
META_COLUMNS: Final = ("_status", "_error", "_output_text", "_response_id", "_model", "_cost", "_tokens", "_sends")
SCORE: Final = "_score"  # of the judge; only with `judge`
SCORE_REASON: Final = "_score_reason"
ESCALATED: Final = "_escalated"  # whether the request was sent to a larger model; only with `escalate`
# The keys of a line in a part beside the columns.
_PART_KEYS: Final = (
    "_row",
    "_key",
    "_fingerprint",
    "_generations",
    "_paid",
    "_prompt",
    "_tier",
    "_judge",
    "_escalation",
)
# No column of the source may have one of these names.
RESERVED_COLUMNS: Final = frozenset({*META_COLUMNS, *_PART_KEYS})


def meta_columns(*, escalates: bool = False, judges: bool = False) -> tuple[str, ...]:
    """
    Return the names of the columns of a result beside those of the source and of the response.

    :param escalates: whether ``escalate`` is set.
    :param judges: whether ``judge`` is set.
    """
    return (*META_COLUMNS, *((ESCALATED,) if escalates else ()), *((SCORE, SCORE_REASON) if judges else ()))


def is_model(output_type: Any) -> bool:
    """Whether a type is a pydantic model."""
    from airflow_provider_responses.models.output_reader import is_model_class

    return is_model_class(output_type)


def reader_of(output_type: Any) -> OutputReader:
    """Return the reader of a type."""
    from airflow_provider_responses.models import output_reader

    return output_reader.reader_of(output_type)


def has_columns(request: TaskRequest) -> bool:
    """
    Whether the fields of ``output_type`` are columns; otherwise the response is one column.

    They are if the type names all of its fields: a pydantic model without further ones, a dataclass, a TypedDict, or a
    JSON Schema of an object that allows no other properties.
    """
    if request.output_type is None or request.result == "response":
        return False
    if not is_model(request.output_type):
        return reader_of(request.output_type).field_names() is not None
    from pydantic import RootModel

    is_open = request.output_type.model_config.get("extra") == "allow"
    return not (is_open or issubclass(request.output_type, RootModel))


def response_columns(request: TaskRequest) -> tuple[str, ...]:
    """
    Return the names of the columns that hold the response.

    :raises RequestValidationError: if they cannot be read from ``output_type``, or two have the same name.
    """
    kind = request.output_type
    if not has_columns(request):
        return (TEXT_COLUMN,)
    if not is_model(kind):
        return tuple(reader_of(kind).field_names() or ())
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
