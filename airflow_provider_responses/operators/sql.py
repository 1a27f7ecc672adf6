"""Databases as arguments of ``ResponsesEnrichOperator``: ``SqlQuery`` for ``source``, ``SqlTable`` for ``load_to``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.arguments import is_lazy
from airflow_provider_responses.validation import check_choice, check_list_of_names

if TYPE_CHECKING:
    pass

__all__ = ["SqlQuery", "SqlTable"]

MODES: Final = ("upsert", "insert")


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

    def check(self, key: str | None) -> None:
        """
        Refuse a query whose rows cannot be identified.

        :param key: the operator's.
        :raises RequestValidationError: if there is none.
        """
        if key is None:
            raise RequestValidationError(
                "key is missing: a query may return its rows in another order the next time, so name a column that "
                "identifies them",
                fields=("key",),
            )


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

    def check(self, key: str | None) -> None:
        """
        Refuse wrong options, without I/O.

        :param key: the operator's.
        :raises RequestValidationError: naming the option.
        """
        check_choice("load_to.mode", self.mode, MODES)
        check_list_of_names("load_to.columns", self.columns, optional=True, lazy=is_lazy)
        if self.mode == "upsert" and key is None:
            raise RequestValidationError(
                "key is missing: load_to needs it to find the rows to replace. Name a column, or use mode='insert'",
                fields=("key",),
            )

    def create_table_sql(
        self,
        source: Any,
        *,
        output_type: Any = None,
        key: str | None = None,
        database: str | None = None,
        escalate: Any = None,
        judge: Any = None,
    ) -> str:
        """
        Return a CREATE TABLE statement that fits a source and the responses to its rows.

        :param source: the operator's: a path, a ``CsvFile``, a ``SqlQuery``, or a list of dicts. The types are those
            of its first 1,000 rows.
        :param output_type: the operator's.
        :param key: the column that becomes the primary key.
        :param database: ``postgres``, ``mysql``, ``sqlite`` or ``duckdb``; by default the connection's.
        :param escalate: the operator's, which adds the column ``_escalated``.
        :param judge: the operator's, which adds ``_score`` and ``_score_reason``.
        :raises ConfigurationError: if the database or the source is unknown.
        """
        from airflow_provider_responses.operators.databases.create_table import create_table_sql

        return create_table_sql(
            self, source, output_type=output_type, key=key, database=database, escalate=escalate, judge=judge
        )
