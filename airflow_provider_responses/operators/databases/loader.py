"""Loads of rows into a table, through any connection whose hook is a ``DbApiHook``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Any, Final

from airflow_provider_responses.enrich.columns import META_COLUMNS
from airflow_provider_responses.enrich.sources import CHUNK, Row, read_file
from airflow_provider_responses.enrich.statuses import OK, REJECTED
from airflow_provider_responses.exceptions import ConfigurationError, OutputError
from airflow_provider_responses.operators.databases.database import Database, KnownDatabase
from airflow_provider_responses.operators.databases.lookup import find_database, get_db_hook
from airflow_provider_responses.operators.paths import open_path
from airflow_provider_responses.operators.sql import SqlTable

MAX_VALUES: Final = 900  # in one statement; SQLite's lowest limit is 999
_BINARY: Final = frozenset({"bytea", "bytea[]"})


class TableLoader:
    """
    Loads rows into a table, all of them or none.

    Call ``check_table`` first, ``choose_columns`` once the source has been read, and ``load`` at the end.

    :param table: the target.
    :param key: the column that identifies rows.
    """

    names: list[str]  # of the columns that are loaded
    _database: Database
    _columns: dict[str, str]  # the table's columns: as the database spells them, by their names in lower case
    _type_names: dict[str, str]  # of these columns, where values depend on them; by their names in lower case

    def __init__(self, table: SqlTable, key: str | None) -> None:
        self.table = table
        self.key = key
        self._hook = get_db_hook(table.conn_id, "load_to")
        self._fields: tuple[str, ...] = ()
        self._meta_columns: tuple[str, ...] = META_COLUMNS
        self.names = []

    def check_table(self, fields: Sequence[str], meta_columns: Sequence[str] = META_COLUMNS) -> None:
        """
        Check that the table can hold the responses.

        :param fields: the columns that hold them.
        :param meta_columns: the columns of the result about them, which the table need not have.
        :raises ConfigurationError: naming the missing column or key.
        :raises OutputError: if the table cannot be read.
        """
        self._fields, self._meta_columns = tuple(fields), tuple(meta_columns)
        self._read_columns()
        required = [self.key] if self.key and self.table.mode == "upsert" else []
        for name in [*required, *(self.table.columns or fields)]:
            if name.casefold() not in self._columns:
                raise ConfigurationError(
                    f"load_to: table {self.table.table!r} has no column {name!r}; it has "
                    f"{', '.join(self._columns.values())}. Add it, or choose the columns to load with "
                    "SqlTable(columns=[...])"
                )
        database = self._database
        if not isinstance(database, KnownDatabase):
            return
        with database.transaction() as cursor:
            try:
                database.check_transactional(cursor, self.table.table)
            except ConfigurationError as error:
                raise ConfigurationError(f"load_to: table {self.table.table!r}: {error}") from None
            if self.table.mode == "upsert":
                try:
                    database.check_unique(cursor, self.table.table, self._spelling(str(self.key)))
                except Exception as error:
                    raise ConfigurationError(
                        f"load_to: column {self.key!r} is not unique in table {self.table.table!r} ({error}). Make it "
                        "the primary key, or use mode='insert'"
                    ) from error

    def choose_columns(self, source: Iterable[str]) -> None:
        """
        Choose the columns that are loaded, before anything is sent.

        :param source: the source's columns that go into the result.
        :raises ConfigurationError: for a column that the result does not have, or that the table cannot hold.
        """
        available = list(dict.fromkeys(("_row", *source, *self._fields, *self._meta_columns)))
        names = list(self.table.columns or (name for name in available if name.casefold() in self._columns))
        if self.table.mode == "upsert" and self.key not in names:
            names.insert(0, str(self.key))  # else no row would be found again, and each load would add all
        if missing := [name for name in names if name not in available]:
            raise ConfigurationError(
                f"load_to.columns: the result has no column {missing[0]!r}; its columns are {', '.join(available)}"
            )
        lower_names = [name.casefold() for name in names]
        if twice := next((name for name in names if lower_names.count(name.casefold()) > 1), None):
            raise ConfigurationError(
                f"load_to: two columns of the result, {twice!r} and another, have the same name in the table. Choose "
                "one of them with SqlTable(columns=[...])"
            )
        if binary := next((name for name in names if self.type_name(name) in _BINARY), None):
            raise ConfigurationError(
                f"load_to: column {binary!r} of table {self.table.table!r} is {self.type_name(binary)}, and the result "
                "has bytes as base64. Make it text, or choose the columns to load with SqlTable(columns=[...])"
            )
        self._check_other_keys(lower_names)
        self.names = names

    def _check_other_keys(self, lower_names: Sequence[str]) -> None:
        database = self._database
        if self.table.mode != "upsert" or not isinstance(database, KnownDatabase):
            return
        with database.transaction() as cursor:
            keys = database.other_unique_keys(cursor, self.table.table, self._spelling(str(self.key)))
        if other := next((columns for columns in keys if set(columns) <= set(lower_names)), None):
            raise ConfigurationError(
                f"load_to: table {self.table.table!r} has a second unique key ({', '.join(other)}), and "
                f"{database.title} would change a row with the same {', '.join(other)} and another {self.key!r}. Leave "
                "it out with SqlTable(columns=[...]), drop the index, or use mode='insert'"
            )

    def load(self, rows: Iterator[Row]) -> int:
        """
        Load rows, and return their number.

        :raises OutputError: if the database fails or refuses a row. A retry only loads: all responses are stored.
        """
        if not self.names:  # the source was empty
            return 0
        values = map(self.row_values, rows)
        try:
            if self.table.mode == "upsert" and not self.is_known:
                return self._replace_with_hook(values)
            return self._load(values)
        except Exception as error:
            raise OutputError(
                f"load_to: the rows could not be loaded into table {self.table.table!r} of connection "
                f"{self.table.conn_id!r} ({type(error).__name__}: {self.safe_message(error)}). All responses are in "
                "the output, and a retry only loads them"
            ) from error

    def _replace_with_hook(self, values: Iterator[tuple[Any, ...]]) -> int:
        counted = _Counted(values)
        self._hook.insert_rows(
            self.table.table,
            counted,
            target_fields=self.names,
            commit_every=CHUNK,
            replace=True,
            replace_index=[self.key],
        )
        return counted.count

    def _load(self, values: Iterator[tuple[Any, ...]]) -> int:
        count = 0
        with self._database.transaction() as cursor:
            while rows := list(islice(values, self.rows_per_statement)):
                self.insert(cursor, rows)
                count += len(rows)
        return count

    def row_values(self, row: Row, names: Sequence[str] | None = None) -> tuple[Any, ...]:
        """
        Return a row's values in the form that the table's columns accept.

        :param names: of their columns; by default all that are loaded.
        """
        names = self.names if names is None else names
        return tuple(self._database.adapt(row.get(name), self.type_name(name)) for name in names)

    def insert(self, cursor: Any, rows: Sequence[tuple[Any, ...]], names: Sequence[str] | None = None) -> None:
        """
        Insert or upsert rows.

        :param rows: at most ``rows_per_statement`` of them, as ``row_values`` returns them.
        :param names: of their columns; by default all that are loaded.
        """
        names = self.names if names is None else names
        placeholders = f"({', '.join([self._hook.placeholder] * len(names))})"
        if self.is_known:  # its drivers send the rows of an executemany one by one
            cursor.execute(self._statement(names, [placeholders] * len(rows)), tuple(chain.from_iterable(rows)))
        else:
            cursor.executemany(self._statement(names, [placeholders]), rows)

    def _statement(self, names: Sequence[str], rows: Sequence[str]) -> str:
        columns = {name: self._database.column_in_statement(self._spelling(name)) for name in names}
        into = f"{self.table.table} ({', '.join(columns.values())})"
        statement = f"INSERT INTO {into} VALUES {', '.join(rows)}"  # noqa: S608  the DAG author's name
        if self.table.mode == "insert" or self.key not in columns or not isinstance(self._database, KnownDatabase):
            return statement
        key = columns[self.key]
        return f"{statement} {self._database.upsert_clause(key, [name for name in columns.values() if name != key])}"

    @property
    def rows_per_statement(self) -> int:
        return max(MAX_VALUES // max(len(self.names), 1), 1)

    @property
    def database(self) -> Any:
        """The table's database, once ``check_table`` has found it."""
        return self._database

    @property
    def is_known(self) -> bool:
        """Whether the statements and errors of the table's database are known."""
        return isinstance(self._database, KnownDatabase)

    def type_name(self, name: str) -> str:
        """Return the database's name of a column's type; empty where values do not depend on it."""
        return self._type_names.get(name.casefold(), "")

    def safe_message(self, error: Exception) -> str:
        """Return a driver's message; without the row's values, where the database is known."""
        return self._database.safe_message(error) if isinstance(self._database, KnownDatabase) else str(error)

    def _spelling(self, name: str) -> str:
        return self._columns[name.casefold()]

    def _read_columns(self) -> None:
        try:
            with closing(self._hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
                self._database = find_database(self._hook, connection)
                cursor.execute(f"SELECT * FROM {self.table.table} WHERE 1 = 0")  # noqa: S608  the DAG author's name
                # Some databases return names in capitals, or with the table's name before them.
                columns = [(column[0].rsplit(".", 1)[-1], column[1]) for column in cursor.description]
                self._columns = {name.casefold(): name for name, _ in columns}
                cursor.fetchall()  # some drivers require it before the next statement
                type_names: Mapping[str, str] = self._database.type_names(cursor, self.table.table, columns)
                self._type_names = {name.casefold(): type_name for name, type_name in type_names.items()}
        except Exception as error:
            raise OutputError(
                f"load_to: table {self.table.table!r} of connection {self.table.conn_id!r} cannot be read "
                f"({type(error).__name__}: {error}). Create it first, or correct the name"
            ) from error


class _Counted:
    def __init__(self, values: Iterator[tuple[Any, ...]]) -> None:
        self._values = values
        self.count = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for value in self._values:
            self.count += 1
            yield value


def read_result(path: Any, on_invalid_output: str) -> Iterator[Row]:
    """
    Yield the rows of a result that have a response which the task accepts.

    :param path: of the result.
    :param on_invalid_output: the operator's.
    """
    accepted = {OK} if on_invalid_output == "fail" else {OK, *REJECTED}
    for chunk in read_file(open_path(path)):
        yield from (row for row in chunk if row["_status"] in accepted)
