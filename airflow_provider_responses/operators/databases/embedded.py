"""Databases in the process: SQLite and DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_responses.operators.databases.base import Known, Refusal


class Sqlite(Known):
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

    def refusal(self, error: Exception) -> Refusal:
        code = getattr(error, "sqlite_errorcode", 0)
        if code in {18, 20, 3091}:  # TOOBIG, MISMATCH, CONSTRAINT_DATATYPE
            return "value"
        if code == 1299:  # CONSTRAINT_NOTNULL
            return "null"
        return "constraint" if code & 0xFF == 19 else "other"

    def said(self, error: Exception) -> str:
        return str(error)  # which names types and columns only


class DuckDb(Known):
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

    def kinds(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        return {column[0]: str(column[1]).lower() for column in columns}

    def refusal(self, error: Exception) -> Refusal:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "ConstraintException" in kinds:
            return "null" if "NOT NULL constraint" in str(error) else "constraint"
        return "value" if kinds & {"DataError", "BinderException", "NotSupportedError"} else "other"

    def said(self, error: Exception) -> str:
        first = str(error).split("\n", 1)[0]
        if self.refusal(error) == "value":
            return re.sub(r"(['\"]).*\1", "a text", first)
        return re.sub(r'key "[^"]*:.*"', "key", first)

    def _cursor(self, connection: Any) -> Any:
        return connection

    def _begin(self, connection: Any, cursor: Any) -> None:  # noqa: ARG002
        connection.begin()
