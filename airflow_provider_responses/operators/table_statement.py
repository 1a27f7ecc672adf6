"""A CREATE TABLE statement for the result of an enrichment."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.answers import fields_of, type_of
from airflow_provider_responses.enrich.output_columns import OWN_COLUMNS, columns_of
from airflow_provider_responses.enrich.sources import CHUNK, CsvFile, Row, Sql, read_file, read_rows
from airflow_provider_responses.enrich.values import to_json
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.operators.databases import KNOWN, database_of, hook_of
from airflow_provider_responses.operators.databases.base import Known
from airflow_provider_responses.operators.paths import open_path
from airflow_provider_responses.operators.queries import query
from airflow_provider_responses.task.request import TaskRequest

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.operators.tables import SqlTable

_KINDS: Final[tuple[tuple[Any, str], ...]] = (
    *((bool, "boolean"), (int, "integer"), (float, "number"), (str, "text")),
    ((Mapping, list), "json"),
)


def create_table_sql(
    table: SqlTable, source: Any, *, output_type: type[BaseModel] | None, key: str | None, database: str | None
) -> str:
    """Return the statement; see ``SqlTable.create_table_sql``."""
    known = _database(table, database)
    run = TaskRequest(fields={}, output_type=output_type, stream=False)
    responses = columns_of(type_of(run), fields_of(run), nullable=False)
    columns = kinds_of(next(_chunks(source), []))
    columns |= {column.name: column.kind for column in responses}
    columns |= {name: kind for name, (kind, _) in OWN_COLUMNS.items()}
    if key is not None and key not in columns:
        raise ConfigurationError(f"create_table_sql: there is no key {key!r}; the columns are {', '.join(columns)}")
    if table.columns is not None:
        if missing := [name for name in table.columns if name not in columns]:
            raise ConfigurationError(
                f"create_table_sql: SqlTable(columns=...) names {missing[0]!r}, which the result has not; its columns "
                f"are {', '.join(columns)}"
            )
        columns = {name: columns[name] for name in dict.fromkeys([*([key] if key else []), *table.columns])}
    type_for = known.column_types(key)
    lines = [f"    {known.in_quotes(name)} {type_for(name, kind)}" for name, kind in columns.items()]
    return f"CREATE TABLE {table.table} (\n" + ",\n".join(lines) + "\n);"


def _database(table: SqlTable, name: str | None) -> type[Known]:
    if name is not None and name not in KNOWN:
        raise ConfigurationError(f"create_table_sql: database is {name!r}; allowed are {', '.join(map(repr, KNOWN))}")
    if name is not None:
        return KNOWN[name]
    found = type(database_of(hook_of(table.conn_id, "load_to")))
    if not issubclass(found, Known):
        raise ConfigurationError(
            f"create_table_sql: the types of connection {table.conn_id!r}'s database are not known here; give "
            f"database=..., one of {', '.join(map(repr, KNOWN))}"
        )
    return found


def _chunks(source: Any) -> Iterator[list[Row]]:
    if isinstance(source, Sql):
        return query(source)
    if isinstance(source, CsvFile):
        source.check()
        return read_file(open_path(source.path), csv_options=source)
    if isinstance(source, (list, tuple)):
        return read_rows(source)
    return read_file(open_path(source))


def kinds_of(rows: Iterable[Row]) -> dict[str, str]:
    """Return the columns of rows, each with the kind of its values: text, if there is none."""
    rows = list(rows)[:CHUNK]
    names = dict.fromkeys(str(name) for name in chain.from_iterable(rows))
    return {name: _together({_kind(row.get(name), name) for row in rows} - {""}) for name in names}


def _together(kinds: set[str]) -> str:
    if kinds <= {"integer", "number"} and len(kinds) > 1:
        return "number"
    if len(kinds) == 1:
        return kinds.pop()
    return "text" if not kinds or "json" not in kinds else "json"


def _kind(value: Any, name: str) -> str:
    """Return what the result has for a value; nothing for null."""
    if isinstance(value, decimal.Decimal):
        return "decimal" if value.is_finite() else ""
    if isinstance(value, datetime.datetime):
        return "local time" if value.tzinfo is None else "time"
    if isinstance(value, datetime.date):
        return "date"
    value = to_json(value, name)
    for kind, holds in _KINDS:
        if isinstance(value, kind):
            return holds
    return ""
