"""One argument, ``source``, accepts files, queries and rows; text in it is a template, and rows are data."""

from __future__ import annotations

import datetime
import json

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath

from airflow_provider_responses.enrich import CsvFile
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.source_argument import check_source, read_source
from airflow_provider_responses.operators.sql import SqlQuery
from tests.airflow_fakes import context
from tests.operators.enrichments import ROWS, enrich, inputs

DATA = "{{ ds }} is data"


def rendered(folder, source, *, native=False):
    day = datetime.datetime(2026, 1, 1)
    with DAG("d", schedule=None, start_date=day, render_template_as_native_obj=native):
        task = enrich(folder, source=source, key="id")
    task.render_template_fields({"ds": "today", "params": {"rows": [{"id": DATA}], "path": "a.csv"}})
    return task.source


@pytest.mark.parametrize("native", [False, True])
class TestRendering:
    def test_braces_in_rows_are_data(self, native, tmp_path):
        rows = [{"id": DATA, "deep": {"list": [DATA]}}]
        assert rendered(tmp_path, rows, native=native) == rows

    @pytest.mark.parametrize(
        ("source", "path"),
        [
            ("/data/{{ ds }}.csv", "/data/today.csv"),
            ("{{ params.path }}", "a.csv"),
            (ObjectStoragePath("file:///data/{{ ds }}.csv"), "file:///data/today.csv"),
        ],
    )
    def test_a_path_is_a_template(self, source, path, native, tmp_path):
        assert str(rendered(tmp_path, source, native=native)) == path

    def test_files_and_queries_are_rendered_in_a_copy(self, native, tmp_path):
        file, query = CsvFile("{{ ds }}.txt"), SqlQuery("db", "SELECT '{{ ds }}'", ["{{ ds }}"])
        assert rendered(tmp_path, file, native=native).path == "today.txt"
        found = rendered(tmp_path, query, native=native)
        assert (found.sql, found.parameters) == ("SELECT 'today'", ["today"])
        assert (file.path, query.sql) == ("{{ ds }}.txt", "SELECT '{{ ds }}'")

    def test_a_template_of_rows_is_a_list_with_native_rendering_only(self, native, tmp_path):
        found = rendered(tmp_path, "{{ params.rows }}", native=native)
        assert found == [{"id": DATA}] if native else json.loads(found.replace("'", '"')) == [{"id": DATA}]


def test_rows_may_be_any_iterable_of_mappings(tmp_path, responses_sandbox):
    enrich(tmp_path, source=(row for row in ROWS)).execute(context())
    assert inputs(responses_sandbox) == [f"Mood of: review {n}" for n in range(5)]


DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

KNOWN = dict(input="{{ row.text }}", model="vendor/m", retries=0)

with DAG("sources", schedule=None):
    @task
    def path():
        return "FOLDER/in.csv"

    @task
    def nothing():
        return None

    ResponsesEnrichOperator(task_id="file", source=path(), output_path="FOLDER/file", **KNOWN)
    ResponsesEnrichOperator(task_id="none", source=nothing(), output_path="FOLDER/none", **KNOWN)
    ResponsesEnrichOperator.partial(task_id="mapped", output_path="FOLDER/{{ ti.map_index }}", **KNOWN).expand(
        source=["FOLDER/in.csv", [dict(text="a {{ row }}")]]
    )
"""


def test_an_upstream_task_may_return_a_path_and_mapped_tasks_may_mix_kinds(run_dag, tmp_path, responses_sandbox):
    (tmp_path / "in.csv").write_text("text\none {{ ds }}\n")
    ran = run_dag(DAG_FILE.replace("FOLDER", str(tmp_path)), "sources")
    assert {task for (task, _), state in ran.states.items() if state != "success"} == {"none"}
    assert inputs(responses_sandbox) == ["a {{ row }}", "one {{ ds }}", "one {{ ds }}"]


@pytest.mark.parametrize("wrong", [5, ["a.csv"], "a.xlsx"])
def test_a_mapped_source_is_checked_when_the_dag_is_parsed(wrong):
    known = {"task_id": "label", "input": "x", "output_path": "out"}
    with pytest.raises((RequestValidationError, ConfigurationError), match=r"^source.*\. Task: label$"):
        ResponsesEnrichOperator.partial(**known).expand(source=[[{"a": 1}], wrong])
    with pytest.raises((RequestValidationError, ConfigurationError), match=r"^source.*\. Task: label$"):
        ResponsesEnrichOperator.partial(source=wrong, **known).expand(shard=[(0, 1)])


def test_an_upstream_output_is_checked_once_it_is_known():
    class Output:
        def resolve(self, context):
            raise AssertionError("never at parse")

    check_source(Output())
    check_source([{"a": Output()}, Output()])
    with pytest.raises(RequestValidationError, match="source: row 0 must be a dict, got int") as caught:
        check_source([5], rendered=True)
    assert caught.value.fields == ("source",)


def test_a_source_is_read_whatever_its_kind(tmp_path, database):
    path = tmp_path / "in.csv"
    path.write_text("id\n1\n")
    semicolons = tmp_path / "in.txt"
    semicolons.write_text("id;text\n1;a\n")
    assert list(read_source(str(path))) == list(read_source(ObjectStoragePath(f"file://{path}"))) == [[{"id": "1"}]]
    assert list(read_source(CsvFile(semicolons, delimiter=";"))) == [[{"id": "1", "text": "a"}]]
    assert list(read_source(SqlQuery("warehouse", "SELECT id FROM reviews WHERE id = 'r1'"))) == [[{"id": "r1"}]]
    assert list(read_source([{"id": 1}])) == [[{"id": 1}]]
