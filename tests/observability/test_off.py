"""Without a tracer provider nothing is recorded, and OpenTelemetry is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry import trace

from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.observability.spans import NO_SPAN, find_tracer, start_request_span
from airflow_provider_responses.task.attempt import Exchange
from tests.airflow_fakes import context
from tests.operators.one_request import ask

IMPORTS = """
import sys
from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.observability import metrics, spans, trace_context
from airflow_provider_responses.task.attempt import Exchange

assert spans.find_tracer() is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry", "airflow."))]
"""
WITHOUT_THE_PACKAGE = """
import sys
sys.modules["opentelemetry"] = sys.modules["opentelemetry.trace"] = None  # as if it were not installed
from airflow_provider_responses.observability import spans

assert spans.find_tracer() is None
"""


@pytest.mark.parametrize("provider", [None, "sdk_tracer_provider"])
@pytest.mark.parametrize("code", [IMPORTS, WITHOUT_THE_PACKAGE])
def test_opentelemetry_is_not_imported_and_need_not_be_installed(code, provider, monkeypatch):
    if provider is not None and code is IMPORTS:
        code = IMPORTS.replace("is None", "is not None").partition("assert not [")[0]
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", provider or "")
    if provider is None:
        monkeypatch.delenv("OTEL_PYTHON_TRACER_PROVIDER")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("provider", [None, trace.NoOpTracerProvider()])
def test_a_process_without_a_provider_that_records_has_no_tracer(provider, monkeypatch):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    assert find_tracer() is None


def test_a_request_that_is_not_traced_has_the_span_that_does_nothing(responses_sandbox, monkeypatch):
    used = []
    real = Exchange.begin_span

    def note(self, span):
        used.append(span)
        real(self, span)

    monkeypatch.setattr(Exchange, "begin_span", note)
    ask().execute(context())
    assert used == [NO_SPAN]
    request = ResponsesRequest(model="m", input="hi")
    assert start_request_span(None, request, base_url="https://x.ai/v1", is_openrouter=False) is NO_SPAN
