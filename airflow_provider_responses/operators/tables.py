"""Rows into a database, through any connection whose hook is a ``DbApiHook``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from airflow_provider_responses.enrich.answers import META
from airflow_provider_responses.enrich.sources import CHUNK, Row
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases import database_of, hook_of
from airflow_provider_responses.operators.databases.base import Known

if TYPE_CHECKING:
    from pydantic import BaseModel

_BINARY: Final = frozenset({"bytea", "bytea[]"})
MOST_VALUES: Final = 900  # in one statement; SQLite's least limit is 999


@dataclass
class SqlTable:
    """
    A table that the result is loaded into; it has to be there.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: its name.
    :param columns: of the result, that are loaded; by default those that the table has.
    :param mode: ``upsert`` changes rows with the same key, which has to be unique in the table, and adds others;
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
        Return a CREATE TABLE statement that fits a source and the responses about its rows.

        :param source: as the operator takes it: a path, a ``CsvFile``, an ``Sql``, or a list of dicts. Its first 1,000
            rows tell the types.
        :param output_type: the operator's.
        :param key: the column that becomes the primary key.
        :param database: ``postgres``, ``mysql``, ``sqlite`` or ``duckdb``; by default the connection's.
        :raises ConfigurationError: if the database or the source is unknown.
        """
        from airflow_provider_responses.operators.table_statement import create_table_sql

        return create_table_sql(self, source, output_type=output_type, key=key, database=database)


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
        self.names: list[str] = []  # of the columns that are loaded
        self._fields: tuple[str, ...] = ()
        self._has: dict[str, str] = {}  # the table's columns: their names without case, and as the database has them
        self._kinds: dict[str, str] = {}  # and the names of their types, where they matter

    def check(self, fields: Sequence[str]) -> None:
        """
        Look whether the table can take the responses, before anything else is done.

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
        database = self._database
        if not isinstance(database, Known):
            return
        with database.transaction() as cursor:
            try:
                database.check_table(cursor, self.table.table)
            except ConfigurationError as error:
                raise ConfigurationError(f"load_to: the table {self.table.table!r}: {error}") from None
            if self.table.mode == "upsert":
                try:
                    database.check_unique(cursor, self.table.table, self._spelled(str(self.key)))
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
        if binary := next((name for name in names if self.kind(name) in _BINARY), None):
            raise ConfigurationError(
                f"load_to: the table {self.table.table!r} has {self.kind(binary)} for {binary!r}, and the result has "
                "bytes as base64: make it text, or name those to load with SqlTable(columns=[...])"
            )
        self._check_other_keys(written)
        self.names = names

    def _check_other_keys(self, written: Sequence[str]) -> None:
        database = self._database
        if self.table.mode != "upsert" or not isinstance(database, Known):
            return
        with database.transaction() as cursor:
            keys = database.other_keys(cursor, self.table.table, self._spelled(str(self.key)))
        if other := next((columns for columns in keys if set(columns) <= set(written)), None):
            raise ConfigurationError(
                f"load_to: the table {self.table.table!r} also keeps {', '.join(other)} unique, and {database.title} "
                f"would change a row that has the same {', '.join(other)} and another {self.key!r}; leave that out "
                "with SqlTable(columns=[...]), drop the index, or take mode='insert'"
            )

    def load(self, rows: Iterator[Row]) -> int:
        """
        Load rows; return how many.

        :raises ConfigurationError: retryable; all responses are in the output, and a retry only loads.
        """
        names = self.names
        if not names:  # the source was empty
            return 0
        values = map(self.values, rows)
        try:
            if self.table.mode == "upsert" and not self._database.known:
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
                f"({type(error).__name__}: {self._said(error)}). All responses are in the output, and a retry only "
                "loads",
                retryable=True,
            ) from error

    def values(self, row: Row, names: Sequence[str] | None = None) -> tuple[Any, ...]:
        """Return a row's values as the table's columns take them; by default of all that are loaded."""
        names = self.names if names is None else names
        return tuple(self._database.cell(row.get(name), self.kind(name)) for name in names)

    def _write(self, values: Iterator[tuple[Any, ...]]) -> int:
        """Write rows in one transaction; many in one statement, where it is known that it can be."""
        count = 0
        with self._database.transaction() as cursor:
            while rows := list(islice(values, self.at_once)):
                self.insert(cursor, rows)
                count += len(rows)
        return count

    @property
    def at_once(self) -> int:
        """How many rows one statement takes."""
        return max(MOST_VALUES // max(len(self.names), 1), 1)

    def insert(self, cursor: Any, rows: Sequence[tuple[Any, ...]], names: Sequence[str] | None = None) -> None:
        """
        Write rows.

        :param names: of their columns; by default all that are loaded.
        """
        names = self.names if names is None else names
        marks = f"({', '.join([self.hook.placeholder] * len(names))})"
        if self._database.known:  # its drivers send the rows of an executemany one by one
            statement = self._insert(names, f"VALUES {', '.join([marks] * len(rows))}")
            cursor.execute(statement, tuple(chain.from_iterable(rows)))
        else:
            cursor.executemany(self._insert(names, f"VALUES {marks}"), rows)

    def _insert(self, names: Sequence[str], what: str) -> str:
        quoted = {name: self._database.quoted(self._spelled(name)) for name in names}
        statement = f"INSERT INTO {self.table.table} ({', '.join(quoted.values())}) {what}"
        if self.table.mode == "insert" or self.key not in quoted or not isinstance(self._database, Known):
            return statement
        key = quoted[self.key]
        return f"{statement} {self._database.upsert(key, [name for name in quoted.values() if name != key])}"

    def kind(self, name: str) -> str:
        """Return the database's name of a column's type; empty where it does not matter."""
        return self._kinds.get(name.casefold(), "")

    @property
    def database(self) -> Any:
        """What is known about the table's database, once the table has been looked at."""
        return self._database

    def _spelled(self, name: str) -> str:
        return self._has[name.casefold()]

    def _said(self, error: Exception) -> str:
        return self._database.said(error) if isinstance(self._database, Known) else str(error)

    def _look(self) -> None:
        """Learn the table's columns."""
        try:
            with closing(self.hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
                self._database = database_of(self.hook, connection)
                cursor.execute(f"SELECT * FROM {self.table.table} WHERE 1 = 0")  # noqa: S608  the DAG's author's name
                # Some databases write names in capitals, or after the table's.
                described = [(column[0].rsplit(".", 1)[-1], column[1]) for column in cursor.description]
                self._has = {name.casefold(): name for name, _ in described}
                cursor.fetchall()  # some drivers want it before the next statement
                kinds: Mapping[str, str] = self._database.kinds(cursor, self.table.table, described)
                self._kinds = {name.casefold(): kind for name, kind in kinds.items()}
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
