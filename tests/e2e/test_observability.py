"""
Spans and metrics of real workers and of a real triggerer, at a collector and at a StatsD server.

An Airflow of its own: tracing and metrics are settings of its processes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_responses.sandbox import Sandbox
from tests.e2e.deployment import QUICK_HEARTBEATS, Deployment
from tests.observability import collector
from tests.observability.collector import attributes_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DAG = """
from airflow.sdk import DAG

from airflow_provider_responses.operators.responses import ResponsesOperator

with DAG("traced", schedule=None):
    arguments = {"conn_id": "traced", "model": "openai/gpt-4o-mini"}
    ResponsesOperator(task_id="worker", input="one", **arguments)
    ResponsesOperator(task_id="deferred", input="two", deferrable=True, **arguments)
    ResponsesOperator(task_id="started", input="three", start_from_trigger=True, **arguments)
"""


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield server


def received(server: socket.socket) -> Iterator[str]:
    while True:
        try:
            yield from server.recv(65536).decode().splitlines()
        except BlockingIOError:
            return


def test_spans_are_below_their_task_and_metrics_come_from_both_processes(
    statsd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector.running() as traces, Sandbox() as sandbox:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.url)
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp_proto_http")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        settings = {
            "TRACES__OTEL_ON": True,
            "METRICS__STATSD_ON": True,
            "METRICS__STATSD_HOST": "127.0.0.1",
            "METRICS__STATSD_PORT": statsd.getsockname()[1],
        }
        metrics: list[str] = []
        with Deployment(connections={"traced": sandbox.connection}, settings=QUICK_HEARTBEATS | settings) as airflow:
            airflow.write_dag("traced", DAG)
            run_id = airflow.trigger("traced")
            assert airflow.wait_for_run("traced", run_id) == "success", airflow.logs("traced", run_id)

            def names() -> list[str]:
                return [span.name for _, span in traces.spans]

            # Airflow makes none of `task_run.…` where a trigger ends the task.
            expected = {"worker.worker", "task_run.worker", "worker.deferred", "trigger.deferred", "dag_run.traced"}
            airflow.wait_until(
                lambda: names().count("chat openai/gpt-4o-mini") == 3 and expected <= set(names()),
                "all spans to arrive",
                details=lambda: f"{names()}",
            )

            def all_metrics() -> list[str]:
                metrics.extend(line for line in received(statsd) if line.startswith("airflow.responses."))
                return metrics

            airflow.wait_until(
                lambda: sum(line.startswith("airflow.responses.requests:") for line in all_metrics()) == 3,
                "all metrics to arrive",
                details=lambda: f"{metrics}",
            )
    by_id = {span.span_id: span for _, span in traces.spans}
    ours = {
        attributes_of(span)["airflow.task_id"]: span
        for scope, span in traces.spans
        if scope == "airflow_provider_responses"
    }
    assert set(ours) == {"worker", "deferred", "started"}
    assert ancestors(ours["worker"], by_id) == ["worker.worker", "task_run.worker", "dag_run.traced"]
    assert ancestors(ours["deferred"], by_id) == ["trigger.deferred"]
    (worker,) = (span for _, span in traces.spans if span.name == "worker.deferred")
    trigger = by_id[ours["deferred"].parent_span_id]
    assert trigger.parent_span_id == worker.parent_span_id  # the id of the task's span
    assert [name.partition(".")[0] for name in ancestors(ours["started"], by_id)] == ["trigger"]
    (run,) = (span for _, span in traces.spans if span.name == "dag_run.traced")
    assert {task: span.trace_id == run.trace_id for task, span in ours.items()} == dict.fromkeys(ours, True)
    kinds = {line.partition(":")[0].removeprefix("airflow.") for line in metrics}
    assert {"responses.requests", "responses.cost_microdollars", "responses.duration", "responses.queue_time"} <= kinds
    assert sum("queue_time" in line for line in metrics) == 2


def ancestors(span: Any, by_id: dict[bytes, Any]) -> list[str]:
    """Return the names of a span's ancestors, the parent first."""
    names = []
    while (parent := by_id.get(span.parent_span_id)) is not None:
        names.append(parent.name)
        span = parent
    return names
