"""A load that is rolled back, before anything is sent, to find rows and responses that do not fit the table."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from airflow_provider_responses.enrich.column_types import META_COLUMN_TYPES, OutputColumn, describe_columns
from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.exceptions import ConfigurationError, OutputError
from airflow_provider_responses.operators.databases.database import KnownDatabase, RefusalReason
from airflow_provider_responses.operators.databases.loader import TableLoader
from airflow_provider_responses.task.request import TaskRequest

log = logging.getLogger(__name__)

NumberedRow = tuple[int, Row]  # a row, with its position in the source
# Inserts rows into some columns, rolls back, and returns the driver's error.
TryInsert = Callable[[Sequence[Row], Sequence[str]], Exception | None]


class TrialLoad:
    """
    Load the source's columns and sample responses, one statement at a time, and roll each back.

    A constraint that a sample violates is no error: the real response may satisfy it.

    :param loader: of the table; its database has to be a ``KnownDatabase``.
    :param responses: the columns of the responses, with samples.
    :param later: those that ``escalate`` and ``judge`` add.
    """

    def __init__(
        self, loader: TableLoader, responses: Sequence[OutputColumn], later: Sequence[OutputColumn] = ()
    ) -> None:
        self._loader = loader
        self._database: KnownDatabase = loader.database
        self._table = loader.table.table
        loaded = set(loader.names)
        self._of_output_type = {column.name for column in responses}
        self._responses = [column for column in (*responses, *later) if column.name in loaded and column.samples]
        unknown = {column.name for column in responses if not column.samples}
        self._names = [name for name in loader.names if name not in unknown]
        # Columns that hold samples: a constraint on them cannot be checked yet.
        self._sampled = {column.name for column in self._responses} | {*META_COLUMN_TYPES}
        self._sample: Row = {name: sample for name, (_, sample) in META_COLUMN_TYPES.items()}
        self._sample |= {column.name: column.samples[0] for column in self._responses}
        self._unchecked_logged = False

    def run(self, rows: Iterator[NumberedRow]) -> None:
        """
        Try all rows.

        :raises ConfigurationError: naming the row and the column that do not fit.
        :raises OutputError: if the database fails.
        """
        first: NumberedRow | None = None
        with self._database.trial_transaction() as (cursor, roll_back):

            def try_insert(rows: Sequence[Row], names: Sequence[str]) -> Exception | None:
                try:
                    self._loader.insert(cursor, [self._loader.row_values(row, names) for row in rows], names)
                except Exception as error:  # noqa: BLE001  a driver's; the callers classify it
                    return error
                finally:
                    self._roll_back(roll_back)
                return None

            while batch := list(islice(rows, self._loader.rows_per_statement)):
                filled = [(number, {**row, **self._sample, "_row": number}) for number, row in batch]
                first = first or filled[0]
                self._try_batch(filled, try_insert)
            if first is not None:
                self._try_other_samples(first[1], try_insert)

    def _try_batch(self, batch: list[NumberedRow], try_insert: TryInsert) -> None:
        error = try_insert([row for _, row in batch], self._names)
        if error is None:
            return
        if self._reason(error) == "constraint" and self._is_about_samples(batch, try_insert):
            return
        for number, row in batch:
            row_error = try_insert([row], self._names)
            if row_error is None:
                continue
            if self._reason(row_error) != "constraint":
                raise self._misfit(number, row, row_error, try_insert)
            if not self._is_about_samples([(number, row)], try_insert):
                raise self._does_not_fit(f"row {number}", row_error)
        raise self._does_not_fit(f"rows {batch[0][0]} to {batch[-1][0]} together", error)

    def _is_about_samples(self, batch: list[NumberedRow], try_insert: TryInsert) -> bool:
        """Return whether the source's columns alone satisfy all constraints, apart from those on responses."""
        names = [name for name in self._names if name not in self._sampled]
        error = try_insert([row for _, row in batch], names) if names else None
        if error is not None and not (self._reason(error) == "null" and _named_column(error, self._sampled)):
            return False
        if not self._unchecked_logged:
            log.info("load_to: constraints of %s on responses cannot be checked before the load", self._table)
        self._unchecked_logged = True
        return True

    def _misfit(self, number: int, row: Row, error: Exception, try_insert: TryInsert) -> ConfigurationError:
        """Return the error of a row, naming the column that does not fit."""
        if self._reason(error) == "null":
            name = _named_column(error, [name for name in self._names if row.get(name) is None])
            return self._does_not_fit(f"row {number}", error, name)
        for name in self._names:
            column_error = try_insert([row], [name])
            if column_error is not None and self._reason(column_error) == "value":
                return self._does_not_fit(f"row {number}", column_error, name, row.get(name))
        named = _named_column(error, self._names)  # where a missing value of another column is refused first
        return self._does_not_fit(f"row {number}", error, named, row.get(named or ""))

    def _try_other_samples(self, row: Row, try_insert: TryInsert) -> None:
        """Try the further values that a field of a response may have."""
        for column in self._responses:
            for sample in column.samples[1:]:
                error = try_insert([{**row, column.name: sample}], self._names)
                if error is None or self._reason(error) == "constraint":
                    continue
                if self._reason(error) == "null" and not (sample is None and _named_column(error, [column.name])):
                    continue
                raise self._does_not_fit("a response", error, column.name, sample)

    def _reason(self, error: Exception) -> RefusalReason:
        """
        Return why the database refused rows.

        :raises OutputError: if the error is not about the rows.
        """
        reason = self._database.refusal_reason(error)
        if reason == "other":
            raise self._failed(error) from error
        return reason

    def _roll_back(self, roll_back: Callable[[], None]) -> None:
        try:
            roll_back()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(
            f"load_to: the trial load into table {self._table!r} of connection {self._loader.table.conn_id!r} failed "
            f"({type(error).__name__}: {self._database.safe_message(error)}). Nothing was sent"
        )

    def _does_not_fit(
        self, where: str, error: Exception, name: str | None = None, value: Any = None
    ) -> ConfigurationError:
        if name is None:
            subject = f"{where} {'do' if where.startswith('rows') else 'does'}"
        elif name in self._sampled and name not in META_COLUMN_TYPES:
            of = " of output_type" if name in self._of_output_type else ""
            subject = f"a response: {name!r}{of} may be {_describe(value)}, which does"
        else:
            subject = f"{where}: column {name!r} holds {_describe(value)}, which does"
        type_name = f" ({self._loader.type_name(name)})" if name and self._loader.type_name(name) else ""
        hint = " An empty value of a CSV is null with CsvFile(..., null_values=[''])." if value == "" else ""
        return ConfigurationError(
            f"load_to: {subject} not fit table {self._table!r}{type_name}: "
            f"{self._database.safe_message(error)}. Correct the source, the table or output_type, or choose the "
            f"columns to load with SqlTable(columns=[...]).{hint} Nothing was sent"
        )


def _named_column(error: Exception, names: Iterable[str]) -> str | None:
    """Return the first of some columns that a driver's message names."""
    message = str(getattr(getattr(error, "diag", None), "column_name", None) or error)
    return next((name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message, re.IGNORECASE)), None)


def _describe(value: Any) -> str:
    """Return a value's kind, without the text that it holds."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"a text of {len(value)} characters" if value else "an empty text"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return "a list" if isinstance(value, list) else "an object"


def trial_of(
    loader: TableLoader, request: TaskRequest, later: Sequence[OutputColumn] = (), *, nullable: bool
) -> Callable[[Iterator[NumberedRow]], None] | None:
    """
    Return a function that loads rows with sample responses and rolls back, None without a trial.

    :param request: whose responses are loaded.
    :param later: the columns that ``escalate`` and ``judge`` add.
    :param nullable: whether the columns of a response may be null.
    """

    def try_rows(rows: Iterator[NumberedRow]) -> None:
        if loader.names and loader.is_known:
            responses = describe_columns(request, nullable=nullable)
            TrialLoad(loader, responses, later).run(rows)

    return try_rows if loader.table.trial else None
