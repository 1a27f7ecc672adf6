"""Airflow's commands, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

# Several commands in one process: to start Airflow takes most of the time.
RUN = """
import json, sys
from airflow.cli.cli_parser import get_parser

for command in json.loads(sys.argv[1]):
    arguments = get_parser().parse_args(command)
    arguments.func(arguments)
"""


def run_airflow(*commands: list[str], env: Mapping[str, str] | None = None) -> str:
    """Return the output of several commands, such as ``["providers", "list"]``."""
    command = [sys.executable, "-c", RUN, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(env or os.environ), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
