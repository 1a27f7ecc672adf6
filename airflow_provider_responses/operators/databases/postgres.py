"""PostgreSQL, with psycopg2 or psycopg 3."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar, Final

from airflow_provider_responses.operators.databases.base import Known, Refusal, text_of, values_of
from airflow_provider_responses.task.texts import storable


class Postgres(Known):
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
    _jsons: Final = frozenset({"json[]", "jsonb[]"})

    @contextmanager
    def streaming(self, connection: Any) -> Iterator[Any]:
        from airflow_provider_responses.operators.databases.postgres_types import define

        # Plain cursors read all rows at once; named ones leave them on the server.
        with closing(connection.cursor("airflow_provider_responses")) as cursor:
            define(cursor)
            yield cursor

    def kinds(self, cursor: Any, table: str, columns: Sequence[Any]) -> Mapping[str, str]:  # noqa: ARG002
        numbers = ", ".join(str(column[1]) for column in columns) or "0"
        cursor.execute(f"SELECT oid, format_type(oid, NULL) FROM pg_type WHERE oid IN ({numbers})")  # noqa: S608  its own numbers
        types: dict[int, str] = dict(map(values_of, cursor.fetchall()))  # type: ignore[arg-type]
        return {column[0]: types.get(column[1], "") for column in columns}

    def cell(self, value: Any, kind: str) -> Any:
        value = storable(value)
        if kind == "interval" and type(value) in {int, float}:
            return datetime.timedelta(seconds=value)
        if kind in self._jsons and isinstance(value, list):
            return _array([text_of(item) for item in value])
        if kind.endswith("[]") and isinstance(value, list):
            return _array(value)
        return text_of(value) if isinstance(value, (Mapping, list)) else value

    def refusal(self, error: Exception) -> Refusal:
        code = _sqlstate(error)
        if code == "23502":
            return "null"
        if code[:2] == "23" or code == "P0001":  # raised by a trigger
            return "constraint"
        return "value" if code[:2] in {"22", "42"} else "other"

    def said(self, error: Exception) -> str:
        refusal = self.refusal(error)
        if refusal == "other":
            return str(error)
        # The details after the first sentence hold the row, and after its colon comes the value.
        said = str(getattr(getattr(error, "diag", None), "message_primary", None) or type(error).__name__)
        return said.split(': "', 1)[0] if refusal == "value" else said


def _sqlstate(error: Exception) -> str:
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


def _array(items: list[Any]) -> str:
    """Write PostgreSQL's literal of an array, which an array of any type reads."""
    return f"{{{','.join(_array(item) if isinstance(item, list) else _item(item) for item in items)}}}"


def _item(item: Any) -> str:
    if item is None:
        return "NULL"
    text = item if isinstance(item, str) else text_of(item)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
