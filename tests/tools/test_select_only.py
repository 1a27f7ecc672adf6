"""SQL of a model: SELECT from the listed tables runs, with a limit of rows; all else is refused."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from airflow_provider_responses.tools import select_only_grammar
from airflow_provider_responses.tools.select_only import DIALECTS, SqlRefusedError, read_only_sql, table_name
from tests.tools import sql_corpus

TABLES = ("orders", "sales.items")


def run(sql: str, dialect: str = "postgres", *, row_limit: int = 100) -> str:
    return read_only_sql(sql, dialect=dialect, tables=TABLES, row_limit=row_limit)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders",
        "select lower(name), count(*) from orders group by 1 having count(*) > 2 order by 2 desc",
        "SELECT * FROM ORDERS AS o JOIN sales.items AS i ON i.id = o.item",
        'SELECT * FROM "orders"',
        "SELECT * FROM orders WHERE id IN (SELECT id FROM sales.items)",
        "WITH a AS (SELECT * FROM orders), b AS (SELECT * FROM a) SELECT * FROM a JOIN b USING (id)",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
        "SELECT * FROM orders UNION SELECT * FROM orders",
        "(SELECT * FROM orders)",
        "SELECT * FROM orders WHERE id IN (WITH s AS (SELECT 1 AS id) SELECT id FROM s)",
        "SELECT SUM(price) OVER (PARTITION BY id) FROM orders",
        "SELECT 1",
        "SELECT * FROM orders;",
    ],
)
def test_a_select_from_the_listed_tables_is_limited(sql):
    assert run(sql).endswith(" LIMIT 100")


@pytest.mark.parametrize(
    ("sql", "dialect", "end"),
    [
        ("SELECT * FROM orders LIMIT 5", "postgres", " LIMIT 5"),
        ("SELECT * FROM orders LIMIT 5 OFFSET 10", "postgres", " LIMIT 5 OFFSET 10"),
        ("SELECT * FROM orders LIMIT 5000", "postgres", " LIMIT 100"),
        ("SELECT * FROM orders FETCH FIRST 5 ROWS ONLY", "postgres", " FETCH FIRST 5 ROWS ONLY"),
        ("SELECT * FROM orders FETCH FIRST 5000 ROWS ONLY", "postgres", " LIMIT 100"),
        ("(SELECT * FROM orders LIMIT 900)", "postgres", "SELECT * FROM orders LIMIT 100"),
        ("SELECT * FROM (SELECT * FROM orders LIMIT 900) AS o", "postgres", ") AS o LIMIT 100"),
    ],
)
def test_a_lower_limit_stays_and_a_higher_one_is_lowered(sql, dialect, end):
    assert run(sql, dialect).endswith(end)


@pytest.mark.parametrize(
    ("sql", "dialect"),
    [
        ("DELETE FROM orders", "postgres"),
        ("INSERT INTO orders VALUES (1)", "postgres"),
        ("UPDATE orders SET id = 1", "postgres"),
        ("DROP TABLE orders", "postgres"),
        ("CREATE TABLE x AS SELECT * FROM orders", "postgres"),
        ("TRUNCATE orders", "postgres"),
        ("EXPLAIN ANALYZE DELETE FROM orders", "postgres"),
        ("COPY orders TO PROGRAM 'sh'", "postgres"),
        ("TABLE secret", "postgres"),
        ("VALUES (1)", "postgres"),
        ("SELECT 1; SELECT 2", "postgres"),
        ("SELECT * FROM orders; DELETE FROM orders", "postgres"),
        ("WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x", "postgres"),
        ("WITH x AS (INSERT INTO orders VALUES (1) RETURNING *) SELECT * FROM x", "postgres"),
        ("WITH x AS (UPDATE orders SET id = 1 RETURNING *) SELECT * FROM x", "postgres"),
        ("WITH x AS (SELECT 1) DELETE FROM orders", "postgres"),
        ("WITH x AS (SELECT 1) INSERT INTO orders SELECT * FROM x", "postgres"),
        ("SELECT * INTO copied FROM orders", "postgres"),
        ("SELECT * FROM orders INTO OUTFILE '/tmp/x'", "mysql"),
        ("SELECT * FROM orders FOR UPDATE", "postgres"),
        ("SELECT * FROM orders WHERE id IN (SELECT id FROM orders FOR SHARE)", "postgres"),
        ("SELECT pg_sleep(100)", "postgres"),
        ("SELECT pg_catalog.pg_sleep(100)", "postgres"),
        ("SELECT setval('s', 1)", "postgres"),
        ("SELECT nextval('s')", "postgres"),
        ("SELECT query_to_xml('SELECT * FROM secret', true, true, '')", "postgres"),
        ("SELECT lo_export(1, '/tmp/x')", "postgres"),
        ("SELECT load_extension('x')", "sqlite"),
        ("SELECT LOAD_FILE('/etc/passwd')", "mysql"),
        ("SELECT @x := 1", "mysql"),
        ("SELECT * FROM pg_sleep(100)", "postgres"),
        ("SELECT * FROM pragma_table_info('orders')", "sqlite"),
        ("SELECT * FROM read_csv('/etc/passwd')", "duckdb"),
        ("SELECT * FROM '/etc/passwd'", "duckdb"),
        ("SELECT * FROM (DESCRIBE secret)", "duckdb"),
        ("SELECT * FROM orders LIMIT (SELECT 1)", "postgres"),
        ("SELECT * FROM orders WHERE id = :id", "postgres"),
        ("SELECT FROM WHERE", "postgres"),
        ("SELECT " + "(" * 5000, "postgres"),
        ("SELECT 1 -- " + "x" * 20_000, "postgres"),
        ("SELECT o.nextval FROM orders o", "mysql"),
        ("SELECT evil.f FROM orders", "postgres"),
        ("SELECT sales.items.id FROM sales.items", "postgres"),
        ("SELECT * FROM orders WITH (NOLOCK)", "postgres"),
        ("SELECT * FROM orders USE INDEX (x)", "mysql"),
        ("SELECT /*+ SET_VAR(sql_mode='x') */ 1 FROM orders", "mysql"),
        ("SELECT * FROM ONLY (orders)", "postgres"),
        ("SELECT * FROM orders, LATERAL (SELECT 1) AS x", "postgres"),
        ("SELECT * FROM orders, UNNEST(ARRAY[1, 2]) AS t(x)", "postgres"),
        ("SELECT 'orders'::regclass", "postgres"),
        ("SELECT id OPERATOR(evil.+) 1 FROM orders", "postgres"),
        ("SELECT 1 FROM orders FETCH FIRST 5 ROWS WITH TIES", "postgres"),
        ("SELECT 1 IN secret", "sqlite"),
        ("SELECT * FROM orders INDEXED BY x", "sqlite"),
        ("SELECT * FROM orders NOT INDEXED", "sqlite"),
        ("SELECT user", "postgres"),
        ("", "postgres"),
        ("-- SELECT\nDELETE FROM orders", "postgres"),
        ("/* SELECT */ SELECT 1; DROP TABLE orders", "postgres"),
    ],
)
def test_a_statement_that_does_more_than_read_is_refused(sql, dialect):
    with pytest.raises(SqlRefusedError) as info:
        run(sql, dialect)
    assert str(info.value)


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("SELECT * FROM secret", "secret"),
        ("SELECT * FROM orders, secret", "secret"),
        ("SELECT * FROM orders JOIN secret USING (id)", "secret"),
        ("SELECT (SELECT MAX(x) FROM secret) FROM orders", "secret"),
        ("SELECT * FROM orders WHERE EXISTS (SELECT 1 FROM secret)", "secret"),
        ("SELECT * FROM orders ORDER BY (SELECT x FROM secret)", "secret"),
        ("SELECT * FROM orders UNION SELECT * FROM secret", "secret"),
        ("SELECT * FROM public.orders", "public.orders"),
        ("SELECT * FROM other.public.orders", "other.public.orders"),
        ("SELECT * FROM items", "items"),
        ('SELECT * FROM "Orders"', "Orders"),
        ("SELECT * FROM pg_catalog.pg_authid", "pg_catalog.pg_authid"),
        # In a CTE of the same name, the name is the table's.
        ("WITH secret AS (SELECT * FROM secret) SELECT * FROM secret", "secret"),
        ("WITH a AS (SELECT * FROM secret), secret AS (SELECT 1) SELECT * FROM a", "secret"),
        ("WITH a AS (WITH secret AS (SELECT 1) SELECT * FROM secret) SELECT * FROM a, secret", "secret"),
        ("SELECT * FROM (WITH secret AS (SELECT 1) SELECT * FROM secret) AS t, secret", "secret"),
        ("WITH RECURSIVE a AS (SELECT * FROM secret), secret AS (SELECT 1) SELECT * FROM a", "secret"),
        ("WITH RECURSIVE secret AS (SELECT * FROM secret) SELECT * FROM secret", "secret"),
        ("WITH RECURSIVE secret AS (SELECT 1 EXCEPT SELECT * FROM secret) SELECT * FROM secret", "secret"),
        ("WITH RECURSIVE secret AS (SELECT * FROM secret UNION SELECT 1) SELECT * FROM secret", "secret"),
        ("WITH secret AS (SELECT 1) SELECT * FROM public.secret", "public.secret"),
        ('WITH "SECRET" AS (SELECT 1) SELECT * FROM secret', "secret"),
        ('WITH secret AS (SELECT 1) SELECT * FROM "secret"', "secret"),
        (
            "SELECT * FROM orders WHERE id IN (WITH secret AS (SELECT 1) SELECT 1) AND EXISTS (SELECT 1 FROM secret)",
            "secret",
        ),
    ],
)
def test_another_table_is_refused_by_its_name(sql, table):
    with pytest.raises(SqlRefusedError, match=rf"^the table {re.escape(table)} is not allowed; the tables are orders"):
        run(sql)


def test_comments_that_a_database_would_execute_are_not_in_the_statement():
    assert run("SELECT 1 /*!50000 UNION SELECT * FROM secret */", "mysql") == "SELECT 1 LIMIT 100"


def test_a_text_in_the_statement_stays_a_text():
    written = run(r"SELECT 1 FROM orders WHERE a = '\' UNION SELECT * FROM secret -- '", "mysql")

    assert written == "SELECT 1 FROM orders WHERE a = ''' UNION SELECT * FROM secret -- ' LIMIT 100"


@pytest.mark.parametrize(
    "sql",
    [
        "WITH orders AS (SELECT 1) SELECT * FROM orders",
        "WITH a AS (SELECT 1), A AS (SELECT 2) SELECT * FROM a",
        "WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b), b AS (SELECT 2) SELECT * FROM a",
    ],
)
def test_a_cte_with_the_name_of_a_table_or_of_another_cte_is_refused(sql):
    with pytest.raises(SqlRefusedError, match="has the name of a table or of another CTE: rename it"):
        run(sql)


def test_every_listed_kind_of_node_and_function_is_one_of_the_parser():
    listed = select_only_grammar.NODES | select_only_grammar.FUNCTIONS | select_only_grammar.UNIT_PARENTS
    listed |= set(select_only_grammar.PARTS)

    assert [name for name in sorted(listed) if not isinstance(getattr(exp, name, None), type)] == []
    assert [name for name in sorted(select_only_grammar.TYPES) if name not in exp.DType.__members__] == []


def test_another_dialect_is_refused_by_the_names_of_the_supported_ones():
    with pytest.raises(SqlRefusedError, match="oracle is not supported; the dialects are duckdb, mysql, p"):
        run("SELECT 1", "oracle")


@pytest.mark.parametrize("name", ["read_csv('x')", "", "a.b.c.d"])
def test_what_is_no_name_of_a_table_cannot_be_listed(name):
    with pytest.raises(ValueError, match="is no name of a table"):
        table_name(name, "duckdb")


def check(sql: str, dialect: str) -> str:
    return read_only_sql(sql, dialect=dialect, tables=sql_corpus.TABLES, row_limit=100)


ORDINARY = [(dialect, sql) for dialect in DIALECTS for sql in sql_corpus.ORDINARY + sql_corpus.ORDINARY_OF[dialect]]


@pytest.mark.parametrize(("dialect", "sql"), ORDINARY)
def test_an_ordinary_select_passes(dialect, sql):
    written = check(sql, dialect)

    assert check(written, dialect) == written  # nothing is lost or added by writing it once more


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("sql", sql_corpus.ATTACKS)
def test_an_attack_is_refused(sql, dialect):
    if (dialect, sql) in sql_corpus.HARMLESS:
        assert check(sql, dialect)
        return
    with pytest.raises(SqlRefusedError):
        check(sql, dialect)


class Sqlite:
    """A database that records the tables which its statements read."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        for statement in sql_corpus.SCHEMA:
            self.connection.execute(statement)
        self.connection.commit()
        self.read: set[str] = set()
        self.connection.set_authorizer(self._authorize)

    def _authorize(self, action: int, table: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and table:
            self.read.add(table)
        return sqlite3.SQLITE_OK

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.connection.execute(sql).fetchmany(1000)

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def sqlite():
    with closing(Sqlite()) as database:
        yield database


@pytest.mark.parametrize("sql", [sql for dialect, sql in ORDINARY if dialect == "sqlite"])
def test_sqlite_executes_an_ordinary_select(sqlite, sql):
    assert sqlite.rows(check(sql, "sqlite"))
    assert sqlite.read <= set(sql_corpus.TABLES)


def test_many_attacks_read_another_table_of_sqlite_if_nothing_checks_them(sqlite):
    successes = 0
    for sql in sql_corpus.ATTACKS:
        sqlite.read.clear()
        try:
            sqlite.rows(sql)
        except (sqlite3.Error, sqlite3.Warning):
            continue
        successes += not sqlite.read <= set(sql_corpus.TABLES)

    assert successes >= 30


NAMES = st.sampled_from(["orders", "customers", "secret", "SECRET", '"secret"', "main.secret", "a", "b"])
CTE_NAMES = st.sampled_from(["a", "b", "secret", "orders", '"secret"'])


def _larger(queries: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    inside = st.one_of(queries, NAMES.map("SELECT * FROM {}".format))
    cte = st.builds("{} AS ({})".format, CTE_NAMES, inside)
    return st.one_of(
        st.builds("SELECT * FROM {}, {} AS {}".format, NAMES, NAMES, CTE_NAMES),
        st.builds("SELECT * FROM ({}) AS {}".format, inside, CTE_NAMES),
        st.builds("SELECT * FROM {} WHERE EXISTS ({})".format, NAMES, inside),
        st.builds("SELECT id FROM {} WHERE 1 IN {}".format, NAMES, NAMES),
        st.builds("SELECT id FROM {} WHERE (id, id) IN ({})".format, NAMES, inside),
        st.builds("SELECT ({}) FROM {}".format, inside, NAMES),
        st.builds("{} {} {}".format, inside, st.sampled_from(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]), inside),
        st.builds(
            "WITH {}{} {}".format,
            st.sampled_from(["", "RECURSIVE "]),
            st.lists(cte, min_size=1, max_size=3).map(", ".join),
            inside,
        ),
    )


QUERIES = st.recursive(st.builds("SELECT {} AS id FROM {}".format, st.sampled_from("1*"), NAMES), _larger, max_leaves=8)


@given(QUERIES)
def test_no_accepted_statement_reads_another_table_of_sqlite(sql):
    try:
        written = check(sql, "sqlite")
    except SqlRefusedError:
        return
    with closing(Sqlite()) as database:
        database.connection.set_progress_handler(lambda: 1, 1_000_000)  # ends a recursion without end
        try:
            rows = database.rows(written)
        except sqlite3.Error:
            rows = []
        assert database.read <= set(sql_corpus.TABLES), written
        assert sql_corpus.CANARY not in repr(rows)
