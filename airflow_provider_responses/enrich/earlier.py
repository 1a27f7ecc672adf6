"""What earlier attempts wrote to the parts: responses that can be used, and what was paid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.amounts import Amount
from airflow_provider_responses.enrich.answers import recalled
from airflow_provider_responses.enrich.changed import unused
from airflow_provider_responses.enrich.index import FAILED, INVALID

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.task.request import TaskRequest


class Earlier:
    """
    See the module.

    :param fields: the columns that hold what the model responded.
    :param run: how responses are read now.
    """

    def __init__(self, fields: tuple[str, ...], run: TaskRequest) -> None:
        self._fields, self._run = fields, run
        self.spent = Amount()
        self.most_expensive = 0.0  # US dollars, for one row
        self.known: set[str] = set()  # ids of responses to rows that are sent again

    def read(self, parts: Iterable[list[dict[str, Any]]], index: Index) -> None:
        """Read the rows of parts, and enter into the index the responses that can be used, and those that cannot."""
        for rows in parts:
            found = [self._of(row) for row in rows]
            index.know(it for it in found if it is not None)
            index.note_earlier(unused(zip(rows, found, strict=True)))

    def _of(self, row: Mapping[str, Any]) -> tuple[bytes, str, str] | None:
        cost = row.get("_cost")
        # An earlier release wrote no `_paid`.
        known, unknown = row.get("_paid") or (cost or 0.0, int(cost is None))
        self.spent.known += known
        self.spent.priced += bool(known or (cost is not None and row.get("_response_id")))
        self.spent.unpriced += unknown
        self.most_expensive = max(self.most_expensive, known)
        found = None if row["_status"] == INVALID else recalled(row, self._fields, self._run)
        if found is None or row["_status"] == FAILED:
            self.known.update(row.get("_generations") or ())
        return None if found is None else (bytes.fromhex(row["_fingerprint"]), *found)
