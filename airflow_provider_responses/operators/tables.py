"""Rows from a database and into one, through any connection whose hook is a ``DbApiHook``."""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, ClassVar, Final, Literal

from airflow_provider_responses.enrich.answers import META
from airflow_provider_responses.enrich.sources import CHUNK, Row, Sql, check_names
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.task.texts import storable

# Whose SQL is known here: it quotes names, and can replace single columns. Others replace rows as their hooks do.
_KNOWN: Final = frozenset({"postgres", "sqlite"})
_BINARY: Final = frozenset({"bytea", "bytea[]"})
_JSONS: Final = frozenset({"json[]", "jsonb[]"})
MOST_VALUES: Final = 900  # in one statement; SQLite's least limit is 999
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w*\Z")


@dataclass
class SqlTable:
    """
    A table that the result is loaded into; it has to be there.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: its name.
    :param columns: of the result, that are loaded; by default those that the table has.
    :param mode: ``upsert`` changes rows with the same key, which has to be unique in the table, and adds others;
        ``insert`` adds all.
    """

    conn_id: str
    table: str
    columns: Sequence[str] | None = None
    mode: Literal["upsert", "insert"] = "upsert"

    template_fields: ClassVar[Sequence[str]] = ("conn_id", "table")


class Loader:
    """
    Loads rows into a table, all of them or none.

    :param table: which.
    :param key: the column that tells rows apart.
    """

    def __init__(self, table: SqlTable, key: str | None) -> None:
        self.table = table
        self.key = key
        self.hook = hook_of(table.conn_id, "load_to")
        self._is_known = self.hook.conn_type in _KNOWN
        self._changes_columns = table.mode == "upsert" and self._is_known
        self._fields: tuple[str, ...] = ()
        self._has: dict[str, str] = {}  # the table's columns: their names without case, and as the database has them
        self._kinds: dict[str, str] = {}  # and PostgreSQL's names of their types
        self._names: list[str] = []  # of the columns that are loaded

    def check(self, fields: Sequence[str]) -> None:
        """
        Look whether the table can take the answers, before anything else is done.

        :param fields: the columns that hold them.
        :raises ConfigurationError: naming what it lacks.
        """
        self._fields = tuple(fields)
        self._look()
        for name in [
            *([self.key] if self.key and self.table.mode == "upsert" else []),
            *(self.table.columns or fields),
        ]:
            if name.casefold() not in self._has:
                raise ConfigurationError(
                    f"load_to: the table {self.table.table!r} has no column {name!r}; it has "
                    f"{', '.join(self._has.values())}. Add it, or name those to load with SqlTable(columns=[...])"
                )
        if self._changes_columns:
            # Of no rows: the database says whether the key is unique.
            select = f"SELECT {self._name(str(self.key))} FROM {self.table.table} WHERE 1 = 0"  # noqa: S608  what the DAG's author wrote
            with closing(self.hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
                try:
                    cursor.execute(self._insert([str(self.key)], select))
                except Exception as error:
                    raise ConfigurationError(
                        f"load_to: the table {self.table.table!r} does not keep {self.key!r} unique ({error}); make it "
                        "the primary key, or take mode='insert'"
                    ) from error

    def choose(self, source: Iterable[str]) -> None:
        """
        Choose what is loaded, before it is paid for.

        :param source: the source's columns that go into the result.
        :raises ConfigurationError: for a column that the result has not, or that the table cannot take.
        """
        known = list(dict.fromkeys(("_row", *source, *self._fields, *META)))
        names = list(self.table.columns or (name for name in known if name.casefold() in self._has))
        if self.table.mode == "upsert" and self.key not in names:
            names.insert(0, str(self.key))  # else no row is found again, and each load adds all
        if missing := [name for name in names if name not in known]:
            raise ConfigurationError(
                f"load_to.columns: the result has no {missing[0]!r}; its columns are {', '.join(known)}"
            )
        written = [name.casefold() for name in names]
        if twice := next((name for name in names if written.count(name.casefold()) > 1), None):
            raise ConfigurationError(
                f"load_to: two columns of the result, {twice!r} and another, are one in the table; choose them with "
                "SqlTable(columns=[...])"
            )
        if binary := next((name for name in names if self._kind(name) in _BINARY), None):
            raise ConfigurationError(
                f"load_to: the table {self.table.table!r} has {self._kind(binary)} for {binary!r}, and the result has "
                "bytes as base64: make it text, or name those to load with SqlTable(columns=[...])"
            )
        self._names = names

    def load(self, rows: Iterator[Row]) -> int:
        """
        Load rows; give how many.

        :raises ConfigurationError: retryable; all answers are in the output, and a retry only loads.
        """
        names = self._names
        if not names:  # the source was empty
            return 0
        kinds = [self._kind(name) for name in names]
        values = (tuple(_cell(row.get(name), kind) for name, kind in zip(names, kinds, strict=True)) for row in rows)
        try:
            if self.table.mode == "upsert" and not self._changes_columns:
                counted = _Counted(values)
                self.hook.insert_rows(
                    self.table.table,
                    counted,
                    target_fields=names,
                    commit_every=CHUNK,
                    replace=True,
                    replace_index=[self.key],
                )
                return counted.count
            return self._write(values)
        except Exception as error:
            raise ConfigurationError(
                f"load_to: {self.table.table!r} of connection {self.table.conn_id!r} did not take the rows "
                f"({type(error).__name__}: {error}). All answers are in the output, and a retry only loads",
                retryable=True,
            ) from error

    def _write(self, values: Iterator[tuple[Any, ...]]) -> int:
        """Write rows in one transaction; many in one statement, where it is known that it can be."""
        names = self._names
        marks = f"({', '.join([self.hook.placeholder] * len(names))})"
        at_once = max(MOST_VALUES // len(names), 1)
        count = 0
        with closing(self.hook.get_conn()) as connection:
            with closing(connection.cursor()) as cursor:
                while rows := list(islice(values, at_once)):
                    if self._is_known:  # its drivers send the rows of an executemany one by one
                        statement = self._insert(names, f"VALUES {', '.join([marks] * len(rows))}")
                        cursor.execute(statement, tuple(chain.from_iterable(rows)))
                    else:
                        cursor.executemany(self._insert(names, f"VALUES {marks}"), rows)
                    count += len(rows)
            connection.commit()
        return count

    def _insert(self, names: Sequence[str], what: str) -> str:
        written = {name: self._name(name) for name in names}
        statement = f"INSERT INTO {self.table.table} ({', '.join(written.values())}) {what}"
        if not self._changes_columns:
            return statement
        changed = ", ".join(f"{name} = excluded.{name}" for given, name in written.items() if given != self.key)
        then = f"UPDATE SET {changed}" if changed else "NOTHING"
        return f"{statement} ON CONFLICT ({self._name(str(self.key))}) DO {then}"

    def _name(self, name: str) -> str:
        """Write a column's name into a statement, as the table spells it."""
        name = self._has[name.casefold()]
        # Quotes are the databases' own matter; where they are unknown, they are left out if they can be.
        return name if _PLAIN_NAME.match(name) and not self._is_known else '"' + name.replace('"', '""') + '"'

    def _kind(self, name: str) -> str:
        return self._kinds.get(name.casefold(), "")

    def _look(self) -> None:
        """Learn the table's columns."""
        try:
            with closing(self.hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(f"SELECT * FROM {self.table.table} WHERE 1 = 0")  # noqa: S608  the DAG's author's name
                # Some databases write names in capitals, or after the table's.
                described = [(column[0].rsplit(".", 1)[-1], column[1]) for column in cursor.description]
                self._has = {name.casefold(): name for name, _ in described}
                if self.hook.conn_type == "postgres":
                    numbers = ", ".join(str(number) for _, number in described) or "0"
                    cursor.execute(f"SELECT oid, format_type(oid, NULL) FROM pg_type WHERE oid IN ({numbers})")  # noqa: S608  its own numbers
                    types: dict[int, str] = dict(map(_values, cursor.fetchall()))
                    self._kinds = {name.casefold(): types.get(number, "") for name, number in described}
        except Exception as error:
            raise ConfigurationError(
                f"load_to: the table {self.table.table!r} of connection {self.table.conn_id!r} cannot be read "
                f"({type(error).__name__}: {error}); make it first",
                retryable=True,
            ) from error


class _Counted:
    def __init__(self, values: Iterator[tuple[Any, ...]]) -> None:
        self._values = values
        self.count = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for value in self._values:
            self.count += 1
            yield value


def query(source: Sql) -> Iterator[list[Row]]:
    """
    Give the rows of a query, as the database gives them.

    :raises ConfigurationError: retryable, with what the database said.
    """
    hook = hook_of(source.conn_id, "source")
    try:
        with closing(hook.get_conn()) as connection:
            # psycopg's plain cursors read all rows at once; named ones leave them on the server.
            named = type(connection).__module__.startswith("psycopg")
            with closing(connection.cursor("airflow_provider_responses") if named else connection.cursor()) as cursor:
                cursor.execute(source.sql, *([source.parameters] if source.parameters is not None else []))
                if not named:  # a named cursor knows its columns after the first fetch
                    _check_columns(cursor)
                while rows := cursor.fetchmany(CHUNK):
                    names = [str(column[0]) for column in cursor.description]
                    check_names(names, "the query")
                    yield [dict(zip(names, _values(row), strict=True)) for row in rows]
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"source: the query on connection {source.conn_id!r} failed ({type(error).__name__}: {error})",
            retryable=True,
        ) from error


def _values(row: Any) -> Any:
    """Give a row's values; a connection may say that its rows are dicts."""
    return tuple(row.values()) if isinstance(row, Mapping) else row


def _check_columns(cursor: Any) -> None:
    if cursor.description is None:
        raise ConfigurationError("source: the query gives no rows and no columns; it has to be a SELECT")


def hook_of(conn_id: str, what: str) -> Any:
    """
    Give the hook of a database.

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


def _cell(value: Any, kind: str) -> Any:
    """Give a value of the result as a column of this type takes it."""
    value = storable(value)
    if kind == "interval" and type(value) in {int, float}:
        return datetime.timedelta(seconds=value)
    if kind in _JSONS and isinstance(value, list):
        return _array([_text(item) for item in value])
    if kind.endswith("[]") and isinstance(value, list):
        return _array(value)
    return _text(value) if isinstance(value, (Mapping, list)) else value


def _array(items: list[Any]) -> str:
    """Write PostgreSQL's literal of an array, which an array of any type reads."""
    return f"{{{','.join(_array(item) if isinstance(item, list) else _item(item) for item in items)}}}"


def _item(item: Any) -> str:
    if item is None:
        return "NULL"
    text = item if isinstance(item, str) else _text(item)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
