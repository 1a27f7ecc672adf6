"""A CREATE TABLE statement for the result of an enrichment."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.column_types import (
    META_COLUMN_TYPES,
    describe_columns,
    describe_later_columns,
    kind_of,
)
from airflow_provider_responses.enrich.json_values import to_json
from airflow_provider_responses.enrich.sources import CHUNK, Row
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases.database import KnownDatabase
from airflow_provider_responses.operators.databases.lookup import KNOWN, find_database, get_db_hook
from airflow_provider_responses.operators.judge_argument import check_judge
from airflow_provider_responses.operators.source_argument import check_source, read_source
from airflow_provider_responses.operators.sql import SqlTable
from airflow_provider_responses.task.escalation import check_escalations
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.validation import check_choice

if TYPE_CHECKING:
    pass


def create_table_sql(
    table: SqlTable,
    source: Any,
    *,
    output_type: Any,
    key: str | None,
    database: str | None,
    escalate: Any,
    judge: Any,
) -> str:
    """Return the statement; see ``SqlTable.create_table_sql``."""
    known = _database_class(table, database)
    check_source(source, rendered=True)
    request = TaskRequest(fields={}, output_type=output_type, stream=False)
    responses = describe_columns(request, nullable=False)
    columns = source_columns(next(read_source(source), []))
    columns |= {column.name: column.kind for column in responses}
    columns |= {name: kind for name, (kind, _) in META_COLUMN_TYPES.items()}
    escalations = check_escalations(escalate)
    later = describe_later_columns(escalates=bool(escalations), judge=check_judge(judge, escalations), nullable=False)
    columns |= {column.name: column.kind for column in later}
    if key is not None and key not in columns:
        raise ConfigurationError(f"create_table_sql: key={key!r} is not a column; the columns are {', '.join(columns)}")
    if table.columns is not None:
        if missing := [name for name in table.columns if name not in columns]:
            raise ConfigurationError(
                f"create_table_sql: the result has no column {missing[0]!r}, which SqlTable(columns=...) names; its "
                f"columns are {', '.join(columns)}"
            )
        columns = {name: columns[name] for name in dict.fromkeys([*([key] if key else []), *table.columns])}
    lines = [f"    {known.quote(name)} {known.create_type(kind, is_key=name == key)}" for name, kind in columns.items()]
    return f"CREATE TABLE {table.table} (\n" + ",\n".join(lines) + "\n);"


def _database_class(table: SqlTable, name: str | None) -> type[KnownDatabase]:
    check_choice("create_table_sql: database", name, KNOWN, optional=True, error=ConfigurationError)
    if name is not None:
        return KNOWN[name]
    found = type(find_database(get_db_hook(table.conn_id, "load_to")))
    if not issubclass(found, KnownDatabase):
        raise ConfigurationError(
            f"create_table_sql: the types of connection {table.conn_id!r}'s database are not known. Set database=... "
            f"to one of {', '.join(map(repr, KNOWN))}"
        )
    return found


def source_columns(rows: Iterable[Row]) -> dict[str, str]:
    """Return the columns of rows, each with the kind of its values; text where all are null."""
    rows = list(rows)[:CHUNK]
    names = dict.fromkeys(str(name) for name in chain.from_iterable(rows))
    return {name: _common_kind({_kind(row.get(name), name) for row in rows} - {"null"}) for name in names}


def _common_kind(kinds: set[str]) -> str:
    if kinds <= {"integer", "number"} and len(kinds) > 1:
        return "number"
    if len(kinds) == 1:
        return kinds.pop()
    return "text" if not kinds or "json" not in kinds else "json"


def _kind(value: Any, name: str) -> str:
    """Return the kind of a value in the result; ``null`` for None."""
    if isinstance(value, decimal.Decimal):
        return "decimal" if value.is_finite() else "null"
    if isinstance(value, datetime.datetime):
        return "local time" if value.tzinfo is None else "time"
    if isinstance(value, datetime.date):
        return "date"
    return kind_of(to_json(value, name))
