#!/usr/bin/env bash
# What pyarrow gives for a Parquet column of nanoseconds depends on whether pandas is installed beside it.
#
# Version:  pyarrow 26.0.1, pandas 3.1.1 (PyPI), Python 3.11
# Guess:    `to_pylist()` of a `timestamp[ns]`, which is what pandas writes, gives datetimes on every worker, or fails on
#           every worker.
# Instead:  without pandas, a value with single nanoseconds raises ValueError, and one without is a `datetime`. With
#           pandas installed, though nobody imports it, all are `pandas.Timestamp`, whose text has three digits more.
# Seen:     ValueError and datetime.datetime without pandas; Timestamp twice with it.
# Avoid it: cast to microseconds, or build the values from the integers: `scalar.value` needs no pandas.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'pyarrow==26.0.1'
cat >"$folder/check.py" <<'PYTHON'
import io
import sys

import pyarrow as arrow
from pyarrow import parquet

file = io.BytesIO()
nanoseconds = [1_700_000_000_123_456_789, 1_700_000_000_123_456_000]
parquet.write_table(arrow.table({"at": arrow.array(nanoseconds, arrow.timestamp("ns"))}), file)
column = parquet.read_table(file)["at"]
seen = []
for value in column.chunk(0):
    try:
        seen.append(type(value.as_py()).__name__)
    except ValueError as error:
        seen.append(type(error).__name__)
print(sys.argv[1], seen)
assert seen == sys.argv[2].split(), seen
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "without pandas:" "ValueError datetime"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'pandas==3.1.1'
"$folder/venv/bin/python" "$folder/check.py" "with pandas:" "Timestamp Timestamp"
