"""``sql_tool``: a tool with which a model reads tables of a database, and nothing else."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError
from airflow_provider_responses.tools.function_tool import Tool
from airflow_provider_responses.validation import check_list_of_names, check_number, check_type

__all__ = ["sql_tool"]

log = logging.getLogger(__name__)

ROW_LIMIT: Final = 100
MAX_ROW_LIMIT: Final = 10_000
# sqlglot's names of dialects, by connection type. The allow-lists of `tools.select_only_grammar` are made for them.
DIALECTS: Final[Mapping[str, str]] = {
    "duckdb": "duckdb",
    "mysql": "mysql",
    "postgres": "postgres",
    "sqlite": "sqlite",
}
# A second barrier: the session itself refuses to write. A backslash in a text of PostgreSQL must have no meaning.
READ_ONLY: Final[Mapping[str, Sequence[str]]] = {
    "duckdb": ("BEGIN TRANSACTION READ ONLY",),
    "mysql": ("SET SESSION TRANSACTION READ ONLY",),
    "postgres": ("SET TRANSACTION READ ONLY", "SET LOCAL standard_conforming_strings = on"),
    "sqlite": ("PRAGMA query_only = ON",),
}


class SqlFailedError(RuntimeError):
    """The database refused a statement; the message is for the model, without secrets that Airflow knows."""


def sql_tool(
    conn_id: str,
    *,
    tables: Sequence[str],
    row_limit: int = ROW_LIMIT,
    name: str = "query_database",
    description: str = "",
    dialect: str | None = None,
) -> Tool:
    """
    Return a tool with which a model runs a SELECT statement. It needs the extra ``sql``.

    Any other table, and all that is not on the lists of plain SQL and of common functions, is refused before it reaches
    the database; the model gets the reason. An interrupted call is repeated.

    :param conn_id: a connection to PostgreSQL, MySQL, MariaDB, SQLite or DuckDB; let its user read these tables and
        nothing else.
    :param tables: those that the model may read, such as ``orders`` or ``sales.orders``.
    :param row_limit: largest number of rows of a result; 1 to 10,000.
    :param name: of the tool.
    :param description: of the tables and their columns, for the model.
    :param dialect: ``postgres``, ``mysql`` (also for MariaDB), ``sqlite`` or ``duckdb``; by default the connection's.
    :raises RequestValidationError: naming the argument.
    """
    check_type("sql_tool: conn_id", conn_id, str)
    check_list_of_names("sql_tool: tables", tables)
    if not tables or not all(it.strip() for it in tables):
        raise RequestValidationError("sql_tool: tables must name at least one table", fields=("tables",))
    check_number("sql_tool: row_limit", row_limit, whole=True, at_least=1, at_most=MAX_ROW_LIMIT)
    if dialect is not None and dialect not in READ_ONLY:
        raise RequestValidationError(
            f"sql_tool: dialect must be one of {', '.join(READ_ONLY)}, got {dialect!r}", fields=("dialect",)
        )
    if importlib.util.find_spec("sqlglot") is None:
        raise ConfigurationError("sql_tool needs sqlglot: pip install 'airflow-provider-responses[sql]'")

    def query(sql: str) -> dict[str, Any]:
        return _run(sql, conn_id=conn_id, tables=tables, row_limit=row_limit, dialect=dialect)

    about = f"Run one SQL SELECT statement. Tables: {', '.join(tables)}. At most {row_limit} rows are returned."
    return Tool(query, name=name, description=f"{about} {description}".strip(), on_interrupted="repeat")


def _run(sql: str, *, conn_id: str, tables: Sequence[str], row_limit: int, dialect: str | None) -> dict[str, Any]:
    from airflow_provider_responses.operators.databases.lookup import get_db_hook
    from airflow_provider_responses.tools.select_only import read_only_sql, table_name

    hook = get_db_hook(conn_id, "sql_tool")
    dialect = dialect or _dialect_of(hook, conn_id)
    try:
        for table in tables:
            table_name(table, dialect)
    except ValueError as error:
        raise ConfigurationError(f"sql_tool: tables: {error}") from error
    statement = read_only_sql(sql, dialect=dialect, tables=tables, row_limit=row_limit + 1)
    with ExitStack() as opened:
        cursor = _open(hook, conn_id, dialect, opened)
        try:
            cursor.execute(statement)
            columns = [column[0] for column in cursor.description]
            rows = [list(row) for row in cursor.fetchmany(row_limit + 1)]
        except Exception as error:
            raise SqlFailedError(_redacted(error)) from error
    return {"columns": columns, "rows": rows[:row_limit], "truncated": len(rows) > row_limit}


def _open(hook: Any, conn_id: str, dialect: str, opened: ExitStack) -> Any:
    """Return a cursor in a session that only reads. Its end rolls back and closes, which never loses a result."""
    try:
        connection = hook.get_conn()
        opened.callback(_end, connection)
        cursor = connection.cursor()
        for statement in READ_ONLY[dialect]:
            cursor.execute(statement)
    except Exception as error:
        # A driver's message may hold the host, the user or the URI, and the message of this error may reach the model.
        raise ConfigurationError(
            f"sql_tool: connection {conn_id!r} cannot be opened for reading: {type(error).__name__}. Check its fields, "
            "and that the worker reaches the database",
            retryable=not isinstance(error, ImportError),
        ) from error
    return cursor


def _end(connection: Any) -> None:
    """Close a connection; what is not committed is rolled back. Its errors are logged: the rows have been read."""
    for end in (connection.rollback, connection.close):
        try:
            end()
        except Exception as error:  # noqa: BLE001  drivers raise their own classes
            log.warning("sql_tool: %s of the connection failed: %s", end.__name__, type(error).__name__)


def _redacted(error: Exception) -> str:
    from airflow.providers.common.compat.sdk import redact

    return f"{type(error).__name__}: {redact(str(error))}"


def _dialect_of(hook: Any, conn_id: str) -> str:
    kind = str(hook.conn_type)
    if (found := DIALECTS.get(kind)) is None:
        raise ConfigurationError(
            f"sql_tool: connection {conn_id!r} is of type {kind!r}, which is not supported; the types are "
            f"{', '.join(DIALECTS)}. If it is a connection to one of these databases, set `dialect`"
        )
    return found
