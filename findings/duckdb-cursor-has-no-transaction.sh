#!/usr/bin/env bash
# A DuckDB connection's `rollback()` takes back nothing of what its cursors did, so that a failed insert_rows leaves half.
#
# Version:  duckdb 2.0.1, airflow-provider-duckdb 0.2.0 on apache-airflow 3.3.2 (PyPI), Python 3.11
# Guess:    as with every driver of DB-API 2.0 (`duckdb.apilevel` is "2.0"): what a cursor executes is a transaction of
#           its connection until `commit()`, and `hook.insert_rows(..., commit_every=0)` inserts all rows or none.
# Instead:  each statement commits itself, and a cursor is a connection of its own: `begin()` and `rollback()` on the
#           connection do not reach it.
# Seen:     of three rows, the last of which is a duplicate, two stay after insert_rows has raised; a row that a cursor
#           inserted between `connection.begin()` and `connection.rollback()` stays, too.
# Avoid it: execute on the connection itself, after `connection.begin()`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'duckdb==2.0.1' 'airflow-provider-duckdb==0.2.0' \
    'apache-airflow==3.3.2' 'apache-airflow-providers-common-sql==2.4.0'
export AIRFLOW_HOME="$folder/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
export AIRFLOW_CONN_DUCK="{\"conn_type\": \"duckdb\", \"host\": \"$folder/some.duckdb\"}"
"$folder/venv/bin/python" -W ignore - "$folder/some.duckdb" <<'PYTHON'
import sys

import duckdb
from duckdb_provider.hooks.duckdb_hook import DuckDBHook

with duckdb.connect(sys.argv[1]) as connection:
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
hook = DuckDBHook(duckdb_conn_id="duck")
try:
    hook.insert_rows("t", [(1,), (2,), (1,)], commit_every=0)
    raise AssertionError("the duplicate was inserted")
except duckdb.ConstraintException as error:
    print("insert_rows raised", type(error).__name__)
left = [row[0] for row in hook.get_records("SELECT n FROM t ORDER BY n")]
print("rows that are there after it:", left)
assert left == [1, 2], left

with duckdb.connect(sys.argv[1]) as connection:
    connection.begin()
    connection.cursor().execute("INSERT INTO t VALUES (9)")
    connection.rollback()
    left = [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n").fetchall()]
print("rows after a rollback of a cursor's insert:", left)
assert left == [1, 2, 9], left
PYTHON
