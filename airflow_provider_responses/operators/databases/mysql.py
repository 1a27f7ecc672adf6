"""MySQL and MariaDB, with mysqlclient, mysql-connector-python or PyMySQL."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Final

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases.base import Known, Refusal, values_of


class MySql(Known):
    """MySQL and MariaDB, with mysqlclient, mysql-connector-python or PyMySQL."""

    title = "MySQL or MariaDB"
    types: ClassVar[Mapping[str, str]] = {
        "text": "LONGTEXT",
        "integer": "BIGINT",
        "number": "DOUBLE",
        "decimal": "DECIMAL(38, 10)",
        "json": "JSON",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "time": "DATETIME(6)",
        "local time": "DATETIME(6)",
    }
    _bit: Final = 16  # the protocol's number of the type
    _set: Final = 2048  # and its flag of a column
    _values: Final = frozenset({1264, 1265, 1292, 1366, 1367, 1406, 1411, 1416, 3140, 3156, 4078})
    _nulls: Final = frozenset({1048, 1364})
    _constraints: Final = frozenset({1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586, 1644, 3819, 4025})

    @contextmanager
    def streaming(self, connection: Any) -> Iterator[Any]:
        # mysqlclient's and PyMySQL's plain cursors store all rows on the client.
        root = type(connection).__module__.partition(".")[0]
        if root == "MySQLdb":
            from MySQLdb.cursors import SSCursor
        elif root == "pymysql":
            from pymysql.cursors import SSCursor
        else:
            with closing(connection.cursor(buffered=False)) as cursor:
                yield cursor
            return
        # Closing the cursor first would read all rows that are left; closing the connection does not.
        yield connection.cursor(SSCursor)

    def values(self, cursor: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """Make numbers of BIT and sorted lists of SET, of which the drivers have different notions."""
        flags = getattr(cursor, "description_flags", None) or [(*column, 0)[7] for column in cursor.description]
        places = {
            number: _number if column[1] == self._bit else _members
            for number, (column, flag) in enumerate(zip(cursor.description, flags, strict=True))
            if column[1] == self._bit or int(flag or 0) & self._set
        }
        if not places:
            return lambda row: row
        return lambda row: [
            places[number](value) if number in places and value is not None else value
            for number, value in enumerate(row)
        ]

    @staticmethod
    def in_quotes(name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def upsert(self, key: str, changed: Sequence[str]) -> str:
        # The form with an alias for the new row is MySQL's only; VALUES() is known to both.
        changes = ", ".join(f"{name} = VALUES({name})" for name in changed)
        return f"ON DUPLICATE KEY UPDATE {changes or f'{key} = VALUES({key})'}"

    def check_unique(self, cursor: Any, table: str, key: str) -> None:
        if [key.casefold()] not in self._keys(cursor, table):
            raise ConfigurationError("it has no PRIMARY KEY or UNIQUE index of this column alone")

    def other_keys(self, cursor: Any, table: str, key: str) -> list[list[str]]:
        return [columns for columns in self._keys(cursor, table) if columns != [key.casefold()]]

    def _keys(self, cursor: Any, table: str) -> list[list[str]]:
        cursor.execute(f"SHOW INDEX FROM {table}")
        names = [column[0] for column in cursor.description]
        found: dict[str, list[str]] = {}
        for row in cursor.fetchall():
            index = row if isinstance(row, Mapping) else dict(zip(names, row, strict=True))
            if not int(index["Non_unique"]):
                part = f"({index['Sub_part']})" if index["Sub_part"] else ""  # unique by its first characters
                found.setdefault(index["Key_name"], []).append(str(index["Column_name"]).casefold() + part)
        return list(found.values())

    def check_table(self, cursor: Any, table: str) -> None:
        cursor.execute(f"SHOW CREATE TABLE {table}")
        made = str(values_of(cursor.fetchone())[1])
        engine = re.search(r"^\) ENGINE=(\w+)", made, re.MULTILINE)
        if engine is None:  # a view
            return
        cursor.execute("SELECT transactions FROM information_schema.engines WHERE engine = %s", (engine[1],))
        if (found := cursor.fetchone()) and values_of(found)[0] != "YES":
            raise ConfigurationError(
                f"its engine {engine[1]} has no transactions, so that a load that fails would leave half of the rows; "
                f"run ALTER TABLE {table} ENGINE=InnoDB"
            )

    def kinds(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        cursor.execute(f"SHOW COLUMNS FROM {table}")
        return {str(row[0]): str(row[1]) for row in map(values_of, cursor.fetchall())}

    def cell(self, value: Any, kind: str) -> Any:
        # MariaDB's times have no zone, and it refuses one.
        if isinstance(value, str) and kind.startswith(("datetime", "timestamp")):
            return _without_zone(value)
        return super().cell(value, kind)

    def refusal(self, error: Exception) -> Refusal:
        code = _errno(error)
        if code in self._values:
            return "value"
        if code in self._nulls:
            return "null"
        return "constraint" if code in self._constraints else "other"

    def said(self, error: Exception) -> str:
        text = str(error.args[1] if len(error.args) > 1 else error)
        return re.sub(r"(?s)(value: |entry )'.*' for", r"\1… for", text)

    @classmethod
    def column_types(cls, key: str | None) -> Callable[[str, str], str]:
        # A key of text needs a length, and by default it would not tell `a` from `A`.
        text_key = "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY"
        ordinary = super().column_types(key)
        return lambda name, holds: text_key if (name, holds) == (key, "text") else ordinary(name, holds)

    def _begin(self, connection: Any, cursor: Any) -> None:
        super()._begin(connection, cursor)
        # Otherwise some servers cut values that are too long, and make 0 of a text.
        cursor.execute("SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')")


def _errno(error: Exception) -> int:
    code = getattr(error, "errno", None) or next(iter(error.args), 0)
    return code if isinstance(code, int) else 0


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int.from_bytes(value, "big")


def _members(value: Any) -> list[str]:
    return sorted(value.split(",") if value else []) if isinstance(value, str) else sorted(value)


def _without_zone(text: str) -> str:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text  # the database says what is wrong with it
    return text if time.tzinfo is None else time.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(" ")
