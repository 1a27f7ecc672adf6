#!/usr/bin/env bash
# Airflow 3: a task with do_xcom_push=False still writes an XCom for each of its links.
#
# Version:  apache-airflow 3.3.2 (PyPI), Python 3.11, SQLite.
# Guess:    `do_xcom_push=False` keeps a task's data out of the table of XComs: nothing of it is stored there.
# Instead:  the worker calls each link's `get_link` when the task has ended, and stores the address as an XCom
#           `_link_CLASS`, whatever `do_xcom_push` is. An address with ids or a token in it is in the database, and in
#           what everyone sees who may read the DAG's XComs.
# Seen:     XComs of the task: [('_link_ReportLink', 'https://example.com/report?of=links')]
# Avoid it: put no secret into an address, and make `get_link` quick: the worker waits for it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-airflow==3.3.2
mkdir -p "$folder/airflow/dags"
cat >"$folder/airflow/dags/links.py" <<'PYTHON'
from airflow.sdk import DAG, BaseOperator, BaseOperatorLink


class ReportLink(BaseOperatorLink):
    name = "Report"

    def get_link(self, operator, *, ti_key):
        return f"https://example.com/report?of={ti_key.dag_id}"


class MakeReport(BaseOperator):
    operator_extra_links = (ReportLink(),)

    def execute(self, context):
        return "a report that nobody shall find in the database"


with DAG("links", schedule=None) as dag:
    MakeReport(task_id="make", do_xcom_push=False)
PYTHON
cat >"$folder/check.py" <<'PYTHON'
import os
import subprocess
import sys

home = sys.argv[1]
os.environ |= {
    "AIRFLOW_HOME": home,
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": f"{home}/dags",
}
subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)

from airflow.dag_processing.dagbag import DagBag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session

run = DagBag(f"{home}/dags/links.py").dags["links"].test()
with create_session() as session:
    found = [(row.key, XComModel.deserialize_value(row)) for row in session.query(XComModel).all()]
print("the run is", run.state)
print("XComs of the task:", found)
sys.exit(found != [("_link_ReportLink", "https://example.com/report?of=links")])
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder/airflow" 2>&1 | grep -E "^(the run|XComs)"
