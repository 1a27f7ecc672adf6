"""
The differences between databases: streaming, upserts, names of types, and errors.

    Database          any other: its hook replaces rows, and no trial load is made
      KnownDatabase   one whose statements and errors are known here
        Postgres
        Sqlite
        DuckDb
        MySql         and MariaDB
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
# key or a check), or something other than the rows.
RefusalReason = Literal["value", "null", "constraint", "other"]

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w*\Z")


class Database:
    """
    A database whose SQL is not known here.

    :param hook: of the connection.
    """

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    @contextmanager
    def streaming_cursor(self, connection: Any) -> Iterator[Any]:
        """Open a cursor that leaves rows on the server until they are fetched, if the driver has one."""
        with closing(connection.cursor()) as cursor:
            yield cursor

    def row_converter(self, cursor: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:  # noqa: ARG002  subclasses need it
        """Return a function that converts a row's values to the form that is the same with all drivers."""
        return lambda row: row

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Open a cursor whose statements are committed at the end, and rolled back on an error."""
        with closing(self.hook.get_conn()) as connection, closing(self._cursor(connection)) as cursor:
            self._begin(connection, cursor)
            yield cursor
            connection.commit()

    @contextmanager
    def trial_transaction(self) -> Iterator[tuple[Any, Callable[[], None]]]:
        """Open a cursor that never commits, with a function that rolls back and begins the next transaction."""
        with closing(self.hook.get_conn()) as connection, closing(self._cursor(connection)) as cursor:
            self._begin(connection, cursor)

            def roll_back() -> None:
                connection.rollback()
                self._begin(connection, cursor)

            try:
                yield cursor, roll_back
            finally:
                connection.rollback()

    def column_in_statement(self, name: str) -> str:
        """Return a column's name for a statement; unquoted if it can be, since the quotes are not known."""
        return name if _PLAIN_NAME.match(name) else self._escape(self.quote(name))

    @staticmethod
    def quote(name: str) -> str:
        """Return a name in the database's quotes."""
        return '"' + name.replace('"', '""') + '"'

    def _escape(self, name: str) -> str:
        """Escape a name for a statement that has placeholders."""
        return name.replace("%", "%%") if self.hook.placeholder == "%s" else name

    def type_names(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        """Return the names of the types of a table's columns; none where values do not depend on them."""
        return {}

    def adapt(self, value: Any, type_name: str) -> Any:  # noqa: ARG002
        """Return a value of the result in the form that a column of this type accepts."""
        value = storable(value)
        return to_json_text(value) if isinstance(value, (Mapping, list)) else value

    def _cursor(self, connection: Any) -> Any:
        return connection.cursor()

    def _begin(self, connection: Any, cursor: Any) -> None:
        """Begin a transaction, where the driver does not do so by itself."""


class KnownDatabase(Database, ABC):
    """A database whose statements and errors are known here."""

    title: ClassVar[str]
    # Types for CREATE TABLE, by the kind of a column's values.
    types: ClassVar[Mapping[str, str]]

    def column_in_statement(self, name: str) -> str:
        return self._escape(self.quote(name))

    def upsert_clause(self, key: str, changed: Sequence[str]) -> str:
        """Return the clause that changes a row with the same key; names are quoted already."""
        changes = ", ".join(f"{name} = excluded.{name}" for name in changed)
        return f"ON CONFLICT ({key}) DO UPDATE SET {changes}" if changes else f"ON CONFLICT ({key}) DO NOTHING"

    def check_unique(self, cursor: Any, table: str, key: str) -> None:
        """
        Check that a column is unique in a table.

        :raises Exception: of the driver, if it is not.
        """
        name = self.quote(key)
        # Of no rows: the database itself compares the clause with the table's unique keys.
        select = f"SELECT {name} FROM {table} WHERE 1 = 0"  # noqa: S608  the DAG author's names
        cursor.execute(f"INSERT INTO {table} ({name}) {select} {self.upsert_clause(name, [])}")

    def check_transactional(self, cursor: Any, table: str) -> None:
        """
        Check that a load into a table can be rolled back.

        :raises ConfigurationError: if it cannot.
        """

    def other_unique_keys(self, cursor: Any, table: str, key: str) -> list[list[str]]:  # noqa: ARG002
        """Return the columns of further unique keys by which an upsert would find rows."""
        return []

    @abstractmethod
    def refusal_reason(self, error: Exception) -> RefusalReason:
        """Return why rows were refused."""

    @abstractmethod
    def safe_message(self, error: Exception) -> str:
        """Return the database's message without the row's values."""

    @classmethod
    def create_type(cls, kind: str, *, is_key: bool) -> str:
        """Return a column's type for CREATE TABLE, by the kind of its values."""
        return cls.types[kind] + (" PRIMARY KEY" if is_key else "")

    def _begin(self, connection: Any, cursor: Any) -> None:  # noqa: ARG002
        if self.hook.supports_autocommit and self.hook.get_autocommit(connection):
            self.hook.set_autocommit(connection, False)


def row_values(row: Any) -> Sequence[Any]:
    """Return a row's values; the cursors of some connections return dicts."""
    return tuple(row.values()) if isinstance(row, Mapping) else row


def to_json_text(value: Any) -> str:
    """Return a nested value as JSON text."""
    return json.dumps(value, ensure_ascii=False)
