"""SQL of a model: SELECT from the listed tables runs, with a limit of rows; all else is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from airflow_provider_responses.tools import select_only
from airflow_provider_responses.tools.select_only import SqlRefusedError, read_only_sql

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
        "SELECT * FROM orders, LATERAL (SELECT * FROM sales.items WHERE items.id = orders.item) AS x",
        "SELECT SUM(price) OVER (PARTITION BY id) FROM orders",
        "SELECT * FROM orders, UNNEST(ARRAY[1, 2]) AS t(x)",
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
        ("SELECT TOP 5000 * FROM orders", "tsql", "SELECT TOP 100 * FROM orders"),
        ("SELECT * FROM orders", "oracle", " FETCH FIRST 100 ROWS ONLY"),
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
        ("SELECT * INTO copied FROM orders", "tsql"),
        ("SELECT * FROM orders INTO OUTFILE '/tmp/x'", "mysql"),
        ("SELECT * FROM orders FOR UPDATE", "postgres"),
        ("SELECT * FROM orders WHERE id IN (SELECT id FROM orders FOR SHARE)", "postgres"),
        ("SELECT pg_sleep(100)", "postgres"),
        ("SELECT pg_catalog.pg_sleep(100)", "postgres"),
        ("SELECT setval('s', 1)", "postgres"),
        ("SELECT nextval('s')", "postgres"),
        ("SELECT NEXT VALUE FOR s", "tsql"),
        ("SELECT s.nextval FROM orders s", "snowflake"),
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
        ("SELECT * FROM OPENROWSET('a', 'b', 'c')", "tsql"),
        ("SELECT * FROM remote('host', 'db', 't')", "clickhouse"),
        ("SELECT * FROM ML.PREDICT(MODEL m, TABLE secret)", "bigquery"),
        ("SELECT * FROM orders LIMIT (SELECT 1)", "postgres"),
        ("SELECT TOP 50 PERCENT * FROM orders", "tsql"),
        ("SELECT * FROM orders WHERE id = :id", "postgres"),
        ("SELECT FROM WHERE", "postgres"),
        ("SELECT " + "(" * 5000, "postgres"),
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
        ("SELECT * FROM orders, LATERAL (SELECT * FROM secret) AS s", "secret"),
        ("SELECT (TABLE secret)", "secret"),
        ("SELECT * FROM public.orders", "public.orders"),
        ("SELECT * FROM other.public.orders", "other.public.orders"),
        ("SELECT * FROM items", "items"),
        ('SELECT * FROM "Orders"', "Orders"),
        ("SELECT * FROM pg_catalog.pg_authid", "pg_catalog.pg_authid"),
        # In a CTE of the same name, the name is the table's.
        ("WITH secret AS (SELECT * FROM secret) SELECT * FROM secret", "secret"),
        ("WITH orders AS (SELECT * FROM secret) SELECT * FROM orders", "secret"),
        ("WITH a AS (SELECT * FROM secret), secret AS (SELECT 1) SELECT * FROM a", "secret"),
        ("WITH a AS (WITH secret AS (SELECT 1) SELECT * FROM secret) SELECT * FROM a, secret", "secret"),
        ("SELECT * FROM (WITH secret AS (SELECT 1) SELECT * FROM secret) AS t, secret", "secret"),
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


def test_the_parser_knows_every_refused_kind_of_node():
    assert [name for name in select_only._REFUSED if not isinstance(getattr(exp, name, None), type)] == []


NAMES = st.sampled_from(["orders", "secret", "a", "b"])


@given(st.lists(st.tuples(NAMES, NAMES), max_size=4), NAMES, st.booleans())
def test_no_nesting_of_ctes_reads_a_table_that_is_not_listed(ctes, last, recursive):
    """Resolve the names by the rule of SQL, and compare."""
    names = dict.fromkeys(name for name, _ in ctes)
    if len(names) < len(ctes):
        return  # no database accepts a name twice
    within = ", ".join(f"{name} AS (SELECT * FROM {source})" for name, source in ctes)  # noqa: S608  it does not run
    beginning = f"WITH {'RECURSIVE ' if recursive else ''}{within}" if ctes else ""
    sql = f"{beginning} SELECT * FROM {last}"  # noqa: S608  it does not run
    visible: set[str] = set(names) if recursive else set()
    read = set()
    for name, source in ctes:
        read |= {source} - visible
        visible.add(name)
    read |= {last} - visible

    if read <= {"orders"}:
        assert run(sql)
    else:
        with pytest.raises(SqlRefusedError):
            run(sql)
