"""From a connection to its hook, and from a hook to its kind of database."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases.database import Database, KnownDatabase
from airflow_provider_responses.operators.databases.embedded import DuckDb, Sqlite
from airflow_provider_responses.operators.databases.mysql import MySql
from airflow_provider_responses.operators.databases.postgres import Postgres

KNOWN: Final[Mapping[str, type[KnownDatabase]]] = {  # by connection type
    "postgres": Postgres,
    "sqlite": Sqlite,
    "duckdb": DuckDb,
    "mysql": MySql,
}
_BY_MODULE: Final = {
    "psycopg": "postgres",
    "psycopg2": "postgres",
    "sqlite3": "sqlite",
    "duckdb": "duckdb",
    "_duckdb": "duckdb",
    "MySQLdb": "mysql",
    "pymysql": "mysql",
    "mysql": "mysql",
}


def find_database(hook: Any, connection: Any = None) -> Database:
    """
    Return the database of a hook: by its connection type, else by the driver of its connection.

    :param connection: of the hook, if one is open; otherwise one is opened where it is needed.
    """
    if found := KNOWN.get(str(hook.conn_type)):
        return found(hook)
    if connection is None:
        with closing(hook.get_conn()) as opened:
            return find_database(hook, opened)
    module = type(connection).__module__.partition(".")[0]
    return KNOWN[_BY_MODULE[module]](hook) if module in _BY_MODULE else Database(hook)


def get_db_hook(conn_id: str, argument: str) -> Any:
    """
    Return the ``DbApiHook`` of a connection.

    :param argument: the argument that names the connection; errors begin with it.
    :raises ConfigurationError: if the connection is not one of a database; retryable if it does not exist.
    """
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

    from airflow_provider_responses.hooks.responses import or_set_variable

    try:
        connection: Any = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"{argument}: connection {conn_id!r} was not found. Create it: airflow connections add "
            f"{shlex.quote(conn_id)} --conn-type … (one of a database, such as postgres, and its --conn-host, "
            f"--conn-login and so on){or_set_variable(conn_id)}",
            retryable=True,  # secrets backends report their outages like this
        ) from error
    try:
        hook = connection.get_hook()
    except AirflowException as error:
        raise ConfigurationError(
            f"{argument}: connection {conn_id!r} has no hook: {error}. Install the provider of its type"
        ) from error
    if not hasattr(hook, "insert_rows"):
        raise ConfigurationError(
            f"{argument}: connection {conn_id!r} is of type {connection.conn_type!r}, which runs no SQL. Use a "
            "connection whose hook is a DbApiHook"
        )
    return hook
