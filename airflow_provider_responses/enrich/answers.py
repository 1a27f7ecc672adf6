"""Answers as JSON: the columns that they add to their rows, in the parts and in the result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.values import dump, joined
from airflow_provider_responses.runs import Run

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.enrich.index import Index, Pending
    from airflow_provider_responses.enrich.runner import Answer

TEXT: Final = "output"  # the column of an answer without an `output_type`
META: Final = ("_status", "_error", "_response_id", "_model", "_cost", "_tokens", "_tries")
OWN: Final = frozenset({*META, "_row", "_key", "_fingerprint"})


def type_of(run: Run) -> type[BaseModel] | None:
    """Give the type whose fields become columns; None if what was answered is one column as a whole."""
    from pydantic import RootModel

    kind: type[BaseModel] | None = run.output_type
    return None if kind is None or run.result == "response" or issubclass(kind, RootModel) else kind


def fields_of(run: Run) -> tuple[str, ...]:
    """Give the columns that hold what was answered."""
    if (kind := type_of(run)) is None:
        return (TEXT,)
    names = kind.model_fields.items()
    return tuple(info.serialization_alias or info.alias or name for name, info in names)


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
    return dump(
        output
        | {
            "_status": answer.status,
            "_error": answer.error,
            "_response_id": response.id if response else None,
            "_model": response.model if response else None,
            "_cost": answer.cost,
            "_tokens": answer.tokens,
            "_tries": answer.tries,
        }
    )


def recalled(row: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    """Give the same of an answer of an earlier try, from a row of a part."""
    return dump({name: row.get(name) for name in (*fields, *META)})


def shared(answer: str) -> str:
    """Give an answer as it is for a further row with the same request: it was paid once."""
    row = json.loads(answer)
    row["_cost"] = 0.0 if row["_cost"] is not None else None
    return dump(row)


def lines_of(index: Index, pending: Pending, answer: str) -> Iterator[str]:
    """Give the lines of a part, of all rows with a request; the first has its price."""
    rows = index.rows_of(pending.fingerprint) if pending.rows > 1 else [index.row_at(pending.first)]
    for number, (position, key, columns) in enumerate(rows):
        own = dump({"_row": position, "_key": key, "_fingerprint": pending.fingerprint.hex()})
        yield joined(own, joined(columns, shared(answer) if number else answer))
