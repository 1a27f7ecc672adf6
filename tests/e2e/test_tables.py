"""Rows from PostgreSQL and into it, and an enrichment between them whose task is killed. Real processes."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel

from airflow_provider_responses.exceptions import OutputError, SourceError
from airflow_provider_responses.operators.databases.query import read_query
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import context
from tests.e2e import postgres

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def sql(server, monkeypatch):
    """Return a function that runs statements in a database of the test's own, the connection ``warehouse``."""
    with closing(server.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS warehouse")
    server.create("warehouse")
    warehouse = {"conn_type": "postgres", "host": "127.0.0.1", "port": server.port}
    warehouse |= {"login": postgres.USER, "schema": "warehouse"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(warehouse))
    with closing(server.connect("warehouse")) as connection, connection.cursor() as cursor:

        def run(statement: str) -> list[tuple]:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

        yield run


class Label(BaseModel):
    mood: str


class TestQuery:
    def test_rows_stay_on_the_server_until_they_are_wanted(self, sql):
        # The 2,500th row cannot be computed: a query that is read as a whole would give none.
        chunks = read_query(
            SqlQuery("warehouse", "SELECT n, 1 / (2500 - n) AS share FROM generate_series(1, 5000) AS n")
        )
        assert next(chunks)[0] == {"n": 1, "share": 0}
        assert len(next(chunks)) == 1000
        with pytest.raises(SourceError, match=r"'warehouse' failed .*division by zero") as caught:
            next(chunks)
        assert caught.value.retryable

    def test_parameters(self, sql):
        assert list(read_query(SqlQuery("warehouse", "SELECT %(n)s + 1 AS n", {"n": 1}))) == [[{"n": 2}]]

    def test_what_is_no_select(self, sql):
        with pytest.raises(SourceError, match="source: the query on connection 'warehouse' failed"):
            list(read_query(SqlQuery("warehouse", "CREATE TABLE t (n int)")))


class TestLoading:
    @pytest.fixture(autouse=True)
    def tables(self, sql):
        sql("CREATE TABLE reviews AS SELECT 'r' || n AS id, 'review ' || n AS text FROM generate_series(1, 5) AS n")
        sql('CREATE TABLE labels (id text PRIMARY KEY, "Mood" text, "order" int, checked_by text)')

    def enrich(self, folder, **kwargs):
        given = {
            "source": SqlQuery("warehouse", "SELECT *, 1 AS order FROM reviews ORDER BY id"),
            "key": "id",
            "input": "Mood of: {{ row.text }}",
            "model": "openai/gpt-4o-mini",
            "output_type": Label,
            "output_path": str(folder / "out"),
            "load_to": SqlTable("warehouse", "labels", columns=["mood", "order"]),
        }
        return ResponsesEnrichOperator(task_id="label", **(given | kwargs)).execute(context())

    def test_an_upsert_changes_only_what_it_loads(self, sql, tmp_path, responses_sandbox):
        sql("INSERT INTO labels VALUES ('r2', 'old', 0, 'Anna')")
        for _ in range(2):
            self.enrich(tmp_path)
        kept = 'SELECT id, "Mood" <> \'old\', "order", checked_by FROM labels ORDER BY id'
        assert sql(kept) == [(f"r{n}", True, 1, "Anna" if n == 2 else None) for n in range(1, 6)]
        assert len(responses_sandbox.ledger) == 5

    def test_what_is_nested_goes_into_a_column_of_json(self, sql, tmp_path, responses_sandbox):
        class Tagged(BaseModel):
            tags: list[str]

        sql("CREATE TABLE tagged (id text UNIQUE, tags jsonb)")
        self.enrich(tmp_path, output_type=Tagged, load_to=SqlTable("warehouse", "tagged"))
        assert sql("SELECT DISTINCT jsonb_typeof(tags) FROM tagged") == [("array",)]

    def test_values_become_what_the_columns_are(self, sql, tmp_path, responses_sandbox):
        kinds = "day date, at timestamptz, share numeric, good bool, mood text, _cost float"
        sql(f"CREATE TABLE kinds (id text UNIQUE, {kinds})")
        rows = "SELECT n AS id, date '2026-01-01' + n AS day, now() AS at, 1.50 AS share, n > 1 AS good"
        source = SqlQuery("warehouse", f"{rows}, 'same' AS text FROM generate_series(1, 3) AS n")
        self.enrich(tmp_path, source=source, load_to=SqlTable("warehouse", "kinds"))
        kept = "SELECT id, day::text, at < now(), share::text, good, _cost > 0 FROM kinds ORDER BY id"
        assert sql(kept) == [
            ("1", "2026-01-02", True, "1.50", False, True),
            ("2", "2026-01-03", True, "1.50", True, False),
            ("3", "2026-01-04", True, "1.50", True, False),
        ]

    def test_more_rows_than_go_into_one_statement(self, sql, tmp_path, responses_sandbox):
        rows = [{"id": f"r{n}", "text": "the same"} for n in range(2000)]
        manifest = self.enrich(tmp_path, source=rows, load_to=SqlTable("warehouse", "labels"))
        assert manifest["rows"] == sql("SELECT count(*) FROM labels")[0][0] == 2000
        assert len(responses_sandbox.ledger) == 1

    def test_a_key_that_is_not_unique_costs_nothing(self, sql, tmp_path, responses_sandbox):
        sql("CREATE TABLE twice (id text, mood text)")
        with pytest.raises(Exception, match="load_to: column 'id' is not unique in table 'twice'"):
            self.enrich(tmp_path, load_to=SqlTable("warehouse", "twice"))
        assert not responses_sandbox.ledger

    def test_all_rows_or_none(self, sql, tmp_path, responses_sandbox):
        sql("ALTER TABLE labels ADD CHECK (id <> 'r2000')")
        rows = "SELECT 'r' || n AS id, 'the same' AS text, 1 AS order FROM generate_series(1, 2000) AS n"
        source = SqlQuery("warehouse", rows)
        table = SqlTable("warehouse", "labels", columns=["mood", "order"], trial=False)  # which would find it before
        with pytest.raises(OutputError, match="a retry only loads them") as caught:
            self.enrich(tmp_path, source=source, load_to=table)
        assert caught.value.retryable
        assert sql("SELECT * FROM labels") == []
        sql("ALTER TABLE labels DROP CONSTRAINT labels_id_check")
        self.enrich(tmp_path, source=source)
        assert sql("SELECT count(*) FROM labels") == [(2000,)]
        assert len(responses_sandbox.ledger) == 1

    def test_a_nul_is_replaced_as_in_responses(self, sql, tmp_path, responses_sandbox):
        sql("CREATE TABLE texts (id text UNIQUE, text text, more jsonb, many text[], mood text)")
        rows = [{"id": "r1", "text": "a\0b", "more": {"c\0": ["\0"]}, "many": ["\0d"]}]
        self.enrich(tmp_path, source=rows, load_to=SqlTable("warehouse", "texts"))
        assert sql("SELECT text, more, many FROM texts") == [("a\ufffdb", {"c\ufffd": ["\ufffd"]}, ["\ufffdd"])]

    @pytest.mark.parametrize("kind", ["bytea", "bytea[]"])
    def test_bytes_cost_nothing(self, kind, sql, tmp_path, responses_sandbox):
        sql(f'CREATE TABLE files (id text UNIQUE, "Body" {kind}, mood text)')
        source = SqlQuery("warehouse", "SELECT 'f1' AS id, 'text' AS text, '\\x00ff'::bytea AS body")
        with pytest.raises(
            AirflowFailException, match=r"column 'body' of table 'files' is bytea.*, and the result has bytes"
        ):
            self.enrich(tmp_path, source=source, load_to=SqlTable("warehouse", "files"))
        assert not responses_sandbox.ledger
        self.enrich(tmp_path, source=source, load_to=SqlTable("warehouse", "files", columns=["mood"]))
        assert sql('SELECT id, "Body" FROM files') == [("f1", None)]

    def test_seconds_become_intervals(self, sql, tmp_path, responses_sandbox):
        sql("CREATE TABLE took (id int UNIQUE, took interval, mood text)")
        rows = """
            SELECT n AS id, 'the same' AS text, took::interval FROM (
                VALUES (1, '3.5 s'), (2, '-100 years'), (3, '1 microsecond'), (4, NULL)
            ) AS spans (n, took)
        """
        for _ in range(2):
            self.enrich(tmp_path, source=SqlQuery("warehouse", rows), load_to=SqlTable("warehouse", "took"))
        kept = "SELECT extract(epoch FROM took)::float FROM took ORDER BY id"
        assert sql(kept) == [(3.5,), (-36500 * 86400.0,), (1e-6,), (None,)]

    def test_text_is_an_interval_as_the_database_reads_it(self, sql, tmp_path, responses_sandbox):
        sql("CREATE TABLE took (id int UNIQUE, took interval, mood text)")
        rows = [{"id": 1, "text": "one", "took": "2 hours"}, {"id": 2, "text": "two", "took": "PT3S"}]
        self.enrich(tmp_path, source=rows, load_to=SqlTable("warehouse", "took"))
        assert sql("SELECT took::text FROM took ORDER BY id") == [("02:00:00",), ("00:00:03",)]

    def test_lists_become_arrays(self, sql, tmp_path, responses_sandbox):
        class Tagged(BaseModel):
            tags: list[str]

        sql("CREATE TYPE size AS ENUM ('small', 'very large')")
        kinds = "texts text[], numbers numeric[], days date[], grid int[], sizes size[], flags bool[], more jsonb[]"
        sql(f"CREATE TABLE lists (id int UNIQUE, {kinds}, tags varchar(200)[])")
        lists = {
            "texts": ["", 'a "b"', "c\\d", "{e,f}", "NULL", "two\nlines", "ü"],
            "numbers": [1, 2.5, None],
            "days": [datetime.date(2026, 1, 1)],
            "grid": [[1, 2], [3, 4]],
            "sizes": ["very large"],
            "flags": [True, False],
            "more": [{"a": ["b"]}, 5, "six", [7], None],
        }
        rows = [{"id": 1, "text": "a"} | lists, {"id": 2, "text": "b"} | {name: [] for name in lists}]
        self.enrich(tmp_path, source=rows, output_type=Tagged, load_to=SqlTable("warehouse", "lists"))
        kept = "SELECT texts, numbers, days, grid, sizes::text[], flags, more FROM lists ORDER BY id"
        first, second = sql(kept)
        assert first == tuple(lists.values())
        assert second == ([],) * len(lists)
        assert sql("SELECT DISTINCT cardinality(tags) > 0 FROM lists") == [(True,)]

    def test_a_connection_whose_rows_are_dicts(self, sql, tmp_path, responses_sandbox, monkeypatch):
        warehouse = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE"]) | {"extra": {"cursor": "dictcursor"}}
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(warehouse))
        sql("CREATE TABLE took (id text UNIQUE, took interval, mood text)")
        source = SqlQuery("warehouse", "SELECT id, text, interval '2 s' AS took FROM reviews ORDER BY id")
        self.enrich(tmp_path, source=source, load_to=SqlTable("warehouse", "took"))
        kept = sql("SELECT id, took::text FROM took ORDER BY id")
        assert kept == [(f"r{n}", "00:00:02") for n in range(1, 6)]
