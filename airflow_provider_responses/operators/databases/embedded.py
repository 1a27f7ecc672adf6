"""Databases that run in the worker's process: SQLite and DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_responses.operators.databases.database import KnownDatabase, RefusalReason


class Sqlite(KnownDatabase):
    """SQLite."""

    title = "SQLite"
    types: ClassVar[Mapping[str, str]] = {
        "text": "TEXT",
        "integer": "INTEGER",
        "number": "REAL",
        "decimal": "TEXT",
        "json": "TEXT",
        "boolean": "INTEGER",
        "date": "TEXT",
        "time": "TEXT",
        "local time": "TEXT",
    }

    def refusal_reason(self, error: Exception) -> RefusalReason:
        code = getattr(error, "sqlite_errorcode", 0)
        if code in {18, 20, 3091}:  # TOOBIG, MISMATCH, CONSTRAINT_DATATYPE
            return "value"
        if code == 1299:  # CONSTRAINT_NOTNULL
            return "null"
        return "constraint" if code & 0xFF == 19 else "other"

    def safe_message(self, error: Exception) -> str:
        return str(error)  # it names types and columns only


class DuckDb(KnownDatabase):
    """DuckDB, whose cursors are connections of their own."""

    title = "DuckDB"
    types: ClassVar[Mapping[str, str]] = {
        "text": "VARCHAR",
        "integer": "BIGINT",
        "number": "DOUBLE",
        "decimal": "DECIMAL(38, 10)",
        "json": "JSON",
        "boolean": "BOOLEAN",
        "date": "DATE",
        "time": "TIMESTAMPTZ",
        "local time": "TIMESTAMP",
    }

    def type_names(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        return {column[0]: str(column[1]).lower() for column in columns}

    def refusal_reason(self, error: Exception) -> RefusalReason:
        names = {cls.__name__ for cls in type(error).__mro__}
        if "ConstraintException" in names:
            return "null" if "NOT NULL constraint" in str(error) else "constraint"
        return "value" if names & {"DataError", "BinderException", "NotSupportedError"} else "other"

    def safe_message(self, error: Exception) -> str:
        first_line = str(error).split("\n", 1)[0]
        if self.refusal_reason(error) == "value":
            return re.sub(r"(['\"]).*\1", "a text", first_line)
        return re.sub(r'key "[^"]*:.*"', "key", first_line)

    def _cursor(self, connection: Any) -> Any:
        return connection

    def _begin(self, connection: Any, cursor: Any) -> None:  # noqa: ARG002
        connection.begin()
