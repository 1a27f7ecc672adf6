"""Spans of tasks that Airflow runs, and their place below Airflow's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS
from opentelemetry import trace

from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive, start_trigger
from tests.observability.test_parents import TASK, UNSAMPLED
from tests.operators.one_request import ask
from tests.triggers.tasks import deferred

needs_airflows_spans = pytest.mark.skipif(not AIRFLOW_V_3_2_PLUS, reason="tasks have spans from Airflow 3.2 on")

DAG = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("traced", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ResponsesOperator(task_id="on_worker", input="one", model="vendor/m")
    ResponsesOperator(task_id="in_triggerer", input="two", model="vendor/m", deferrable=True)
    ResponsesOperator.partial(task_id="mapped", model="vendor/m").expand(input=["three", "four"])
    ResponsesEnrichOperator(
        task_id="label",
        source=[{"text": "a"}],
        input="{{ row.text }}",
        model="vendor/m",
        output_path="FOLDER",
    )
"""


def test_every_request_of_a_run_is_in_the_trace_of_whoever_runs_it(
    run_dag, spans, responses_sandbox, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__RESPONSES__OTEL_ROW_SAMPLE", "1")
    with trace.get_tracer("test").start_as_current_span("dag.test") as run:
        assert run_dag(DAG.replace("FOLDER", str(tmp_path)), "traced").state == "success"
    requests = [span for span in spans.ours if span.name == "chat vendor/m"]
    (enrichment,) = [span for span in spans.ours if span.name == "invoke_workflow label"]
    of_rows = [span for span in requests if span.parent.span_id == enrichment.context.span_id]
    assert (len(requests), len(of_rows)) == (5, 1)
    assert {span.context.trace_id for span in spans.ours} == {run.context.trace_id}
    others = [span for span in (*requests, enrichment) if span not in of_rows]
    assert {span.parent.span_id for span in others} == {run.context.span_id}


class Started(TaskInstance):
    """A task instance as Airflow hands it to its runner and to its triggerer."""

    context_carrier = TASK


@pytest.fixture
def airflow_traces(monkeypatch):
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "True")


def lineage(spans, span):
    """Return the names of a span and of its ancestors, and the span in the carrier as the last one."""
    by_id = {one.context.span_id: one for one in spans.all}
    names = [span.name]
    while span.parent is not None and span.parent.span_id in by_id:
        span = by_id[span.parent.span_id]
        names.append(span.name)
    return [*names, None if span.parent is None else f"{span.parent.span_id:016x}"]


@needs_airflows_spans
def test_a_request_on_a_worker_is_below_airflows_span_of_the_worker(spans, responses_sandbox, airflow_traces):
    from airflow.sdk.execution_time.task_runner import _make_task_span

    ti = Started()
    with _make_task_span(SimpleNamespace(ti=ti)):
        ask().execute(context(ti))
    assert lineage(spans, spans.only()) == ["chat openai/gpt-4o-mini", "worker.ask", "1" * 16]


@needs_airflows_spans
@pytest.mark.parametrize("start", [False, True])
def test_a_request_in_the_triggerer_is_below_the_same_task(start, spans, responses_sandbox, airflow_traces):
    from airflow.jobs.triggerer_job_runner import _make_trigger_span
    from airflow.sdk.execution_time.task_runner import _make_task_span

    ti = Started()
    if start:
        trigger = revive(start_trigger(ask()), ti)
    else:
        with _make_task_span(SimpleNamespace(ti=ti)):
            trigger = deferred(ask(deferrable=True), ti)
    with _make_trigger_span(ti=ti, trigger_id=1, name="ResponsesTrigger") as span:
        first_event(trigger)
    assert lineage(spans, spans.only()) == ["chat openai/gpt-4o-mini", span.name, "1" * 16]


@needs_airflows_spans
@pytest.mark.parametrize("is_on", [True, False])
def test_a_users_own_provider_does_not_lose_spans_with_airflows_unsampled_trace(
    is_on, spans, responses_sandbox, monkeypatch
):
    from airflow.sdk.execution_time.task_runner import _make_task_span

    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", str(is_on))
    ti = Started()
    ti.context_carrier = UNSAMPLED
    with _make_task_span(SimpleNamespace(ti=ti)):
        ask().execute(context(ti))
        first_event(deferred(ask(deferrable=True), ti))
    assert len(spans.ours) == (0 if is_on else 2)  # where Airflow traces, it has decided to leave this run out
