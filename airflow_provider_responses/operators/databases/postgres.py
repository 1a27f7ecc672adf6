"""PostgreSQL, with psycopg2 or psycopg 3."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Final

from airflow_provider_responses.operators.databases.database import (
    KnownDatabase,
    RefusalReason,
    row_values,
    to_json_text,
)
from airflow_provider_responses.task.texts import storable


class Postgres(KnownDatabase):
    """PostgreSQL, with psycopg2 or psycopg 3."""

    title = "PostgreSQL"
    types: ClassVar[Mapping[str, str]] = {
        "text": "text",
        "integer": "bigint",
        "number": "double precision",
        "decimal": "numeric",
        "json": "jsonb",
        "boolean": "boolean",
        "date": "date",
        "time": "timestamptz",
        "local time": "timestamp",
    }
    _json_arrays: Final = frozenset({"json[]", "jsonb[]"})

    @contextmanager
    def streaming_cursor(self, connection: Any) -> Iterator[Any]:
        from airflow_provider_responses.operators.databases.postgres_types import register_types

        # Plain cursors read all rows at once; named ones leave them on the server.
        with closing(connection.cursor("airflow_provider_responses")) as cursor:
            register_types(cursor)
            yield cursor

    def type_names(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        oids = ", ".join(str(column[1]) for column in columns) or "0"
        cursor.execute(f"SELECT oid, format_type(oid, NULL) FROM pg_type WHERE oid IN ({oids})")  # noqa: S608  numbers from the driver
        types: dict[int, str] = dict(map(row_values, cursor.fetchall()))  # type: ignore[arg-type]
        return {column[0]: types.get(column[1], "") for column in columns}

    def adapt(self, value: Any, type_name: str) -> Any:
        value = storable(value)
        if type_name == "interval" and type(value) in {int, float}:
            return datetime.timedelta(seconds=value)
        if type_name in self._json_arrays and isinstance(value, list):
            return _array_literal([to_json_text(item) for item in value])
        if type_name.endswith("[]") and isinstance(value, list):
            return _array_literal(value)
        return to_json_text(value) if isinstance(value, (Mapping, list)) else value

    def refusal_reason(self, error: Exception) -> RefusalReason:
        code = _sqlstate(error)
        if code == "23502":
            return "null"
        if code[:2] == "23" or code == "P0001":  # raised by a trigger
            return "constraint"
        return "value" if code[:2] in {"22", "42"} else "other"

    def safe_message(self, error: Exception) -> str:
        reason = self.refusal_reason(error)
        if reason == "other":
            return str(error)
        # The details after the first sentence hold the row; the value stands after the sentence's colon.
        message = str(getattr(getattr(error, "diag", None), "message_primary", None) or type(error).__name__)
        return message.split(': "', 1)[0] if reason == "value" else message


def _sqlstate(error: Exception) -> str:
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


def _array_literal(items: list[Any]) -> str:
    """Return a list as PostgreSQL's literal of an array of any type."""
    return f"{{{','.join(_array_literal(item) if isinstance(item, list) else _item(item) for item in items)}}}"


def _item(item: Any) -> str:
    if item is None:
        return "NULL"
    text = item if isinstance(item, str) else to_json_text(item)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
