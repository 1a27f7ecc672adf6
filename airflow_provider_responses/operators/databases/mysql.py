"""MySQL and MariaDB, with mysqlclient, mysql-connector-python or PyMySQL."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Final

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases.database import KnownDatabase, RefusalReason, row_values


class MySql(KnownDatabase):
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
    _bit_type: Final = 16  # its number in the protocol
    _set_flag: Final = 2048  # of a column, in the protocol
    # Numbers of errors.
    _value_errors: Final = frozenset({1264, 1265, 1292, 1366, 1367, 1406, 1411, 1416, 3140, 3156, 4078})
    _null_errors: Final = frozenset({1048, 1364})
    _constraint_errors: Final = frozenset({1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586, 1644, 3819, 4025})

    @contextmanager
    def streaming_cursor(self, connection: Any) -> Iterator[Any]:
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
        # Not closed: that would read all rows that are left. Closing the connection does not.
        yield connection.cursor(SSCursor)

    def row_converter(self, cursor: Any) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """Convert BIT to numbers and SET to sorted lists: the drivers return different types for them."""
        flags = getattr(cursor, "description_flags", None) or [(*column, 0)[7] for column in cursor.description]
        converters = {
            index: _to_int if column[1] == self._bit_type else _to_members
            for index, (column, flag) in enumerate(zip(cursor.description, flags, strict=True))
            if column[1] == self._bit_type or int(flag or 0) & self._set_flag
        }
        if not converters:
            return lambda row: row
        return lambda row: [
            converters[index](value) if index in converters and value is not None else value
            for index, value in enumerate(row)
        ]

    @staticmethod
    def quote(name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def upsert_clause(self, key: str, changed: Sequence[str]) -> str:
        # MariaDB has VALUES() only, and not MySQL's alias for the new row.
        changes = ", ".join(f"{name} = VALUES({name})" for name in changed)
        return f"ON DUPLICATE KEY UPDATE {changes or f'{key} = VALUES({key})'}"

    def check_unique(self, cursor: Any, table: str, key: str) -> None:
        if [key.casefold()] not in self._unique_keys(cursor, table):
            raise ConfigurationError("it has no PRIMARY KEY or UNIQUE index of this column alone")

    def other_unique_keys(self, cursor: Any, table: str, key: str) -> list[list[str]]:
        return [columns for columns in self._unique_keys(cursor, table) if columns != [key.casefold()]]

    def _unique_keys(self, cursor: Any, table: str) -> list[list[str]]:
        cursor.execute(f"SHOW INDEX FROM {table}")
        names = [column[0] for column in cursor.description]
        found: dict[str, list[str]] = {}
        for row in cursor.fetchall():
            index = row if isinstance(row, Mapping) else dict(zip(names, row, strict=True))
            if not int(index["Non_unique"]):
                part = f"({index['Sub_part']})" if index["Sub_part"] else ""  # only its first characters are unique
                found.setdefault(index["Key_name"], []).append(str(index["Column_name"]).casefold() + part)
        return list(found.values())

    def check_transactional(self, cursor: Any, table: str) -> None:
        cursor.execute(f"SHOW CREATE TABLE {table}")
        statement = str(row_values(cursor.fetchone())[1])
        engine = re.search(r"^\) ENGINE=(\w+)", statement, re.MULTILINE)
        if engine is None:  # a view
            return
        cursor.execute("SELECT transactions FROM information_schema.engines WHERE engine = %s", (engine[1],))
        if (found := cursor.fetchone()) and row_values(found)[0] != "YES":
            raise ConfigurationError(
                f"its engine {engine[1]} has no transactions, so a load that fails would leave half of the rows. Run "
                f"ALTER TABLE {table} ENGINE=InnoDB"
            )

    def type_names(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        cursor.execute(f"SHOW COLUMNS FROM {table}")
        return {str(row[0]): str(row[1]) for row in map(row_values, cursor.fetchall())}

    def adapt(self, value: Any, type_name: str) -> Any:
        # MariaDB's times have no zone, and it refuses one.
        if isinstance(value, str) and type_name.startswith(("datetime", "timestamp")):
            return _without_zone(value)
        return super().adapt(value, type_name)

    def refusal_reason(self, error: Exception) -> RefusalReason:
        code = _error_number(error)
        if code in self._value_errors:
            return "value"
        if code in self._null_errors:
            return "null"
        return "constraint" if code in self._constraint_errors else "other"

    def safe_message(self, error: Exception) -> str:
        text = str(error.args[1] if len(error.args) > 1 else error)
        return re.sub(r"(?s)(value: |entry )'.*' for", r"\1… for", text)

    @classmethod
    def create_type(cls, kind: str, *, is_key: bool) -> str:
        if is_key and kind == "text":  # such a key needs a length, and the default collation takes `a` and `A` for one
            return "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY"
        return super().create_type(kind, is_key=is_key)

    def _begin(self, connection: Any, cursor: Any) -> None:
        super()._begin(connection, cursor)
        # Otherwise some servers cut values that are too long, and convert a text to 0.
        cursor.execute("SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')")


def _error_number(error: Exception) -> int:
    code = getattr(error, "errno", None) or next(iter(error.args), 0)
    return code if isinstance(code, int) else 0


def _to_int(value: Any) -> int:
    return value if isinstance(value, int) else int.from_bytes(value, "big")


def _to_members(value: Any) -> list[str]:
    return sorted(value.split(",") if value else []) if isinstance(value, str) else sorted(value)


def _without_zone(text: str) -> str:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text  # not a time: the database reports it
    return text if time.tzinfo is None else time.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(" ")
