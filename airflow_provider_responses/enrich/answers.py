"""Answers as JSON: the columns that they add to their rows, in the parts and in the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.values import dump, joined
from airflow_provider_responses.runs import Run

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.runner import Answer

TEXT: Final = "output"  # the column of an answer without an `output_type`
UNFINISHED: Final = frozenset({"refused", "incomplete", "unreadable"})
META: Final = ("_status", "_error", "_response_id", "_model", "_cost", "_tokens", "_tries")
OWN: Final = frozenset({*META, "_row", "_key", "_fingerprint", "_generations"})


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


def recalled(row: Mapping[str, Any], fields: tuple[str, ...], run: Run) -> str | None:
    """Give the same of an answer of an earlier try, from a row of a part; None if it was read in another way."""
    if not row.keys() >= set(fields):
        return None
    is_text = type_of(run) is None and run.output_type is None and row[TEXT] is not None
    if is_text and isinstance(row[TEXT], Mapping) != (run.result == "response"):
        return None
    if run.on_incomplete == "return" and row["_status"] in UNFINISHED and row.get("_error") is not None:
        return None  # it was a failure then, and what there was is not in the part
    return dump({name: row.get(name) for name in (*fields, *META)})


def shared(answer: str) -> str:
    """Give an answer as it is for a further row with the same request: it was paid once."""
    row = json.loads(answer)
    row["_cost"] = 0.0 if row["_cost"] is not None else None
    return dump(row)


def line_of(index: Index, answer: Answer, text: str) -> str:
    """Give the line of a part: the first row with a request, and its answer. What others share is in the result."""
    pending = answer.pending
    position, key, columns = index.row_at(pending.first)
    own = {"_row": position, "_key": key, "_fingerprint": pending.fingerprint.hex(), "_generations": answer.generations}
    return joined(dump(own), joined(columns, text))
