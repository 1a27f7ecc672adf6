"""Rows of a query, streamed through any connection whose hook is a ``DbApiHook``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

from airflow_provider_responses.enrich.sources import CHUNK_SIZE, Row, Sql, check_names, chunked
from airflow_provider_responses.enrich.unread import Unread
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases import database_of, hook_of
from airflow_provider_responses.operators.databases.base import values_of

FEWEST: Final = 10  # rows that are fetched first: they may be whole documents
MOST: Final = 100  # rows that are fetched at once, whatever those before them were like


def query(source: Sql, needed: Collection[str] | None = None) -> Iterator[list[Row]]:
    """
    Yield the rows of a query, as the database gives them.

    :param needed: the columns that are used; the others are ``Unread``. All by default.
    :raises ConfigurationError: retryable, with what the database said.
    """
    hook = hook_of(source.conn_id, "source")
    try:
        with closing(hook.get_conn()) as connection:
            database = database_of(hook, connection)
            with database.streaming(connection) as cursor:
                cursor.execute(source.sql, *([source.parameters] if source.parameters is not None else []))
                yield from chunked(_rows(cursor, needed, database.values))
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"source: the query on connection {source.conn_id!r} failed ({type(error).__name__}: {error})",
            retryable=True,
        ) from error


def _rows(
    cursor: Any, needed: Collection[str] | None, converting: Callable[[Any], Callable[[Sequence[Any]], Sequence[Any]]]
) -> Iterator[tuple[int, Row]]:
    names: list[str] | None = None
    at_once = FEWEST
    while rows := cursor.fetchmany(at_once):
        if names is None:  # some cursors know their columns only now
            names, convert = _names(cursor), converting(cursor)
            left_out = {} if needed is None else {name: Unread(name) for name in names if name not in needed}
        total = 0
        for row in rows:
            values = convert(values_of(row))
            size = sum(len(value) for value in values if isinstance(value, (str, bytes)))
            total += size
            yield size, dict(zip(names, values, strict=True)) | left_out
        # Rows of a megabyte are fetched a few at a time.
        at_once = max(1, min(MOST, 2 * at_once, CHUNK_SIZE * len(rows) // max(total, 1)))
    if names is None:
        _names(cursor)


def _names(cursor: Any) -> list[str]:
    if cursor.description is None:
        raise ConfigurationError("source: the query gives no rows and no columns; it has to be a SELECT")
    names = [str(column[0]) for column in cursor.description]
    check_names(names, "the query")
    return names
