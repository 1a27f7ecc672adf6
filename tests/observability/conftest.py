"""A tracer provider of the tests' own, whose spans stay in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.observability.recording import Spans


def id_generator() -> Any:
    """Return Airflow's generator, by which it gives the span of a task the id in its carrier; None before 3.2."""
    try:
        from airflow._shared.observability.traces import OverrideableRandomIdGenerator
    except ImportError:
        return None
    return OverrideableRandomIdGenerator()


@pytest.fixture(scope="session")
def _one_provider() -> tuple[TracerProvider, InMemorySpanExporter]:
    """One for all tests: Airflow's tracers keep the first provider that they find."""
    provider, exporter = TracerProvider(id_generator=id_generator()), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


@pytest.fixture
def spans(_one_provider: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Switch tracing on, and return the spans that have ended."""
    provider, exporter = _one_provider
    exporter.clear()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield Spans(exporter)
    exporter.clear()
