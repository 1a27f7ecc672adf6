"""
What is particular to a database: how it streams, upserts, names types and fails.

    Database        any other: rows are replaced as its hook does, and nothing is tried in advance
      Known         one whose statements and errors are known here
        Postgres
        Sqlite
        DuckDb
        MySql       and MariaDB
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Final, Literal

from airflow_provider_responses.task.texts import storable

# Why rows were refused: a value does not fit its column, null is not allowed, a constraint (of uniqueness, a foreign
# key or a check), or another thing than the rows.
Refusal = Literal["value", "null", "constraint", "other"]

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w*\Z")


class Database:
    """
    See the module.

    :param hook: of the connection.
    """

    known: ClassVar[bool] = False

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    @contextmanager
    def streaming(self, connection: Any) -> Iterator[Any]:
        """Give a cursor that leaves rows on the server until they are fetched, where there is one."""
        with closing(connection.cursor()) as cursor:
            yield cursor

    def values(self, cursor: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:  # noqa: ARG002  others need it
        """Return what gives a row's values their common forms."""
        return lambda row: row

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Give a cursor; what it did is committed at the end, and rolled back on an error."""
        with closing(self.hook.get_conn()) as connection, closing(self._cursor(connection)) as cursor:
            self._begin(connection, cursor)
            yield cursor
            connection.commit()

    @contextmanager
    def trial(self) -> Iterator[tuple[Any, Callable[[], None]]]:
        """Give a cursor, and a function that takes back what it did, after which it may do more."""
        with closing(self.hook.get_conn()) as connection, closing(self._cursor(connection)) as cursor:
            self._begin(connection, cursor)

            def take_back() -> None:
                connection.rollback()
                self._begin(connection, cursor)

            try:
                yield cursor, take_back
            finally:
                connection.rollback()

    def quoted(self, name: str) -> str:
        """Write a column's name into a statement; where quotes are unknown, they are left out if they can be."""
        return name if _PLAIN_NAME.match(name) else self._in_statement(self.in_quotes(name))

    @staticmethod
    def in_quotes(name: str) -> str:
        """Write a name in the quotes of the database."""
        return '"' + name.replace('"', '""') + '"'

    def _in_statement(self, name: str) -> str:
        """Write a name into a statement with marks for values."""
        return name.replace("%", "%%") if self.hook.placeholder == "%s" else name

    def kinds(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        """Return the database's names of a table's types by column; none where they make no difference."""
        return {}

    def cell(self, value: Any, kind: str) -> Any:  # noqa: ARG002
        """Return a value of the result as a column of this type takes it."""
        value = storable(value)
        return text_of(value) if isinstance(value, (Mapping, list)) else value

    def _cursor(self, connection: Any) -> Any:
        return connection.cursor()

    def _begin(self, connection: Any, cursor: Any) -> None:
        """Begin a transaction, where the driver does not do so by itself."""


class Known(Database, ABC):
    """A database whose statements and errors are known here."""

    known = True
    title: ClassVar[str]
    # Types for CREATE TABLE, by what a column holds; a text that is a key may need another one.
    types: ClassVar[Mapping[str, str]]

    def quoted(self, name: str) -> str:
        return self._in_statement(self.in_quotes(name))

    def upsert(self, key: str, changed: Sequence[str]) -> str:
        """Return the clause that changes a row with the same key; names are quoted already."""
        changes = ", ".join(f"{name} = excluded.{name}" for name in changed)
        return f"ON CONFLICT ({key}) DO UPDATE SET {changes}" if changes else f"ON CONFLICT ({key}) DO NOTHING"

    def check_unique(self, cursor: Any, table: str, key: str) -> None:
        """
        Look whether a table keeps a column unique.

        :raises Exception: as the database says it, if it does not.
        """
        name = self.in_quotes(key)
        # Of no rows: the database itself compares the clause with the table's unique keys.
        select = f"SELECT {name} FROM {table} WHERE 1 = 0"  # noqa: S608  what the DAG's author wrote
        cursor.execute(f"INSERT INTO {table} ({name}) {select} {self.upsert(name, [])}")

    def check_table(self, cursor: Any, table: str) -> None:
        """
        Look whether a load into a table can be rolled back.

        :raises ConfigurationError: if it cannot.
        """

    def other_keys(self, cursor: Any, table: str, key: str) -> list[list[str]]:  # noqa: ARG002
        """Return the columns of further unique keys by which an upsert would find rows."""
        return []

    @abstractmethod
    def refusal(self, error: Exception) -> Refusal:
        """Return why rows were refused."""

    @abstractmethod
    def said(self, error: Exception) -> str:
        """Return what the database says, without the values of the row."""

    @classmethod
    def column_types(cls, key: str | None) -> Callable[[str, str], str]:
        """Return what names a column's type for CREATE TABLE, by its name and what it holds."""
        return lambda name, holds: cls.types[holds] + (" PRIMARY KEY" if name == key else "")

    def _begin(self, connection: Any, cursor: Any) -> None:  # noqa: ARG002
        if self.hook.supports_autocommit and self.hook.get_autocommit(connection):
            self.hook.set_autocommit(connection, False)


def values_of(row: Any) -> Sequence[Any]:
    """Return a row's values; a connection may say that its rows are dicts."""
    return tuple(row.values()) if isinstance(row, Mapping) else row


def text_of(value: Any) -> str:
    """Return a nested value as JSON text."""
    return json.dumps(value, ensure_ascii=False)
