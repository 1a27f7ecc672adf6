"""Queries from and loads into PostgreSQL, MariaDB and DuckDB. Real servers."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel

from airflow_provider_responses.enrich import Judge
from airflow_provider_responses.exceptions import OutputError, SourceError
from airflow_provider_responses.operators.databases.query import read_query
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import context
from tests.operators.enrichments import enrich, inputs, result
from tests.parts import databases, postgresql

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]

MIB = 1024 * 1024
MOST_MEMORY = 200 * MIB

ALL = ("postgres", "mariadb", "duckdb")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgresql.Postgres]:
    with postgresql.running() as server:
        yield server


@pytest.fixture(params=ALL)
def warehouse(request, tmp_path, monkeypatch) -> Iterator[databases.Warehouse]:
    """An empty database of each kind, as the connection ``warehouse``."""
    kind, _, client = request.param.partition(":")
    if kind == "postgres":
        import airflow.providers.postgres.hooks.postgres as hooks

        if client:
            monkeypatch.setattr(hooks, "USE_PSYCOPG3", client == "psycopg")
        opened = databases.on_postgres(request.getfixturevalue("postgres_server"))
    elif kind == "mariadb":
        extra = {"client": client} if client else {}
        opened = databases.on_mariadb(request.getfixturevalue("mariadb_server"), **extra)
    else:
        opened = databases.on_duckdb(tmp_path)
    with opened as found:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", found.connection)
        yield found


def only(*kinds: str) -> Any:
    return pytest.mark.parametrize("warehouse", kinds, indirect=True)


DRIVERS = ("postgres:psycopg2", "postgres:psycopg", "mariadb:mysqlclient", "mariadb:mysql-connector-python", "duckdb")

READ = r"""
import re, sys
from pathlib import Path
from airflow_provider_responses.operators.databases.query import read_query
from airflow_provider_responses.operators.sql import SqlQuery

count = sum(len(chunk) for chunk in read_query(SqlQuery("warehouse", sys.argv[1])))
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]  # without that of the parent
print(count, int(peak) * 1024)
"""


class TestQuery:
    @staticmethod
    def read(sql: str) -> tuple[int, int]:
        """Read a query in a process of its own; return the number of its rows and its peak memory in bytes."""
        done = subprocess.run([sys.executable, "-c", READ, sql], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        count, memory = map(int, done.stdout.split()[-2:])
        return count, memory

    @only(*DRIVERS)
    def test_a_million_rows_are_streamed(self, warehouse):
        numbers = {
            "postgres": "generate_series(1, 1000000) AS t (n)",
            "mysql": "seq_1_to_1000000 AS t",
            "duckdb": "range(1000000) AS t (n)",
        }
        column = "seq" if warehouse.kind == "mysql" else "n"
        text = "'a review of some twenty words, which is about as long as this one'"
        count, memory = self.read(f"SELECT {column} AS id, {text} AS text FROM {numbers[warehouse.kind]}")  # noqa: S608
        print(f"{warehouse.kind}: {count} rows, {memory / MIB:.0f} MiB at most")
        assert count == 1_000_000
        assert memory < MOST_MEMORY

    @only(*DRIVERS[:4])
    def test_rows_of_a_megabyte_are_fetched_a_few_at_a_time(self, warehouse):
        source = "generate_series(1, 500) AS t (n)" if warehouse.kind == "postgres" else "seq_1_to_500 AS t"
        count, memory = self.read(f"SELECT repeat('x', 1000000) AS text FROM {source}")  # noqa: S608
        assert count == 500
        assert memory < MOST_MEMORY

    @only("mariadb:mysqlclient")
    def test_a_reader_that_stops_early_does_not_fetch_the_rest(self, warehouse):
        # Closing a cursor of mysqlclient reads all rows that are left, closing the connection does not.
        before = self.bytes_sent(warehouse)
        chunks = read_query(SqlQuery("warehouse", "SELECT seq, repeat('x', 1000) AS text FROM seq_1_to_500000"))
        assert len(next(chunks)) == 1000
        chunks.close()
        assert self.bytes_sent(warehouse) - before < 250_000_000

    @staticmethod
    def bytes_sent(warehouse) -> int:
        [(_, sent)] = warehouse.run("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")
        return int(sent)

    @only("postgres", "mariadb")
    def test_parameters_are_passed_and_a_query_may_return_no_rows(self, warehouse):
        assert list(read_query(SqlQuery("warehouse", "SELECT %(n)s + 1 AS n", {"n": 1}))) == [[{"n": 2}]]
        assert list(read_query(SqlQuery("warehouse", "SELECT 1 AS n WHERE 1 = 0"))) == []

    @only(*DRIVERS)
    def test_a_query_that_fails_is_retryable_and_names_the_connection(self, warehouse):
        with pytest.raises(SourceError, match="source: the query on connection 'warehouse' failed") as caught:
            list(read_query(SqlQuery("warehouse", "SELECT * FROM nothing")))
        assert caught.value.retryable

    @only("postgres:psycopg2", "postgres:psycopg")
    def test_values_of_postgresql_have_the_same_form_with_both_drivers(self, warehouse):
        values = {
            "'\\x00ff'::bytea": b"\x00\xff",
            "ARRAY['\\x00ff'::bytea]": [b"\x00\xff"],
            "'10.0.0.1'::inet": "10.0.0.1",
            "'10.0.0.1/24'::inet": "10.0.0.1/24",
            "'::ffff:1.2.3.4'::inet": "::ffff:1.2.3.4",
            "'10.0.0.0/8'::cidr": "10.0.0.0/8",
            "ARRAY['10.0.0.1'::inet, null]": ["10.0.0.1", None],
            "int4range(1, 5)": "[1,5)",
            "tstzrange('2024-01-01Z', null)": '["2024-01-01 00:00:00+00",)',
            "ARRAY[daterange('2024-01-01', '2024-01-02')]": ["[2024-01-01,2024-01-02)"],
            "'{[1,2), [5,6)}'::int4multirange": "{[1,2),[5,6)}",
            "'infinity'::date": "infinity",
            "'-infinity'::timestamp": "-infinity",
            "'infinity'::timestamptz": "infinity",
            "ARRAY['infinity'::date, '2024-01-02']": ["infinity", datetime.date(2024, 1, 2)],
            "'0044-03-15 BC'::date": "0044-03-15 BC",
            "'20240-01-01'::timestamp": "20240-01-01 00:00:00",
            "'24:00'::time": "24:00:00",
            "'2024-01-02'::date": datetime.date(2024, 1, 2),
            "'2024-01-02 03:04:05.678'::timestamp": datetime.datetime(2024, 1, 2, 3, 4, 5, 678000),
            "'03:04'::time": datetime.time(3, 4),
            "'1 day 2 hours'::interval": datetime.timedelta(days=1, hours=2),
            "1.50::numeric": decimal.Decimal("1.50"),
            "'6f1c7d5a-0f0e-4b5c-9d7e-1a2b3c4d5e6f'::uuid": "6f1c7d5a-0f0e-4b5c-9d7e-1a2b3c4d5e6f",
            "'{\"a\": [1]}'::jsonb": {"a": [1]},
            "row(1, 'a')": "(1,a)",
            "ARRAY['a', null]": ["a", None],
            "B'101'": "101",
            "null::inet": None,
            "null::date": None,
        }
        select = ", ".join(f"{value} AS c{number}" for number, value in enumerate(values))
        [[row]] = read_query(SqlQuery("warehouse", f"SELECT {select}"))
        assert dict(zip(values, row.values(), strict=True)) == values
        [[row]] = read_query(SqlQuery("warehouse", "SELECT '2024-01-02 03:04+02'::timestamptz AS at"))
        assert row["at"] == datetime.datetime(2024, 1, 2, 1, 4, tzinfo=datetime.UTC)

    @only("mariadb:mysqlclient", "mariadb:mysql-connector-python")
    def test_values_of_mariadb_have_the_same_form_with_both_drivers(self, warehouse):
        warehouse.run(
            "CREATE TABLE t (b BIT(4), s SET('x', 'y', 'z'), none SET('x'), d DATE, at DATETIME(6), tm TIME, j JSON, "
            "raw BLOB, bin VARBINARY(9), dec1 DECIMAL(10, 2), word ENUM('p', 'q'), no BIT(1))"
        )
        warehouse.run("SET sql_mode = ''")  # otherwise there are no zero dates
        warehouse.run(
            "INSERT INTO t VALUES (b'101', 'z,x', '', '0000-00-00', '2024-01-02 03:04:05.678', '-12:00:00', "
            "'{\"a\": 1}', x'00ff', 'cd', 1.50, 'q', null)"
        )
        [[row]] = read_query(SqlQuery("warehouse", "SELECT * FROM t"))
        assert list(row.values()) == [
            *(5, ["x", "z"], [], None, datetime.datetime(2024, 1, 2, 3, 4, 5, 678000), -datetime.timedelta(hours=12)),
            *('{"a": 1}', b"\x00\xff", b"cd", decimal.Decimal("1.50"), "q", None),
        ]

    @only("postgres:psycopg2", "postgres:psycopg", "mariadb:mysqlclient", "duckdb")
    def test_bytes_in_a_template_are_never_sent_as_a_repr(self, warehouse, tmp_path, responses_sandbox):
        kind = {"postgres": "bytea", "mysql": "blob", "duckdb": "blob"}[warehouse.kind]
        warehouse.run(f"CREATE TABLE t (id int, raw {kind})")
        warehouse.run("INSERT INTO t VALUES (1, 'ab')")
        given = {"source": SqlQuery("warehouse", "SELECT * FROM t"), "key": "id"}
        for text in ("{{ row.raw }}", "{{ row.raw ~ '' }}", "{{ [row.raw] }}", "{{ row.raw | upper }}", "{{ row }}"):
            with pytest.raises(AirflowFailException, match=r"must be text, got 2 bytes.*No row can be sent"):
                enrich(tmp_path, input=text, **given).execute(context())
        assert not responses_sandbox.ledger
        enrich(tmp_path, input="{{ row.raw.decode() }} {{ row.raw | tojson }}", **given).execute(context())
        assert inputs(responses_sandbox) == ['ab "YWI="']
        assert result(tmp_path)[0]["raw"] == "YWI="


class Label(BaseModel):
    mood: str


class Mood(BaseModel):
    mood: Literal["good", "bad", "other"]


class TestLoading:
    def enrich(self, folder, table=None, **given):
        rows = [{"id": f"r{n}", "text": f"review {n}", "stars": n} for n in range(5)]
        table = table or SqlTable("warehouse", "labels")
        defaults = {"source": rows, "key": "id", "output_type": Label, "load_to": table}
        return enrich(folder, **(defaults | given)).execute(context())

    @pytest.fixture
    def labels(self, warehouse):
        warehouse.run(
            "CREATE TABLE labels (id VARCHAR(20) PRIMARY KEY, mood VARCHAR(100), stars INTEGER, checked_by VARCHAR(20))"
        )

    def test_an_upsert_keeps_other_columns_and_rows(self, warehouse, labels, tmp_path, responses_sandbox):
        warehouse.run("INSERT INTO labels VALUES ('r1', 'old', 7, 'Anna'), ('r9', 'other', 1, 'Bob')")
        if warehouse.kind != "duckdb":  # which has no cascades
            warehouse.run(
                "CREATE TABLE notes (label VARCHAR(20), FOREIGN KEY (label) REFERENCES labels (id) ON DELETE CASCADE)"
            )
            warehouse.run("INSERT INTO notes VALUES ('r1')")
        for _ in range(2):
            self.enrich(tmp_path)
        rows = warehouse.run("SELECT id, stars, checked_by, mood = 'old' FROM labels ORDER BY id")
        assert [tuple(row) for row in rows] == [
            *(("r0", 0, None, False), ("r1", 1, "Anna", False), ("r2", 2, None, False), ("r3", 3, None, False)),
            *(("r4", 4, None, False), ("r9", 1, "Bob", False)),
        ]
        if warehouse.kind != "duckdb":
            assert [tuple(row) for row in warehouse.run("SELECT label FROM notes")] == [("r1",)]

    def test_columns_may_have_any_name(self, warehouse, tmp_path, responses_sandbox):
        quote = "`" if warehouse.kind == "mysql" else '"'
        names = ["order", "50%", "a b", "Key"]
        columns = ", ".join(f"{quote}{name}{quote} VARCHAR(20)" for name in names)
        warehouse.run(f"CREATE TABLE odd (id VARCHAR(20) PRIMARY KEY, {columns})")
        rows = [{"id": "r0", "text": "x", **dict.fromkeys(names, "y")}]
        self.enrich(tmp_path, SqlTable("warehouse", "odd", columns=["id", *names]), source=rows)
        assert [tuple(row) for row in warehouse.run("SELECT * FROM odd")] == [("r0", *["y"] * 4)]

    def test_a_table_without_a_unique_key_is_refused(self, warehouse, tmp_path, responses_sandbox):
        warehouse.run("CREATE TABLE loose (id VARCHAR(20), mood VARCHAR(20), UNIQUE (id, mood))")
        with pytest.raises(AirflowFailException, match="column 'id' is not unique in table 'loose'"):
            self.enrich(tmp_path, SqlTable("warehouse", "loose"))
        assert not responses_sandbox.ledger

    @only("mariadb")
    def test_an_index_of_a_prefix_is_no_unique_key(self, warehouse, tmp_path, responses_sandbox):
        warehouse.run("CREATE TABLE loose (id VARCHAR(20), mood VARCHAR(20), UNIQUE (id(1)))")
        with pytest.raises(AirflowFailException, match="column 'id' is not unique in table 'loose'"):
            self.enrich(tmp_path, SqlTable("warehouse", "loose"))

    @only("mariadb")
    def test_a_table_with_a_second_unique_key_is_refused(self, warehouse, tmp_path, responses_sandbox):
        warehouse.run("CREATE TABLE two (id VARCHAR(20) PRIMARY KEY, stars INT UNIQUE, mood VARCHAR(20))")
        with pytest.raises(
            AirflowFailException, match=r"'two' has a second unique key \(stars\), and MySQL or MariaDB would"
        ):
            self.enrich(tmp_path, SqlTable("warehouse", "two"))
        self.enrich(tmp_path, SqlTable("warehouse", "two", columns=["id", "mood"]))
        assert len(warehouse.run("SELECT * FROM two")) == 5

    @only("mariadb")
    def test_a_table_without_transactions_is_refused(self, warehouse, tmp_path, responses_sandbox):
        warehouse.run("CREATE TABLE old (id VARCHAR(20) PRIMARY KEY, mood VARCHAR(20)) ENGINE=MyISAM")
        for mode in ("upsert", "insert"):
            with pytest.raises(AirflowFailException, match="its engine MyISAM has no transactions"):
                self.enrich(tmp_path, SqlTable("warehouse", "old", mode=mode))
        assert not responses_sandbox.ledger

    @only(*DRIVERS)
    def test_a_value_that_does_not_fit_is_named_before_anything_is_sent(
        self, warehouse, labels, tmp_path, responses_sandbox
    ):
        rows = [{"id": f"r{n}", "text": "the same", "stars": str(n)} for n in range(1500)]
        rows[1400]["stars"] = ""
        with pytest.raises(
            AirflowFailException, match=r"row 1400: column 'stars' holds an empty text, which"
        ) as caught:
            self.enrich(tmp_path, source=rows)
        assert "null_values=['']" in str(caught.value)
        assert "Nothing was sent" in str(caught.value)
        rows[1400]["stars"] = "secret words"
        with pytest.raises(AirflowFailException, match="row 1400: column 'stars' holds a text of 12 char") as caught:
            self.enrich(tmp_path, source=rows)
        assert "secret" not in str(caught.value)
        assert not responses_sandbox.ledger
        assert warehouse.run("SELECT * FROM labels") == []

    @only(*DRIVERS)
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (10**12, "row 3: column 'stars' holds the number 1000000000000, which"),
            (None, "row 3: column 'stars' holds null, which"),
        ],
    )
    def test_a_number_too_large_and_a_null_are_named(self, value, message, warehouse, tmp_path, responses_sandbox):
        warehouse.run("CREATE TABLE labels (id VARCHAR(20) PRIMARY KEY, stars INTEGER NOT NULL, mood VARCHAR(20))")
        rows = [{"id": f"r{n}", "text": "x", "stars": value if n == 3 else n} for n in range(5)]
        with pytest.raises(AirflowFailException, match=message):
            self.enrich(tmp_path, source=rows)
        assert not responses_sandbox.ledger

    @only(*DRIVERS)
    def test_every_value_that_output_type_allows_is_tried(self, warehouse, tmp_path, responses_sandbox):
        class Wide(BaseModel):
            mood: Literal["good", "much too long for it"]

        class Maybe(BaseModel):
            mood: str | None

        class Number(BaseModel):
            stars: str

        warehouse.run(
            "CREATE TABLE labels (id VARCHAR(20) PRIMARY KEY, mood VARCHAR(9) NOT NULL DEFAULT '', stars INTEGER)"
        )
        rows = [{"id": "r0", "text": "x"}]
        for kind, message in {
            Maybe: "a response: 'mood' of output_type may be null, which",
            Number: "a response: 'stars' of output_type may be a text of 4 characters, which",
        }.items():
            with pytest.raises(AirflowFailException, match=message):
                self.enrich(tmp_path, output_type=kind, source=rows)
        if warehouse.kind != "duckdb":  # which ignores lengths
            with pytest.raises(
                AirflowFailException, match="'mood' of output_type may be a text of 20 characters, which"
            ):
                self.enrich(tmp_path, output_type=Wide, source=rows)
        assert not responses_sandbox.ledger

    @only("postgres", "mariadb", "duckdb")
    def test_a_constraint_that_a_sample_violates_is_no_error(self, warehouse, tmp_path, responses_sandbox):
        warehouse.run(
            "CREATE TABLE labels (id VARCHAR(20) PRIMARY KEY, mood VARCHAR(99) NOT NULL UNIQUE CHECK (mood <> 'text'))"
        )
        # The sandbox has its own words, and the rows have requests of their own.
        with pytest.raises(OutputError, match="All responses are in the output") as caught:
            self.enrich(
                tmp_path,
                SqlTable("warehouse", "labels", mode="insert"),
                model="openai/gpt-4o-mini",
                source=[
                    {"id": "r0", "text": "x"},
                    {"id": "r1", "text": "x"},
                ],
            )
        assert caught.value.retryable
        assert len(responses_sandbox.ledger) == 1

    def test_an_insert_of_an_existing_row_names_it(self, warehouse, labels, tmp_path, responses_sandbox):
        warehouse.run("INSERT INTO labels (id) VALUES ('r3')")
        with pytest.raises(AirflowFailException, match="load_to: row 3 does not fit table 'labels'"):
            self.enrich(tmp_path, SqlTable("warehouse", "labels", mode="insert"))
        assert not responses_sandbox.ledger

    def test_trial_false_skips_the_trial_load(self, warehouse, labels, tmp_path, responses_sandbox):
        rows = [{"id": "r0", "text": "x", "stars": ""}]
        with pytest.raises(OutputError, match="the rows could not be loaded into table"):
            self.enrich(tmp_path, SqlTable("warehouse", "labels", trial=False), source=rows)
        assert len(responses_sandbox.billed) == 1

    def test_a_load_is_one_transaction(self, warehouse, tmp_path, responses_sandbox):
        warehouse.run("CREATE TABLE few (id VARCHAR(20) PRIMARY KEY, mood VARCHAR(99), CHECK (id <> 'r1999'))")
        rows = [{"id": f"r{n}", "text": "the same"} for n in range(2000)]
        with pytest.raises(OutputError, match="the rows could not be loaded into table"):
            self.enrich(tmp_path, SqlTable("warehouse", "few", trial=False), source=rows)
        assert warehouse.run("SELECT * FROM few") == []

    def test_the_columns_of_larger_models_and_of_a_judge_are_loaded(self, warehouse, tmp_path, responses_sandbox):
        rows = [{"id": n, "text": f"It is {'strange' if n % 5 == 0 else 'good'}, number {n}."} for n in range(20)]
        given = {
            "escalate": [Escalation(model="openai/gpt-4o", when=lambda value: value["mood"] == "other")],
            "judge": Judge(model="anthropic/claude-sonnet-4.5", rubric="From 0.0 to 1.0.", sample=0.5),
        }
        table = SqlTable("warehouse", "judged")
        warehouse.run(table.create_table_sql(rows, output_type=Mood, key="id", **given).removesuffix(";"))
        self.enrich(tmp_path, table, source=rows, output_type=Mood, **given)
        loaded = warehouse.run("SELECT id, _escalated, _score, _score_reason FROM judged ORDER BY id")
        expected = [(it["id"], it["_escalated"], it["_score"], it["_score_reason"]) for it in result(tmp_path)]
        assert [tuple(row) for row in loaded] == expected
        assert [row[0] for row in expected if row[1]] == [0, 5, 10, 15]
        assert 0 < sum(row[2] is None for row in expected) < 20

    @only("postgres", "mariadb", "duckdb")
    def test_the_table_of_create_table_sql_can_hold_the_result(self, warehouse, tmp_path, responses_sandbox):
        class Rich(BaseModel):
            good: bool
            stars: int
            score: float
            day: datetime.date
            at: datetime.datetime
            tags: list[str]
            note: str | None

        rows = [
            {
                "id": f"r{n}",
                "text": "x" * 300,
                "n": n,
                "share": n / 3,
                "price": decimal.Decimal("1.50"),
                "seen": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
                "local": datetime.datetime(2024, 1, 2),
                "due": datetime.date(2024, 2, 29),
                "flag": n > 2,
                "order": {"a": [1]},
                "raw": b"ab",
                "nothing": None,
            }
            for n in range(5)
        ]
        statement = SqlTable("warehouse", "fitting").create_table_sql(rows, output_type=Rich, key="id")
        print(statement)
        warehouse.run(statement.removesuffix(";"))
        for _ in range(2):
            self.enrich(tmp_path, SqlTable("warehouse", "fitting"), source=rows, output_type=Rich)
        [found] = warehouse.run("SELECT count(*), count(day), count(tags), min(n), count(_model) FROM fitting")
        assert tuple(found) == (5, 5, 5, 0, 5)
        [found] = warehouse.run("SELECT price, seen, due, share FROM fitting WHERE id = 'r3'")
        assert (found[0], found[2], found[3]) == (decimal.Decimal("1.50"), datetime.date(2024, 2, 29), 1.0)
        zone = None if warehouse.kind == "mysql" else datetime.UTC  # whose times are in UTC
        assert found[1] == datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=zone)
