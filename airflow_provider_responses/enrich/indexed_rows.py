"""Reads the rows of the source as they are indexed, each with its key, its columns and its request."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_responses.enrich.columns import RESERVED_COLUMNS, has_columns
from airflow_provider_responses.enrich.index import IndexedRow
from airflow_provider_responses.enrich.job import Job, RowFields
from airflow_provider_responses.enrich.json_values import dump, to_json
from airflow_provider_responses.enrich.row_outcome import MAX_ERROR_LENGTH
from airflow_provider_responses.enrich.row_requests import IndexedRequest
from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError, SourceError


class IndexedRows:
    """
    See the module.

    :param job: whose source it is.
    :param columns: that hold the responses.
    :param index_request: returns the request of a row as it is indexed, from its fields.
    :raises RequestValidationError: if a chosen column of the source has the name of another column of the result.
    """

    def __init__(
        self, job: Job, columns: Sequence[str], index_request: Callable[[Mapping[str, Any]], IndexedRequest]
    ) -> None:
        self._job, self._response_columns, self._index_request = job, columns, index_request
        reserved_names = RESERVED_COLUMNS.union(job.meta_columns)
        self._taken = reserved_names | set(columns)
        self._row_fields = job.row_fields
        self.total = 0  # rows of the source, once it is read
        if reserved := next((name for name in columns if name in reserved_names), None):
            raise RequestValidationError(
                f"output_type: its field {reserved!r} is also a column of the result; give it another name or alias",
                fields=("output_type",),
            )
        self._chosen = None if job.columns is None else _with_key(job.columns, job.key)
        self._check_columns(self._chosen or ())

    def read(self) -> Iterator[list[IndexedRow]]:
        """
        Yield the rows of this task's shard, in chunks. A row whose request cannot be sent has the reason as its error.

        :raises ResponsesError: if the source cannot be read or a row cannot be stored, naming the row.
        """
        position = 0
        unseen = dict.fromkeys(self._chosen or ())
        for chunk in self._job.read_chunks():
            if unseen:
                unseen = {name: None for name in unseen if not any(name in row for row in chunk)}
            self._row_fields = self._job.row_fields if self._job.files is None else self._with_files(chunk, position)
            yield [
                indexed
                for number, row in enumerate(chunk, position)
                if (indexed := self._index_row(number, row)) is not None
            ]
            position += len(chunk)
            self.total = position
        if position == 0 and not self._job.allow_empty:
            raise SourceError("the source has no rows, and allow_empty is False", retryable=False)
        if position and unseen:
            raise RequestValidationError(f"columns: no row has a column {next(iter(unseen))!r}", fields=("columns",))

    def _with_files(self, chunk: Sequence[Row], position: int) -> RowFields:
        """Return a function for the fields of the chunk's rows, whose files have been read all at once."""
        files = self._job.files
        assert files is not None  # noqa: S101  for the type checker
        built: dict[int, Mapping[str, Any] | ResponsesError | RecursionError] = {}
        for number, row in enumerate(chunk, position):
            if self._job.shard[1] > 1 and not self._is_own(self._key(number, row), number):
                continue
            try:
                built[id(row)] = self._job.row_fields(row)
            except (ResponsesError, RecursionError) as error:
                built[id(row)] = error
        files.read_ahead(fields for fields in built.values() if isinstance(fields, Mapping))

        def fields_of(row: Row) -> Mapping[str, Any]:
            fields = built[id(row)]
            if isinstance(fields, Mapping):
                return fields
            raise fields

        return fields_of

    def _is_own(self, key: str, position: int) -> bool:
        """Return whether a row is in this task's share."""
        share, shares = self._job.shard
        return (zlib.crc32(key.encode()) if self._job.key else position) % shares == share

    def _index_row(self, position: int, row: Row) -> IndexedRow | None:
        try:
            return self._index_flat_row(position, row)
        except RecursionError:
            raise RequestValidationError(
                f"row {position} is nested too deeply for JSON; flatten it in the source, or leave the column out"
            ) from None

    def _index_flat_row(self, position: int, row: Row) -> IndexedRow | None:
        key = self._key(position, row)
        if self._job.shard[1] > 1 and not self._is_own(key, position):
            return None
        columns = self._columns(position, row)
        try:
            fingerprint, size, fields = self._index_request(self._row_fields(row))
        except ResponsesError as error:
            if error.retryable:
                raise error.about(f"row {position}") from error
            return IndexedRow(position, key, None, columns, str(error)[:MAX_ERROR_LENGTH], None)
        if size > (most := self._job.limits.max_request_bytes):
            reason = f"the request has {size} bytes, and limits.max_request_bytes is {most}"
            return IndexedRow(position, key, None, columns, reason, None)
        return IndexedRow(position, key, fingerprint, columns, None, fields)

    def _columns(self, position: int, row: Row) -> str:
        try:
            if self._chosen is None and not self._taken.isdisjoint(row):
                self._check_columns(row)
            # A row of JSONL may lack some of them.
            names = row if self._chosen is None else self._chosen
            if names is row and all(type(value) is str for value in row.values()):
                return dump(row)  # as for all rows of CSV
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
                f"key: row {position} has no value in {name!r}; give every row one, or omit `key`",
                fields=("key",),
            )
        key = value if isinstance(value, str) else dump(value)
        try:
            key.encode()
        except UnicodeEncodeError:
            raise RequestValidationError(
                f"key: row {position} holds half of a surrogate pair in {name!r}, which is not valid text; decode the "
                "source with its real encoding",
                fields=("key",),
            ) from None
        return key

    def _check_columns(self, names: Iterable[str]) -> None:
        if clash := next((name for name in names if name in self._taken), None):
            is_field = has_columns(self._job.request) and clash in self._response_columns
            other = "a field of output_type" if is_field else "a column of the result"
            raise RequestValidationError(
                f"column {clash!r} of the source is also {other}; rename one, or choose the source's `columns`",
                fields=(clash,),
            )


def _with_key(columns: Sequence[str], key: str | None) -> Sequence[str]:
    return columns if key is None or key in columns else (key, *columns)
