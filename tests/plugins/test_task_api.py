"""``/responses/api/task``: one task instance."""

from __future__ import annotations

import csv
import datetime
import io
import uuid

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from tests.plugins.conftest import NOW, row
from tests.plugins.seed import usage_of_enrichment, usage_of_request

MINUTE = datetime.timedelta(minutes=1)
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
    limited = {"cause": {"error": "RateLimitError", "status": 429}, "ambiguous": False, "wait": 2.5}
    refused = {"cause": {"error": "RefusalError", "status": None}, "ambiguous": False, "wait": 0.0}
    refused |= {"model": "vendor/small", "escalated_to": "vendor/large"}
    usage = usage_of_request(sends=[limited, refused], escalated=1)
    database(row(usage=usage, try_number=2, custom_operator_name="@task.responses"))
    found = task()
    assert found["usage"] == usage
    assert (found["kind"], found["prompt_fingerprint"]) == ("request", usage["prompt_fingerprint"])
    assert (found["try_number"], found["state"], found["operator"]) == (2, "success", "@task.responses")
    assert (found["missing"], found["manifest"], found["progress"], found["batches"]) == (None, None, None, [])


def test_a_mapped_task_instance_is_found_by_its_index(database, task):
    database(row(map_index=0), row(map_index=1, usage=usage_of_request(cost=7.0)))
    assert task(map_index=1)["usage"]["cost"] == 7.0


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="Airflow has loops from 3.4 on")
class TestLoops:
    REGION = uuid.UUID(int=5)

    @pytest.fixture(autouse=True)
    def _rows(self, database):
        for index in (0, 1, 2):
            database(
                row(
                    map_index=index,
                    region_id=self.REGION,
                    started=NOW + index * MINUTE if index < 2 else None,
                    created=NOW,
                    ended=NOW + (index + 1) * MINUTE,
                    state="success" if index < 2 else "scheduled",
                    usage=usage_of_request(cost=float(index)),
                    progress=FIGURES | {"done": index},
                )
            )

    def test_a_task_in_a_loop_is_that_of_its_latest_iteration(self, task):
        found = task()
        assert (found["usage"]["cost"], found["progress"]["done"]) == (1.0, 1)

    def test_an_iteration_is_found_by_its_region(self, task):
        for index in (0, 1, 2):
            found = task(region_id=str(self.REGION), region_index=index)
            assert (found["usage"]["cost"], found["progress"]["done"]) == (float(index), index)
            assert found["map_index"] == -1

    def test_another_region_is_not_found(self, client):
        names = {"dag_id": "nightly", "run_id": "run_1", "task_id": "ask"}
        other = {"region_id": str(uuid.UUID(int=6)), "region_index": 0}
        assert client.get("/responses/api/task", params=names | other).status_code == 404
        assert client.get("/responses/api/task", params=names | {"map_index": 0}).status_code == 404

    def test_the_map_index_in_the_csv_is_the_one_that_airflow_shows(self, client):
        lines = list(csv.DictReader(io.StringIO(client.get("/responses/api/spend.csv").text)))
        assert [it["map_index"] for it in lines] == ["-1"] * 3


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
        record = FIGURES | {"try_number": 2, "max_tries": 1}
        database(row(usage=None, state="running", try_number=2, progress=record))
        assert task()["progress"] == FIGURES | {"try_number": 2, "is_current": True}

    @pytest.mark.parametrize("attempt", [{}, {"try_number": 1, "max_tries": 1}, {"try_number": 2, "max_tries": 0}])
    def test_figures_of_an_attempt_before_a_retry_or_a_clear_are_not_current(self, database, task, attempt):
        database(row(usage=None, state="running", try_number=2, progress=FIGURES | attempt))
        found = task()["progress"]
        assert found["is_current"] is False
        assert (found["done"], found["try_number"]) == (40, attempt.get("try_number"))

    @pytest.mark.parametrize("wrong", ["text", [], {}, {"total": "x", "rate": float("nan"), "failures": [1]}])
    def test_a_record_of_another_form_is_no_error(self, database, task, wrong):
        database(row(usage=None, progress=wrong))
        found = task()["progress"]
        assert found is None or set(found) == {*FIGURES, "try_number", "is_current"}


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="Airflow has a row for each attempt from 3.4 on")
def test_the_live_attempt_is_shown(database, task):
    database(row(archived=True, usage=usage_of_request(cost=9.0)), row(try_number=2, usage=usage_of_request(cost=1.0)))
    found = task()
    assert (found["try_number"], found["usage"]["cost"]) == (2, 1.0)
