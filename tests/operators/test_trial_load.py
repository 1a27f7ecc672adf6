"""Trial loads, which are rolled back before anything is sent; here in SQLite, in tests/parts in others."""

from __future__ import annotations

import sqlite3

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from pydantic import BaseModel, Field

from airflow_provider_responses.enrich import CsvFile
from airflow_provider_responses.exceptions import ConfigurationError, OutputError
from airflow_provider_responses.operators.sql import SqlTable
from tests.airflow_fakes import context
from tests.operators.enrichments import Label, enrich, result


class TestTrialLoad:
    @pytest.fixture
    def execute(self, database):
        def run(statement):
            with sqlite3.connect(database) as connection:
                return connection.execute(statement).fetchall()

        return run

    def load(self, folder, **given):
        defaults = {"key": "id", "output_type": Label, "load_to": SqlTable("warehouse", "strict_labels")}
        return enrich(folder, **(defaults | given)).execute(context())

    def test_an_empty_value_of_a_csv_is_named_and_null_values_corrects_it(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, stars INTEGER, mood TEXT) STRICT")
        path = tmp_path / "in.csv"
        path.write_text("id,text,stars\n" + "".join(f"r{n},the same,{n}\n" for n in range(1200)) + "last,x,\n")
        with pytest.raises(AirflowFailException, match="row 1200: column 'stars' holds an empty text, which") as caught:
            self.load(tmp_path, source=str(path))
        assert "null_values=['']" in str(caught.value)
        assert not responses_sandbox.ledger
        self.load(tmp_path, source=CsvFile(str(path), null_values=[""]))
        assert execute("SELECT count(*), count(stars), max(stars) FROM strict_labels") == [(1201, 1200, 1199)]

    def test_rows_that_have_responses_are_not_tried(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT)")
        self.load(tmp_path)
        execute("DROP TABLE strict_labels")
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT, CHECK (id <> 'r3'))")
        with pytest.raises(OutputError, match="rows could not be loaded into table 'strict_labels'"):
            self.load(tmp_path)

    def test_a_trial_load_leaves_no_rows(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT, checked_by TEXT)")
        execute("INSERT INTO strict_labels VALUES ('r1', 'old', 'Anna')")
        responses_sandbox.script(*[{"status": 400}] * 5)
        with pytest.raises(AirflowFailException):
            self.load(tmp_path)
        assert execute("SELECT * FROM strict_labels") == [("r1", "old", "Anna")]

    def test_a_constraint_on_responses_is_not_checked_with_samples(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT NOT NULL CHECK (mood <> 'text'))")
        self.load(tmp_path)
        assert execute("SELECT count(*) FROM strict_labels") == [(5,)]

    def test_a_constraint_on_the_source_is_checked(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY CHECK (id <> 'r3'), mood TEXT CHECK (mood <> 'text'))")
        with pytest.raises(AirflowFailException, match="load_to: row 3 does not fit table 'strict_labels': CHECK"):
            self.load(tmp_path)
        assert not responses_sandbox.ledger

    def test_rows_that_do_not_fit_together_are_named(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, text TEXT UNIQUE, mood TEXT)")
        rows = [{"id": f"r{n}", "text": f"{n % 4}"} for n in range(5)]
        with pytest.raises(AirflowFailException, match="load_to: rows 0 to 4 together do not fit table"):
            self.load(tmp_path, source=rows)
        assert not responses_sandbox.ledger

    def test_a_required_column_that_is_not_loaded_is_named(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT, owner TEXT NOT NULL)")
        expected = r"load_to: row 0 does not fit .*NOT NULL constraint failed: .*\.owner"
        with pytest.raises(AirflowFailException, match=expected):
            self.load(tmp_path)
        assert not responses_sandbox.ledger

    def test_a_field_of_output_type_that_does_not_fit_is_named(self, tmp_path, execute, responses_sandbox):
        class Numbered(BaseModel):
            mood: str = Field(max_length=40)

        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood INTEGER) STRICT")
        with pytest.raises(AirflowFailException, match="a response: 'mood' of output_type may be a text of 4 char"):
            self.load(tmp_path, output_type=Numbered)
        assert not responses_sandbox.ledger

    def test_invalid_outputs_that_are_returned_need_columns_that_allow_null(self, tmp_path, execute, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT NOT NULL)")
        with pytest.raises(AirflowFailException, match="a response: 'mood' of output_type may be null"):
            self.load(tmp_path, on_invalid_output="return")
        self.load(tmp_path)
        assert len(result(tmp_path)) == 5

    def test_a_database_that_fails_is_retryable(self, tmp_path, execute, database, responses_sandbox):
        execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT)")
        with sqlite3.connect(database, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(SqliteHook, "get_conn", lambda _: sqlite3.connect(database, timeout=0))
                with pytest.raises(OutputError, match=r"load_to: .*database is locked") as caught:
                    self.load(tmp_path, load_to=SqlTable("warehouse", "strict_labels", mode="insert"))
            other.execute("ROLLBACK")
        assert caught.value.retryable
        assert not responses_sandbox.ledger


class TestCreateTable:
    def test_types_and_quotes_are_those_of_the_database(self):
        class Rich(BaseModel):
            stars: int
            tags: list[str]

        rows = [{"id": "r0", "n": 1, "share": 1}, {"id": "r1", "n": 2, "share": 0.5, 'a`"b': None}]
        table = SqlTable("nowhere", "labels", columns=["n", "share", 'a`"b', "stars", "tags", "_cost"])
        printed = {
            kind: table.create_table_sql(rows, output_type=Rich, key="id", database=kind)
            for kind in ("postgres", "mysql", "sqlite", "duckdb")
        }
        assert printed["postgres"] == (
            'CREATE TABLE labels (\n    "id" text PRIMARY KEY,\n    "n" bigint,\n    "share" double precision,\n'
            '    "a`""b" text,\n    "stars" bigint,\n    "tags" jsonb,\n    "_cost" double precision\n);'
        )
        assert "    `id` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY,\n" in printed["mysql"]
        assert '    `a``"b` LONGTEXT,\n' in printed["mysql"]
        assert '    "tags" JSON,\n' in printed["duckdb"]
        sqlite3.connect(":memory:").execute(printed["sqlite"])

    def test_the_database_is_the_connections_and_the_columns_are_the_files(self, tmp_path, database, responses_sandbox):
        path = tmp_path / "in.csv"
        path.write_text("sep=;\nid;text\nr0;fine\n")
        table = SqlTable("warehouse", "fitting")
        statement = table.create_table_sql(CsvFile(path, null_values=[""]), output_type=Label, key="id")
        with sqlite3.connect(database) as connection:
            connection.execute(statement)
        given = {"source": str(path), "key": "id", "output_type": Label, "load_to": table}
        enrich(tmp_path, **given).execute(context())
        with sqlite3.connect(database) as connection:
            assert connection.execute("SELECT id, text, _status FROM fitting").fetchall() == [("r0", "fine", "ok")]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"database": "oracle"},
                "create_table_sql: database must be 'postgres', 'sqlite', 'duckdb' or 'mysql', got 'oracle'",
            ),
            ({"key": "no"}, "key='no' is not a column; the columns are id, output, _status"),
        ],
    )
    def test_an_unknown_database_key_or_column_is_refused(self, given, message):
        with pytest.raises(ConfigurationError, match=message):
            SqlTable("nowhere", "labels").create_table_sql([{"id": 1}], **{"database": "sqlite"} | given)
        with pytest.raises(ConfigurationError, match="the result has no column 'prize', which SqlTable"):
            SqlTable("nowhere", "labels", columns=["prize"]).create_table_sql([{"id": 1}], database="sqlite")
