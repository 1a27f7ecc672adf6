"""DAG files are parsed again and again: imports must be cheap, and the serialized DAG always the same."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

from airflow_provider_responses.models.fields import REQUEST_FIELDS
from airflow_provider_responses.models.request import ResponsesRequest
from tests.conftest import DAGS

DAG = """
import datetime
from pydantic import BaseModel
from airflow.providers.common.compat.sdk import dag, task
from airflow_provider_responses.client import RequestOptions
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.responses import ResponsesOperator

class Label(BaseModel):
    topic: str

OPTIONS = RequestOptions(timeout=30, headers={"X-A": "1", "X-B": "2"})

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False)
def stable():
    ResponsesOperator(task_id="one", input="x", output_type=Label, options=OPTIONS, request={"temperature": 1})
    larger = Escalation(model="a/b", when=["refused", lambda label: not label["topic"]])
    partial = ResponsesOperator.partial(task_id="many", output_type=Label, options=OPTIONS, escalate=[larger])
    partial.expand(input=["a", "b"])

    @task.responses(output_type=Label, options=OPTIONS)
    def decorated(topic):
        return topic

    decorated("x")
    decorated.override(task_id="mapped").expand(topic=["a", "b"])

stable()
"""

SERIALIZE = """
import json, sys
try:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization as Serialized
except ImportError:
    from airflow.models.dagbag import DagBag
    from airflow.serialization.serialized_objects import SerializedDAG as Serialized
print("SERIALIZED", json.dumps(Serialized.to_dict(DagBag(sys.argv[1]).dags["stable"]), sort_keys=True))
"""


def python(code, *arguments, **env):
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=dict(os.environ) | env,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_the_package_imports_nothing():
    code = "import sys; before = set(sys.modules); import airflow_provider_responses; print(set(sys.modules) - before)"
    assert python(code).strip() == "{'airflow_provider_responses'}"


# What only a running task needs.
NOT_AT_PARSE = {
    "batch.journal",
    "batch.waiting",
    "client.async_client",
    "client.preparation",
    "client.sync_client",
    "content.reader",
    "enrich.engine",
    "enrich.json_values",
    "enrich.output_store",
    "enrich.result",
    "enrich.shard_merge",
    "hooks.responses",
    "models.batch",
    "models.output",
    "models.request",
    "models.response",
    "operators.execution_mode",
    "task.payloads",
    "tools.loop",
}


def test_importing_the_operators_imports_neither_the_client_nor_the_models():
    code = """
import sys
from airflow.providers.common.compat.sdk import BaseOperator
before = set(sys.modules)
import airflow_provider_responses.decorators.enrich
import airflow_provider_responses.decorators.responses
import airflow_provider_responses.operators.enrich
import airflow_provider_responses.operators.responses
print(*sorted(set(sys.modules) - before))
"""
    new = set(python(code).split())
    assert "airflow_provider_responses.operators.enrich" in new
    assert not {name for name in new if name.partition(".")[0] in {"httpx", "httpx_aiohttp", "aiohttp", "tenacity"}}
    assert not new & {"difflib", *(f"airflow_provider_responses.{name}" for name in NOT_AT_PARSE)}


def test_each_module_that_is_not_imported_at_parse_exists():
    assert all(find_spec(f"airflow_provider_responses.{name}") for name in NOT_AT_PARSE)


def test_the_list_of_fields_for_parsing_is_that_of_the_model():
    assert (*REQUEST_FIELDS, "extra_body") == tuple(ResponsesRequest.model_fields)


def test_two_processes_serialize_the_same_dag():
    target = DAGS / "stable.py"
    target.write_text(DAG)
    try:
        first, second = (python(SERIALIZE, str(target), PYTHONHASHSEED=seed).splitlines() for seed in ("1", "2"))
    finally:
        target.unlink()
    (serialized,) = [line for line in first if line.startswith("SERIALIZED")]
    assert serialized in second
    assert '"timeout": 30' in serialized
    assert " at 0x" not in serialized
