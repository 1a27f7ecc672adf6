"""The outcome of a row as JSON, for the parts and for the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.columns import TEXT_COLUMN
from airflow_provider_responses.enrich.json_values import dump, joined, number
from airflow_provider_responses.enrich.statuses import REJECTED
from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.row_outcome import RowOutcome


def outcome_json(outcome: RowOutcome, columns: tuple[str, ...], *, has_fields: bool) -> str:
    """
    Return the columns of an outcome as a JSON object.

    :param has_fields: whether its value is an object with these columns; otherwise it goes into one column as a whole.
    """
    response, value = outcome.response, outcome.value
    output: dict[str, Any] = dict.fromkeys(columns)
    if not has_fields:
        output[TEXT_COLUMN] = value
    elif isinstance(value, Mapping):
        output |= {name: value.get(name) for name in columns}
    text = dump(
        output
        | {
            "_status": outcome.status,
            "_error": outcome.error,
            "_output_text": storable(response.output_text) if response and outcome.status in REJECTED else None,
            "_response_id": response.id if response else None,
            "_model": response.model if response else None,
        }
    )
    # Small costs have exponents, which would make `dump` slow for all of the object.
    tail = f'"_cost":{number(outcome.cost)},"_tokens":{number(outcome.tokens)},"_sends":{outcome.sends}'
    return f"{text[:-1]},{tail}}}"


def without_cost(outcome: str) -> str:
    """Return the columns of an outcome for another row with the same request, which cost nothing more."""
    columns = json.loads(outcome)
    columns["_cost"] = 0.0 if columns["_cost"] is not None else None
    return dump(columns)


def part_line(index: Index, outcome: RowOutcome, columns: str, prompt: str | None = None) -> str:
    """
    Return the line of an outcome in a part: the first row with the request, and the outcome.

    :param columns: of the outcome, as :func:`outcome_json` returns them.
    :param prompt: the prompt's fingerprint.
    """
    return line_of_row(index.row_at(outcome.request.first_row), outcome, columns, prompt)


def line_of_row(row: tuple[int, str, str], outcome: RowOutcome, columns: str, prompt: str | None = None) -> str:
    """
    Return the line of an outcome in a part.

    :param row: position, key and columns of the first row with the request.
    """
    request = outcome.request
    position, key, source_columns = row
    own: dict[str, Any] = {"_row": position, "_key": key, "_fingerprint": request.fingerprint.hex()}
    own["_generations"] = outcome.generations
    if outcome.unknown_costs or outcome.cost is None:  # otherwise `_cost` is all that was paid
        own["_paid"] = [outcome.known_cost, max(outcome.unknown_costs, int(outcome.cost is None))]
    if prompt is not None:
        own["_prompt"] = prompt
    return joined(dump(own), joined(source_columns, columns))
