"""``/responses/api/spend`` and its CSV: a real database of each Airflow."""

from __future__ import annotations

import csv
import datetime
import io

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from tests.plugins.conftest import NOW, row
from tests.plugins.seed import seed, usage_of_enrichment, usage_of_request

DAY = datetime.timedelta(days=1)
OTHER = "anthropic/claude-haiku-4.5"
MINI = "openai/gpt-4o-mini-2024-07-18"


class TestSums:
    def test_cost_and_tokens_are_added_by_dag_task_model_day_and_run(self, database, spend):
        database(
            row(),
            row(task_id="classify", usage=usage_of_request(model=OTHER, cost=0.5)),
            row(run_id="run_2", ended=NOW - 3 * DAY, usage=usage_of_request(cost=0.25)),
            row(dag_id="catalog", task_id="table", operator="ResponsesEnrichOperator", usage=usage_of_enrichment()),
        )
        found = spend()
        total = found["totals"]
        assert total["cost"] == pytest.approx(0.00004 + 0.5 + 0.25 + 0.002)
        assert (total["requests"], total["task_instances"], total["failed"], total["cached"]) == (23, 4, 1, 2)
        assert (total["input_tokens"], total["output_tokens"]) == (2300, 550)
        assert [(it["dag_id"], it["requests"]) for it in found["by_dag"]] == [("nightly", 3), ("catalog", 20)]
        tasks = {(it["dag_id"], it["task_id"]): it["cost"] for it in found["by_task"]}
        assert tasks == {("nightly", "ask"): 0.25004, ("nightly", "classify"): 0.5, ("catalog", "table"): 0.002}
        assert {it["model"]: it["task_instances"] for it in found["by_model"]} == {OTHER: 1, MINI: 3}
        assert [it["run_id"] for it in found["top_runs"] if it["dag_id"] == "nightly"] == ["run_1", "run_2"]
        assert found["top_runs"][0]["start"].startswith(f"{NOW - datetime.timedelta(minutes=3):%Y-%m-%dT%H:%M}")
        days = {it["day"]: it["requests"] for it in found["by_day"]}
        assert len(days) == 30
        assert days[f"{NOW - 3 * DAY:%Y-%m-%d}"] == 1
        assert sum(days.values()) == 23

    def test_only_the_twenty_most_expensive_runs_are_listed(self, database, spend):
        database(*(row(run_id=f"run_{n}", usage=usage_of_request(cost=n)) for n in range(25)))
        assert [it["cost"] for it in spend()["top_runs"]] == list(range(24, 4, -1))

    def test_mapped_task_instances_are_counted_one_by_one(self, database, spend):
        database(*(row(map_index=n) for n in range(3)))
        assert spend()["totals"]["task_instances"] == 3

    def test_an_unknown_cost_is_null_alone_and_a_minimum_beside_known_ones(self, database, spend):
        database(row(usage=usage_of_request(cost=None)))
        found = spend()["totals"]
        assert (found["cost"], found["unpriced"], found["cost_is_minimum"]) == (None, 1, False)
        database(row(run_id="run_2", usage=usage_of_request(cost=0.25)))
        found = spend()["totals"]
        assert (found["cost"], found["unpriced"], found["cost_is_minimum"]) == (0.25, 1, True)

    def test_an_empty_database_has_zeros_for_each_day(self, database, spend):
        found = spend(start="2026-01-01", end="2026-01-03")
        assert [it["day"] for it in found["by_day"]] == ["2026-01-01", "2026-01-02", "2026-01-03"]
        assert found["totals"]["cost"] == 0
        assert found["by_dag"] == found["top_runs"] == found["choices"]["dags"] == []

    def test_a_window_includes_both_of_its_days(self, database, spend):
        at = datetime.datetime(2026, 3, 2, 23, 59, 59, tzinfo=datetime.UTC)
        database(row(started=at - DAY / 24, ended=at), row(run_id="late", started=at, ended=at + DAY / 24))
        assert spend(start="2026-03-02", end="2026-03-02")["totals"]["requests"] == 1
        assert spend(start="2026-03-02", end="2026-03-03")["totals"]["requests"] == 2
        assert spend(end="2026-03-31")["start"] == "2026-03-02"
        assert spend(start="2026-03-03", end="2026-03-03")["totals"]["requests"] == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"start": "yesterday"},
            {"start": "2026-03-02", "end": "2026-03-01"},
            {"start": "1900-01-01", "end": "2026-03-01"},
            {"end": "9999-12-31"},
            {"end": "0001-01-01", "start": "0001-01-02"},
        ],
    )
    def test_a_wrong_window_is_refused(self, database, client, wrong):
        response = client.get("/responses/api/spend", params=wrong)
        assert response.status_code == 422
        assert response.json()["detail"]

    def test_the_first_day_there_is(self, database, spend):
        assert len(spend(end="0001-01-03")["by_day"]) == 3


class TestFilters:
    @pytest.fixture(autouse=True)
    def _rows(self, database):
        database(
            row(),
            row(task_id="classify", usage=usage_of_request(model=OTHER)),
            row(dag_id="catalog", usage=usage_of_enrichment()),
            row(dag_id="catalog", task_id="broken", usage=usage_of_request(model=None, status="failed")),
        )

    @pytest.mark.parametrize(
        ("given", "requests"),
        [
            ({}, 23),
            ({"dag_id": "nightly"}, 2),
            ({"dag_id": ["nightly", "catalog"]}, 23),
            ({"task_id": "ask"}, 21),
            ({"dag_id": "nightly", "task_id": ["ask", "broken"]}, 1),
            ({"model": OTHER}, 1),
            ({"model": [OTHER, MINI]}, 22),
            ({"model": ""}, 1),
            ({"model": "nobody/nothing"}, 0),
        ],
    )
    def test_rows_are_filtered_and_the_choices_are_not(self, spend, given, requests):
        found = spend(**given)
        assert found["totals"]["requests"] == requests
        assert sum(it["requests"] for it in found["by_day"]) == requests
        assert found["choices"] == {
            "dags": ["catalog", "nightly"],
            "tasks": [["catalog", "ask"], ["catalog", "broken"], ["nightly", "ask"], ["nightly", "classify"]],
            "models": [OTHER, MINI],
        }


class TestMissing:
    def test_finished_task_instances_without_usage_are_counted(self, database, spend):
        database(
            row(),
            row(run_id="cleared", usage=None),
            row(run_id="failed", usage=None, state="failed"),
            row(run_id="runs", usage=None, state="running"),
            row(run_id="long ago", usage=None, ended=NOW - 90 * DAY, started=NOW - 91 * DAY),
            row(run_id="decorated", usage=None, operator="_ResponsesDecoratedOperator"),
            row(run_id="enriched", usage=None, operator="ResponsesEnrichOperator", task_id="table"),
            row(run_id="other", usage=None, operator="PythonOperator"),
            row(run_id="subclass", usage=None, operator="OurOwnOperator", task_id="own"),
        )
        assert spend()["missing"]["without_usage"] == 4
        assert spend(task_id="table")["missing"]["without_usage"] == 1

    def test_a_subclass_is_known_by_the_usages_that_it_has(self, database, spend):
        own = {"operator": "OurOwnOperator", "task_id": "own"}
        database(row(**own), row(run_id="cleared", usage=None, **own))
        assert spend()["missing"]["without_usage"] == 1

    @pytest.mark.parametrize(
        "value",
        [
            *("text", "", 3, 1.5, True, [], [1], {}),
            *({"version": 1}, {"version": 2, "sends": []}, {"version": True, "sends": []}),
        ],
    )
    def test_a_usage_of_another_form_is_counted_as_such(self, database, spend, value):
        database(row(usage=value), row(run_id="ours"))
        found = spend()
        assert found["missing"]["not_ours"] == 1
        assert found["totals"]["requests"] == 1

    def test_no_earlier_attempt_is_missing_where_there_is_none(self, database, spend):
        database(row())
        assert spend()["missing"]["earlier_attempts"] is False

    @pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="Airflow has a row for each attempt from 3.4 on")
    @pytest.mark.parametrize(("max_tries", "is_missing"), [(1, False), (2, True)])
    def test_attempts_before_a_clear_are_missing_and_those_before_a_retry_are_not(
        self, database, spend, max_tries, is_missing
    ):
        database(row(archived=True), row(try_number=2, max_tries=max_tries))
        assert spend()["missing"]["earlier_attempts"] is is_missing
        assert spend(task_id="another")["missing"]["earlier_attempts"] is False
        assert spend(end=f"{NOW - 9 * DAY:%Y-%m-%d}")["missing"]["earlier_attempts"] is False

    @pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="Airflow has a row for each attempt from 3.4 on")
    def test_the_live_attempt_alone_is_counted(self, database, spend):
        database(
            row(archived=True, usage=usage_of_request(cost=9.0)), row(try_number=2, usage=usage_of_request(cost=1.0))
        )
        assert spend()["totals"]["cost"] == 1.0
        assert spend()["missing"]["without_usage"] == 0

    @pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="Airflow 3.4 keeps the XComs of before the upgrade")
    def test_xcoms_of_before_the_upgrade_are_counted(self, database, spend):
        from airflow.models.taskinstance import LegacyTaskDataOwner, TaskInstance
        from airflow.models.xcom import XComModelV1
        from airflow.utils.session import create_session
        from sqlalchemy import select

        database(row(usage=None))
        names = {"dag_id": "nightly", "task_id": "ask", "run_id": "run_1", "map_index": -1}
        with create_session() as session:
            owner = session.scalar(select(TaskInstance.id))
            session.execute(LegacyTaskDataOwner.__table__.insert().values(**names, task_instance_id=owner))
            session.execute(
                XComModelV1.__table__.insert().values(
                    **names, dag_run_id=1, key="usage", value=usage_of_request(cost=2.0), timestamp=NOW
                )
            )
        found = spend()
        assert found["totals"]["cost"] == 2.0
        assert found["missing"]["without_usage"] == 0


class TestQueries:
    @pytest.fixture
    def queries(self, parent):
        from airflow import settings
        from sqlalchemy import event

        found = []
        listen = lambda *args: found.append(args[2])  # noqa: E731
        event.listen(settings.engine, "before_cursor_execute", listen)
        yield found
        event.remove(settings.engine, "before_cursor_execute", listen)

    def test_their_number_does_not_grow_with_the_rows_and_none_writes(self, database, client, queries):
        counts = []
        for number in (1, 40):
            database(*(row(dag_id=f"dag_{n}", run_id=f"run_{number}", task_id=f"task_{n}") for n in range(number)))
            for path in ("spend", "spend.csv", f"task?dag_id=dag_0&run_id=run_{number}&task_id=task_0"):
                queries.clear()
                assert client.get(f"/responses/api/{path}").status_code == 200
                assert all(it.startswith("SELECT") for it in queries)
                counts.append(len(queries))
        assert counts[:3] == counts[3:]
        assert max(counts) <= 6


class TestCsv:
    def lines(self, client, **params):
        response = client.get("/responses/api/spend.csv", params=params)
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/csv; charset=utf-8"
        assert "attachment" in response.headers["content-disposition"]
        return list(csv.DictReader(io.StringIO(response.text)))

    def test_it_has_a_line_for_each_task_instance_and_model(self, database, client):
        models = usage_of_enrichment()["models"]
        both = usage_of_enrichment(models=[*models, models[0] | {"model": OTHER, "cost": None}])
        database(row(try_number=2), row(dag_id="catalog", task_id="table", usage=both))
        lines = self.lines(client)
        assert len(lines) == 3
        assert lines[0] == {
            "day": f"{NOW - datetime.timedelta(minutes=2):%Y-%m-%d}",
            "dag_id": "nightly",
            "run_id": "run_1",
            "task_id": "ask",
            "map_index": "-1",
            "try_number": "2",
            "model": MINI,
            "provider": "OpenAI",
            "status": "completed",
            "requests": "1",
            "cached": "0",
            "failed": "0",
            "input_tokens": "100",
            "output_tokens": "50",
            "cost": "0.00004",
        }
        assert [(it["model"], it["cost"]) for it in lines[1:]] == [(MINI, "0.002"), (OTHER, "")]
        assert len(self.lines(client, model=OTHER)) == 1

    @pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "|calc", "\r=1"])
    def test_no_text_is_a_formula(self, database, client, name):
        database(row(usage=usage_of_request(model=name, provider=name)))
        (line,) = self.lines(client)
        assert line["model"] == line["provider"] == f"'{name}"

    def test_commas_quotes_and_line_breaks_stay_in_their_cell(self, database, client):
        database(row(usage=usage_of_request(model='a,"b"\nc')))
        assert self.lines(client)[0]["model"] == 'a,"b"\nc'

    def test_many_rows_are_streamed(self, database, client):
        assert seed(3000) == 3000
        assert len(self.lines(client)) >= 3000
