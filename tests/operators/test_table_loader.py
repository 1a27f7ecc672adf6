"""Loads of a result into a database, against the sandbox and SQLite."""

from __future__ import annotations

import sqlite3

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.sqlite.hooks.sqlite import SqliteHook
from pydantic import BaseModel

from airflow_provider_responses.exceptions import OutputError
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import context
from tests.operators.enrichments import ROWS, Label, enrich, result


class Other(sqlite3.Connection):
    """A connection of a driver that is not known here."""


class TestLoading:
    """Rows are loaded in the table's form; a table that cannot hold them is refused before anything is sent."""

    def enrich(self, folder, table, **kwargs):
        return enrich(folder, **({"key": "id", "output_type": Label, "load_to": table} | kwargs)).execute(context())

    def rows(self, database, query):
        with sqlite3.connect(database) as connection:
            return connection.execute(query).fetchall()

    def test_an_upsert_leaves_columns_that_are_not_loaded_unchanged(self, tmp_path, database, responses_sandbox):
        with sqlite3.connect(database) as connection:
            connection.execute("ALTER TABLE labels ADD COLUMN checked_by TEXT")
            connection.execute("INSERT INTO labels (id, mood, checked_by) VALUES ('r1', 'old', 'Anna')")
        self.enrich(tmp_path, SqlTable("warehouse", "labels"))
        assert self.rows(database, "SELECT checked_by, mood <> 'old' FROM labels WHERE id = 'r1'") == [("Anna", 1)]
        assert self.rows(database, "SELECT count(*) FROM labels") == [(5,)]

    def test_values_keep_their_types_and_nested_ones_are_json(self, tmp_path, database, responses_sandbox):
        class Kinds(BaseModel):
            good: bool
            stars: int
            tags: list[str]

        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE kinds (id TEXT UNIQUE, good BOOLEAN, stars, tags)")
        self.enrich(tmp_path, SqlTable("warehouse", "kinds"), output_type=Kinds)
        kinds = self.rows(database, "SELECT typeof(good), typeof(stars), json_type(tags) FROM kinds")
        assert set(kinds) == {("integer", "integer", "array")}

    def test_an_upsert_loads_the_key_though_columns_leaves_it_out(self, tmp_path, database, responses_sandbox):
        for _ in range(2):
            self.enrich(tmp_path, SqlTable("warehouse", "labels", columns=["mood"]))
        assert self.rows(database, "SELECT count(*), count(id), count(mood), count(text) FROM labels") == [(5, 5, 5, 0)]

    def test_two_columns_with_one_name_in_the_table_are_refused(self, tmp_path, database, responses_sandbox):
        rows = [{"ID": f"r{n}", "id": str(n), "text": "fine"} for n in range(3)]
        with pytest.raises(
            Exception, match="two columns of the result, 'ID' and another, have the same name in the table"
        ):
            self.enrich(tmp_path, SqlTable("warehouse", "labels"), source=rows, key="ID")
        assert not responses_sandbox.ledger

    def test_a_column_that_the_result_leaves_out_cannot_be_loaded(self, tmp_path, database, responses_sandbox):
        table = SqlTable("warehouse", "labels", columns=["id", "text"])
        with pytest.raises(
            AirflowFailException, match=r"the result has no column 'text'; its columns are _row, id, mood, "
        ):
            self.enrich(tmp_path, table, columns=[])
        assert not responses_sandbox.ledger

    def test_a_column_that_only_the_last_row_has_is_loaded(self, tmp_path, database, responses_sandbox):
        rows = [{"id": f"r{n}", "about": "the same"} for n in range(1500)]
        rows[-1]["text"] = "late"
        table = SqlTable("warehouse", "labels", columns=["text"])
        self.enrich(tmp_path, table, source=rows, input="{{ row.about }}")
        assert self.rows(database, "SELECT count(*), max(id), max(text) FROM labels") == [(1500, "r999", "late")]

    @pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
    @pytest.mark.parametrize("mode", ["insert", "upsert"])
    @pytest.mark.parametrize("columns", [None, ["text", "mood"]])
    def test_an_empty_source_loads_nothing(self, mode, columns, output_format, tmp_path, database, responses_sandbox):
        table = SqlTable("warehouse", "labels", columns, mode=mode)
        assert self.enrich(tmp_path, table, source=[], output_format=output_format)["rows"] == 0
        assert self.rows(database, "SELECT count(*) FROM labels") == [(0,)]

    @pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
    @pytest.mark.parametrize("mode", ["insert", "upsert"])
    def test_a_shard_without_rows_loads_nothing(self, mode, output_format, tmp_path, database, responses_sandbox):
        table = SqlTable("warehouse", "labels", mode=mode)
        given = {"source": ROWS[:1], "output_format": output_format}
        loaded = [self.enrich(tmp_path, table, shard=(number, 2), **given)["rows"] for number in range(2)]
        assert sorted(loaded) == [0, 1]
        assert self.rows(database, "SELECT id FROM labels") == [("r0",)]

    def test_a_nul_is_loaded_as_its_replacement_in_responses(self, tmp_path, database, responses_sandbox):
        rows = [{"id": "r0", "text": "a\0b"}, {"id": "r1", "text": {"deep": ["a\0b"]}}]
        self.enrich(tmp_path, SqlTable("warehouse", "labels"), source=rows)
        assert self.rows(database, "SELECT text FROM labels") == [("a\ufffdb",), ('{"deep": ["a\ufffdb"]}',)]
        assert result(tmp_path)[0]["text"] == "a\0b"

    def test_a_load_of_many_statements_is_one_transaction(self, tmp_path, database, responses_sandbox):
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE few (id TEXT PRIMARY KEY, mood TEXT, CHECK (id <> 'r1999'))")
        rows = [{"id": f"r{n}", "text": "the same"} for n in range(2000)]
        with pytest.raises(OutputError, match="CHECK constraint failed"):
            self.enrich(tmp_path, SqlTable("warehouse", "few", trial=False), source=rows)
        assert self.rows(database, "SELECT count(*) FROM few") == [(0,)]

    @pytest.fixture
    def few(self, database, monkeypatch):
        """A table that refuses the 2,401st row, in a database whose SQL is not known here."""
        monkeypatch.setattr(SqliteHook, "conn_type", "other")
        monkeypatch.setattr(SqliteHook, "get_conn", lambda _: sqlite3.connect(database, factory=Other))
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE few (id TEXT PRIMARY KEY, mood TEXT, person TEXT, CHECK (id <> 'r2400'))")
            connection.execute("INSERT INTO few (id, person) VALUES ('r7', 'Anna')")

    def fill(self, folder, mode, first):
        rows = [{"id": f"r{n}", "text": "the same"} for n in range(first, 2500)]
        with pytest.raises(OutputError, match="CHECK constraint failed"):
            self.enrich(folder, SqlTable("warehouse", "few", mode=mode), source=rows)

    def test_another_database_replaces_rows_as_its_hook_does(
        self, tmp_path, database, few, responses_sandbox, monkeypatch
    ):
        given = {}
        insert_rows = SqliteHook.insert_rows
        monkeypatch.setattr(
            SqliteHook, "insert_rows", lambda *args, **kwargs: (given.update(kwargs), insert_rows(*args, **kwargs))
        )
        self.fill(tmp_path, "upsert", first=0)
        assert given == {
            "target_fields": ["id", "mood"],
            "commit_every": 1000,
            "replace": True,
            "replace_index": ["id"],
        }
        assert self.rows(database, "SELECT count(*), count(mood), count(person) FROM few") == [(2000, 2000, 0)]

    def test_an_insert_into_another_database_is_one_transaction(self, tmp_path, database, few, responses_sandbox):
        self.fill(tmp_path, "insert", first=10)
        assert self.rows(database, "SELECT * FROM few") == [("r7", None, "Anna")]

    def test_insert_adds_all_rows(self, tmp_path, database, responses_sandbox):
        table = SqlTable("warehouse", "reviews", columns=["id", "mood"], mode="insert")
        with sqlite3.connect(database) as connection:
            connection.execute("ALTER TABLE reviews ADD COLUMN mood TEXT")
        self.enrich(tmp_path, table)
        assert self.rows(database, "SELECT count(*), count(mood), count(text) FROM reviews") == [(10, 5, 5)]

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (SqlTable("warehouse", "nothing"), "load_to: table 'nothing' of connection 'warehouse' cannot be read"),
            (SqlTable("warehouse", "reviews"), "load_to: table 'reviews' has no column 'mood'; it has id, text"),
            (SqlTable("warehouse", "labels", ["id", "prize"]), "load_to: table 'labels' has no column 'prize'"),
            (SqlTable("warehouse", "labels_twice"), "load_to: column 'id' is not unique in table 'labels_twice'"),
            (SqlTable("responses_default", "labels"), "load_to: connection 'responses_default'"),
        ],
    )
    def test_a_table_that_cannot_hold_the_result_costs_nothing(
        self, table, message, tmp_path, database, responses_sandbox
    ):
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE labels_twice (id TEXT, mood TEXT)")
        with pytest.raises(Exception, match="load_to") as caught:
            self.enrich(tmp_path, table)
        assert message in str(caught.value)
        assert not responses_sandbox.ledger

    def test_responses_are_kept_when_the_database_refuses_the_rows(self, tmp_path, database, responses_sandbox):
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE strict_labels (id TEXT PRIMARY KEY, mood TEXT CHECK (mood = 'x'))")
        with pytest.raises(OutputError, match="All responses are in the output, and a retry only loads them") as caught:
            self.enrich(tmp_path, SqlTable("warehouse", "strict_labels"))
        assert caught.value.retryable
        assert self.rows(database, "SELECT * FROM strict_labels") == []
        assert len(result(tmp_path)) == len(responses_sandbox.billed) == 5

    @pytest.mark.parametrize(
        ("sql", "message"),
        [("SELECT idd FROM reviews", "no such column: idd"), ("SELECT id, id FROM reviews", "has two columns 'id'")],
    )
    def test_the_error_of_a_query_has_the_databases_message(self, sql, message, tmp_path, database, responses_sandbox):
        with pytest.raises(Exception, match=message):
            enrich(tmp_path, source=SqlQuery("warehouse", sql), key="id").execute(context())
