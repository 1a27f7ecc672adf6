"""The span of a request is a child of the task's span, also in the triggerer."""

from __future__ import annotations

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_responses.observability.trace_context import choose_parent, inject
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive
from tests.observability.recording import Spans
from tests.operators.one_request import ask
from tests.triggers.tasks import deferred

TASK = {"traceparent": "00-" + "a" * 32 + "-" + "1" * 16 + "-01"}
UNSAMPLED = {"traceparent": "00-" + "a" * 32 + "-" + "1" * 16 + "-00"}
WORKER = {"traceparent": "00-" + "b" * 32 + "-" + "2" * 16 + "-01"}


def parent_of(**kwargs):
    """Return the ids of the trace and of the span that are chosen, None for the current span."""
    found = choose_parent(**kwargs)
    if found is None:
        return None
    context_of_span = trace.get_current_span(found).get_span_context()
    return f"{context_of_span.trace_id:032x}"[0], f"{context_of_span.span_id:016x}"[0]


class TestChoice:
    def test_without_any_trace_it_begins_one(self):
        assert parent_of() == ("0", "0")

    def test_the_carrier_of_the_task_is_used_where_there_is_no_current_span(self):
        assert parent_of(of_task=TASK) == ("a", "1")

    def test_the_carrier_of_the_worker_is_nearer_than_that_of_the_task(self):
        assert parent_of(of_task=TASK, of_worker=WORKER) == ("b", "2")

    def test_the_current_span_is_nearer_than_both(self, spans):
        with trace.get_tracer("test").start_as_current_span("trigger.ask"):
            same_trace = inject(None)
            assert parent_of(of_task=TASK) is None
            assert parent_of(of_task=TASK, of_worker=same_trace) is None

    def test_the_current_span_of_another_trace_is_not_that_of_the_task(self, spans):
        with trace.get_tracer("test").start_as_current_span("event loop"):
            assert parent_of(of_task=TASK, of_worker=WORKER) == ("b", "2")

    def test_an_unsampled_carrier_is_kept_where_airflow_traces(self):
        assert parent_of(of_task=UNSAMPLED) == ("a", "1")

    def test_an_unsampled_carrier_is_ignored_where_airflow_does_not_trace(self):
        assert parent_of(of_task=UNSAMPLED, ignores_unsampled=True) == ("0", "0")

    def test_an_unsampled_current_span_of_airflow_is_ignored_where_airflow_does_not_trace(self):
        token = otel_context.attach(choose_parent(of_task=UNSAMPLED))
        try:
            assert parent_of(of_task=UNSAMPLED) is None
            assert parent_of(of_task=UNSAMPLED, ignores_unsampled=True) == ("0", "0")
        finally:
            otel_context.detach(token)

    @pytest.mark.parametrize("carrier", [{}, {"traceparent": "nonsense"}, {"traceparent": 5}, {"other": "x"}])
    def test_a_carrier_that_cannot_be_read_is_none(self, carrier):
        assert parent_of(of_worker=carrier, of_task=TASK) == ("a", "1")
        assert parent_of(of_task=carrier) == ("0", "0")


class TestTasks:
    def test_a_request_on_a_worker_without_a_current_span_is_a_child_of_airflows_task(self, spans, responses_sandbox):
        ti = TaskInstance()
        ti.context_carrier = TASK
        ask().execute(context(ti))
        span = spans.only()
        assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == ("a" * 32, "1" * 16)

    def test_a_deferred_request_is_a_child_of_the_span_that_deferred_it(self, spans, responses_sandbox):
        with trace.get_tracer("test").start_as_current_span("worker.ask") as worker:
            trigger = deferred(ask(deferrable=True))
        first_event(trigger)
        span = spans.only()
        assert (span.parent.trace_id, span.parent.span_id) == (worker.context.trace_id, worker.context.span_id)
        assert span.parent.is_remote

    def test_a_deferred_request_is_a_child_of_airflows_task_if_the_worker_had_no_span(self, spans, responses_sandbox):
        ti = TaskInstance()
        ti.context_carrier = TASK
        first_event(deferred(ask(deferrable=True), ti))
        assert f"{spans.only().parent.span_id:016x}" == "1" * 16

    def test_a_trigger_that_starts_over_has_the_same_parent(self, spans, responses_sandbox):
        with trace.get_tracer("test").start_as_current_span("worker.ask"):
            trigger = deferred(ask(deferrable=True))
        for _ in range(2):
            first_event(revive(trigger, TaskInstance()))
        first, second = spans.ours
        assert first.parent == second.parent

    def test_spans_of_a_user_are_not_lost_with_airflows_unsampled_trace(self, responses_sandbox, monkeypatch):
        provider, exporter = TracerProvider(), InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        ti = TaskInstance()
        ti.context_carrier = UNSAMPLED
        ask().execute(context(ti))
        first_event(deferred(ask(deferrable=True), ti))
        assert [span.parent for span in Spans(exporter).ours] == [None, None]

    def test_nothing_is_passed_to_the_triggerer_where_nothing_is_traced(self, responses_sandbox):
        ti = TaskInstance()
        ti.context_carrier = TASK
        assert deferred(ask(deferrable=True), ti).kwargs["trace_context"] is None
