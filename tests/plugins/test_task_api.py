"""``/responses/api/task``: one task instance."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from tests.plugins.conftest import row
from tests.plugins.seed import usage_of_enrichment, usage_of_request

FIGURES = {
    "total": 100,
    "done": 40,
    "left": 60,
    "rate": 2.5,
    "seconds_left": 24.0,
    "cost": 0.5,
    "failed": 2,
    "failures": {"RateLimitError": 2},
    "resent": 1,
    "in_flight": 8,
    "batches": 0,
}
MANIFEST = {
    "output": "s3://bucket/out/result.jsonl",
    "rows": 20,
    "counts": {"ok": 19, "failed": 1},
    "cost": 0.5,
    "prompt": {"fingerprint": "5f2b0a9c1d3e4f60", "input": "Mood of: {{ row.text }}", "output_schema": {"a": 1}},
    "batches": [{"id": "batch_1", "model": "openai/gpt-4o", "status": "completed", "requests": 20, "cost": 0.5}, "x"],
    "sample": [{"row": 1}],
}


@pytest.fixture
def task(client):
    def get(**params):
        names = {"dag_id": "nightly", "run_id": "run_1", "task_id": "ask"} | params
        response = client.get("/responses/api/task", params=names)
        assert response.status_code == 200, response.text
        assert response.headers["cache-control"] == "no-store"
        return response.json()

    return get


def test_a_request_has_its_usage_and_fingerprint(database, task):
    send = {"cause": {"error": "RateLimitError", "status": 429}, "ambiguous": False, "wait": 2.5}
    usage = usage_of_request(sends=[send])
    database(row(usage=usage, try_number=2, custom_operator_name="@task.responses"))
    found = task()
    assert found["usage"] == usage
    assert (found["kind"], found["prompt_fingerprint"]) == ("request", usage["prompt_fingerprint"])
    assert (found["try_number"], found["state"], found["operator"]) == (2, "success", "@task.responses")
    assert (found["missing"], found["manifest"], found["progress"], found["batches"]) == (None, None, None, [])


def test_a_mapped_task_instance_is_found_by_its_index(database, task):
    database(row(map_index=0), row(map_index=1, usage=usage_of_request(cost=7.0)))
    assert task(map_index=1)["usage"]["cost"] == 7.0


def test_an_enrichment_has_its_manifest_without_what_is_large(database, task):
    database(row(operator="ResponsesEnrichOperator", usage=usage_of_enrichment(), return_value=MANIFEST))
    found = task()
    assert found["kind"] == "enrichment"
    assert found["manifest"]["counts"] == {"ok": 19, "failed": 1}
    assert found["manifest"]["prompt"] == {
        "fingerprint": "5f2b0a9c1d3e4f60",
        "input": "Mood of: {{ row.text }}",
    }
    assert not {"sample", "batches"} & found["manifest"].keys()
    assert found["result_path"] == usage_of_enrichment()["result_path"]
    assert [(it["id"], it["requests"], it["url"]) for it in found["batches"]] == [("batch_1", 20, None)]


def test_the_result_path_is_that_of_the_manifest_otherwise(database, task):
    database(row(usage=usage_of_enrichment(result_path=None), return_value=MANIFEST))
    assert task()["result_path"] == MANIFEST["output"]


@pytest.mark.parametrize(
    ("usage", "missing"), [(None, "none"), ("text", "not_ours"), ({"version": 2, "sends": []}, "not_ours")]
)
def test_why_there_is_no_usage(database, task, usage, missing):
    database(row(usage=usage))
    found = task()
    assert (found["usage"], found["missing"], found["kind"]) == (None, missing, None)


@pytest.mark.parametrize(
    ("generation_id", "is_openrouters"), [("gen-1-abc", True), ("chatcmpl-1", False), ("gen-1/../x", False), (7, False)]
)
def test_a_generation_of_openrouter_has_its_page(database, task, generation_id, is_openrouters):
    database(row(usage=usage_of_request(generation_id=generation_id)))
    url = task()["generation_url"]
    assert (url is not None) == is_openrouters
    assert url is None or (url.startswith("https://openrouter.ai/") and generation_id in url)


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow has a task state store from 3.3 on")
class TestProgress:
    def test_a_running_enrichment_has_its_progress(self, database, task):
        database(row(usage=None, state="running", progress=FIGURES))
        assert task()["progress"] == FIGURES

    @pytest.mark.parametrize("wrong", ["text", [], {}, {"total": "x", "rate": float("nan"), "failures": [1]}])
    def test_a_record_of_another_form_is_no_error(self, database, task, wrong):
        database(row(usage=None, progress=wrong))
        found = task()["progress"]
        assert found is None or set(found) == set(FIGURES)


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="Airflow has a row for each attempt from 3.4 on")
def test_the_live_attempt_is_shown(database, task):
    database(row(archived=True, usage=usage_of_request(cost=9.0)), row(try_number=2, usage=usage_of_request(cost=1.0)))
    found = task()
    assert (found["try_number"], found["usage"]["cost"]) == (2, 1.0)
