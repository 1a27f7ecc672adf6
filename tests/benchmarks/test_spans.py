"""
What the span of a request costs over one of the bare SDK with the same attributes. ``make bench`` prints the figures.

The ratio is taken within one run, over interleaved rounds: these machines are shared and noisy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.observability.spans import Tracing, start_request_span
from airflow_provider_responses.task.attempt import Exchange
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.request import TaskRequest

pytestmark = pytest.mark.bench
LIMIT = 1.3  # times the bare SDK's span
OFF_LIMIT = 3.0  # microseconds
ROUNDS, CALLS = 60, 100  # short ones: some are undisturbed also on a busy machine
URL = "https://openrouter.ai/api/v1"
FIELDS = {"model": "openai/gpt-4o-mini", "input": "hi", "temperature": 0.5, "max_output_tokens": 100}
RAW = {
    "id": "resp_1",
    "status": "completed",
    "model": "openai/gpt-4o-mini-2024-07-18",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}],
    "usage": {
        "input_tokens": 12,
        "output_tokens": 3,
        "total_tokens": 15,
        "cost": 0.00001,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 2},
    },
}
TASK = {
    "airflow.dag_id": "nightly",
    "airflow.task_id": "ask",
    "airflow.dag_run.run_id": "scheduled__2026-01-01",
    "airflow.task_instance.try_number": 1,
    "airflow.task_instance.map_index": -1,
}


class Nowhere(SpanExporter):
    """Takes ended spans, as an exporter's queue does, and drops them."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def least(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return microseconds of CPU per call, of the best round; in a round each way has its turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            call()
            began = time.process_time()
            for _ in range(CALLS):
                call()
            found[name].append((time.process_time() - began) / CALLS * 1e6)
    return {name: min(times) for name, times in found.items()}


def recorded(call: Callable[[Any], Any]) -> Any:
    """Return the one span that a function makes with a tracer."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    call(provider.get_tracer("test"))
    (span,) = exporter.get_finished_spans()
    return span


def test_a_span_costs_little_over_the_bare_sdks_and_nothing_if_off(record_property):
    request = TaskRequest(fields=FIELDS, stream=False)
    prepared, options = request.prepare(ClientConfig(api_key="none"), RequestOptions())

    def exchange(tracer: Any) -> None:
        tracing = None if tracer is None else Tracing(tracer=tracer, attributes=TASK)
        span = start_request_span(tracing, prepared, base_url=URL, is_openrouter=True)
        ours = Exchange(request, options, span=span)
        with span:
            outcome = ours.receive(Response(raw=RAW, headers={"x-generation-id": "gen-1"}))
        CostLedger().usage(outcome)

    def untraced() -> None:
        # As each task does it: the response is read, and its tokens and its cost go to XCom.
        outcome = Exchange(request, options).receive(Response(raw=RAW, headers={"x-generation-id": "gen-1"}))
        CostLedger().usage(outcome)

    whole = dict(recorded(exchange).attributes)
    at_first = ("gen_ai.request", "gen_ai.operation", "gen_ai.provider", "airflow.", "server.", "openai.")
    before = {name: value for name, value in whole.items() if name.startswith(at_first)}
    after = {name: value for name, value in whole.items() if name not in before}
    assert len(whole) > 20

    def bare(tracer: Any) -> None:
        with tracer.start_as_current_span(
            "chat openai/gpt-4o-mini", kind=trace.SpanKind.CLIENT, attributes=before
        ) as span:
            untraced()
            span.set_attributes(after)

    assert dict(recorded(bare).attributes) == whole
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    tracer = provider.get_tracer("test")
    figures = least(
        {
            "untraced": untraced,
            "off": lambda: exchange(None),
            "bare": lambda: bare(tracer),
            "ours": lambda: exchange(tracer),
        }
    )
    sdk, ours, off = (figures[name] - figures["untraced"] for name in ("bare", "ours", "off"))
    record_property("figures", figures)
    print(
        f"\na span: {ours:.1f} us, of the bare SDK {sdk:.1f} us, {ours / sdk:.2f} times (limit {LIMIT}); "
        f"off: {off:.2f} us (limit {OFF_LIMIT})"
    )
    assert ours <= LIMIT * sdk
    assert off <= OFF_LIMIT
