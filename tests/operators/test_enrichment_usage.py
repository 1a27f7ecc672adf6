"""The XCom ``usage`` of an enrichment, at the end of each attempt."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_responses.batch.waiting import write_batch_event
from airflow_provider_responses.exceptions import ServiceUnavailableResponseError
from airflow_provider_responses.triggers.batches import ResponsesBatchTrigger
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import first_event
from tests.operators.enrichments import MODEL, Label, enrich
from tests.usage import check_xcom

TWENTY = [{"id": f"r{n}", "text": f"review {n}"} for n in range(20)]


def paid(sandbox):
    return sum(entry.cost for entry in sandbox.billed)


def test_it_has_the_sums_of_the_table(tmp_path, responses_sandbox):
    ti = TaskInstance()
    manifest = enrich(tmp_path, output_type=Label).execute(context(ti))
    usage = ti.xcoms["usage"]
    assert (usage["kind"], usage["status"], usage["model"]) == ("enrichment", "completed", MODEL)
    assert (usage["requests"], usage["requests_cached"], usage["requests_failed"]) == (5, 0, 0)
    assert usage["cost"] == usage["cost_this_attempt"] == pytest.approx(paid(responses_sandbox))
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] == manifest["tokens"]
    assert usage["models"] == [
        {
            "model": MODEL,
            "requests": 5,
            "failed": 0,
            "cached": 0,
            "cost": usage["cost"],
            "unpriced": 0,
            "input_tokens": usage["input_tokens"],
            "output_tokens": usage["output_tokens"],
        }
    ]
    assert (usage["rows"], usage["result_path"]) == (5, manifest["output"])
    assert usage["prompt_fingerprint"] == manifest["prompt"]["fingerprint"]


def test_each_model_is_counted_by_itself(tmp_path, responses_sandbox):
    ti = TaskInstance()
    other = "anthropic/claude-sonnet-4"
    requests = lambda row: {"input": row["text"], "model": other if row["id"] in {"r0", "r1"} else MODEL}  # noqa: E731
    enrich(tmp_path, input=requests, model=None).execute(context(ti))
    usage = ti.xcoms["usage"]
    assert {it["model"]: it["requests"] for it in usage["models"]} == {other: 2, MODEL: 3}
    assert usage["model"] is None
    assert usage["cost"] == pytest.approx(sum(it["cost"] for it in usage["models"]))


def test_a_request_that_was_sent_again_counts_once_for_the_model_that_served_it(tmp_path, responses_sandbox):
    responses_sandbox.script({"status": 503, "retry_after": 0})
    ti = TaskInstance()
    enrich(tmp_path).execute(context(ti))
    assert len(responses_sandbox.ledger) == 6
    assert [(it["model"], it["requests"]) for it in ti.xcoms["usage"]["models"]] == [(MODEL, 5)]


def test_a_failed_attempt_pushes_it_too(tmp_path, responses_sandbox):
    responses_sandbox.script({"status": 400})
    ti = TaskInstance()
    with pytest.raises(AirflowFailException, match="1 of 5 rows failed"):
        enrich(tmp_path).execute(context(ti))
    usage = ti.xcoms["usage"]
    assert (usage["status"], usage["requests"], usage["requests_failed"]) == ("failed", 5, 1)
    assert usage["failures"] == {"BadRequestResponseError": 1}
    assert usage["cost"] == pytest.approx(paid(responses_sandbox))
    assert [it["requests"] for it in usage["models"] if it["model"] is None] == [1]


@pytest.mark.parametrize("wrong", [{"source": "/nowhere.csv"}, {"key": "nowhere"}])
def test_an_attempt_that_sent_nothing_has_cost_nothing(tmp_path, responses_sandbox, wrong):
    ti = TaskInstance()
    with pytest.raises(Exception):  # noqa: B017, PT011  the class differs
        enrich(tmp_path, **wrong).execute(context(ti))
    usage = ti.xcoms["usage"]
    assert (usage["status"], usage["cost"], usage["requests"], usage["rows"]) == ("failed", 0.0, 0, None)


def test_an_error_of_the_users_function_pushes_it_too(tmp_path, responses_sandbox):
    def build(row):
        raise ZeroDivisionError

    ti = TaskInstance()
    with pytest.raises(Exception):  # noqa: B017, PT011
        enrich(tmp_path, input=build).execute(context(ti))
    assert ti.xcoms["usage"]["status"] == "failed"


def test_no_xcom_is_pushed_if_the_task_has_none(tmp_path, responses_sandbox):
    ti = TaskInstance()
    enrich(tmp_path, do_xcom_push=False).execute(context(ti))
    assert "usage" not in ti.xcoms


def test_the_cost_is_that_of_all_attempts_since_the_task_was_cleared(tmp_path, responses_sandbox):
    store, first, second = TaskStateStore(), TaskInstance(), TaskInstance(try_number=2)
    responses_sandbox.script({}, {}, {}, {"status": 401})
    options = {"limits": {"concurrency": 1}, "retries": 2}
    with pytest.raises(AirflowFailException, match="401"):
        enrich(tmp_path, source=TWENTY, **options).execute(context(first, task_state_store=store))
    enrich(tmp_path, source=TWENTY, **options).execute(context(second, task_state_store=store))
    before, after = first.xcoms["usage"], second.xcoms["usage"]
    assert after["cost"] == pytest.approx(paid(responses_sandbox))
    assert before["requests"] == 3
    assert 0 < before["cost"] < after["cost"] == pytest.approx(before["cost"] + after["cost_this_attempt"])
    assert after["requests"] == sum(it["requests"] for it in after["models"])

    cleared = TaskInstance(try_number=3, max_tries=4)
    enrich(tmp_path, source=TWENTY, **options).execute(context(cleared, task_state_store=store))
    assert (cleared.xcoms["usage"]["cost"], cleared.xcoms["usage"]["requests"]) == (0.0, 0)  # all are in the output


def test_another_dag_run_does_not_count_what_the_output_had_before(tmp_path, responses_sandbox):
    enrich(tmp_path).execute(context())
    ti = TaskInstance(run_id="another")
    manifest = enrich(tmp_path).execute(context(ti))
    assert manifest["cost"] > 0
    assert (ti.xcoms["usage"]["cost"], ti.xcoms["usage"]["requests"]) == (0.0, 0)


def test_a_store_that_fails_does_not_fail_a_task_that_is_done(tmp_path, responses_sandbox, caplog):
    class Broken(TaskStateStore):
        def get(self, key, default=None):
            raise OSError("the API server is gone")

    ti = TaskInstance()
    enrich(tmp_path).execute(context(ti, task_state_store=Broken()))
    assert ti.xcoms["usage"]["requests"] == 5
    assert "the task state store cannot be used: the API server is gone" in caplog.text


class Killed(BaseException):
    """Ends an attempt as a signal does, which no code of the task sees."""


def killed_attempt(tmp_path, sandbox, monkeypatch, store):
    """Run an attempt that is killed after the first progress, with one response in the output."""
    from airflow_provider_responses.batch.enrichment import BatchEnrichment

    step = BatchEnrichment.step

    def killed(self):
        step(self)
        self.report.report_figures()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(BatchEnrichment, "step", killed)
        with pytest.raises(Killed):
            enrich(tmp_path).execute(context(TaskInstance(), **store))


def test_a_retry_has_the_cost_of_an_attempt_that_was_killed_as_far_as_it_was_stored(
    tmp_path, responses_sandbox, monkeypatch
):
    store, ti = TaskStateStore(), TaskInstance(try_number=2)
    killed_attempt(tmp_path, responses_sandbox, monkeypatch, {"task_state_store": store})
    enrich(tmp_path).execute(context(ti, task_state_store=store))
    usage = ti.xcoms["usage"]
    assert usage["requests"] == 5
    assert 0 < usage["cost"] == pytest.approx(paid(responses_sandbox))
    assert usage["cost_this_attempt"] == 0
    assert [(it["model"], it["unpriced"]) for it in usage["models"]] == [(MODEL, 0), (None, 1)]  # the end is unknown
    third = TaskInstance(try_number=3)
    enrich(tmp_path).execute(context(third, task_state_store=store))
    assert third.xcoms["usage"]["cost"] == usage["cost"]
    assert third.xcoms["usage"]["requests"] == 5


@pytest.mark.parametrize("more", [{}, {"task_state_store": TaskStateStore()}])
def test_the_cost_is_unknown_after_an_attempt_without_a_record(tmp_path, responses_sandbox, more):
    enrich(tmp_path).execute(context(TaskInstance()))
    ti = TaskInstance(try_number=2)
    enrich(tmp_path).execute(context(ti, **more))
    usage = ti.xcoms["usage"]
    assert (usage["cost"], usage["cost_this_attempt"]) == (None, 0.0)
    assert [(it["model"], it["cost"], it["unpriced"]) for it in usage["models"]] == [(None, None, 1)]


def test_the_first_attempt_after_a_clear_needs_no_record(tmp_path, responses_sandbox):
    ti = TaskInstance(try_number=3, max_tries=4)
    enrich(tmp_path, retries=2).execute(context(ti))
    assert ti.xcoms["usage"]["cost"] == pytest.approx(paid(responses_sandbox))


def test_a_server_without_prices_has_an_unknown_cost(tmp_path, responses_sandbox, monkeypatch):
    from airflow_provider_responses.models.response import Usage

    from_raw = Usage.from_raw
    monkeypatch.setattr(
        Usage, "from_raw", lambda raw: from_raw({k: v for k, v in raw.items() if k != "cost"} if raw else raw)
    )
    ti = TaskInstance()
    enrich(tmp_path).execute(context(ti))
    usage = ti.xcoms["usage"]
    assert usage["cost"] is None
    assert usage["cost_this_attempt"] is None
    assert [(it["cost"], it["unpriced"]) for it in usage["models"]] == [(None, 5)]
    assert usage["input_tokens"] > 0


class TestBeforePaying:
    def test_a_preview_has_the_usage_of_its_requests(self, tmp_path, responses_sandbox):
        ti = TaskInstance()
        found = enrich(tmp_path, source=TWENTY, preview=4).execute(context(ti))
        assert ti.xcoms["usage"]["requests"] == 4
        assert ti.xcoms["usage"]["cost"] == pytest.approx(found["cost_of_preview"])
        assert ti.xcoms["usage"]["result_path"] is None

    def test_an_estimate_has_cost_nothing(self, tmp_path, responses_sandbox):
        ti = TaskInstance()
        enrich(tmp_path, estimate_only=True).execute(context(ti))
        usage = ti.xcoms["usage"]
        assert (usage["status"], usage["requests"], usage["cost"]) == ("completed", 0, 0.0)


class TestBatches:
    @pytest.fixture
    def deferred(self, tmp_path, responses_sandbox, monkeypatch):
        """A task that has submitted its batch, and one that will end it."""
        monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
        ti = TaskInstance()
        responses_sandbox.batch_settings = {"hold": "in_progress"}
        make = lambda: enrich(tmp_path, source=TWENTY, mode="batch")  # noqa: E731
        with pytest.raises(TaskDeferred) as caught:
            make().execute(context(ti))
        responses_sandbox.batch_settings = {"hold": None}
        kwargs = caught.value.trigger.serialize()[1]
        assert "usage" not in ti.xcoms  # the attempt has not ended
        return make, kwargs, responses_sandbox

    def test_it_is_pushed_when_the_attempt_has_ended(self, deferred):
        make, kwargs, sandbox = deferred
        ti, event = TaskInstance(), first_event(ResponsesBatchTrigger(**kwargs))
        make().execute_complete(context(ti), event.payload)
        usage = ti.xcoms["usage"]
        assert (usage["status"], usage["requests"]) == ("completed", 20)
        assert usage["cost"] == pytest.approx(sum(batch.cost for batch in sandbox.batches))

    def test_a_wait_that_failed_pushes_it_too(self, deferred):
        make, kwargs, _ = deferred
        error = ServiceUnavailableResponseError("gone", status_code=503)
        event = write_batch_event("error", dict.fromkeys(kwargs["batch_ids"]), json.loads(kwargs["attempt"]), error)
        ti = TaskInstance()
        with pytest.raises(Exception):  # noqa: B017, PT011
            make().execute_complete(context(ti), event)
        usage = ti.xcoms["usage"]
        assert (usage["status"], usage["requests"], usage["cost"]) == ("failed", 0, 0.0)

    def test_the_cost_is_unknown_if_the_event_cannot_be_read(self, deferred):
        make, _, _ = deferred
        ti = TaskInstance()
        with pytest.raises(Exception):  # noqa: B017, PT011
            make().execute_complete(context(ti), {"version": -1})
        usage = ti.xcoms["usage"]
        assert (usage["status"], usage["cost"], usage["cost_this_attempt"]) == ("failed", None, None)
        check_xcom("usage", usage)
