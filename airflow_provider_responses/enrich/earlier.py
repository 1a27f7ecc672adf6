"""What earlier attempts wrote to the parts: responses that can be used, and what was paid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.answers import recalled
from airflow_provider_responses.enrich.index import FAILED, INVALID

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.runs import Run


class Earlier:
    """
    See the module.

    :param fields: the columns that hold what the model responded.
    :param run: how responses are read now.
    """

    def __init__(self, fields: tuple[str, ...], run: Run) -> None:
        self._fields, self._run = fields, run
        self.spent = 0.0  # US dollars
        self.dearest = 0.0  # US dollars, for one row
        self.known: set[str] = set()  # ids of responses to rows that are sent again

    def read(self, parts: Iterable[list[dict[str, Any]]], index: Index) -> None:
        """Read the rows of parts, and enter the responses that can be used into the index."""
        for rows in parts:
            index.know(found for row in rows if (found := self._of(row)) is not None)

    def _of(self, row: Mapping[str, Any]) -> tuple[bytes, str, str] | None:
        cost = row.get("_cost") or 0.0
        self.spent += cost
        self.dearest = max(self.dearest, cost)
        found = None if row["_status"] == INVALID else recalled(row, self._fields, self._run)
        if found is None or row["_status"] == FAILED:
            self.known.update(row.get("_generations") or ())
        return None if found is None else (bytes.fromhex(row["_fingerprint"]), *found)
