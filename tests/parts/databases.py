"""The databases of the tests, each in its own form."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parts import mariadb, postgresql

CONN = "warehouse"


@dataclass(frozen=True)
class Warehouse:
    """
    An empty database, for the connection ``warehouse``.

    :param kind: the name that ``create_table_sql`` has for it.
    :param connection: Airflow's connection to it, as JSON.
    :param run: a function that runs a statement and returns its rows.
    """

    kind: str
    connection: str
    run: Callable[[str], list[Any]]


@contextlib.contextmanager
def on_postgres(server: postgresql.Postgres) -> Iterator[Warehouse]:
    with contextlib.closing(server.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS warehouse")
    server.create("warehouse")
    given = {"conn_type": "postgres", "host": "127.0.0.1", "port": server.port}
    given |= {"login": postgresql.USER, "schema": "warehouse"}
    with contextlib.closing(server.connect("warehouse")) as connection:
        yield Warehouse("postgres", json.dumps(given), statement_runner(connection))


@contextlib.contextmanager
def on_mariadb(server: mariadb.MariaDb, **extra: Any) -> Iterator[Warehouse]:
    with contextlib.closing(server.connect()) as connection:
        run = statement_runner(connection)
        run(f"DROP DATABASE {mariadb.DATABASE}")
        run(f"CREATE DATABASE {mariadb.DATABASE} CHARACTER SET utf8mb4")
        run(f"USE {mariadb.DATABASE}")
        yield Warehouse("mysql", json.dumps(server.connection(**extra)), run)


@contextlib.contextmanager
def on_duckdb(folder: Path) -> Iterator[Warehouse]:
    import duckdb

    path = str(folder / "warehouse.duckdb")

    def run(statement: str) -> list[Any]:
        with duckdb.connect(path) as connection:  # the file is one process's, and one connection's settings
            return connection.execute(statement).fetchall()

    yield Warehouse("duckdb", json.dumps({"conn_type": "duckdb", "host": path}), run)


def statement_runner(connection: Any) -> Callable[[str], list[Any]]:
    """Return a function that runs a statement in a transaction of its own, and returns its rows."""

    def run(statement: str) -> list[Any]:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    return run
