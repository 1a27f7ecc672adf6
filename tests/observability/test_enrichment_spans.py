"""An enrichment has one span; its rows have some only where they are sampled."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from airflow_provider_responses.observability.spans import Tracing
from tests.airflow_fakes import TaskInstance, context
from tests.observability.recording import resends
from tests.operators.enrichments import enrich


def test_an_enrichment_has_one_span_with_its_figures_and_no_row_has_one(tmp_path, spans, responses_sandbox):
    manifest = enrich(tmp_path).execute(context(TaskInstance(task_id="label")))
    span = spans.only()
    assert (span.name, span.kind) == ("invoke_workflow label", SpanKind.INTERNAL)
    found = dict(span.attributes)
    assert found["gen_ai.operation.name"] == "invoke_workflow"
    assert found["gen_ai.workflow.name"] == "label"
    assert found["airflow.dag_id"] == "nightly"
    assert found["responses.enrich.done"] == 5
    assert found["responses.enrich.failed"] == 0
    assert found["responses.enrich.cost"] == pytest.approx(manifest["cost"])
    assert span.status.status_code is StatusCode.UNSET


def test_an_enrichment_that_fails_has_its_error_and_the_figures_so_far(tmp_path, spans, responses_sandbox):
    responses_sandbox.script({"status": 400, "times": 5})
    with pytest.raises(Exception, match="5 of 5 rows failed"):
        enrich(tmp_path).execute(context(TaskInstance(task_id="label")))
    span = spans.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "TooManyFailuresError"
    assert span.attributes["responses.enrich.failed"] == 5


def test_sampled_rows_have_spans_that_are_children_of_the_enrichments(tmp_path, spans, responses_sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW__RESPONSES__OTEL_ROW_SAMPLE", "1")
    manifest = enrich(tmp_path).execute(context(TaskInstance(task_id="label")))
    *rows, whole = spans.ours
    assert len(rows) == 5
    assert {row.parent.span_id for row in rows} == {whole.context.span_id}
    assert {row.kind for row in rows} == {SpanKind.CLIENT}
    assert sum(row.attributes["responses.cost"] for row in rows) == pytest.approx(manifest["cost"])
    assert all("gen_ai.input.messages" not in row.attributes for row in rows)


def test_a_row_that_is_sent_again_has_a_span_for_each_send(tmp_path, spans, responses_sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW__RESPONSES__OTEL_ROW_SAMPLE", "1")
    responses_sandbox.script({"status": 503, "retry_after": 0.01})
    enrich(tmp_path).execute(context(TaskInstance(task_id="label")))
    *rows, _ = spans.ours
    assert len(rows) == 6
    (failed,) = [row for row in rows if row.status.status_code is StatusCode.ERROR]
    assert failed.attributes["http.response.status_code"] == 503
    assert not resends(failed)


def test_a_share_of_the_rows_is_sampled_and_the_same_rows_always():
    rows = [f'{{"input": "row {number}"}}' for number in range(10_000)]
    half = [row for row in rows if Tracing(tracer=None, row_sample=0.5).samples(row)]
    assert 4800 < len(half) < 5200
    tenth = [row for row in rows if Tracing(tracer=None, row_sample=0.1).samples(row)]
    assert set(tenth) < set(half)
    assert all(Tracing(tracer=None, row_sample=1.0).samples(row) for row in rows)
    assert not any(Tracing(tracer=None).samples(row) for row in rows)
