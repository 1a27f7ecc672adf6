"""An enrichment's datasets and cost, as the OpenLineage provider writes them, and the extra of its asset event."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.serde import Serde

from airflow_provider_responses.enrich import Judge
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import context
from tests.conftest import ROOT
from tests.parts import databases, postgresql

DAG = """
from airflow.sdk import DAG, Asset
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

with DAG("lineage", schedule=None):
    ResponsesEnrichOperator(
        task_id="label",
        source={source!r},
        key="id",
        input="{{{{ row.text }}}}",
        model="openai/gpt-4o-mini",
        output_path={output!r},
        outlets=[Asset("file:///labels")],
        {more}
    )
"""

# The provider reads its configuration when Airflow is imported, so the DAG has a process of its own.
RUN = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.utils.session import create_session
from sqlalchemy import select

run = DagBag(sys.argv[1]).dags["lineage"].test()
with create_session() as session:
    extra = [event.extra for event in session.scalars(select(AssetEvent))]
with open(sys.argv[2], "w") as file:
    json.dump({"state": str(run.state), "extra": extra}, file)
"""


def run(folder: Path, sandbox: Any, more: str = "") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the DAG; return its state with the asset events, and the OpenLineage events of the task."""
    dags, events = folder / "dags", folder / "events.jsonl"
    dags.mkdir()
    source = folder / "in.csv"
    source.write_text("id,text\n1,sunny\n2,rainy\n3,windy\n")
    (dags / "lineage.py").write_text(DAG.format(source=str(source), output=str(folder / "out"), more=more))
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(events), "append": True}),
        "AIRFLOW_CONN_RESPONSES_DEFAULT": json.dumps(sandbox.connection),
    }

    def python(*arguments: str) -> None:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    python("-m", "airflow", "db", "migrate")
    python("-c", RUN, str(dags / "lineage.py"), str(folder / "run.json"))
    found = json.loads((folder / "run.json").read_text())
    emitted = [json.loads(line) for line in events.read_text().splitlines()]
    return found, [event for event in emitted if event["job"]["name"] == "lineage.label"]


def test_the_events_of_an_enrichment_have_its_files_rows_and_cost(tmp_path, responses_sandbox):
    found, (started, completed) = run(tmp_path, responses_sandbox)
    cost = sum(entry.cost for entry in responses_sandbox.billed)
    result = str(tmp_path / "out" / "result.jsonl")

    assert (started["eventType"], completed["eventType"]) == ("START", "COMPLETE")
    (read,) = started["inputs"]
    assert (read["namespace"], read["name"], read["inputFacets"]) == ("file", str(tmp_path / "in.csv"), {})
    (read,) = completed["inputs"]
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 3
    (written,) = completed["outputs"]
    assert (written["namespace"], written["name"]) == ("file", result)
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 3
    facet = completed["run"]["facets"]["responses"]
    assert facet["cost"] == pytest.approx(cost)
    assert (facet["model"], facet["mode"], facet["counts"]) == ("openai/gpt-4o-mini", "live", {"ok": 3})
    assert facet["tokens"] == sum(entry.input_tokens + entry.output_tokens for entry in responses_sandbox.billed)

    assert found["state"] == "success"
    (extra,) = found["extra"]
    assert extra == {"rows": 3, "cost": pytest.approx(cost), "output": result}


def test_the_event_of_a_failed_enrichment_has_the_cost_that_it_had(tmp_path, responses_sandbox):
    responses_sandbox.script({}, {"status": 400}, {})
    found, (_, failed) = run(tmp_path, responses_sandbox)
    assert found == {"state": "failed", "extra": []}
    assert failed["eventType"] == "FAIL"
    facet = failed["run"]["facets"]["responses"]
    assert facet["counts"] == {"ok": 2, "failed": 1}
    assert facet["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))


def test_the_event_has_the_figures_of_larger_models_and_of_the_judge(tmp_path, responses_sandbox):
    task = ResponsesEnrichOperator(
        task_id="label",
        source=[{"text": f"review {n}"} for n in range(4)],
        input="Sum up: {{ row.text }}",
        model="openai/gpt-4o-mini",
        output_path=str(tmp_path / "out"),
        escalate=[Escalation(model="openai/gpt-4o", when=lambda value: value.endswith("1."))],
        judge=Judge(model="anthropic/claude-sonnet-4.5", rubric="From 1 to 5."),
    )
    manifest = task.execute(context())
    facet = Serde.to_dict(task.get_openlineage_facets_on_complete(None).run_facets["responses"])
    assert [tier["requests"] for tier in facet["tiers"]] == [4, 1]
    assert (facet["tiers"], facet["judge"]) == (manifest["tiers"], manifest["judge"])


def lineage(monkeypatch: pytest.MonkeyPatch, uri: str, **arguments: Any) -> dict[str, Any]:
    """Return the lineage of a task before its start, as JSON; the database need not be there."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri)
    given = {"source": [], "input": "{{ row.text }}", "key": "id", "output_path": "/data/out", "model": "vendor/model"}
    task = ResponsesEnrichOperator(task_id="label", **(given | arguments))
    found = task.get_openlineage_facets_on_start()
    return {
        "inputs": [(dataset.namespace, dataset.name) for dataset in found.inputs],
        "outputs": [(dataset.namespace, dataset.name) for dataset in found.outputs],
        "job": {name: Serde.to_dict(facet) for name, facet in found.job_facets.items()},
    }


QUERY = SqlQuery("warehouse", "SELECT id, text FROM shop.reviews JOIN products USING (product)")


def test_tables_of_a_query_and_of_load_to_have_the_names_of_their_database(monkeypatch):
    with postgresql.running() as server, databases.on_postgres(server) as warehouse:
        given = {"source": QUERY, "load_to": SqlTable("warehouse", "labels")}
        found = lineage(monkeypatch, warehouse.connection, **given)
        place = f"postgres://127.0.0.1:{server.port}"
    assert sorted(found["inputs"]) == [(place, "warehouse.public.products"), (place, "warehouse.shop.reviews")]
    assert found["outputs"] == [(place, "warehouse.public.labels")]
    assert found["job"]["sql"]["query"] == QUERY.sql


def test_a_database_that_its_hook_does_not_describe_has_no_datasets_but_its_query(monkeypatch):
    uri = json.dumps({"conn_type": "sqlite", "host": "/data/warehouse.sqlite"})
    found = lineage(monkeypatch, uri, source=QUERY, load_to=SqlTable("warehouse", "labels"))
    assert (found["inputs"], found["outputs"]) == ([], [])
    assert found["job"]["sql"]["query"] == QUERY.sql


def test_a_file_in_a_store_has_the_name_of_its_bucket(monkeypatch):
    found = lineage(monkeypatch, "sqlite://", source="s3://aws_default@reviews/2026/in.csv")
    assert found["inputs"] == [("s3://reviews", "2026/in.csv")]
