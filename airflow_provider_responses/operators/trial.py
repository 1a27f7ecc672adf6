"""A load that is taken back, before anything is paid, to see whether rows and responses fit the table."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from airflow_provider_responses.enrich.output_columns import OWN_COLUMNS, OutputColumn
from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases.base import Known
from airflow_provider_responses.operators.tables import Loader

log = logging.getLogger(__name__)

Numbered = tuple[int, Row]  # a row, and its position in the source


class Trial:
    """
    Load the source's columns and sample responses, a statement at a time, and roll each back.

    What a constraint says about a sample is no error: the real response may satisfy it.

    :param loader: of the table.
    :param responses: the columns of the responses, with samples.
    """

    def __init__(self, loader: Loader, responses: Sequence[OutputColumn]) -> None:
        self._loader = loader
        self._database: Known = loader.database
        self._table = loader.table.table
        loaded = set(loader.names)
        self._responses = [column for column in responses if column.name in loaded and column.samples]
        unknown = {column.name for column in responses if not column.samples}
        self._names = [name for name in loader.names if name not in unknown]
        # Columns whose values are not known yet, and so no constraint can be tried with.
        self._sampled = {column.name for column in self._responses} | {*OWN_COLUMNS}
        self._sample: Row = {name: sample for name, (_, sample) in OWN_COLUMNS.items()}
        self._sample |= {column.name: column.samples[0] for column in self._responses}
        self._undecided = False

    def run(self, rows: Iterator[Numbered]) -> None:
        """
        Try all rows.

        :raises ConfigurationError: naming the row and the column that do not fit; retryable if the database failed.
        """
        first: Numbered | None = None
        with self._database.trial() as (cursor, take_back):

            def attempt(rows: Sequence[Row], names: Sequence[str]) -> Exception | None:
                try:
                    self._loader.insert(cursor, [self._loader.values(row, names) for row in rows], names)
                except Exception as error:  # noqa: BLE001  a driver's; what it means is decided below
                    return error
                finally:
                    self._roll_back(take_back)
                return None

            while batch := [(number, {**row, **self._sample, "_row": number}) for number, row in self._some(rows)]:
                first = first or batch[0]
                self._try(batch, attempt)
            if first is not None:
                self._try_samples(first, attempt)

    def _some(self, rows: Iterator[Numbered]) -> list[Numbered]:
        return list(islice(rows, self._loader.at_once))

    def _try(self, batch: list[Numbered], attempt: Attempt) -> None:
        error = attempt([row for _, row in batch], self._names)
        if error is None:
            return
        if self._refusal(error) == "constraint" and self._is_about_samples(batch, attempt):
            return
        for number, row in batch:
            alone = attempt([row], self._names)
            if alone is not None and self._refusal(alone) != "constraint":
                raise self._misfit(number, row, alone, attempt)
            if alone is not None and not self._is_about_samples([(number, row)], attempt):
                raise self._error(f"row {number}", alone)
        raise self._error(f"rows {batch[0][0]} to {batch[-1][0]} together", error)

    def _is_about_samples(self, batch: list[Numbered], attempt: Attempt) -> bool:
        """Whether a constraint is only broken with, or for want of, real responses."""
        names = [name for name in self._names if name not in self._sampled]
        error = attempt([row for _, row in batch], names) if names else None
        if error is not None and not (self._refusal(error) == "null" and _named(error, self._sampled)):
            return False
        if not self._undecided:
            log.info("load_to: the constraints of %s on responses cannot be tried before there are any", self._table)
        self._undecided = True
        return True

    def _misfit(self, number: int, row: Row, error: Exception, attempt: Attempt) -> ConfigurationError:
        """Say which column of a row does not fit."""
        refusal = self._refusal(error)
        if refusal == "null":
            name = _named(error, [name for name in self._names if row.get(name) is None])
            return self._error(f"row {number}", error, name)
        for name in self._names:
            alone = attempt([row], [name])
            if alone is not None and self._refusal(alone) == "value":
                return self._error(f"row {number}", alone, name, row.get(name))
        named = _named(error, self._names)  # where another column without a value is refused first
        return self._error(f"row {number}", error, named, row.get(named or ""))

    def _try_samples(self, first: Numbered, attempt: Attempt) -> None:
        """Try what else the fields of a response may hold."""
        _, row = first
        for column in self._responses:
            for sample in column.samples[1:]:
                error = attempt([{**row, column.name: sample}], self._names)
                if error is None or self._refusal(error) == "constraint":
                    continue
                if self._refusal(error) == "null" and not (sample is None and _named(error, [column.name])):
                    continue
                raise self._error("a response", error, column.name, sample)

    def _refusal(self, error: Exception) -> str:
        """
        Say why the database refused.

        :raises ConfigurationError: retryable, if that has nothing to do with the rows.
        """
        refusal = self._database.refusal(error)
        if refusal == "other":
            raise self._failed(error) from error
        return refusal

    def _roll_back(self, take_back: Callable[[], None]) -> None:
        try:
            take_back()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"load_to: rows cannot be tried in {self._table!r} of connection {self._loader.table.conn_id!r} "
            f"({type(error).__name__}: {self._database.said(error)}); nothing was sent",
            retryable=True,
        )

    def _error(self, where: str, error: Exception, name: str | None = None, value: Any = None) -> ConfigurationError:
        if name is None:
            what = "they do not fit" if where.startswith("rows") else "it does not fit"
        elif name in self._sampled:
            where = "a response" if name not in OWN_COLUMNS else where
            what = f"{name!r} of output_type may be {_kind(value)}, which does not fit"
        else:
            what = f"column {name!r} holds {_kind(value)}, which does not fit"
        kind = f" ({self._loader.kind(name)})" if name and self._loader.kind(name) else ""
        hint = " An empty value of a CSV is null with CsvFile(..., null_values=[''])." if value == "" else ""
        return ConfigurationError(
            f"load_to: {where}: {what} the table {self._table!r}{kind}: {self._database.said(error)}. Correct the "
            f"source, the table or output_type, or name the columns to load with SqlTable(columns=[...]).{hint} "
            "Nothing was sent"
        )


Attempt = Callable[[Sequence[Row], Sequence[str]], Exception | None]


def _named(error: Exception, names: Any) -> str | None:
    """Return the one of some columns that a message names."""
    said = str(getattr(getattr(error, "diag", None), "column_name", None) or error)
    return next((name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said, re.IGNORECASE)), None)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"a text of {len(value)} characters" if value else "an empty text"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return "a list" if isinstance(value, list) else "an object"
