"""Databases as arguments of ``ResponsesEnrichOperator``: ``SqlQuery`` for ``source``, ``SqlTable`` for ``load_to``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["SqlQuery", "SqlTable"]


@dataclass
class SqlQuery:
    """
    The rows of a query, as ``source``. They are streamed.

    :param conn_id: a connection whose hook is a ``DbApiHook``, such as PostgreSQL's or SQLite's.
    :param sql: the query; templates are rendered. Its ``ORDER BY`` is the order of the result.
    :param parameters: of the query, in the form that the connection's driver accepts.
    """

    conn_id: str
    sql: str
    parameters: Sequence[Any] | Mapping[str, Any] | None = None

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "sql", "parameters")


@dataclass
class SqlTable:
    """
    An existing table that the result is loaded into, as ``load_to``.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: its name.
    :param columns: columns of the result to load; by default those that the table has.
    :param mode: ``upsert`` changes rows with the same key, which must be unique in the table, and adds others;
        ``insert`` adds all.
    :param trial: whether the source's columns and sample responses are loaded and rolled back before anything is sent,
        where the database is PostgreSQL, MySQL, MariaDB, SQLite or DuckDB.
    """

    conn_id: str
    table: str
    columns: Sequence[str] | None = None
    mode: Literal["upsert", "insert"] = "upsert"
    trial: bool = True

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "table")

    def create_table_sql(
        self,
        source: Any,
        *,
        output_type: type[BaseModel] | None = None,
        key: str | None = None,
        database: str | None = None,
    ) -> str:
        """
        Return a CREATE TABLE statement that fits a source and the responses to its rows.

        :param source: the operator's: a path, a ``CsvFile``, a ``SqlQuery``, or a list of dicts. The types are those
            of its first 1,000 rows.
        :param output_type: the operator's.
        :param key: the column that becomes the primary key.
        :param database: ``postgres``, ``mysql``, ``sqlite`` or ``duckdb``; by default the connection's.
        :raises ConfigurationError: if the database or the source is unknown.
        """
        from airflow_provider_responses.operators.databases.create_table import create_table_sql

        return create_table_sql(self, source, output_type=output_type, key=key, database=database)
