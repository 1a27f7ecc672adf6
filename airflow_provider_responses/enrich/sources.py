"""Where rows come from: lists, CSV, JSONL and Parquet. All are read in chunks."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, ClassVar, Final, cast

from airflow_provider_responses.exceptions import ConfigurationError

CHUNK: Final = 1000  # rows
CHUNK_SIZE: Final = 4 * 1024 * 1024  # characters: rows may be whole documents
LONGEST_FIELD: Final = 16 * 1024 * 1024  # characters of a CSV value; the csv module allows 128 Ki
_SUFFIXES: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}

Row = dict[str, Any]


@dataclass
class Sql:
    """
    Rows of a query, read as the run goes over them.

    :param conn_id: a connection whose hook is a ``DbApiHook``, such as PostgreSQL's or SQLite's.
    :param sql: the query; templates are rendered. Give it an ``ORDER BY``: the order is the result's.
    :param parameters: of the query.
    """

    conn_id: str
    sql: str
    parameters: Sequence[Any] | Mapping[str, Any] | None = None

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "sql", "parameters")


def format_of(path: Any) -> tuple[str, bool]:
    """
    Tell a file's format by its name, and whether it is gzipped.

    :raises ConfigurationError: naming the file and what is allowed.
    """
    name = str(path).lower()
    zipped = name.endswith(".gz")
    plain = name.removesuffix(".gz")
    for suffix, kind in _SUFFIXES.items():
        if plain.endswith(suffix) and not (zipped and kind == "parquet"):
            return kind, zipped
    raise ConfigurationError(
        f"source: the format of {str(path)!r} is unknown; allowed are {', '.join(_SUFFIXES)}, the texts also as .gz"
    )


def read_rows(rows: Any) -> Iterator[list[Row]]:
    """Give the rows of a list."""
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Iterable):
        raise ConfigurationError(f"rows is a {type(rows).__name__}; allowed is a list with a dict per row")
    return chunked(_dicts(rows))


def _dicts(rows: Iterable[Any]) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ConfigurationError(f"rows: row {number} is a {type(row).__name__}; allowed is a dict per row")
        yield 0, dict(row)  # it is in memory already


def chunked(rows: Iterable[tuple[int, Row]]) -> Iterator[list[Row]]:
    """Put rows, each with its size in characters, into lists that are neither long nor large."""
    chunk: list[Row] = []
    size = 0
    for length, row in rows:
        chunk.append(row)
        size += length
        if len(chunk) == CHUNK or size >= CHUNK_SIZE:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def read_file(path: Any) -> Iterator[list[Row]]:
    """
    Give the rows of a file.

    :param path: a ``Path``, or what opens like one.
    :raises ConfigurationError: naming the file and, for text, the row; rows are counted from 0 and lines from 1.
    """
    kind, zipped = format_of(path)
    try:
        with path.open("rb") as file:
            if kind == "parquet":
                yield from _parquet(file, path)
                return
            # A spreadsheet's byte order mark is no part of the first column's name.
            text = io.TextIOWrapper(cast("Any", _unzipped(file, zipped)), encoding="utf-8-sig", newline="")
            yield from chunked((_csv if kind == "csv" else _jsonl)(text, path))
    except FileNotFoundError:
        raise ConfigurationError(f"source: there is no file {str(path)!r}") from None
    except IsADirectoryError:
        raise ConfigurationError(f"source: {str(path)!r} is a folder; give one file") from None
    except PermissionError as error:
        raise ConfigurationError(f"source: {str(path)!r} cannot be read ({error})", retryable=True) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"source: {str(path)!r}{_line_of(path, zipped)} is not UTF-8 (byte 0x{error.object[error.start]:02x}: "
            f"{error.reason}); convert it, for example with `iconv -t utf-8`"
        ) from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ConfigurationError(f"source: {str(path)!r} cannot be unzipped, or is cut short ({error})") from None


def _unzipped(file: IO[bytes], zipped: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if zipped else file


def _line_of(path: Any, zipped: bool) -> str:
    """Tell the line that is not UTF-8; text is decoded ahead of the lines."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(_unzipped(file, zipped).readline, b""), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f", line {number},"
    return ""


def _csv(file: io.TextIOWrapper, path: Any) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    reader = csv.reader(file, strict=True)
    try:
        names = next(filter(None, reader), None)
        if names is None:
            return
        if len(names) == 1 and ";" in names[0]:
            raise ConfigurationError(f"source: {str(path)!r} is separated by semicolons; write it with commas")
        check_names(names, path)
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                raise ConfigurationError(
                    f"source: {str(path)!r}, line {reader.line_num}: {len(values)} values for {len(names)} columns"
                )
            yield sum(map(len, values)), dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise ConfigurationError(f"source: {str(path)!r}, line {reader.line_num}: no CSV ({error})") from None


def _jsonl(file: io.TextIOWrapper, path: Any) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"source: {str(path)!r}, line {number}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise ConfigurationError(
                f"source: {str(path)!r}, line {number}: a {type(row).__name__}; allowed is an object per line"
            )
        yield len(line), row


def pyarrow() -> Any:
    """
    Import pyarrow's parquet.

    :raises ConfigurationError: if it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow: install airflow-provider-responses[parquet] on the workers"
        ) from None
    return pyarrow.parquet


def _parquet(file: Any, path: Any) -> Iterator[list[Row]]:
    parquet = pyarrow()
    import pyarrow as arrow

    try:
        source = parquet.ParquetFile(file)
        check_names(source.schema_arrow.names, path)
        for batch in source.iter_batches(batch_size=_rows_at_once(source.metadata)):
            yield _plain(batch, path)
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the storage's; pyarrow's own have none
            raise
        raise ConfigurationError(f"source: {str(path)!r} is no Parquet, or is cut short ({error})") from None


def _rows_at_once(metadata: Any) -> int:
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return max(1, min(CHUNK, CHUNK_SIZE * int(metadata.num_rows) // max(size, 1)))


def _plain(batch: Any, path: Any) -> list[Row]:
    try:
        return cast("list[Row]", batch.to_pylist())
    except (ValueError, OverflowError):  # single nanoseconds, years after 9999
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column.to_pylist()
            except (ValueError, OverflowError) as error:
                raise ConfigurationError(
                    f"source: {str(path)!r}, column {name!r} holds what Python has no type for ({error})"
                ) from None
        raise


def check_names(names: list[str], source: Any) -> None:
    """
    Refuse columns that have the same name.

    :raises ConfigurationError: naming the source and the column.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"source: {str(source)!r} has two columns {twice[0]!r}; rename one")
