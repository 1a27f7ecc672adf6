"""Spans at a collector that speaks OTLP over HTTP, and at one that is down."""

from __future__ import annotations

import logging
import re
import socket

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from airflow_provider_responses.observability.export_warnings import INTERVAL, OneWarning
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import MODES, performer
from tests.observability import collector
from tests.observability.collector import attributes_of
from tests.operators.one_request import MODEL, ask


@pytest.fixture(params=MODES)
def perform(request, monkeypatch):
    return performer(request.param, monkeypatch)


@pytest.fixture
def export_to(monkeypatch):
    """Return a function that exports spans to an address, as Airflow sets it up, and returns the provider."""
    providers = []

    def export(url, **options):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=1), **options))
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        providers.append(provider)
        return provider

    yield export
    for provider in providers:
        provider.shutdown()


def test_a_span_arrives_at_a_collector_with_all_its_parts(perform, export_to, responses_sandbox):
    responses_sandbox.script({"status": 503, "retry_after": 0.01})
    ti = TaskInstance()
    with collector.running() as server:
        provider = export_to(server.url)
        perform(ask(), context(ti))
        assert provider.force_flush()
        ((scope, span),) = server.spans
    found, usage = attributes_of(span), ti.xcoms["usage"]
    assert scope == "airflow_provider_responses"
    assert (span.name, span.kind) == (f"chat {MODEL}", Span.SPAN_KIND_CLIENT)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert found["gen_ai.usage.output_tokens"] == usage["output_tokens"]
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert found["responses.cost"] == pytest.approx(usage["cost"])
    (event,) = span.events
    assert event.name == "responses.resend"
    assert attributes_of(event)["http.response.status_code"] == 503
    assert span.start_time_unix_nano <= event.time_unix_nano <= span.end_time_unix_nano


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_collector_that_is_down_fails_nothing_and_is_one_warning(perform, export_to, responses_sandbox, caplog):
    provider = export_to(f"http://127.0.0.1:{unused_port()}/v1/traces")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            ti = TaskInstance()
            assert perform(ask(), context(ti))
            provider.force_flush()
            assert ti.xcoms["usage"]["status"] == "completed"
    (warning,) = [record for record in caplog.records if record.name.startswith("opentelemetry")]
    # The SDK logs the cause only if it tries again, which depends on the draw of its wait.
    assert re.match("Transient error|Failed to export spans", warning.getMessage())
    ours = [record for record in caplog.records if record.name.startswith("airflow_provider_responses")]
    assert ours == []


def test_the_warning_is_repeated_after_ten_minutes_and_for_another_exporter():
    now = 0.0
    one = OneWarning(lambda: now)
    warning, line = (logging.makeLogRecord({"levelno": level}) for level in (logging.WARNING, logging.INFO))
    assert [one.filter(warning), one.filter(warning), one.filter(line)] == [True, False, True]
    now = INTERVAL - 1
    assert not one.filter(warning)
    now = INTERVAL
    assert one.filter(warning)
    one.reset()
    assert one.filter(warning)


def test_a_task_does_not_wait_for_a_collector_that_does_not_respond(perform, export_to, responses_sandbox):
    with collector.running() as server:
        server.hold.clear()
        provider = export_to(server.url, schedule_delay_millis=1, max_export_batch_size=1)
        perform(ask(), context())
        assert server.was_asked.wait(60)  # the exporter's thread waits for the collector
        perform(ask(cache=False), context())  # a second one ends meanwhile
        assert not server.spans
        server.hold.set()
        provider.force_flush()


def test_a_full_queue_drops_spans_and_delays_no_request(export_to, responses_sandbox):
    with collector.running() as server:
        server.hold.clear()
        export_to(server.url, max_queue_size=1, max_export_batch_size=1, schedule_delay_millis=1)
        for _ in range(5):
            assert ask().execute(context())
        assert not server.spans
