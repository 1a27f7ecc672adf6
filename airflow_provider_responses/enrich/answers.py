"""Answers as JSON: the columns that they add to their rows, in the parts and in the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.values import dump, joined, number
from airflow_provider_responses.exceptions import OutputValidationError, RequestValidationError
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.progress import Answer

TEXT: Final = "output"  # the column of an answer without an `output_type`
REFUSED, UNREADABLE = "refused", "unreadable"
UNFINISHED: Final = frozenset({REFUSED, "incomplete", UNREADABLE})
META: Final = ("_status", "_error", "_output_text", "_response_id", "_model", "_cost", "_tokens", "_tries")
OWN: Final = frozenset({*META, "_row", "_key", "_fingerprint", "_generations", "_paid", "_prompt", "_unread"})


def type_of(run: TaskRequest) -> type[BaseModel] | None:
    """Give the type whose fields become columns; None if what was answered is one column as a whole."""
    from pydantic import RootModel

    kind: type[BaseModel] | None = run.output_type
    return None if kind is None or run.result == "response" or issubclass(kind, RootModel) else kind


def fields_of(run: TaskRequest) -> tuple[str, ...]:
    """
    Give the columns that hold what was answered.

    :raises RequestValidationError: if the type does not tell them, or has one twice.
    """
    if (kind := type_of(run)) is None:
        return (TEXT,)
    if kind.__pydantic_decorators__.model_serializers:
        raise RequestValidationError(
            f"output_type {kind.__name__}: it has a @model_serializer, so that its fields are not what comes out; take "
            "field serializers, or computed fields",
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


def text_of(answer: Answer, fields: tuple[str, ...], *, typed: bool) -> str:
    """
    Give an answer's columns as a JSON object.

    :param typed: whether its value has a field for each of them.
    """
    response, value = answer.response, answer.value
    output: dict[str, Any] = dict.fromkeys(fields)
    if not typed:
        output[TEXT] = value
    elif isinstance(value, Mapping):
        output |= {name: value.get(name) for name in fields}
    text = dump(
        output
        | {
            "_status": answer.status,
            "_error": answer.error,
            "_output_text": storable(response.output_text) if response and answer.status in UNFINISHED else None,
            "_response_id": response.id if response else None,
            "_model": response.model if response else None,
        }
    )
    # Small costs have exponents, which would make all the rest slow to write.
    tail = f'"_cost":{number(answer.cost)},"_tokens":{number(answer.tokens)},"_tries":{answer.tries}'
    return f"{text[:-1]},{tail}}}"


def recalled(row: Mapping[str, Any], fields: tuple[str, ...], run: TaskRequest) -> tuple[str, str] | None:
    """Return status and columns of a response of an earlier attempt, from a row of a part; None if it is sent again."""
    taken: Mapping[str, Any] | None = row
    if row["_status"] in UNFINISHED:
        taken = _read_again(row, run)
    if taken is None or not taken.keys() >= set(fields):
        return None
    is_text = type_of(run) is None and run.output_type is None and taken[TEXT] is not None
    if is_text and isinstance(taken[TEXT], Mapping) != (run.result == "response"):
        return None
    return taken["_status"], dump({name: taken.get(name) for name in (*fields, *META)})


def _read_again(row: Mapping[str, Any], run: TaskRequest) -> Mapping[str, Any] | None:
    """
    Read the row of an unfinished response by what the task takes now; None if what it takes is not in the part.

    The type's validators may have been corrected, and ``on_invalid_output`` may have been another.
    """
    text = row.get("_output_text", row.get("_unread"))
    value = None if text is None else _parsed(text, run)
    if value is not None and row["_status"] == UNREADABLE:
        return {**row, **value, "_status": "ok", "_error": None, "_output_text": None}
    if run.on_invalid_output != "return":
        return row
    if text is None:  # of a server that gave none, or written by an earlier release
        return row if row.get("_error") is None or isinstance(row.get(TEXT), Mapping) else None
    if run.result == "response":
        return row if isinstance(row.get(TEXT), Mapping) else None
    if value is not None:
        return {**row, **value}
    if type_of(run) is not None:
        return row
    words = str(row.get("_error")).partition(": ")[2] if row["_status"] == REFUSED else ""
    return {**row, TEXT: text or words}


def _parsed(text: str, run: TaskRequest) -> Mapping[str, Any] | None:
    """Return the columns that a text has as the output type, None if it is invalid."""
    if run.output_type is None or run.result == "response":
        return None
    from airflow_provider_responses.models.output import dump_output, parse_output

    try:
        value = storable(dump_output(parse_output(run.output_type, text)))
    except OutputValidationError:
        return None
    return value if type_of(run) is not None else {TEXT: value}


def loggable(status: str, error: str) -> str:
    """Return what is wrong with a row without the model's words, which only its ``_error`` holds."""
    return "RefusalError: the model's words are in its `_error`" if status == REFUSED else error


def shared(answer: str) -> str:
    """Give an answer as it is for a further row with the same request: it was paid once."""
    row = json.loads(answer)
    row["_cost"] = 0.0 if row["_cost"] is not None else None
    return dump(row)


def line_of(index: Index, answer: Answer, text: str, prompt: str | None = None) -> str:
    """Give the line of a part: the first row with a request, and its answer. What others share is in the result."""
    pending = answer.pending
    position, key, columns = index.row_at(pending.first)
    own: dict[str, Any] = {"_row": position, "_key": key, "_fingerprint": pending.fingerprint.hex()}
    own["_generations"] = answer.generations
    if answer.unknown or answer.cost is None:  # else `_cost` has it all
        own["_paid"] = [answer.known, max(answer.unknown, int(answer.cost is None))]
    if prompt is not None:
        own["_prompt"] = prompt
    return joined(dump(own), joined(columns, text))
