"""The result as Parquet, which wants one type for each column."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from airflow_provider_responses.enrich.sources import chunked, pyarrow
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError

_OWN_COLUMNS: Final = {
    "_row": "int64",
    "_status": "string",
    "_error": "string",
    "_response_id": "string",
    "_model": "string",
    "_cost": "float64",
    "_tokens": "int64",
    "_tries": "int64",
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


class Columns:
    """
    The types of a result's columns, as its rows become known.

    :raises ConfigurationError: if pyarrow is not installed.
    """

    def __init__(self) -> None:
        pyarrow()
        import pyarrow as arrow

        self._arrow = arrow
        self._schema = arrow.schema([])
        self._numbers: dict[str, int | float] = {}  # of each column one that is no whole number, or a large one

    def add(self, rows: Sequence[tuple[int, Row]]) -> None:
        """
        Learn the types of more rows, each with its position.

        :raises RequestValidationError: naming the first row and column whose type fits no row before it.
        """
        if (schema := self._with([row for _, row in rows])) is None:
            raise self._clash(rows)
        self._schema = schema
        for _, row in rows:
            self._numbers |= {name: value for name, value in row.items() if _tells(value)}

    def check(self) -> None:
        """
        Look whether Parquet has these types.

        :raises RequestValidationError: naming the first column of a type that it has not, such as an object without
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
        Give the schema; the result's own columns have the same types on every day.

        :param also: columns that are there on a day without rows, too.
        """
        found = {field.name: field.type for field in self._schema}
        for name in also:
            found.setdefault(name, self._arrow.null())
        own = {name: getattr(self._arrow, kind)() for name, kind in _OWN_COLUMNS.items()}
        return self._arrow.schema([(name, own.get(name, kind)) for name, kind in found.items()])

    def _with(self, rows: Sequence[Row]) -> Any:
        """Give a schema that fits these rows as well, None if none does."""
        arrow = self._arrow
        # A large number and a fraction have no type together, which types alone do not tell.
        rows = [*rows, self._numbers]
        # Without names it takes the first row's, and a JSONL row need not have them all.
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
            fits, fails = (fits, middle) if self._with(values[:middle]) is None else (middle, fails)
        position, last = rows[fails - 1]
        name = next(name for name in last if self._with([{name: row.get(name)} for row in values[:fails]]) is None)
        if Columns()._with([{name: last[name]}]) is None:
            what = f"holds {_KINDS[type(last[name])]} that is too large, or whose items have different types"
        else:
            what = f"has {_KINDS[type(last[name])]} where rows before it have another type"
        return RequestValidationError(
            f"column {name!r}: row {position} {what}, and output_format 'parquet' wants one type per column; make them "
            "the same, leave the column out (`columns`), or take 'jsonl'",
            fields=(name,),
        )


def _tells(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) > _LARGEST_EXACT)


def write(source: Path, target: Path, also: Iterable[str]) -> Path:
    """
    Write JSON lines as Parquet, with columns that fit all rows; give its path.

    :param also: columns that are there on a day without rows, too.
    :raises ResponsesError: if a column cannot be written. What is answered stays.
    """
    columns = Columns()
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
            f"output_format 'parquet' cannot hold the result ({error}); take 'jsonl'. What is answered stays: the next "
            "try sends nothing again"
        ) from None
    return target


def _read(source: Path) -> Iterator[list[dict[str, Any]]]:
    with source.open(encoding="utf-8") as file:
        yield from chunked((len(line), json.loads(line)) for line in file)
