"""Each attempt that has sent a request reports metrics once, in each execution mode."""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS, AIRFLOW_V_3_3_PLUS
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.hooks import telemetry
from airflow_provider_responses.observability.metrics import queue_metrics
from airflow_provider_responses.triggers.responses import START_TIMEOUT
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import MODES, first_event, performer, revive, start_trigger
from tests.operators.one_request import MODEL, Label, ask


class FakeStats:
    """Stands in for Airflow's Stats."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.times: dict[str, list[timedelta]] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def incr(self, name: str, count: int, *, tags: dict[str, str]) -> None:
        self.counts[name] = self.counts.get(name, 0) + count
        self.tags[name] = tags

    def timing(self, name: str, value: timedelta, *, tags: dict[str, str]) -> None:
        self.times.setdefault(name, []).append(value)
        self.tags[name] = tags


@pytest.fixture
def stats(monkeypatch) -> Any:
    """The metrics of tasks and of triggers together."""
    found = FakeStats()
    monkeypatch.setattr(telemetry, "_task_stats", lambda: found)
    monkeypatch.setattr(telemetry, "_core_stats", lambda: found)
    return found


@pytest.fixture(params=MODES)
def perform(request, monkeypatch):
    return performer(request.param, monkeypatch)


def test_a_request_reports_its_tokens_cost_and_time_once(perform, stats, responses_sandbox):
    ti = TaskInstance()
    perform(ask(), context(ti))
    usage = ti.xcoms["usage"]
    assert stats.counts == {
        "responses.requests": 1,
        "responses.sends": 1,
        "responses.input_tokens": usage["input_tokens"],
        "responses.output_tokens": usage["output_tokens"],
        "responses.cost_microdollars": round(usage["cost"] * 1e6),
    }
    tags = {"dag_id": "nightly", "task_id": "ask"}
    assert stats.tags["responses.requests"] == {**tags, "model": MODEL, "status": "completed"}
    assert stats.tags["responses.cost_microdollars"] == {**tags, "model": MODEL}
    (seconds,) = stats.times["responses.duration"]
    assert timedelta(0) < seconds < timedelta(minutes=2)


@pytest.mark.parametrize("mode", ["worker", "deferred"])
def test_each_request_of_a_task_with_tools_is_counted_once(mode, monkeypatch, stats, responses_sandbox):
    def charge(order: int) -> int:
        """Charge."""
        return order

    ti = TaskInstance()
    performer(mode, monkeypatch)(ask(model="sandbox/calls-2", tools=[charge]), context(ti))

    usage = ti.xcoms["usage"]
    assert stats.counts["responses.requests"] == stats.counts["responses.sends"] == len(usage["steps"]) == 3
    assert stats.counts["responses.input_tokens"] == usage["input_tokens"]
    assert stats.counts["responses.cost_microdollars"] == sum(round(step["cost"] * 1e6) for step in usage["steps"])
    assert len(stats.times["responses.duration"]) == 3


def test_resends_are_counted_by_their_cause_and_invalid_responses_are_paid(perform, stats, responses_sandbox):
    responses_sandbox.script({"status": 429, "retry_after": 0.01}, {"text": "neither"})
    ti = TaskInstance()
    perform(ask(output_type=Label), context(ti))
    assert stats.counts["responses.sends"] == 3
    assert stats.counts["responses.resends.TooManyRequestsResponseError"] == 1
    assert stats.counts["responses.resends.OutputValidationError"] == 1
    assert stats.tags["responses.resends.OutputValidationError"]["cause"] == "OutputValidationError"
    assert stats.counts["responses.requests"] == 1
    assert stats.counts["responses.cost_microdollars"] == round(ti.xcoms["usage"]["cost"] * 1e6)


def test_an_attempt_that_fails_is_counted_by_its_error(perform, stats, responses_sandbox):
    responses_sandbox.script({"status": 400, "times": 5})
    with pytest.raises(Exception, match="400"):
        perform(ask(), context())
    assert stats.counts == {
        "responses.requests": 1,
        "responses.sends": 1,
        "responses.failures.BadRequestResponseError": 1,
    }
    assert stats.tags["responses.requests"]["status"] == "failed"
    assert stats.tags["responses.requests"]["model"] == "unknown"


def test_a_send_that_may_have_been_billed_is_unpriced_and_its_cost_no_metric(stats, responses_sandbox):
    responses_sandbox.script({"drop": True, "times": 9})
    with pytest.raises(Exception, match="may have been billed"):
        ask(options={"max_retries": 0, "timeout": 5}).execute(context())
    assert stats.counts["responses.unpriced"] == 1
    assert "responses.cost_microdollars" not in stats.counts


def test_a_cached_response_is_a_cache_hit_without_tokens_and_cost(perform, stats, responses_sandbox):
    perform(ask(), context())
    first = dict(stats.counts)
    perform(ask(), context())
    assert stats.counts == first | {"responses.requests": 2, "responses.sends": 2, "responses.cache_hits": 1}


def test_nothing_is_counted_for_a_request_that_was_never_sent(perform, stats, responses_sandbox, monkeypatch):
    wrong = responses_sandbox.connection | {"extra": {"colour": "red"}}
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(wrong))
    with pytest.raises(Exception, match="colour"):
        perform(ask(), context())
    assert not stats.counts
    assert "responses.duration" not in stats.times


def test_the_time_in_the_queue_of_the_triggerer_is_reported_where_there_is_one(perform, stats, responses_sandbox):
    perform(ask(), context())
    times = stats.times.get("responses.queue_time", [])
    if perform.mode in {"deferred", "triggerer"}:
        (seconds,) = times
        assert timedelta(0) <= seconds < timedelta(minutes=2)
        assert stats.tags["responses.queue_time"] == {"dag_id": "nightly", "task_id": "ask"}
    else:  # without a worker, Airflow's triggerer tells when the task began
        assert not times


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="before Airflow 3.3 no task starts in the triggerer")
def test_the_queue_time_of_a_task_that_starts_in_the_triggerer_begins_with_the_task(stats, responses_sandbox):
    trigger = revive(start_trigger(ask()), TaskInstance())
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    trigger.timeout_after = began + START_TIMEOUT
    trigger._now = lambda: began.timestamp() + 3.5
    first_event(trigger)
    assert stats.times["responses.queue_time"] == [timedelta(seconds=3.5)]


@given(st.floats() | st.floats(-1e12, 1e12))
def test_a_queue_time_of_any_clock_is_a_time_or_no_metric(seconds):
    for metric in queue_metrics(seconds, {}):
        assert timedelta(0) <= metric.value <= timedelta(days=1200)
    assert not list(queue_metrics(float("inf"), {}))
    assert not list(queue_metrics(float("nan"), {}))


def test_the_triggerer_reports_by_the_module_that_it_sets_up():
    from airflow.jobs import triggerer_job_runner as runner
    from airflow.providers.common.compat.sdk import Stats

    core = telemetry._core_stats()
    known = getattr(runner, "Stats", None) or runner.stats.Stats
    assert core is known
    assert (core is Stats) is not AIRFLOW_V_3_2_PLUS
    assert telemetry._task_stats() is Stats


TASK = """
import sys
from airflow.providers.common.compat.sdk import conf
from airflow_provider_responses.hooks import telemetry
from airflow_provider_responses.observability.metrics import Metric, queue_metrics

if sys.argv[1] == "triggerer":
    from airflow._shared.observability.metrics import stats
    from airflow.observability.metrics import stats_utils
else:
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
tags = {"dag_id": "d", "task_id": "t"}
telemetry.emit([Metric("responses.cost_microdollars", 12, tags)], in_triggerer=sys.argv[1] == "triggerer")
telemetry.emit(queue_metrics(0.25, tags), in_triggerer=sys.argv[1] == "triggerer")
"""


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="how Airflow sets up its metrics differs before 3.3")
@pytest.mark.parametrize("process", ["worker", "triggerer"])
def test_metrics_arrive_at_a_statsd_server_from_both_processes(process):
    pytest.importorskip("statsd")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        env = os.environ | {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(server.getsockname()[1]),
        }
        subprocess.run([sys.executable, "-c", TASK, process], env=env, check=True)
        found: list[str] = []
        while len(found) < 2:  # Airflow sends some of its own
            found += [text for text in server.recv(1000).decode().splitlines() if ".responses." in text]
    assert found == ["airflow.responses.cost_microdollars:12|c", "airflow.responses.queue_time:250.000000|ms"]
