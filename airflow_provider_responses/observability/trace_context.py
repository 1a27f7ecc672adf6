"""The parent of a task's spans, and its way from the worker to the triggerer: W3C's trace context. No Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext

Carrier = Mapping[str, Any]  # the headers `traceparent` and `tracestate`


def inject(parent: Context | None) -> dict[str, str]:
    """Return the carrier of a parent, by default of the current span; empty if there is none."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, parent)
    return carrier


def choose_parent(
    *, of_task: Carrier | None = None, of_worker: Carrier | None = None, ignores_unsampled: bool = False
) -> Context | None:
    """
    Return the parent of a task's spans, None for the current span.

    The current span is the parent, unless it is not one of the trace that the worker has passed on.

    :param of_task: the carrier of the task's own span, which Airflow makes.
    :param of_worker: the carrier that the worker has passed on to the triggerer.
    :param ignores_unsampled: whether Airflow's tracing is off. Its carriers are then "not sampled", which would drop
        the spans of a tracer provider that the user has set.
    """
    from opentelemetry import trace
    from opentelemetry.context import Context

    current = trace.get_current_span().get_span_context()
    task, worker = (_span_context(carrier) for carrier in (of_task, of_worker))

    def is_usable(found: SpanContext) -> bool:
        is_airflows = found.trace_id == task.trace_id
        return found.is_valid and (found.trace_flags.sampled or not (ignores_unsampled and is_airflows))

    if is_usable(current) and (not is_usable(worker) or worker.trace_id == current.trace_id):
        return None
    parent = next((found for found in (worker, task) if is_usable(found)), None)
    if parent is None:
        return Context()  # a new trace, also where the current span is unusable
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


def _span_context(carrier: Carrier | None) -> SpanContext:
    """Return the span in a carrier; an invalid one if there is none, or it cannot be read."""
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    texts = {name: text for name, text in (carrier or {}).items() if isinstance(text, str)}
    found = TraceContextTextMapPropagator().extract(texts, Context())
    return trace.get_current_span(found).get_span_context()
