"""Databases behind a ``DbApiHook``, and what is known about each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases.base import Database, Known
from airflow_provider_responses.operators.databases.embedded import DuckDb, Sqlite
from airflow_provider_responses.operators.databases.mysql import MySql
from airflow_provider_responses.operators.databases.postgres import Postgres

KNOWN: Final[Mapping[str, type[Known]]] = {
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


def database_of(hook: Any, connection: Any = None) -> Database:
    """
    Return what is known about a hook's database.

    :param connection: of the hook, if one is open: a hook of an unknown type may have a driver that is known.
    """
    if found := KNOWN.get(str(hook.conn_type)):
        return found(hook)
    if connection is None:
        with closing(hook.get_conn()) as opened:
            return database_of(hook, opened)
    module = type(connection).__module__.partition(".")[0]
    return KNOWN[_BY_MODULE[module]](hook) if module in _BY_MODULE else Database(hook)


def hook_of(conn_id: str, what: str) -> Any:
    """
    Return the hook of a database.

    :param what: the argument that names the connection.
    :raises ConfigurationError: if it is none; retryable if there is no such connection.
    """
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

    from airflow_provider_responses.hooks.responses import or_set_variable

    try:
        connection: Any = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"{what}: connection {conn_id!r} was not found. Create it: airflow connections add {shlex.quote(conn_id)} "
            "--conn-type … (one of a database, such as postgres, and its --conn-host, --conn-login and so on)"
            f"{or_set_variable(conn_id)}",
            retryable=True,  # secrets backends report their outages like this
        ) from error
    try:
        hook = connection.get_hook()
    except AirflowException as error:
        raise ConfigurationError(
            f"{what}: connection {conn_id!r}: {error}; install the provider of its type"
        ) from error
    if not hasattr(hook, "insert_rows"):
        raise ConfigurationError(
            f"{what}: connection {conn_id!r} is of type {connection.conn_type!r}, which runs no SQL; take one with "
            "a DbApiHook"
        )
    return hook
