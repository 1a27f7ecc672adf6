"""What real DAG runs leave in the database is what the page shows."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 is the first with the page")

DAG = """
import datetime
from airflow.sdk import DAG, task
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

class Own(ResponsesOperator):
    pass

with DAG("spending", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ResponsesOperator.partial(task_id="many", model="openai/gpt-4o-mini").expand(input=["A.", "B."])
    Own(task_id="own", model="openai/gpt-4o-mini", input="C.")
    ResponsesEnrichOperator(
        task_id="table",
        source=[dict(text=f"review {{n}}") for n in range(5)],
        input="Mood of: {{{{ row.text }}}}",
        model="anthropic/claude-haiku-4.5",
        output_path={folder!r},
    )

    @task.responses(model="openai/gpt-4o-mini")
    def decorated():
        return "D."

    @task
    def foreign(ti=None):
        ti.xcom_push(key="usage", value=dict(tokens=3))

    decorated(), foreign()
"""


def test_the_page_shows_the_cost_of_a_real_run(
    run_dag, database, client, spend, responses_sandbox, tmp_path, monkeypatch
):
    from tests.usage import check_xcom

    monkeypatch.setattr("tests.usage.check_xcom", lambda key, value: "tokens" in value or check_xcom(key, value))
    run = run_dag(DAG.format(folder=str(tmp_path / "out")), "spending")
    assert run.state == "success"
    found = spend()
    paid = sum(entry.cost for entry in responses_sandbox.billed)
    assert found["totals"]["cost"] == pytest.approx(paid)
    assert (found["totals"]["requests"], found["totals"]["task_instances"]) == (9, 5)
    requests = {it["task_id"]: it["requests"] for it in found["by_task"]}
    assert requests == {"many": 2, "own": 1, "table": 5, "decorated": 1}
    assert (found["missing"]["not_ours"], found["missing"]["without_usage"]) == (1, 0)

    names = {"dag_id": "spending", "run_id": found["top_runs"][0]["run_id"]}
    table = client.get("/responses/api/task", params={**names, "task_id": "table"}).json()
    assert (table["kind"], table["usage"]["requests"]) == ("enrichment", 5)
    assert table["manifest"]["counts"] == {"ok": 5}
    assert table["result_path"] == table["manifest"]["output"]
    one = client.get("/responses/api/task", params={**names, "task_id": "many", "map_index": 1}).json()
    assert (one["kind"], one["usage"]["status"], one["operator"]) == ("request", "completed", "ResponsesOperator")
    decorated = client.get("/responses/api/task", params={**names, "task_id": "decorated"}).json()
    assert decorated["operator"] == "@task.responses"
