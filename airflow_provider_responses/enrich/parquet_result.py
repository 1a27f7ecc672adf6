"""The result as Parquet, which has one type for each column."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from airflow_provider_responses.enrich.sources import chunked, pyarrow
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError

_META_TYPES: Final = {
    "_row": "int64",
    "_status": "string",
    "_error": "string",
    "_response_id": "string",
    "_model": "string",
    "_cost": "float64",
    "_tokens": "int64",
    "_sends": "int64",
    "_escalated": "bool_",
    "_score": "float64",
    "_score_reason": "string",
}
_LARGEST_EXACT: Final = 2**53  # of the whole numbers in a float64
_KINDS: Final = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}

Row = Mapping[str, Any]


class ColumnTypes:
    """
    The types of a result's columns, collected from its rows.

    :raises ConfigurationError: if pyarrow is not installed.
    """

    def __init__(self) -> None:
        pyarrow()
        import pyarrow as arrow

        self._arrow = arrow
        self._schema = arrow.schema([])
        self._numbers: dict[str, int | float] = {}  # by column, one that is no whole number, or a large one

    def add(self, rows: Sequence[tuple[int, Row]]) -> None:
        """
        Add the types of more rows, each with its position.

        :raises RequestValidationError: naming the first row and column whose type differs from the rows before it.
        """
        if (schema := self._schema_with([row for _, row in rows])) is None:
            raise self._clash(rows)
        self._schema = schema
        for _, row in rows:
            self._numbers |= {name: value for name, value in row.items() if _needs_check(value)}

    def check(self) -> None:
        """
        Check that Parquet has these types.

        :raises RequestValidationError: naming the first column whose type Parquet lacks, such as an object without
            fields.
        """
        for name in self._schema.names:
            try:
                pyarrow().ParquetWriter(io.BytesIO(), self._arrow.schema([self._schema.field(name)])).close()
            except self._arrow.ArrowException as error:
                raise RequestValidationError(
                    f"column {name!r}: output_format 'parquet' cannot hold it ({error}); leave it out (`columns`), or "
                    "take 'jsonl'",
                    fields=(name,),
                ) from None

    def schema(self, also: Iterable[str]) -> Any:
        """
        Return the schema. The types of the result's own columns never depend on the rows.

        :param also: names of columns that the schema has even without rows, among them the result's own.
        """
        also = tuple(also)
        found = {field.name: field.type for field in self._schema}
        for name in also:
            found.setdefault(name, self._arrow.null())
        own = {name: getattr(self._arrow, kind)() for name, kind in _META_TYPES.items() if name in also}
        return self._arrow.schema([(name, own.get(name, kind)) for name, kind in found.items()])

    def _schema_with(self, rows: Sequence[Row]) -> Any:
        """Return a schema that also fits these rows, None if there is none."""
        arrow = self._arrow
        # No type holds both a large whole number and a fraction, which cannot be seen from their types.
        rows = [*rows, self._numbers]
        # Without names pyarrow uses those of the first row, and a row of JSONL may lack some.
        names = dict.fromkeys(name for row in rows for name in row)
        try:
            more = arrow.Table.from_pydict({name: [row.get(name) for row in rows] for name in names}).schema
            return arrow.unify_schemas([self._schema, more], promote_options="permissive")
        except (arrow.ArrowException, OverflowError):
            return None

    def _clash(self, rows: Sequence[tuple[int, Row]]) -> RequestValidationError:
        values = [row for _, row in rows]
        fits, fails = 0, len(rows)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            fits, fails = (fits, middle) if self._schema_with(values[:middle]) is None else (middle, fails)
        position, last = rows[fails - 1]
        name = next(
            name for name in last if self._schema_with([{name: row.get(name)} for row in values[:fails]]) is None
        )
        if ColumnTypes()._schema_with([{name: last[name]}]) is None:
            problem = f"holds {_KINDS[type(last[name])]} that is too large, or whose items have different types"
        else:
            problem = f"has {_KINDS[type(last[name])]} where rows before it have another type"
        return RequestValidationError(
            f"column {name!r}: row {position} {problem}, and output_format 'parquet' needs one type per column; use "
            "the same type in all rows, leave the column out (`columns`), or use 'jsonl'",
            fields=(name,),
        )


def _needs_check(value: Any) -> bool:
    """Return whether a number may have no type in common with others of its column."""
    return type(value) is float or (type(value) is int and abs(value) > _LARGEST_EXACT)


def write(source: Path, target: Path, also: Iterable[str]) -> Path:
    """
    Write JSON lines as Parquet, with columns that fit all rows; return its path.

    :param also: names of columns that the file has even without rows.
    :raises ResponsesError: if a column cannot be written.
    """
    columns = ColumnTypes()
    for rows in _read(source):
        columns.add([(row["_row"], row) for row in rows])
    columns.check()
    schema = columns.schema(also)
    parquet = pyarrow()
    import pyarrow as arrow

    try:
        with parquet.ParquetWriter(target, schema) as writer:
            for rows in _read(source):
                writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
    except (arrow.ArrowException, OverflowError) as error:
        raise ConfigurationError(
            f"output_format 'parquet' cannot hold the result ({error}); use 'jsonl'. All responses are saved, and the "
            "next attempt sends none of these requests again"
        ) from None
    return target


def _read(source: Path) -> Iterator[list[dict[str, Any]]]:
    with source.open(encoding="utf-8") as file:
        yield from chunked((len(line), json.loads(line)) for line in file)
