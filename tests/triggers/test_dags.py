"""Deferred tasks in Airflow itself, as `dag.test()` runs them."""

from __future__ import annotations

import json

import pytest

DAG = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task
from pydantic import BaseModel

from airflow_provider_responses.operators.responses import ResponsesOperator


class Label(BaseModel):
    zeta: str
    alpha: str


with DAG("deferred", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    plain = ResponsesOperator(task_id="plain", input="Today is {{ ds }}", model="vendor/m", deferrable=True)
    typed = ResponsesOperator(
        task_id="typed", input="hi", model="vendor/m", start_from_trigger=True, output_type=Label
    )
    mapped = ResponsesOperator.partial(task_id="mapped", model="vendor/m", start_from_trigger=True).expand(
        input=["first", "second"]
    )

    @task.responses(model="vendor/m", deferrable=True, output_type=Label, multiple_outputs=True)
    def decorated():
        return "what is it"

    last = ResponsesOperator(
        task_id="last", input="{{ ti.xcom_pull('typed')['zeta'] }}", model="vendor/m", start_from_trigger=True
    )
    typed >> last
    decorated()
"""


def test_every_kind_of_task_succeeds_and_its_cost_is_counted_once(run_dag, responses_sandbox):
    result = run_dag(DAG, "deferred")
    assert set(result.states.values()) == {"success"}
    assert set(result.xcom("typed")) == {"zeta", "alpha"}
    assert result.xcom("decorated", "zeta") == result.xcom("decorated")["zeta"]
    assert result.xcom("mapped", map_index=0) != result.xcom("mapped", map_index=1)
    costs = {
        (task_id, map_index): value["cost"]
        for (task_id, map_index, key), value in result.xcoms.items()
        if key == "usage"
    }
    assert len(costs) == 6
    assert sum(costs.values()) == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))
    assert len(responses_sandbox.billed) == 6
    assert {entry.body["stream"] for entry in responses_sandbox.ledger} == {False}
    assert any(entry.body["input"].startswith("Today is 20") for entry in responses_sandbox.ledger)


def test_a_connection_in_the_database_is_found(run_dag, responses_sandbox, monkeypatch):
    from airflow.models import Connection
    from airflow.utils.session import create_session

    monkeypatch.delenv("AIRFLOW_CONN_RESPONSES_DEFAULT")
    known = responses_sandbox.connection
    row = Connection(conn_id="responses_default", conn_type="responses", extra=json.dumps(known["extra"]))
    row.host, row.password = known["host"], known["password"]
    with create_session() as session:
        session.add(row)
    try:
        assert set(run_dag(DAG, "deferred").states.values()) == {"success"}
    finally:
        with create_session() as session:
            session.delete(row)
