"""Reads rows from lists, CSV, JSONL and Parquet, in chunks."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any, ClassVar, Final, cast

from airflow_provider_responses.enrich import parquet_rows
from airflow_provider_responses.exceptions import ConfigurationError, SourceError
from airflow_provider_responses.validation import wrong_value

CHUNK: Final = 1000  # rows
CHUNK_SIZE: Final = 4 * 1024 * 1024  # characters: rows may be whole documents
MAX_FIELD_LENGTH: Final = 16 * 1024 * 1024  # characters of a CSV value; the csv module allows 128 Ki
_SEPARATED_BY: Final = re.compile(r'"?sep=(.)"?[\r\n]*\Z', re.IGNORECASE)  # Excel's first line
_SUFFIXES: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}

Row = dict[str, Any]


@dataclass
class CsvFile:
    """
    A CSV file that needs options. Its name may have any ending; a file that ends in ``.gz`` is unzipped.

    :param path: of the file.
    :param delimiter: between values, by default a comma. A first line such as ``sep=;`` takes precedence.
    :param null_values: texts that are read as null, such as ``["", "NA"]``.
    :param skip_empty: whether to leave out rows whose values are all empty, null or white space.
    """

    path: Any
    delimiter: str | None = None
    null_values: Sequence[str] = ()
    skip_empty: bool = False

    template_fields: ClassVar[Sequence[str]] = ("path",)

    def check(self) -> None:
        """
        Refuse wrong options.

        :raises ConfigurationError: naming the option, what was expected and what was given.
        """
        delimiter: Any = self.delimiter
        if delimiter is not None and not (
            isinstance(delimiter, str) and len(delimiter) == 1 and delimiter not in '\r\n"'
        ):
            raise _wrong("delimiter", "one character, such as ';'", delimiter)
        nulls: Any = self.null_values
        if isinstance(nulls, str) or not all(isinstance(text, str) for text in nulls):
            raise _wrong("null_values", "a list of texts, such as ['', 'NA']", nulls)
        if not isinstance(self.skip_empty, bool):
            raise _wrong("skip_empty", "True or False", self.skip_empty)


def _wrong(option: str, expected: str, given: Any) -> ValueError:
    return wrong_value(f"source: CsvFile's {option}", expected, given, error=ConfigurationError)


def format_of(path: Any) -> tuple[str, bool]:
    """
    Return the format of a file by its name, and whether it is gzipped.

    :raises ConfigurationError: naming the file and the known formats.
    """
    name = str(path).lower()
    zipped = name.endswith(".gz")
    plain = name.removesuffix(".gz")
    for suffix, kind in _SUFFIXES.items():
        if plain.endswith(suffix) and not (zipped and kind == "parquet"):
            return kind, zipped
    raise ConfigurationError(
        f"source: the format of {str(path)!r} is unknown; expected a name that ends in {', '.join(_SUFFIXES)}, or with "
        ".gz after it for CSV and JSONL"
    )


def read_rows(rows: Any) -> Iterator[list[Row]]:
    """Yield the rows of a list, in chunks."""
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Iterable):
        raise wrong_value("source", "a list of dicts", rows, type_only=True, error=ConfigurationError)
    return chunked(_dicts(rows))


def _dicts(rows: Iterable[Any]) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise wrong_value(f"source: row {number}", "a dict", row, type_only=True, error=ConfigurationError)
        yield 0, dict(row)  # it is in memory already


def chunked(rows: Iterable[tuple[int, Row]]) -> Iterator[list[Row]]:
    """Yield rows, each given with its size in characters, in lists that are neither long nor large."""
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


def read_file(
    path: Any, *, needed: Collection[str] | None = None, csv_options: CsvFile | None = None
) -> Iterator[list[Row]]:
    """
    Yield the rows of a file, in chunks.

    :param path: a ``Path``, or an object that opens like one.
    :param needed: names of the columns that are read, by default all. Only Parquet can leave out the others.
    :param csv_options: how a CSV file is read, whatever its name.
    :raises SourceError: naming the file and, for text, the row; rows are counted from 0 and lines from 1.
    """
    kind, zipped = ("csv", str(path).lower().endswith(".gz")) if csv_options else format_of(path)
    try:
        with path.open("rb") as file:
            if kind == "parquet":
                yield from _parquet(file, path, needed)
                return
            # A byte order mark, which spreadsheets write, is no part of the first column's name.
            text = io.TextIOWrapper(cast("Any", _unzipped(file, zipped)), encoding="utf-8-sig", newline="")
            rows = _jsonl(text, path) if kind == "jsonl" else _csv(text, path, csv_options or CsvFile(path))
            yield from chunked(rows)
    except FileNotFoundError:
        raise SourceError(f"source: there is no file {str(path)!r}", retryable=False) from None
    except IsADirectoryError:
        raise SourceError(f"source: {str(path)!r} is a folder; name one file", retryable=False) from None
    except PermissionError as error:
        raise SourceError(f"source: {str(path)!r} cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise SourceError(
            f"source: {str(path)!r}{_line_of(path, zipped)} is not UTF-8 (byte 0x{error.object[error.start]:02x}: "
            f"{error.reason}); convert it, for example with `iconv -t utf-8`",
            retryable=False,
        ) from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise SourceError(
            f"source: {str(path)!r} cannot be unzipped, or is cut short ({error})", retryable=False
        ) from None


def _unzipped(file: IO[bytes], zipped: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if zipped else file


def _line_of(path: Any, zipped: bool) -> str:
    """Return which line is not UTF-8, for a message. Text is decoded in blocks, ahead of the lines."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(_unzipped(file, zipped).readline, b""), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f", line {number},"
    return ""


def _csv(file: io.TextIOWrapper, path: Any, options: CsvFile) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_LENGTH))
    first = file.readline()
    named = _SEPARATED_BY.match(first)
    before = 1 if named else 0  # lines before those of the reader
    reader = csv.reader(
        file if named else chain([first], file), delimiter=named[1] if named else options.delimiter or ",", strict=True
    )
    nulls = frozenset(options.null_values)
    try:
        names = next(filter(None, reader), None)
        if names is None:
            return
        _check_delimiter(names, path)
        check_names(names, path)
        for values in reader:
            if not values or (options.skip_empty and all(not value.strip() or value in nulls for value in values)):
                continue
            if len(values) != len(names):
                raise SourceError(
                    f"source: {str(path)!r}, line {reader.line_num + before} has {len(values)} values for "
                    f"{len(names)} columns",
                    retryable=False,
                )
            row: Row = dict(zip(names, values, strict=True))
            if nulls:
                row = {name: None if value in nulls else value for name, value in row.items()}
            yield sum(map(len, values)), row
    except csv.Error as error:
        raise SourceError(
            f"source: {str(path)!r}, line {reader.line_num + before} is not valid CSV ({error})", retryable=False
        ) from None


def _check_delimiter(names: list[str], path: Any) -> None:
    for delimiter, called in {";": "semicolons", "\t": "tabs"}.items():
        if len(names) == 1 and delimiter in names[0]:
            raise ConfigurationError(
                f"source: {str(path)!r} is separated by {called}; use CsvFile(path, delimiter={delimiter!r}), or "
                "write it with commas"
            )


def _jsonl(file: io.TextIOWrapper, path: Any) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"source: {str(path)!r}, line {number} is not valid JSON ({error})", retryable=False
            ) from None
        if not isinstance(row, dict):
            raise SourceError(
                f"source: {str(path)!r}, line {number} must be an object, got a {type(row).__name__}",
                retryable=False,
            )
        yield len(line), row


def pyarrow() -> Any:
    """
    Import ``pyarrow.parquet``.

    :raises ConfigurationError: if it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow: install airflow-provider-responses[parquet] on the workers"
        ) from None
    return pyarrow.parquet


def _parquet(file: Any, path: Any, needed: Collection[str] | None) -> Iterator[list[Row]]:
    parquet = pyarrow()
    import pyarrow as arrow

    try:
        source = parquet.ParquetFile(file)
        check_names(source.schema_arrow.names, path)
        yield from parquet_rows.read(source, path, _rows_at_once(source.metadata), needed)
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the storage, not of pyarrow
            raise
        raise SourceError(
            f"source: {str(path)!r} is not valid Parquet, or is cut short ({error})", retryable=False
        ) from None


def _rows_at_once(metadata: Any) -> int:
    size: int = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return max(1, min(CHUNK, CHUNK_SIZE * int(metadata.num_rows) // max(size, 1)))


def check_names(names: list[str], source: Any) -> None:
    """
    Refuse columns with the same name.

    :raises SourceError: naming the source and the column.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"source: {str(source)!r} has two columns {twice[0]!r}; rename one", retryable=False)
