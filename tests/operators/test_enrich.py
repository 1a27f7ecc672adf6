"""An enrichment as one task: its rows, templates and functions, against the sandbox."""

from __future__ import annotations

import csv
import datetime
import json
import sqlite3

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, ObjectStoragePath

from airflow_provider_responses.enrich import Limits
from airflow_provider_responses.exceptions import SourceError
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import TaskInstance, context
from tests.enrich.jobs import attach, stored
from tests.operators.enrichments import ROWS, Label, enrich, inputs, result, set_intervals
from tests.operators.test_progress_report import FIGURES


class TestRows:
    def test_all_rows_are_in_the_result_in_order_with_their_responses(self, tmp_path, responses_sandbox):
        manifest = enrich(tmp_path, output_type=Label, key="id").execute(context())
        rows = result(tmp_path)
        assert [row["id"] for row in rows] == ["r0", "r1", "r2", "r3", "r4"]
        assert all(row["mood"] and row["_status"] == "ok" for row in rows)
        assert manifest["counts"] == {"ok": 5}
        assert manifest["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))
        json.dumps(manifest)

    def test_a_second_attempt_sends_nothing_again(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        enrich(tmp_path).execute(context(TaskInstance(try_number=2)))
        assert len(responses_sandbox.ledger) == 5

    def test_another_dag_run_with_the_same_output_sends_nothing_again(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        enrich(tmp_path).execute(context(TaskInstance(run_id="another")))
        assert len(responses_sandbox.ledger) == 5

    def test_resume_false_sends_all_rows_again_once_per_task_instance(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        enrich(tmp_path, resume=False).execute(context(TaskInstance(run_id="another")))
        enrich(tmp_path, resume=False).execute(context(TaskInstance(run_id="another", try_number=2)))
        assert len(responses_sandbox.billed) == 10

    def test_resume_false_sends_all_rows_again_after_a_clear_though_retries_was_lowered(
        self, tmp_path, responses_sandbox
    ):
        enrich(tmp_path, resume=False, retries=2).execute(context(TaskInstance(max_tries=2)))
        enrich(tmp_path, resume=False, retries=1).execute(context(TaskInstance(max_tries=2)))
        assert len(responses_sandbox.billed) == 10

    def test_a_file_is_read_by_path_and_by_url(self, tmp_path, responses_sandbox):
        with (tmp_path / "reviews.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(ROWS)
        for source in (str(tmp_path / "reviews.csv"), f"file://{tmp_path}/reviews.csv", tmp_path / "reviews.csv"):
            enrich(tmp_path, source=source).execute(context())
        assert inputs(responses_sandbox) == [f"Mood of: review {n}" for n in range(5)]

    def test_all_spellings_of_an_output_path_are_the_same_output(self, tmp_path, responses_sandbox, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        names = [
            "out",
            "./out",
            "~/out",
            f"{tmp_path}/a/../out/",
            f"file://{tmp_path}/out",
            f"file://localhost{tmp_path}/out",
        ]
        for name in names:
            enrich(tmp_path, output_path=name).execute(context())
        assert len(responses_sandbox.ledger) == 5
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["out"]

    def test_a_file_url_with_a_host_is_refused(self, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match=r"file://host/out: a file:// path has three slashes"):
            enrich(tmp_path, output_path="file://host/out").execute(context())

    @pytest.mark.parametrize("kind", ["jsonl", "parquet"])
    def test_a_result_never_replaces_its_source(self, kind, tmp_path, responses_sandbox):
        enrich(tmp_path, output_format=kind).execute(context())
        source = tmp_path / "out" / f"result.{kind}"
        before = source.read_bytes()
        with pytest.raises(AirflowFailException, match="output_path: the result would replace the source"):
            enrich(tmp_path, source=source).execute(context())
        assert source.read_bytes() == before
        assert len(responses_sandbox.ledger) == 5

    def test_a_result_never_replaces_its_source_by_another_name(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        (tmp_path / "link").symlink_to(tmp_path / "out")
        (tmp_path / "latest.jsonl").symlink_to(tmp_path / "out" / "result.jsonl")
        for source in (
            tmp_path / "link" / "result.jsonl",
            tmp_path / "latest.jsonl",
            ObjectStoragePath(f"file://{tmp_path}/out/result.jsonl"),
        ):
            with pytest.raises(AirflowFailException, match="output_path: the result would replace the source"):
                enrich(tmp_path, source=source).execute(context())

    @pytest.mark.filterwarnings("ignore:in a future version of UPath:PendingDeprecationWarning")  # of Airflow 2.11's
    def test_a_result_never_replaces_its_source_in_a_storage(self, tmp_path, responses_sandbox):
        folder = stored("a-result-and-its-source")
        (folder / "result.jsonl").write_text('{"id": "r0", "text": "review"}\n')
        attach("memory", "other", fs=folder.fs)
        for source in (
            folder / "result.jsonl",
            "memory://a-result-and-its-source//result.jsonl",
            "memory://other@a-result-and-its-source/result.jsonl",
        ):
            with pytest.raises(AirflowFailException, match="output_path: the result would replace the source"):
                enrich(tmp_path, source=source, output_path=folder).execute(context())

    def test_a_source_with_another_format_may_be_in_the_output_folder(self, tmp_path, responses_sandbox):
        (tmp_path / "result.csv").write_text("id,text\nr0,review 0\n")
        told = enrich(tmp_path, source=tmp_path / "result.csv", output_path=tmp_path).execute(context())
        assert told["counts"] == {"ok": 1}
        assert (tmp_path / "result.csv").read_text() == "id,text\nr0,review 0\n"

    def test_a_parent_folder_of_a_symlink_is_resolved_as_by_the_system(self, tmp_path, responses_sandbox):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
        told = enrich(tmp_path, output_path=f"{tmp_path}/link/../out").execute(context())
        assert told["output"] == str(tmp_path / "a" / "out" / "result.jsonl")

    def test_a_query_is_the_source_and_a_table_gets_the_result(self, tmp_path, database, responses_sandbox):
        task = enrich(
            tmp_path,
            source=SqlQuery("warehouse", "SELECT * FROM reviews WHERE id <> ? ORDER BY id", ["r0"]),
            key="id",
            output_type=Label,
            load_to=SqlTable("warehouse", "labels"),
        )
        task.execute(context())
        task.execute(context(TaskInstance(try_number=2)))  # loads the same rows once more
        with sqlite3.connect(database) as connection:
            found = connection.execute("SELECT id, text, mood FROM labels ORDER BY id").fetchall()
        assert found == [(row["id"], row["text"], row["mood"]) for row in result(tmp_path)]
        assert len(found) == len(responses_sandbox.billed) == 4

    def test_a_query_without_rows_is_a_success(self, tmp_path, database, responses_sandbox):
        task = enrich(
            tmp_path,
            source=SqlQuery("warehouse", "SELECT * FROM reviews WHERE 1 = 0"),
            key="id",
            output_type=Label,
            load_to=SqlTable("warehouse", "labels"),
        )
        assert task.execute(context())["rows"] == 0

    def test_rows_with_different_columns_are_loaded_with_all_of_them(self, tmp_path, database, responses_sandbox):
        rows = [{"id": "a"}, {"id": "b", "text": {"nested": 1}}]
        enrich(
            tmp_path,
            source=rows,
            input="{{ row.id }}",
            key="id",
            output_type=Label,
            load_to=SqlTable("warehouse", "labels"),
        ).execute(context())
        with sqlite3.connect(database) as connection:
            found = connection.execute("SELECT id, text FROM labels ORDER BY id").fetchall()
        assert found == [("a", None), ("b", '{"nested": 1}')]

    def test_limits_may_be_rendered(self, tmp_path, responses_sandbox):
        task = enrich(tmp_path, limits={"concurrency": "{{ n }}", "max_failures": "{{ share }}"})
        task.render_template_fields({"n": 2, "share": 0.5})
        assert task.execute(context())["counts"] == {"ok": 5}

    def test_rendering_does_not_change_arguments_that_tasks_share(self, tmp_path):
        query, table = SqlQuery("warehouse", "SELECT {{ ti.map_index }}"), SqlTable("warehouse", "{{ ds }}")
        task = enrich(tmp_path, source=query, key="id", load_to=table)
        task.render_template_fields({"ds": "today", "ti": TaskInstance(map_index=3)})
        assert (task.source.sql, task.load_to.table) == ("SELECT 3", "today")
        assert (query.sql, table.table) == ("SELECT {{ ti.map_index }}", "{{ ds }}")

    def test_shards_together_send_all_rows(self, tmp_path, responses_sandbox):
        for number in range(2):
            enrich(tmp_path, shard=(number, 2), key="id").execute(context(TaskInstance(map_index=number)))
        assert inputs(responses_sandbox) == [f"Mood of: review {n}" for n in range(5)]

    def test_a_function_may_return_a_whole_request(self, tmp_path, responses_sandbox):
        enrich(tmp_path, input=lambda row: {"input": row["text"], "max_output_tokens": 20}).execute(context())
        assert {entry.body["max_output_tokens"] for entry in responses_sandbox.ledger} == {20}
        assert {entry.body["stream"] for entry in responses_sandbox.ledger} == {False}

    def test_shared_fields_are_in_every_request(self, tmp_path, responses_sandbox):
        enrich(tmp_path, instructions="Short.", request={"temperature": 0.5}).execute(context())
        assert {(e.body["instructions"], e.body["temperature"]) for e in responses_sandbox.ledger} == {("Short.", 0.5)}

    def test_cache_ttl_is_sent_as_a_header(self, tmp_path, responses_sandbox):
        enrich(tmp_path, cache_ttl=7200).execute(context())
        assert {entry.headers["x-openrouter-cache-ttl"] for entry in responses_sandbox.ledger} == {"7200"}

    def test_progress_is_sent_as_metrics(self, tmp_path, responses_sandbox, monkeypatch):
        from airflow.providers.common.compat.sdk import Stats

        sent, real = {}, Stats.gauge

        def gauge(name, value, **more):
            real(name, value, **more)
            sent.setdefault(name, []).append((value, more["tags"]))

        monkeypatch.setattr(Stats, "gauge", gauge)
        set_intervals(monkeypatch, tick=0.001, progress_seconds=0.0)
        responses_sandbox.latency = 0.05
        with DAG("nightly", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            task = enrich(tmp_path)
        task.execute(context())
        names = {*FIGURES} - {"failures"}  # which is for the state store alone
        assert set(sent) == {f"responses.enrich.{name}" for name in names}
        assert sent["responses.enrich.left"][0] == (5, {"dag_id": "nightly", "task_id": "label"})
        task.shard = (1, 2)
        task.execute(context())
        tags = {"dag_id": "nightly", "task_id": "label", "shard": "1"}
        assert sent["responses.enrich.done"][-1][1] == tags


class TestTemplates:
    def test_a_template_may_use_the_context_macros_and_columns_named_like_methods(self, tmp_path, responses_sandbox):
        rows = [{"items": "three", "when": datetime.date(2026, 1, 2), "none": None}]
        text = "{{ ds }} {{ row.items }} {{ row['when'].year }}{{ row.none }} {{ row.when | string | upper }}"
        with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            task = enrich(tmp_path, source=rows, input=text)
        task.execute(context(ds="2026-11-01"))
        assert inputs(responses_sandbox) == ["2026-11-01 three 2026 2026-01-02"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{{ row.txt }}", "the template names row.txt, and the source has no such column; did you mean 'text'?"),
            (
                "{{ row['zzz'] }}",
                "the template names row.zzz, and the source has no such column; its columns are id, text",
            ),
            ("{{ text }}", "the template uses 'text', which is neither `row` nor in the task's context"),
            ("{{ row.text", "the template is not valid: unexpected end of template"),
            (
                "{{ row.text.nothing.at_all }}",
                "row 0 (key 0): input: the template cannot be",
            ),
            (
                "{{ row.text[99:] }}",
                "row 0 (key 0): the request is not valid: input must not be empty",
            ),
        ],
    )
    def test_a_template_that_cannot_be_rendered_fails_before_anything_is_sent(
        self, text, message, tmp_path, responses_sandbox
    ):
        with pytest.raises(AirflowFailException) as caught:
            enrich(tmp_path, input=text).execute(context())
        assert message in str(caught.value)
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize("native", [False, True])
    @pytest.mark.parametrize("text", ["{{ row.__class__.__mro__ }}", "{{ '{0.__class__}'.format(row) }}"])
    def test_unsafe_expressions_of_a_template_are_refused(self, text, native, tmp_path, responses_sandbox):
        day = datetime.datetime(2026, 1, 1)
        with DAG("d", schedule=None, start_date=day, render_template_as_native_obj=native):
            task = enrich(tmp_path, input=text)
        with pytest.raises(AirflowFailException, match="SecurityError: access to attribute '__class__' of 'dict'"):
            task.execute(context())
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize("source", ["{{ [{'text': 'x'}] }}", "{{ {'text': 'x'} }}"])
    def test_a_list_that_a_template_renders_to_text_is_refused(self, source, tmp_path, responses_sandbox):
        task = enrich(tmp_path, source=source)
        task.render_template_fields({})
        with pytest.raises(
            AirflowFailException, match=r"source is the text of a list: .*render_template_as_native_obj"
        ):
            task.execute(context())

    @pytest.mark.parametrize(("source", "kind"), [({"text": "x"}, "dict"), (5, "int")])
    def test_an_upstream_output_that_is_not_a_source_is_refused(self, source, kind, tmp_path, responses_sandbox):
        task = enrich(tmp_path)
        task.source = source
        with pytest.raises(AirflowFailException, match=rf"source must be a path, .* or a list of dicts, got {kind}"):
            task.execute(context())

    @pytest.mark.parametrize(
        "text",
        [
            "{{ row.text }} {{ row.note | default('') }}",
            "{{ row.text }} {% if row.note is defined %}{{ row.note }}{% endif %}",
            "{{ row.text }} {% if 'note' in row %}{{ row.note }}{% endif %}",
        ],
    )
    def test_a_column_with_a_default_may_be_in_no_row(self, text, tmp_path, responses_sandbox):
        enrich(tmp_path, input=text).execute(context())
        assert inputs(responses_sandbox) == [f"review {n} " for n in range(5)]

    def test_a_column_may_be_in_some_rows_only(self, tmp_path, responses_sandbox):
        rows = [{"text": "same"} for _ in range(1000)] + [{"text": "last", "note": "!"}]
        enrich(tmp_path, source=rows, input="{{ row.text }}{{ row.note | default('') }}").execute(context())
        assert inputs(responses_sandbox) == ["last!", "same"]

    def test_a_row_whose_request_is_not_valid_is_invalid_in_the_result(self, tmp_path, responses_sandbox):
        rows = [*ROWS, {"id": "r5", "text": None}]
        enrich(tmp_path, source=rows, input="{{ row.text }}", limits=Limits(max_failures=1)).execute(context())
        last = result(tmp_path)[-1]
        assert (last["_status"], last["_sends"]) == ("invalid", 0)
        assert "input must not be empty" in last["_error"]
        assert len(responses_sandbox.ledger) == 5

    def test_a_connection_error_in_a_function_is_left_to_retries(self, tmp_path, responses_sandbox):
        def ask(row):
            raise ConnectionError("no lookup service")

        with pytest.raises(SourceError, match="row 0: input: the function raised ConnectionError") as caught:
            enrich(tmp_path, input=ask).execute(context())
        assert caught.value.retryable

    def test_a_row_whose_function_fails_has_its_exception_in_the_result(self, tmp_path, responses_sandbox):
        def ask(row):
            return {"r1": 5}.get(row["id"]) or row["text"][9 if row["id"] == "r2" else 0 :] or row["none"]

        enrich(tmp_path, input=ask, limits={"max_failures": 2}).execute(context())
        errors = [row["_error"] for row in result(tmp_path)]
        assert "or a whole request (a dict), got int" in errors[1]
        assert errors[2] == "the function raised KeyError: 'none', for {'id': 'r2', 'text': 'review 2'}"

    def test_a_long_error_of_a_row_is_cut(self, tmp_path, responses_sandbox):
        def ask(row):
            raise ValueError("x" * 100_000)

        with pytest.raises(AirflowFailException, match=r"row 0.*raised ValueError: xxx") as caught:
            enrich(tmp_path, input=ask).execute(context())
        assert len(str(caught.value)) < 1200


SHARDED = """
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_responses.enrich import merge_shards
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

with DAG("sharded", schedule=None, user_defined_macros={"quoted": "<{}>".format}, render_template_as_native_obj=True):
    @task
    def row(number):
        return {"id": number, "text": f"{{{{ ds }}}} {number}"}

    @task
    def merge():
        return merge_shards("FOLDER", output_format="parquet")

    shards = ResponsesEnrichOperator.partial(
        task_id="label",
        source=row.expand(number=[1, 2, 3]),
        input="{{ quoted(row.text) }} {{ params.who }} {{ var.value.get('none', '-') }} {{ macros.uuid is defined }}",
        model="vendor/m",
        key="id",
        output_path="FOLDER",
        params={"who": "me"},
    ).expand(shard=[(0, 2), (1, 2)])
    shards >> merge()
"""


def test_shards_are_mapped_and_merged_in_a_real_dag_run(run_dag, tmp_path, responses_sandbox):
    ran = run_dag(SHARDED.replace("FOLDER", str(tmp_path / "a folder")), "sharded")
    assert ran.state == "success"
    assert inputs(responses_sandbox) == [f"<{{{{ ds }}}} {number}> me - True" for number in (1, 2, 3)]
    assert sum(ran.xcom("label", map_index=number)["rows"] for number in range(2)) == 3
    assert ran.xcom("merge")["output"] == str(tmp_path / "a folder" / "result.parquet")
