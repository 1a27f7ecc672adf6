"""Rows of a query, streamed through any connection whose hook is a ``DbApiHook``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from airflow_provider_responses.enrich.sources import CHUNK_SIZE, Row, check_names, chunked
from airflow_provider_responses.enrich.unread_value import UnreadValue
from airflow_provider_responses.exceptions import ConfigurationError, ResponsesError, SourceError
from airflow_provider_responses.operators.databases.database import row_values
from airflow_provider_responses.operators.databases.lookup import find_database, get_db_hook
from airflow_provider_responses.operators.sql import SqlQuery

MIN_FETCHED: Final = 10  # rows that are fetched first: they may be whole documents
MAX_FETCHED: Final = 100  # rows that are fetched at once, however small they are


def read_query(source: SqlQuery, needed: Collection[str] | None = None) -> Iterator[list[Row]]:
    """
    Yield the rows of a query, in the database's order.

    :param needed: the columns that are used; the others are ``UnreadValue``. All by default.
    :raises SourceError: with the database's message.
    :raises ConfigurationError: if the connection cannot be used, or the query returns no columns.
    """
    hook = get_db_hook(source.conn_id, "source")
    try:
        with closing(hook.get_conn()) as connection:
            database = find_database(hook, connection)
            with database.streaming_cursor(connection) as cursor:
                cursor.execute(source.sql, *([source.parameters] if source.parameters is not None else []))
                yield from chunked(_fetch(cursor, needed, database.row_converter))
    except ResponsesError:
        raise
    except Exception as error:
        raise SourceError(
            f"source: the query on connection {source.conn_id!r} failed ({type(error).__name__}: {error})"
        ) from error


def _fetch(
    cursor: Any,
    needed: Collection[str] | None,
    row_converter: Callable[[Any], Callable[[Sequence[Any]], Sequence[Any]]],
) -> Iterator[tuple[int, Row]]:
    """Yield rows, each with its size in characters."""
    names: list[str] | None = None
    count = MIN_FETCHED
    while rows := cursor.fetchmany(count):
        if names is None:  # some cursors know their columns only after the first fetch
            names, convert = _column_names(cursor), row_converter(cursor)
            unread = {} if needed is None else {name: UnreadValue(name) for name in names if name not in needed}
        total = 0
        for row in rows:
            values = convert(row_values(row))
            size = sum(len(value) for value in values if isinstance(value, (str, bytes)))
            total += size
            yield size, dict(zip(names, values, strict=True)) | unread
        # Rows of a megabyte are fetched a few at a time.
        count = max(1, min(MAX_FETCHED, 2 * count, CHUNK_SIZE * len(rows) // max(total, 1)))
    if names is None:
        _column_names(cursor)


def _column_names(cursor: Any) -> list[str]:
    if cursor.description is None:
        raise ConfigurationError("source: the query returned no columns; it must be a SELECT")
    names = [str(column[0]) for column in cursor.description]
    check_names(names, "the query")
    return names
