"""
Airflow's part of spans and metrics: the configuration, the trace of the task, and Stats.

DAG files import this module, so it imports the rest inside functions.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowConfigException, conf

if TYPE_CHECKING:
    from opentelemetry.context import Context as OtelContext

    from airflow_provider_responses.observability.metrics import Metric
    from airflow_provider_responses.observability.spans import EnrichmentSpan, Tracing
    from airflow_provider_responses.task.outcome import Outcome

SECTION: Final = "responses"

log = logging.getLogger(__name__)


def tracing_of(ti: Any, *, of_worker: Mapping[str, Any] | None = None) -> Tracing | None:
    """
    Return the tracing of a task's requests, None if the process has no tracer provider.

    :param ti: the task instance; None where Airflow provides none.
    :param of_worker: the trace context that a worker has passed on.
    """
    from airflow_provider_responses.observability.spans import Tracing, find_tracer

    if (tracer := find_tracer()) is None:
        return None
    return Tracing(
        tracer=tracer,
        parent=_parent(ti, of_worker),
        attributes=_attributes(ti),
        content=_read(conf.getboolean, SECTION, "otel_content", default=False),
        row_sample=_row_sample(),
    )


def trace_context(ti: Any) -> dict[str, str] | None:
    """Return the trace context that a worker passes on to the triggerer, None if the process has no tracer provider."""
    from airflow_provider_responses.observability.spans import find_tracer
    from airflow_provider_responses.observability.trace_context import inject

    if find_tracer() is None:
        return None

    return inject(_parent(ti, None)) or None


def task_tags(ti: Any) -> dict[str, str]:
    """Return the tags of a task's metrics."""
    return {name: str(getattr(ti, name)) for name in ("dag_id", "task_id") if hasattr(ti, name)}


def enrichment_span(ti: Any, model: Any) -> EnrichmentSpan:
    """Return the span of an enrichment, to be used in a ``with`` block."""
    from airflow_provider_responses.observability.spans import EnrichmentSpan

    return EnrichmentSpan(
        tracing_of(ti), name=str(ti.task_id), model=model if isinstance(model, str) and model else None
    )


def emit_request(usage: Mapping[str, Any], outcome: Outcome, ti: Any, *, in_triggerer: bool = False) -> None:
    """Pass the metrics of an attempt that has ended to Airflow's Stats."""
    from airflow_provider_responses.observability.metrics import request_metrics

    seconds = None if outcome.response is None else outcome.response.seconds
    emit(request_metrics(usage, error=outcome.error, seconds=seconds, tags=task_tags(ti)), in_triggerer=in_triggerer)


def emit(metrics: Iterable[Metric], *, in_triggerer: bool = False) -> None:
    """
    Pass metrics to Airflow's Stats.

    :param in_triggerer: whether this process is the triggerer. It sets up the metrics of Airflow's core; from Airflow
        3.2 on, those of the task SDK are another module, which sends nothing there.
    """
    stats = _core_stats() if in_triggerer else _task_stats()
    for name, value, tags in metrics:
        if isinstance(value, timedelta):
            stats.timing(name, value, tags=tags)
        else:
            stats.incr(name, value, tags=tags)


def _task_stats() -> Any:
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def _core_stats() -> Any:
    try:
        return importlib.import_module("airflow.observability.stats").Stats
    except ImportError:  # before Airflow 3.2
        return importlib.import_module("airflow.stats").Stats


def _parent(ti: Any, of_worker: Mapping[str, Any] | None) -> OtelContext | None:
    """Return the parent of a task's spans, None for the current span."""
    from airflow_provider_responses.observability.trace_context import choose_parent

    carrier = getattr(ti, "context_carrier", None)
    return choose_parent(
        of_task=carrier if isinstance(carrier, Mapping) else None,
        of_worker=of_worker,
        ignores_unsampled=not _read(conf.getboolean, "traces", "otel_on", default=False),
    )


def _attributes(ti: Any) -> dict[str, Any]:
    """Return the attributes of a task, with the names that Airflow gives them in its own spans."""
    names = {
        "dag_id": "airflow.dag_id",
        "task_id": "airflow.task_id",
        "run_id": "airflow.dag_run.run_id",
        "try_number": "airflow.task_instance.try_number",
        "map_index": "airflow.task_instance.map_index",
    }
    found = {attribute: getattr(ti, name, None) for name, attribute in names.items()}
    return {name: value for name, value in found.items() if isinstance(value, (str, int))}


def _row_sample() -> float:
    sample = _read(conf.getfloat, SECTION, "otel_row_sample", default=0.0)
    if 0 <= sample <= 1:
        return float(sample)
    _warn(f"[{SECTION}] otel_row_sample must be a number from 0 to 1, got {sample!r}: no row has a span")
    return 0.0


def _read(get: Callable[..., Any], section: str, option: str, *, default: Any) -> Any:
    try:
        return get(section, option, fallback=default)
    except (AirflowConfigException, ValueError) as error:  # no reason to stop a task
        _warn(f"[{section}] {option} cannot be read, and {default!r} is used: {error}")
        return default


@functools.cache
def _warn(text: str) -> None:
    """Log a warning, once per process."""
    log.warning("%s", text)
