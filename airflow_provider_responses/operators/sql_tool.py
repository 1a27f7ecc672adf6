"""``sql_tool``: a tool with which a model reads tables of a database, and nothing else."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError
from airflow_provider_responses.tools.function_tool import Tool
from airflow_provider_responses.validation import check_list_of_names, check_number, check_type

__all__ = ["sql_tool"]

ROW_LIMIT: Final = 100
MAX_ROW_LIMIT: Final = 10_000
# sqlglot's names of dialects, by connection type.
DIALECTS: Final[Mapping[str, str]] = {
    "postgres": "postgres",
    "redshift": "redshift",
    "mysql": "mysql",
    "sqlite": "sqlite",
    "duckdb": "duckdb",
    "mssql": "tsql",
    "odbc": "tsql",
    "snowflake": "snowflake",
    "gcpbigquery": "bigquery",
    "trino": "trino",
    "presto": "presto",
    "oracle": "oracle",
    "databricks": "databricks",
    "clickhouse": "clickhouse",
}
# A second barrier, where the session itself can refuse to write.
READ_ONLY: Final[Mapping[str, str]] = {
    "postgres": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


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

    Any other statement, any other table, and any function that the parser does not know are refused before they reach
    the database; the model gets the reason. An interrupted call is repeated.

    :param conn_id: a connection whose hook is a ``DbApiHook``; let its user read these tables and nothing else.
    :param tables: those that the model may read, such as ``orders`` or ``sales.orders``.
    :param row_limit: largest number of rows of a result; 1 to 10,000.
    :param name: of the tool.
    :param description: of the tables and their columns, for the model.
    :param dialect: sqlglot's name of the SQL dialect; by default the connection's.
    :raises RequestValidationError: naming the argument.
    """
    check_type("sql_tool: conn_id", conn_id, str)
    check_list_of_names("sql_tool: tables", tables)
    if not tables or not all(it.strip() for it in tables):
        raise RequestValidationError("sql_tool: tables must name at least one table", fields=("tables",))
    check_number("sql_tool: row_limit", row_limit, whole=True, at_least=1, at_most=MAX_ROW_LIMIT)
    if importlib.util.find_spec("sqlglot") is None:
        raise ConfigurationError("sql_tool needs sqlglot: pip install 'airflow-provider-responses[sql]'")

    def query(sql: str) -> dict[str, Any]:
        return _run(sql, conn_id=conn_id, tables=tables, row_limit=row_limit, dialect=dialect)

    about = f"Run one SQL SELECT statement. Tables: {', '.join(tables)}. At most {row_limit} rows are returned."
    return Tool(query, name=name, description=f"{about} {description}".strip(), on_interrupted="repeat")


def _run(sql: str, *, conn_id: str, tables: Sequence[str], row_limit: int, dialect: str | None) -> dict[str, Any]:
    from airflow_provider_responses.operators.databases.lookup import get_db_hook
    from airflow_provider_responses.tools.select_only import read_only_sql

    hook = get_db_hook(conn_id, "sql_tool")
    dialect = dialect or _dialect_of(hook, conn_id)
    statement = read_only_sql(sql, dialect=dialect, tables=tables, row_limit=row_limit + 1)
    with closing(hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
        if dialect in READ_ONLY:
            cursor.execute(READ_ONLY[dialect])
        cursor.execute(statement)
        columns = [column[0] for column in cursor.description]
        rows = [list(row) for row in cursor.fetchmany(row_limit + 1)]
        connection.rollback()
    return {"columns": columns, "rows": rows[:row_limit], "truncated": len(rows) > row_limit}


def _dialect_of(hook: Any, conn_id: str) -> str:
    kind = str(hook.conn_type)
    if (found := DIALECTS.get(kind)) is None:
        raise ConfigurationError(
            f"sql_tool: the dialect of connection {conn_id!r} of type {kind!r} is unknown: set `dialect` to sqlglot's "
            "name of it"
        )
    return found
