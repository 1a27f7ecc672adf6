"""The ``source`` argument of an enrichment: a file, a query, or rows. Its checks, and its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from airflow_provider_responses.enrich.result_formats import FORMATS
from airflow_provider_responses.enrich.sources import CsvFile, Row, format_of, read_file, read_rows
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.databases.query import read_query
from airflow_provider_responses.operators.paths import is_path, open_path
from airflow_provider_responses.operators.sql import SqlQuery
from airflow_provider_responses.task.arguments import is_lazy, is_upstream
from airflow_provider_responses.validation import wrong_value

EXPECTED: Final = "a path, a CsvFile(path), a SqlQuery(conn_id, sql) or a list of dicts"


def check_source(source: Any, *, rendered: bool = False) -> None:
    """
    Refuse a source that cannot be read, without I/O.

    :param rendered: whether templates and upstream outputs are filled in.
    :raises RequestValidationError: for another type.
    :raises ConfigurationError: for a file of an unknown format, and wrong options of a ``CsvFile``.
    """
    if source is None and rendered:
        raise RequestValidationError(
            f"source is None: the upstream task or the template returned nothing. Let it return {EXPECTED}",
            fields=("source",),
        )
    if isinstance(source, (SqlQuery, CsvFile)):
        if isinstance(source, CsvFile):
            source.check()
    elif is_path(source):
        if rendered and isinstance(source, str) and source.lstrip().startswith(("[", "{")):
            raise RequestValidationError(
                "source is the text of a list: a template renders to text unless the DAG has "
                "render_template_as_native_obj=True. Set it, or pass the upstream task's output itself",
                fields=("source",),
            )
        if rendered or not is_lazy(str(source)):
            format_of(source)
    elif isinstance(source, (Mapping, bytes)) or not (isinstance(source, Iterable) or is_upstream(source)):
        raise wrong_value("source", EXPECTED, source, type_only=True)
    elif isinstance(source, (list, tuple)):
        wrong = (pair for pair in enumerate(source) if not (isinstance(pair[1], Mapping) or is_upstream(pair[1])))
        if (found := next(wrong, None)) is not None:
            raise wrong_value(f"source: row {found[0]}", "a dict", found[1], type_only=True, fields=("source",))


def read_source(source: Any, needed: Collection[str] | None = None) -> Iterator[list[Row]]:
    """
    Yield the rows of a source in chunks.

    :param needed: the columns that are used; others need not be read. All by default.
    """
    if isinstance(source, SqlQuery):
        return read_query(source, needed)
    if (path := source_path(source)) is not None:
        return read_file(path, needed=needed, csv_options=source if isinstance(source, CsvFile) else None)
    return read_rows(source)


def source_path(source: Any) -> Any:
    """Return the opened path of a source that is a file, else None."""
    if isinstance(source, CsvFile):
        return open_path(source.path)
    return open_path(source) if is_path(source) else None


def check_output_path(source: Any, folder: Any) -> None:
    """
    Refuse an output path whose result would replace the source.

    :param folder: the opened output path.
    """
    from airflow_provider_responses.enrich.output_store import output_name

    path = source_path(source)
    if path is None:
        return
    resolved = path.resolve()
    names = {f"result.{kind}" for kind in FORMATS}
    # Without the connections: two of them may open the same store.
    folders = [output_name(path, with_connection=False) for path in (resolved.parent, folder.resolve())]
    if resolved.name in names and folders[0] == folders[1]:
        raise RequestValidationError(
            f"output_path: the result would replace the source {str(resolved)!r}. Set another folder",
            fields=("output_path",),
        )


def read_shard(value: Any) -> tuple[int, int]:
    """
    Return the number of a shard and the number of shards.

    :raises RequestValidationError: if these are no such numbers.
    """
    try:
        number, of = (int(part) for part in value)
    except (TypeError, ValueError):
        number = of = -1
    if not 0 <= number < of:
        raise wrong_value("shard", "two whole numbers such as (0, 4), the first from 0 and smaller", value)
    return number, of
