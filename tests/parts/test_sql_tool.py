"""``sql_tool`` on PostgreSQL, MariaDB and DuckDB. Real servers."""

from __future__ import annotations

import json

import pytest

from airflow_provider_responses.operators.sql_tool import SqlFailedError, sql_tool
from airflow_provider_responses.tools.select_only import SqlRefusedError
from tests.parts.test_databases import postgres_server, warehouse  # noqa: F401  fixtures
from tests.tools import sql_corpus

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]


@pytest.fixture
def query(warehouse):  # noqa: F811  the fixture
    """A function that calls the tool, on a warehouse with the tables of the corpus."""
    for statement in sql_corpus.SCHEMA:
        warehouse.run(statement)
    tool = sql_tool("warehouse", tables=sql_corpus.TABLES)

    def run(sql: str) -> list[list[object]]:
        return tool.call(tool.read_arguments(json.dumps({"sql": sql})), "key")["rows"]

    run.kind = warehouse.kind
    return run


def test_ordinary_selects_return_rows(query):
    failed = {}
    for sql in sql_corpus.ORDINARY + sql_corpus.ORDINARY_OF[query.kind]:
        try:
            assert query(sql)
        except (SqlRefusedError, SqlFailedError, AssertionError) as error:
            failed[sql] = error

    assert failed == {}


def test_no_attack_reads_the_value_of_another_table(query):
    refused = 0
    for sql in sql_corpus.ATTACKS:
        try:
            assert sql_corpus.CANARY not in repr(query(sql)), sql
        except SqlRefusedError:
            refused += 1

    assert refused >= len(sql_corpus.ATTACKS) - len(sql_corpus.HARMLESS)


def test_the_session_itself_refuses_to_write(query, monkeypatch):
    monkeypatch.setattr("airflow_provider_responses.tools.select_only.read_only_sql", lambda sql, **_: sql)

    with pytest.raises(SqlFailedError, match=r"(?i)read.?only"):
        query("INSERT INTO customers VALUES (9, 'Di', 'Rome')")
