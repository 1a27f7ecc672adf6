"""The parts of earlier attempts: responses that this attempt can use, and their cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.changed_requests import unused_responses
from airflow_provider_responses.enrich.columns import META_COLUMNS, TEXT_COLUMN, has_columns
from airflow_provider_responses.enrich.index import IndexedOutcome
from airflow_provider_responses.enrich.json_values import dump
from airflow_provider_responses.enrich.statuses import FAILED, INVALID, INVALID_OUTPUT, OK, REFUSED, REJECTED
from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.task.cost_total import CostTotal
from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.task.request import TaskRequest


class EarlierResponses:
    """
    See the module.

    :param columns: that hold the response.
    :param request: how this attempt reads responses.
    """

    def __init__(self, columns: tuple[str, ...], request: TaskRequest) -> None:
        self._columns, self._request = columns, request
        self.spent = CostTotal()
        self.most_expensive = 0.0  # US dollars, for one request
        self.counted_generations: set[str] = set()  # included in `spent`, though their requests are sent again

    def read(self, parts: Iterable[list[dict[str, Any]]], index: Index) -> None:
        """Read the rows of parts, and enter the responses into the index: those that can be used, and the others."""
        for rows in parts:
            found = [self._read_row(row) for row in rows]
            index.add_outcomes(it for it in found if it is not None)
            index.add_unused(unused_responses(zip(rows, found, strict=True)))

    def _read_row(self, row: Mapping[str, Any]) -> IndexedOutcome | None:
        cost = row.get("_cost")
        known, unknown = row.get("_paid") or (cost or 0.0, int(cost is None))
        self.spent.known += known
        self.spent.priced += bool(known or (cost is not None and row.get("_response_id")))
        self.spent.unpriced += unknown
        self.most_expensive = max(self.most_expensive, known)
        usable = None if row["_status"] == INVALID else usable_outcome(row, self._columns, self._request)
        if usable is None or row["_status"] == FAILED:
            self.counted_generations.update(row.get("_generations") or ())
        return None if usable is None else IndexedOutcome(bytes.fromhex(row["_fingerprint"]), *usable)


def usable_outcome(row: Mapping[str, Any], columns: tuple[str, ...], request: TaskRequest) -> tuple[str, str] | None:
    """Return status and columns of an earlier response, from a row of a part; None if its request is sent again."""
    read: Mapping[str, Any] | None = row
    if row["_status"] in REJECTED:
        read = _read_again(row, request)
    if read is None or not read.keys() >= set(columns):
        return None
    is_text = not has_columns(request) and request.output_type is None and read[TEXT_COLUMN] is not None
    if is_text and isinstance(read[TEXT_COLUMN], Mapping) != (request.result == "response"):
        return None
    return read["_status"], dump({name: read.get(name) for name in (*columns, *META_COLUMNS)})


def _read_again(row: Mapping[str, Any], request: TaskRequest) -> Mapping[str, Any] | None:
    """
    Read a rejected response by the task's present arguments; return None if the part does not hold enough for that.

    The type's validators may have been corrected since, and ``on_invalid_output`` may have been changed.
    """
    text = row.get("_output_text")
    value = None if text is None else _parse(text, request)
    if value is not None and row["_status"] == INVALID_OUTPUT:
        return {**row, **value, "_status": OK, "_error": None, "_output_text": None}
    if request.on_invalid_output != "return":
        return row
    if text is None:  # the server sent none
        return row if row.get("_error") is None or isinstance(row.get(TEXT_COLUMN), Mapping) else None
    if request.result == "response":
        return row if isinstance(row.get(TEXT_COLUMN), Mapping) else None
    if value is not None:
        return {**row, **value}
    if has_columns(request):
        return row
    refusal = str(row.get("_error")).partition(": ")[2] if row["_status"] == REFUSED else ""
    return {**row, TEXT_COLUMN: text or refusal}


def _parse(text: str, request: TaskRequest) -> Mapping[str, Any] | None:
    """Return the columns of a text that matches the output type, None if it does not."""
    if request.output_type is None or request.result == "response":
        return None
    from airflow_provider_responses.models.output import load_output

    try:
        value = storable(load_output(request.output_type, text))
    except OutputValidationError:
        return None
    return value if has_columns(request) else {TEXT_COLUMN: value}
