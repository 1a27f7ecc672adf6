"""Prompts can be audited: under Rendered Templates, in the stored DAG and its versions, and in the manifest."""

from __future__ import annotations

import json
import os

import pytest
from airflow.models.serialized_dag import SerializedDagModel
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS
from airflow.utils.session import create_session
from sqlalchemy import func, select

from tests.airflow_fakes import context
from tests.conftest import load_dag
from tests.operators.enrichments import Label, enrich

FILE = """
from airflow.providers.common.compat.sdk import DAG, task
from pydantic import BaseModel

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator


class Label(BaseModel):
    mood: str


ROWS = [{"id": "r0", "text": "Fine. {{ ds }}"}]

with DAG("audited", schedule=None, params={"model": "vendor/m"}):
    ResponsesEnrichOperator(
        task_id="label",
        source=ROWS,
        input="Mood of: {{ row.text }}",
        instructions="Today is {{ params.model }}.",
        model="{{ params.model }}",
        output_type=Label,
        output_path="FOLDER/label",
    )

    ResponsesEnrichOperator.partial(
        task_id="mapped", source=ROWS, input="Mood of: {{ row.text }}", model="vendor/m", output_path="FOLDER/mapped"
    ).expand(shard=[(0, 1)])

    @task.responses_enrich(source=ROWS, model="vendor/m", output_path="FOLDER/ask")
    def ask(row):
        return "Mood of: " + row["text"]

    ask()

    @task.responses_enrich(source=ROWS, model="vendor/m", output_path="FOLDER/each/{{ ti.map_index }}")
    def each(row, tone):
        return f"Mood of: {row['text']} {tone}"

    each.expand(tone=["short", "long"])
"""
CHANGES = [
    (
        'task_id="label",\n        source=ROWS,\n        input="Mood',
        'task_id="label",\n        source=ROWS,\n        input="Tone',
    ),
    ('task_id="mapped", source=ROWS, input="Mood', 'task_id="mapped", source=ROWS, input="Tone'),
    ('return "Mood of: " +', 'return "Tone of: " +'),
    ('return f"Mood', 'return f"Tone'),
    ("    mood: str", "    mood: str\n    why: str"),
]


def stored(text, path):
    """The DAG as Airflow stores it, and its hash."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialized
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG as Serialized
    path.write_text(text)
    dag = load_dag(path, "audited")
    data = Serialized.to_dict(dag)
    return data, SerializedDagModel.hash(data) if AIRFLOW_V_3_0_PLUS else SerializedDagModel(dag).dag_hash


def tasks_of(data):
    found = [it.get("__var", it) for it in data["dag"]["tasks"]]
    return {it["task_id"]: it for it in found}


@pytest.fixture
def path(tmp_path, airflow_db):
    return tmp_path / "audited.py"


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_changed_prompt_is_another_version_of_the_dag(before, after, path):
    assert FILE.count(before) == 1
    _, first = stored(FILE, path)
    assert stored(FILE, path)[1] == first
    assert stored(FILE.replace(before, after), path)[1] != first


def test_a_change_at_the_end_of_a_long_prompt_is_another_version_too(path):
    long = FILE.replace("Mood of: {{ row.text }}", "x" * 10_000 + " {{ row.text }}")
    assert stored(long, path)[1] != stored(long.replace("xx {{", "xy {{"), path)[1]


def test_the_stored_dag_has_the_prompt_of_each_task(path):
    tasks = tasks_of(stored(FILE, path)[0])
    shown = {name: task["prompt_template"] for name, task in tasks.items()}
    assert shown["label"]["input"] == shown["mapped"]["input"] == "Mood of: {{ row.text }}"
    assert (shown["label"]["model"], shown["label"]["output_type"]) == ("{{ params.model }}", "audited.Label")
    assert shown["label"]["output_schema"]["required"] == ["mood"]
    assert shown["ask"]["input"] == 'def ask(row):\n    return "Mood of: " + row["text"]'
    assert shown["each"]["input"].startswith("def each(row, tone):")


def test_rendered_templates_show_the_prompt_unrendered_and_the_rest_rendered(run_dag, tmp_path, responses_sandbox):
    from airflow.models import TaskInstance
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Fields

    ran = run_dag(FILE.replace("FOLDER", str(tmp_path)), "audited")
    assert ran.state == "success"
    with create_session() as session:
        found = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == "audited")).all()
        shown = {
            (it.task_id, it.map_index): Fields.get_templated_fields(it, session=session)["prompt_template"]
            for it in found
        }
    label = shown["label", -1]
    assert (label["input"], label["model"]) == ("Mood of: {{ row.text }}", "vendor/m")
    assert label["instructions"] == "Today is vendor/m."
    assert shown["mapped", 0]["input"] == "Mood of: {{ row.text }}"
    assert {shown["each", number]["input"].partition(":")[0] for number in (0, 1)} == {"def each(row, tone)"}
    for (task_id, map_index), prompt in shown.items():
        told = ran.xcom(task_id, map_index=map_index)
        assert told["prompt"] == prompt  # the manifest's: the same fingerprint
        assert told["written_by"]["task"] == f"audited.{task_id}"
    # Braces in rows are data.
    assert all("{{ ds }}" in json.dumps(entry.body["input"]) for entry in responses_sandbox.ledger)


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="dag.test() stores each version from Airflow 3.3 on")
def test_airflow_keeps_both_versions(run_dag, tmp_path, monkeypatch, responses_sandbox):
    from airflow.models.dag_version import DagVersion

    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    counts = []
    for tone in ("Mood", "Mood", "Tone"):
        changed = FILE.replace('input="Mood', f'input="{tone}', 1).partition("    ResponsesEnrichOperator.partial")[0]
        run_dag(changed.replace("FOLDER", str(tmp_path)).replace("audited", "versions"), "versions")
        with create_session() as session:
            counts.append(session.scalar(select(func.count()).where(DagVersion.dag_id == "versions")))
    assert counts == [1, 1, 2]


def test_a_model_of_the_connection_is_in_the_manifest(tmp_path, responses_sandbox, monkeypatch):
    connection = json.loads(os.environ["AIRFLOW_CONN_RESPONSES_DEFAULT"])
    connection["extra"] = {**connection.get("extra", {}), "default_model": "vendor/of-the-connection"}
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
    task = enrich(tmp_path, model=None, output_type=Label)
    told = task.execute(context())
    assert told["prompt"]["model"] == "vendor/of-the-connection"
    assert told["prompt"]["output_type"] == "tests.operators.enrichments.Label"
    assert "model" not in task.prompt_template
