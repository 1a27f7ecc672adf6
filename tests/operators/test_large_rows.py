"""Rows of a megabyte. No Airflow is in it: `.ci/run` runs it on one version."""

from __future__ import annotations

import json
import os
import subprocess
import sys

MIB = 1024 * 1024
ROWS = 300
# The chunks of formats other than CSV have tests of their own.
CODE = r"""
import re, sys
from pathlib import Path
from tests.airflow_fakes import context
from tests.operators.enrichments import enrich

folder = Path(sys.argv[1])
task = enrich(folder, source=str(folder / "in.csv"), key="id", columns=["id", "page"],
    input="{{ row.id }}", limits={"concurrency": 8, "max_failures": 300})
task.execute(context())
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024)  # without the parent's
"""


def test_rows_of_a_megabyte_do_not_fill_the_memory(tmp_path, responses_sandbox):
    page = "x" * 1_000_000
    with (tmp_path / "in.csv").open("w") as file:
        file.write("id,page\n")
        file.writelines(f"r{number},{page}\n" for number in range(ROWS))
    env = os.environ | {"AIRFLOW_CONN_RESPONSES_DEFAULT": json.dumps(responses_sandbox.connection)}
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) < 250 * MIB
    with (tmp_path / "out" / "result.jsonl").open() as file:
        assert sum(1 for _ in file) == ROWS
