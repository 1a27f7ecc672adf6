"""Failures of an enrichment: which are left to retries, which responses are kept, and when sending stops early."""

from __future__ import annotations

import datetime
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.exceptions import OutputLockedError, ResponsesError, TransportError
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import TaskInstance, context
from tests.operators.enrichments import Label, enrich, result, set_intervals


class TestFailures:
    def test_too_many_failed_rows_are_left_to_a_retry_that_sends_only_these(self, tmp_path, responses_sandbox):
        responses_sandbox.script(*[{"status": 500}] * 2)
        ti = TaskInstance()
        with pytest.raises(ResponsesError, match=r"2 of 5 rows failed .2 failed., and limits.max_failures is 1"):
            enrich(tmp_path, limits={"max_failures": 1}, options={"max_retries": 0}).execute(context(ti))
        assert ti.xcoms["return_value"]["counts"] == {"ok": 3, "failed": 2}
        assert enrich(tmp_path).execute(context(TaskInstance(try_number=2)))["counts"] == {"ok": 5}
        assert len(responses_sandbox.billed) == 5

    @pytest.mark.parametrize("place", ["source", "output_path"])
    def test_an_unknown_storage_fails_before_anything_is_sent(self, place, tmp_path, responses_sandbox):
        arguments = {place: "hdfs://bucket/a.csv"}
        with pytest.raises(AirflowFailException, match=r"hdfs://bucket/a.csv: .*. Install the"):
            enrich(tmp_path, **arguments).execute(context())
        assert not responses_sandbox.ledger

    def test_a_kill_from_another_thread_ends_the_attempt_and_writes_the_responses(self, tmp_path, responses_sandbox):
        rows = [{"text": f"review {n}"} for n in range(2000)]
        task = enrich(tmp_path, source=rows, limits={"concurrency": 2})

        def kill():
            while len(responses_sandbox.billed) < 5:
                time.sleep(0.001)
            task.on_kill()

        with ThreadPoolExecutor() as pool:
            killing = pool.submit(kill)
            with pytest.raises(ResponsesError, match="the task was ended; all responses are saved"):
                task.execute(context())
            killing.result()
        kept = sum(len(part.read_text().splitlines()) for part in (tmp_path / "out" / "parts").iterdir())
        assert 0 < kept <= len(responses_sandbox.billed) < 2000

    def test_execution_timeout_limits_the_attempt(self, tmp_path, responses_sandbox, monkeypatch):
        set_intervals(monkeypatch, tick=0.01)
        responses_sandbox.script({"hang": True, "times": 5})
        limit = datetime.timedelta(seconds=0.2)
        with pytest.raises(TransportError, match="the task's time of 0 s is over"):
            enrich(tmp_path, execution_timeout=limit, options={"timeout": 5}).execute(context())

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow has retry policies from 3.3 on")
    def test_the_retry_policy_is_the_packages_unless_another_is_set(self, tmp_path):
        from airflow.sdk import ExceptionRetryPolicy

        from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

        own = ExceptionRetryPolicy(rules=[])
        assert isinstance(enrich(tmp_path).retry_policy, ResponsesRetryPolicy)
        assert enrich(tmp_path, retry_policy=own).retry_policy is own

    def test_a_failed_task_without_xcoms_pushes_nothing(self, tmp_path, responses_sandbox):
        responses_sandbox.script({"status": 400})
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="1 of 5 rows failed"):
            enrich(tmp_path, do_xcom_push=False).execute(context(ti))
        assert not ti.xcoms

    def test_a_spent_max_cost_fails_at_once_and_the_responses_are_kept(self, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match=r"limits.max_cost of .* is spent"):
            enrich(tmp_path, limits={"max_cost": 1e-9, "concurrency": 1}).execute(context())
        assert [row["_status"] for row in result(tmp_path)].count("ok") == len(responses_sandbox.billed) > 0

    def test_a_rejected_key_fails_at_once(self, tmp_path, responses_sandbox):
        responses_sandbox.script(*[{"status": 401}] * 5)
        with pytest.raises(AirflowFailException, match="401"):
            enrich(tmp_path, limits={"concurrency": 1}).execute(context())
        assert len(responses_sandbox.ledger) == 1

    def test_a_kill_writes_the_responses_that_have_arrived(self, tmp_path, responses_sandbox):
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

    def test_on_changed_request_fail_refuses_another_prompt(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context())
        task = enrich(tmp_path, input="Tone of: {{ row.text }}", on_changed_request="fail")
        with pytest.raises(AirflowFailException, match="5 of 5 rows have a response to another prompt"):
            task.execute(context())
        assert len(responses_sandbox.ledger) == 5

    def test_the_result_of_another_task_is_not_replaced(self, tmp_path, responses_sandbox):
        enrich(tmp_path).execute(context(TaskInstance(task_id="other")))
        with pytest.raises(AirflowFailException, match=r"holds the result of 'nightly\.other'"):
            enrich(tmp_path).execute(context())
        enrich(tmp_path).execute(context(TaskInstance(task_id="other", run_id="tomorrow")))

    def test_a_connection_without_sql_is_refused(self, tmp_path, responses_sandbox):
        task = enrich(tmp_path, source=SqlQuery("responses_default", "SELECT 1"), key="id")
        with pytest.raises(Exception, match="responses_default"):
            task.execute(context())

    def test_a_loaded_column_that_the_result_lacks_is_refused(self, tmp_path, database, responses_sandbox):
        with sqlite3.connect(database) as connection:
            connection.execute("ALTER TABLE labels ADD COLUMN prize TEXT")
        task = enrich(tmp_path, key="id", output_type=Label, load_to=SqlTable("warehouse", "labels", ["mood", "prize"]))
        with pytest.raises(AirflowFailException, match=r"load_to.columns: the result has no column 'prize'"):
            task.execute(context())
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("sql", "message"),
        [
            ("SELECT * FROM reviews a JOIN reviews b ON a.id = b.id", "'the query' has two columns 'id'; rename one"),
            ("", "the query returned no columns; it must be a SELECT"),
        ],
    )
    def test_a_query_that_returns_no_table_is_refused(self, sql, message, tmp_path, database, responses_sandbox):
        with pytest.raises(AirflowFailException, match=message):
            enrich(tmp_path, source=SqlQuery("warehouse", sql), key="id").execute(context())
        assert not responses_sandbox.ledger

    def test_a_column_that_a_field_of_the_output_would_overwrite_is_refused(self, tmp_path, responses_sandbox):
        rows = [{"mood": "x", "text": "y"}]
        with pytest.raises(AirflowFailException, match="column 'mood' of the source is also a field of output_type"):
            enrich(tmp_path, source=rows, output_type=Label).execute(context())
        assert not responses_sandbox.ledger


class TestStoppingEarly:
    @pytest.mark.parametrize("count", [5, 500])
    def test_no_retry_follows_if_all_requests_fail_for_good(self, count, tmp_path, responses_sandbox):
        responses_sandbox.script({"status": 400, "times": count})
        rows = [{"text": str(number)} for number in range(count)]
        with pytest.raises(AirflowFailException, match="400 Bad Request"):
            enrich(tmp_path, source=rows).execute(context())

    def test_sending_stops_if_most_of_the_first_responses_are_invalid(self, tmp_path, responses_sandbox):
        rows = [{"text": str(number)} for number in range(500)]
        with pytest.raises(AirflowFailException, match=r"more than half, and limits.max_failures is 0.02"):
            enrich(tmp_path, source=rows, model="sandbox/refusal", limits={"max_failures": 0.02}).execute(context())
        assert 50 <= len(responses_sandbox.billed) < 200

    def test_an_upstream_task_without_a_value_fails_the_task(self, tmp_path, responses_sandbox):
        task = enrich(tmp_path)
        task.source = None
        with pytest.raises(AirflowFailException, match="source is None: the upstream task or the template returned"):
            task.execute(context())

    def test_a_storage_without_its_provider_is_named_in_the_error(self, tmp_path, responses_sandbox):
        with pytest.raises(AirflowFailException, match="Install the provider of this storage"):
            enrich(tmp_path, output_path="nowhere://bucket/x").execute(context())
