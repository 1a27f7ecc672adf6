"""The source's rows as they are indexed: the key of each, its columns, and the request about it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_responses.enrich.answers import OWN, type_of
from airflow_provider_responses.enrich.index import IndexedRow
from airflow_provider_responses.enrich.job import Job
from airflow_provider_responses.enrich.progress import LONGEST_ERROR
from airflow_provider_responses.enrich.requests import Entry
from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.enrich.values import dump, to_json
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError, SourceError


class Rows:
    """
    See the module.

    :param job: whose source it is.
    :param fields: the columns of the answers.
    :param entry: gives a row's request as it is indexed, from its fields; raises if it cannot be sent.
    :raises RequestValidationError: if a chosen column is also one of the result's own.
    """

    def __init__(self, job: Job, fields: Sequence[str], entry: Callable[[Mapping[str, Any]], Entry]) -> None:
        self._job, self._fields, self._entry = job, fields, entry
        self._taken = OWN | set(fields)
        self.total = 0  # rows of the source, once it is read
        if own := next((name for name in fields if name in OWN), None):
            raise RequestValidationError(
                f"output_type: its field {own!r} is also a column of the result; give it another name or alias",
                fields=("output_type",),
            )
        self._chosen = None if job.columns is None else _with_key(job.columns, job.key)
        self._check_columns(self._chosen or ())

    def read(self) -> Iterator[list[IndexedRow]]:
        """
        Give the rows that are this run's, in chunks.

        :raises ResponsesError: naming the row where there is one; what only keeps a row from being sent is its error.
        """
        position = 0
        unseen = dict.fromkeys(self._chosen or ())
        for chunk in self._job.chunks():
            if unseen:
                unseen = {name: None for name in unseen if not any(name in row for row in chunk)}
            yield [
                indexed
                for number, row in enumerate(chunk, position)
                if (indexed := self._indexed(number, row)) is not None
            ]
            position += len(chunk)
            self.total = position
        if position == 0 and not self._job.allow_empty:
            raise SourceError("the source has no rows, and allow_empty is False", retryable=False)
        if position and unseen:
            raise RequestValidationError(f"columns: no row has a column {next(iter(unseen))!r}", fields=("columns",))

    def _indexed(self, position: int, row: Row) -> IndexedRow | None:
        try:
            return self._asked_about(position, row)
        except RecursionError:
            raise RequestValidationError(
                f"row {position}: it is nested too deeply for JSON; flatten it in the source, or leave the column out"
            ) from None

    def _asked_about(self, position: int, row: Row) -> IndexedRow | None:
        key = self._key(position, row)
        share, shares = self._job.shard
        if shares > 1 and (zlib.crc32(key.encode()) if self._job.key else position) % shares != share:
            return None
        columns = self._columns(position, row)
        try:
            fingerprint, size, fields = self._entry(self._job.ask(row))
        except ResponsesError as error:
            if error.retryable:
                raise error.about(f"row {position}") from error
            return IndexedRow(position, key, None, columns, str(error)[:LONGEST_ERROR], None)
        if size > (most := self._job.limits.max_request_bytes):
            said = f"the request has {size} bytes, and limits.max_request_bytes is {most}"
            return IndexedRow(position, key, None, columns, said, None)
        return IndexedRow(position, key, fingerprint, columns, None, fields)

    def _columns(self, position: int, row: Row) -> str:
        try:
            if self._chosen is None and not self._taken.isdisjoint(row):
                self._check_columns(row)
            # A JSONL row need not have them all.
            names = row if self._chosen is None else self._chosen
            if names is row and all(type(value) is str for value in row.values()):
                return dump(row)  # as all rows of CSV are
            return dump({name: to_json(row.get(name), name) for name in names})
        except RequestValidationError as error:
            raise error.about(f"row {position}") from None

    def _key(self, position: int, row: Row) -> str:
        name = self._job.key
        if name is None:
            return str(position)
        value = to_json(row.get(name), name)
        if name not in row:
            raise RequestValidationError(
                f"key: row {position} has no column {name!r}; its columns are {', '.join(map(str, row))}",
                fields=("key",),
            )
        if value is None or value == "":
            raise RequestValidationError(
                f"key: row {position} has no value in {name!r}; give every row one, or leave `key` out",
                fields=("key",),
            )
        key = value if isinstance(value, str) else dump(value)
        try:
            key.encode()
        except UnicodeEncodeError:
            raise RequestValidationError(
                f"key: row {position} holds half of a surrogate pair in {name!r}, which is no text: decode the source "
                "as what it is",
                fields=("key",),
            ) from None
        return key

    def _check_columns(self, names: Iterable[str]) -> None:
        if clash := next((name for name in names if name in self._taken), None):
            typed = type_of(self._job.run) is not None
            what = "a field of output_type" if typed and clash in self._fields else "a column of the result"
            raise RequestValidationError(
                f"column {clash!r} of the source is also {what}; rename one, or choose the source's `columns`",
                fields=(clash,),
            )


def _with_key(columns: Sequence[str], key: str | None) -> Sequence[str]:
    return columns if key is None or key in columns else (key, *columns)
