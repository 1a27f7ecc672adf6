"""Many rows as one task, against the sandbox."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, ObjectStoragePath
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.enrich import Limits
from airflow_provider_responses.exceptions import OutputLockedError, ResponsesError, SourceError, TransportError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import TaskInstance, context
from tests.enrich.jobs import attach, stored
from tests.operators.enrichments import ROWS, Label, enrich, inputs, result


def impatient(monkeypatch, **seconds):
    """Let the engine look more often at what is due."""
    patient = ResponsesEnrichOperator.environment
    monkeypatch.setattr(
        ResponsesEnrichOperator,
        "environment",
        lambda task, report: dataclasses.replace(patient(task, report), **seconds),
    )


A_SOURCE = "a path, a CsvFile(path), a SqlQuery(conn_id, sql) or a list of dicts"


class TestRefusedAtParse:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"source": None}, f"source must be {A_SOURCE}, got None"),
            ({"source": 5}, f"source must be {A_SOURCE}, got int"),
            ({"source": {"text": "x"}}, f"source must be {A_SOURCE}, got dict"),
            ({"source": b"a.csv"}, f"source must be {A_SOURCE}, got bytes"),
            ({"source": [{"text": "x"}, "a.csv"]}, "source: row 1 must be a dict, got str"),
            ({"input": None}, "input is missing: set a template"),
            ({"source": "a.xlsx"}, "source: the format of 'a.xlsx' is unknown"),
            (
                {"source": SqlQuery("db", "SELECT 1")},
                "key is missing: a query may return its rows in another order",
            ),
            ({"load_to": SqlTable("db", "t")}, "key is missing: load_to needs it to find the rows to replace"),
            ({"output_format": "csv"}, "output_format must be 'jsonl' or 'parquet', got 'csv'"),
            ({"input": ["Mood of: {{ row.text }}"]}, "input must be a template or a function of the row, got list"),
            ({"output_path": ""}, "output_path is missing: set a folder"),
            ({"output_path": " None "}, "output_path is missing: set a folder"),
            ({"on_changed_request": "ask"}, "on_changed_request must be 'send' or 'fail', got 'ask'"),
            ({"resume": "yes"}, "resume must be True or False, got 'yes'"),
            ({"columns": "text"}, "columns must be a list of names, got 'text'"),
            ({"columns": 5}, "columns must be a list of names, got 5"),
            ({"output_path": 5}, "output_path must be a path, got 5"),
            (
                {"key": ["id", "text"]},
                "key must be one column's name (combine several in the source), got ['id', 'text']",
            ),
            ({"allow_empty": "false"}, "allow_empty must be True or False, got 'false'"),
            ({"load_to": "labels"}, "load_to must be SqlTable(conn_id, table), got str"),
            (
                {"load_to": SqlTable("db", "t", mode="replace"), "key": "id"},
                "load_to.mode must be 'upsert' or 'insert', got 'replace'",
            ),
            (
                {"load_to": SqlTable("db", "t", columns="id"), "key": "id"},
                "load_to.columns must be a list of names, got 'id'",
            ),
            (
                {"shard": (4, 4)},
                "shard must be two whole numbers such as (0, 4), the first from 0 and smaller, got (4, 4)",
            ),
            ({"limits": {"concurency": 5}}, "limits.concurency is unknown; did you mean 'concurrency'?"),
            ({"limits": {"concurrency": 0}}, "limits.concurrency must be a whole number >= 1, got 0"),
            ({"request": {"temprature": 1}}, "request.temprature is not a field"),
            (
                {"output_type": dict},
                "output_type must be a pydantic model (a subclass of BaseModel), got <class 'dict'>",
            ),
            ({"options": {"timeut": 5}}, "options.timeut is unknown"),
        ],
    )
    def test_names_task_and_field(self, arguments, said, tmp_path):
        with pytest.raises(ResponsesError, match=r"\. Task: label$") as caught:
            enrich(tmp_path, **arguments)
        assert said in str(caught.value)

    def test_an_async_function(self, tmp_path):
        async def ask(row):
            return row["text"]

        with pytest.raises(ResponsesError, match=r"input must be a plain function, got an async one\. Task: label$"):
            enrich(tmp_path, input=ask)

    def test_templates_wait(self, tmp_path):
        enrich(tmp_path, source="{{ ds }}/x.csv", key="{{ params.key }}", limits={"concurrency": 2})


class TestRows:
    def test_all_with_their_answers_in_order(self, tmp_path, responses_sandbox):
        manifest = enrich(tmp_path, output_type=Label, key="id").execute(context())
        rows = result(tmp_path)
        assert [row["id"] for row in rows] == ["r0", "r1", "r2", "r3", "r4"]
        assert all(row["mood"] and row["_status"] == "ok" for row in rows)
        assert manifest["counts"] == {"ok": 5}
        assert manifest["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))
        json.dumps(manifest)

    def test_a_second_try_sends_nothing_again(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        enrich(tmp_path).execute(context(TaskInstance(try_number=2)))
        assert len(responses_sandbox.ledger) == 5

    def test_a_row_idempotency_key_does_not_come_from_the_task(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        enrich(tmp_path).execute(context(TaskInstance(run_id="another")))
        assert len(responses_sandbox.ledger) == 5

    def test_resume_false_asks_anew_once_per_task_run(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        enrich(tmp_path, resume=False).execute(context(TaskInstance(run_id="another")))
        enrich(tmp_path, resume=False).execute(context(TaskInstance(run_id="another", try_number=2)))
        assert len(responses_sandbox.billed) == 10

    def test_resume_false_asks_anew_when_cleared_though_retries_was_lowered(self, tmp_path, responses_sandbox):
        enrich(tmp_path, resume=False, retries=2).execute(context(TaskInstance(max_tries=2)))
        enrich(tmp_path, resume=False, retries=1).execute(context(TaskInstance(max_tries=2)))
        assert len(responses_sandbox.billed) == 10

    def test_from_a_file(self, tmp_path, responses_sandbox):
        with (tmp_path / "reviews.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text"])
            writer.writeheader()
            writer.writerows(ROWS)
        for source in (str(tmp_path / "reviews.csv"), f"file://{tmp_path}/reviews.csv", tmp_path / "reviews.csv"):
            enrich(tmp_path, source=source).execute(context())
        assert inputs(responses_sandbox) == [f"Mood of: review {n}" for n in range(5)]

    def test_one_folder_is_one_however_it_is_named(self, tmp_path, responses_sandbox, monkeypatch):
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

    def test_a_file_on_another_machine(self, tmp_path, responses_sandbox):
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

    def test_a_source_beside_its_result(self, tmp_path, responses_sandbox):
        (tmp_path / "result.csv").write_text("id,text\nr0,review 0\n")
        told = enrich(tmp_path, source=tmp_path / "result.csv", output_path=tmp_path).execute(context())
        assert told["counts"] == {"ok": 1}
        assert (tmp_path / "result.csv").read_text() == "id,text\nr0,review 0\n"

    def test_a_folder_above_a_link_is_the_one_that_the_system_takes(self, tmp_path, responses_sandbox):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
        told = enrich(tmp_path, output_path=f"{tmp_path}/link/../out").execute(context())
        assert told["output"] == str(tmp_path / "a" / "out" / "result.jsonl")

    def test_from_and_into_a_database(self, tmp_path, database, responses_sandbox):
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

    def test_a_query_without_rows(self, tmp_path, database, responses_sandbox):
        task = enrich(
            tmp_path,
            source=SqlQuery("warehouse", "SELECT * FROM reviews WHERE 1 = 0"),
            key="id",
            output_type=Label,
            load_to=SqlTable("warehouse", "labels"),
        )
        assert task.execute(context())["rows"] == 0

    def test_rows_with_different_columns_are_loaded_whole(self, tmp_path, database, responses_sandbox):
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

    def test_arguments_that_tasks_share_are_each_ones_own(self, tmp_path):
        query, table = SqlQuery("warehouse", "SELECT {{ ti.map_index }}"), SqlTable("warehouse", "{{ ds }}")
        task = enrich(tmp_path, source=query, key="id", load_to=table)
        task.render_template_fields({"ds": "today", "ti": TaskInstance(map_index=3)})
        assert (task.source.sql, task.load_to.table) == ("SELECT 3", "today")
        assert (query.sql, table.table) == ("SELECT {{ ti.map_index }}", "{{ ds }}")

    def test_shards_have_all_rows_between_them(self, tmp_path, responses_sandbox):
        for number in range(2):
            enrich(tmp_path, shard=(number, 2), key="id").execute(context(TaskInstance(map_index=number)))
        assert inputs(responses_sandbox) == [f"Mood of: review {n}" for n in range(5)]

    def test_the_whole_request_may_be_a_rows(self, tmp_path, responses_sandbox):
        enrich(tmp_path, input=lambda row: {"input": row["text"], "max_output_tokens": 20}).execute(context())
        assert {entry.body["max_output_tokens"] for entry in responses_sandbox.ledger} == {20}
        assert {entry.body["stream"] for entry in responses_sandbox.ledger} == {False}

    def test_every_other_field_arrives(self, tmp_path, responses_sandbox):
        enrich(tmp_path, instructions="Short.", request={"temperature": 0.5}).execute(context())
        assert {(e.body["instructions"], e.body["temperature"]) for e in responses_sandbox.ledger} == {("Short.", 0.5)}

    def test_answers_are_kept_as_long_as_is_said(self, tmp_path, responses_sandbox):
        enrich(tmp_path, cache_ttl=7200).execute(context())
        assert {entry.headers["x-openrouter-cache-ttl"] for entry in responses_sandbox.ledger} == {"7200"}

    def test_how_it_goes_are_metrics(self, tmp_path, responses_sandbox, monkeypatch):
        from airflow.providers.common.compat.sdk import Stats

        sent, real = {}, Stats.gauge

        def gauge(name, value, **more):
            real(name, value, **more)
            sent.setdefault(name, []).append((value, more["tags"]))

        monkeypatch.setattr(Stats, "gauge", gauge)
        impatient(monkeypatch, tick=0.001, progress_seconds=0.0)
        responses_sandbox.latency = 0.05
        with DAG("nightly", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            task = enrich(tmp_path)
        task.execute(context())
        names = ("done", "left", "rate", "cost", "failed", "sent_again", "in_flight")
        assert set(sent) == {f"airflow_provider_responses.enrich.{name}" for name in names}
        assert sent["airflow_provider_responses.enrich.left"][0] == (5, {"dag_id": "nightly", "task_id": "label"})
        task.shard = (1, 2)
        task.execute(context())
        tags = {"dag_id": "nightly", "task_id": "label", "shard": "1"}
        assert sent["airflow_provider_responses.enrich.done"][-1][1] == tags


class TestTemplates:
    def test_context_macros_and_columns_named_as_methods(self, tmp_path, responses_sandbox):
        rows = [{"items": "three", "when": datetime.date(2026, 1, 2), "none": None}]
        text = "{{ ds }} {{ row.items }} {{ row['when'].year }}{{ row.none }} {{ row.when | string | upper }}"
        with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
            task = enrich(tmp_path, source=rows, input=text)
        task.execute(context(ds="2026-11-01"))
        assert inputs(responses_sandbox) == ["2026-11-01 three 2026 2026-01-02"]

    @pytest.mark.parametrize(
        ("text", "said"),
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
    def test_what_cannot_be_rendered_costs_nothing(self, text, said, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException) as caught:
            enrich(tmp_path, input=text).execute(context())
        assert said in str(caught.value)
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize("native", [False, True])
    @pytest.mark.parametrize("text", ["{{ row.__class__.__mro__ }}", "{{ '{0.__class__}'.format(row) }}"])
    def test_what_is_not_safe_is_refused(self, text, native, tmp_path, responses_sandbox):
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
    def test_an_upstream_output_that_is_no_source_is_refused(self, source, kind, tmp_path, responses_sandbox):
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
    def test_a_column_that_it_does_without_may_be_in_no_row(self, text, tmp_path, responses_sandbox):
        enrich(tmp_path, input=text).execute(context())
        assert inputs(responses_sandbox) == [f"review {n} " for n in range(5)]

    def test_a_column_may_be_rare(self, tmp_path, responses_sandbox):
        rows = [{"text": "same"} for _ in range(1000)] + [{"text": "last", "note": "!"}]
        enrich(tmp_path, source=rows, input="{{ row.text }}{{ row.note | default('') }}").execute(context())
        assert inputs(responses_sandbox) == ["last!", "same"]

    def test_a_row_that_cannot_be_asked_about_marks_itself(self, tmp_path, responses_sandbox):
        rows = [*ROWS, {"id": "r5", "text": None}]
        enrich(tmp_path, source=rows, input="{{ row.text }}", limits=Limits(max_failures=1)).execute(context())
        last = result(tmp_path)[-1]
        assert (last["_status"], last["_tries"]) == ("invalid", 0)
        assert "input must not be empty" in last["_error"]
        assert len(responses_sandbox.ledger) == 5

    def test_what_a_function_asks_may_come_back(self, tmp_path, responses_sandbox):
        def ask(row):
            raise ConnectionError("no lookup service")

        with pytest.raises(SourceError, match="row 0: input: the function raised ConnectionError") as caught:
            enrich(tmp_path, input=ask).execute(context())
        assert caught.value.retryable

    def test_a_function_that_fails_for_a_row_marks_it(self, tmp_path, responses_sandbox):
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


class TestFailures:
    def test_too_many_are_left_to_a_retry_which_sends_only_those(self, tmp_path, responses_sandbox):
        responses_sandbox.script(*[{"status": 500}] * 2)
        ti = TaskInstance()
        with pytest.raises(ResponsesError, match=r"2 of 5 rows failed .2 failed., and limits.max_failures is 1"):
            enrich(tmp_path, limits={"max_failures": 1}, options={"max_retries": 0}).execute(context(ti))
        assert ti.xcoms["return_value"]["counts"] == {"ok": 3, "failed": 2}
        assert enrich(tmp_path).execute(context(TaskInstance(try_number=2)))["counts"] == {"ok": 5}
        assert len(responses_sandbox.billed) == 5

    @pytest.mark.parametrize("place", ["source", "output_path"])
    def test_a_storage_that_airflow_does_not_know_costs_nothing(self, place, tmp_path, responses_sandbox):
        arguments = {place: "hdfs://bucket/a.csv"}
        with pytest.raises(AirflowFailException, match=r"hdfs://bucket/a.csv: .*. Install the"):
            enrich(tmp_path, **arguments).execute(context())
        assert not responses_sandbox.ledger

    def test_a_kill_from_another_thread_ends_the_run_and_keeps_what_is_answered(self, tmp_path, responses_sandbox):
        rows = [{"text": f"review {n}"} for n in range(2000)]
        task = enrich(tmp_path, source=rows, limits={"concurrency": 2})

        def kill():
            while len(responses_sandbox.billed) < 5:
                time.sleep(0.001)
            task.on_kill()

        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill)
            with pytest.raises(ResponsesError, match="the task was ended; what is done stays"):
                task.execute(context())
            killing.result()
        kept = sum(len(part.read_text().splitlines()) for part in (tmp_path / "out" / "parts").iterdir())
        assert 0 < kept <= len(responses_sandbox.billed) < 2000

    def test_execution_timeout_bounds_the_run(self, tmp_path, responses_sandbox, monkeypatch):
        impatient(monkeypatch, tick=0.01)
        responses_sandbox.script({"hang": True, "times": 5})
        limit = datetime.timedelta(seconds=0.2)
        with pytest.raises(TransportError, match="the task's time of 0 s is over"):
            enrich(tmp_path, execution_timeout=limit, options={"timeout": 5}).execute(context())

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow has retry policies from 3.3 on")
    def test_airflow_tries_again_as_the_service_says_unless_told_otherwise(self, tmp_path):
        from airflow.sdk import ExceptionRetryPolicy

        from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

        own = ExceptionRetryPolicy(rules=[])
        assert isinstance(enrich(tmp_path).retry_policy, ResponsesRetryPolicy)
        assert enrich(tmp_path, retry_policy=own).retry_policy is own

    def test_a_failed_task_that_pushes_nothing(self, tmp_path, responses_sandbox):
        responses_sandbox.script({"status": 400})
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="1 of 5 rows failed"):
            enrich(tmp_path, do_xcom_push=False).execute(context(ti))
        assert not ti.xcoms

    def test_a_spent_budget_fails_at_once_and_keeps_what_is_done(self, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match=r"limits.max_cost of .* is spent"):
            enrich(tmp_path, limits={"max_cost": 1e-9, "concurrency": 1}).execute(context())
        assert [row["_status"] for row in result(tmp_path)].count("ok") == len(responses_sandbox.billed) > 0

    def test_a_key_that_is_refused_fails_at_once(self, tmp_path, responses_sandbox):
        responses_sandbox.script(*[{"status": 401}] * 5)
        with pytest.raises(AirflowFailException, match="401"):
            enrich(tmp_path, limits={"concurrency": 1}).execute(context())
        assert len(responses_sandbox.ledger) == 1

    def test_a_kill_keeps_what_is_answered(self, tmp_path, responses_sandbox):
        task = enrich(tmp_path)
        task.on_kill()
        with pytest.raises(Exception, match="the task was ended"):
            task.execute(context())
        assert not responses_sandbox.ledger

    def test_another_task_on_the_same_output_is_refused(self, tmp_path, responses_sandbox):
        inside = []

        def ask(row):
            if row["id"] == "r0":
                with pytest.raises(OutputLockedError) as caught:
                    enrich(tmp_path).execute(context(TaskInstance(task_id="other")))
                inside.append(str(caught.value))
            return row["text"]

        enrich(tmp_path, input=ask).execute(context())
        assert "is being written by nightly.ask run=scheduled__2026-01-01 map_index=-1, try 1" in inside[0]

    def test_another_prompt_is_refused_if_that_is_wanted(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        task = enrich(tmp_path, input="Tone of: {{ row.text }}", on_changed_request="fail")
        with pytest.raises(AirflowFailException, match="5 of 5 rows were answered for another prompt"):
            task.execute(context())
        assert len(responses_sandbox.ledger) == 5

    def test_the_result_of_another_task_is_not_replaced(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context(TaskInstance(task_id="other")))
        with pytest.raises(AirflowFailException, match=r"holds the result of 'nightly\.other'"):
            enrich(tmp_path).execute(context())
        enrich(tmp_path).execute(context(TaskInstance(task_id="other", run_id="tomorrow")))

    def test_a_connection_without_sql(self, tmp_path, responses_sandbox):
        task = enrich(tmp_path, source=SqlQuery("responses_default", "SELECT 1"), key="id")
        with pytest.raises(Exception, match="responses_default"):
            task.execute(context())

    def test_a_column_that_the_result_lacks(self, tmp_path, database, responses_sandbox):
        with sqlite3.connect(database) as connection:
            connection.execute("ALTER TABLE labels ADD COLUMN prize TEXT")
        task = enrich(tmp_path, key="id", output_type=Label, load_to=SqlTable("warehouse", "labels", ["mood", "prize"]))
        with pytest.raises(AirflowFailException, match=r"load_to.columns: the result has no column 'prize'"):
            task.execute(context())
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("sql", "said"),
        [
            ("SELECT * FROM reviews a JOIN reviews b ON a.id = b.id", "'the query' has two columns 'id'; rename one"),
            ("", "the query returned no columns; it must be a SELECT"),
        ],
    )
    def test_a_query_that_is_no_table(self, sql, said, tmp_path, database, responses_sandbox):
        with pytest.raises(AirflowFailException, match=said):
            enrich(tmp_path, source=SqlQuery("warehouse", sql), key="id").execute(context())
        assert not responses_sandbox.ledger

    def test_a_column_that_an_answer_would_overwrite(self, tmp_path, responses_sandbox):
        rows = [{"mood": "x", "text": "y"}]
        with pytest.raises(AirflowFailException, match="column 'mood' of the source is also a field of output_type"):
            enrich(tmp_path, source=rows, output_type=Label).execute(context())
        assert not responses_sandbox.ledger


class TestStoppingEarly:
    @pytest.mark.parametrize("count", [5, 500])
    def test_requests_that_all_fail_for_good_are_no_reason_to_retry(self, count, tmp_path, responses_sandbox):
        responses_sandbox.script({"status": 400, "times": count})
        rows = [{"text": str(number)} for number in range(count)]
        with pytest.raises(AirflowFailException, match="400 Bad Request"):
            enrich(tmp_path, source=rows).execute(context())

    def test_a_prompt_that_nobody_answers_is_not_paid_for_all_rows(self, tmp_path, responses_sandbox):
        rows = [{"text": str(number)} for number in range(500)]
        with pytest.raises(AirflowFailException, match=r"more than half, and limits.max_failures is 0.02"):
            enrich(tmp_path, source=rows, model="sandbox/refusal", limits={"max_failures": 0.02}).execute(context())
        assert 50 <= len(responses_sandbox.billed) < 200

    def test_an_upstream_task_that_gave_nothing(self, tmp_path, responses_sandbox):
        task = enrich(tmp_path)
        task.source = None
        with pytest.raises(AirflowFailException, match="source is None: the upstream task or the template returned"):
            task.execute(context())

    def test_a_storage_without_its_provider(self, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match="Install the provider of this storage"):
            enrich(tmp_path, output_path="nowhere://bucket/x").execute(context())


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


def test_mapped_shards_of_a_mapped_tasks_rows_in_a_real_run(run_dag, tmp_path, responses_sandbox):
    ran = run_dag(SHARDED.replace("FOLDER", str(tmp_path / "a folder")), "sharded")
    assert ran.state == "success"
    assert inputs(responses_sandbox) == [f"<{{{{ ds }}}} {number}> me - True" for number in (1, 2, 3)]
    assert sum(ran.xcom("label", map_index=number)["rows"] for number in range(2)) == 3
    assert ran.xcom("merge")["output"] == str(tmp_path / "a folder" / "result.parquet")
