#!/usr/bin/env bash
# Airflow 3: a handler of Python's root logger sees a task's libraries, and nothing that operators and hooks log.
#
# Version:  apache-airflow 3.3.2 (PyPI), Python 3.11. On 2.11.2 the handler sees all three lines.
# Guess:    `self.log` of an operator or a hook is a logger of Python's `logging`, as on Airflow 2: a handler of the root
#           logger sees its records, to count warnings, collect them, or send them elsewhere.
# Instead:  `self.log` is structlog's and does not pass `logging`. The handler sees only what goes through `logging`.
# Seen:     a handler of the root logger has seen: ['by a library']
# Avoid it: wrap structlog's processors, too, or read the task's log.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-airflow==3.3.2
cat >"$folder/check.py" <<'PYTHON'
import logging
import os
import sys

os.environ |= {"AIRFLOW_HOME": sys.argv[1], "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}

from airflow.sdk import BaseHook, BaseOperator

seen = []


class Collecting(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())


class Logs(BaseOperator):
    def execute(self, context):
        handler = Collecting()
        logging.getLogger().addHandler(handler)
        try:
            logging.getLogger("some.library").warning("by a library")
            self.log.warning("by the operator")
            BaseHook().log.warning("by a hook")
        finally:
            logging.getLogger().removeHandler(handler)


Logs(task_id="logs").execute({})
print("a handler of the root logger has seen:", seen)
sys.exit(seen != ["by a library"])
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder/airflow"
