"""The options of ``[responses]`` in Airflow's configuration."""

from __future__ import annotations

import os

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.get_provider_info import get_provider_info
from airflow_provider_responses.operators.configuration import batch_poll_interval, max_trigger_bytes, min_deferral
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_commands import run_airflow
from tests.airflow_fakes import context
from tests.operators.enrichments import MODEL

MIN_DEFERRAL = "AIRFLOW__RESPONSES__MIN_DEFERRAL"
BATCH_POLL_INTERVAL = "AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL"
MAX_TRIGGER_BYTES = "AIRFLOW__RESPONSES__MAX_TRIGGER_BYTES"


def ask(**arguments):
    return ResponsesOperator(task_id="ask", model=MODEL, input="Hello", deferrable=True, **arguments)


def test_the_defaults_are_those_of_the_providers_info(monkeypatch):
    monkeypatch.delenv(MIN_DEFERRAL)
    options = get_provider_info()["config"]["responses"]["options"]
    assert min_deferral() == float(options["min_deferral"]["default"])
    assert max_trigger_bytes() == int(options["max_trigger_bytes"]["default"])
    assert batch_poll_interval() == float(options["batch_poll_interval"]["default"])


@pytest.mark.parametrize(
    ("read", "variable", "text", "message"),
    [
        (min_deferral, MIN_DEFERRAL, "soon", "[responses] min_deferral must be a number of seconds >= 0, got 'soon'"),
        (min_deferral, MIN_DEFERRAL, "", "[responses] min_deferral must be a number of seconds >= 0, got ''"),
        (min_deferral, MIN_DEFERRAL, "-1", "[responses] min_deferral must be a number of seconds >= 0, got -1.0"),
        (min_deferral, MIN_DEFERRAL, "nan", "[responses] min_deferral must be a number of seconds >= 0, got nan"),
        (
            *(max_trigger_bytes, MAX_TRIGGER_BYTES, "48 KB"),
            "[responses] max_trigger_bytes must be a whole number of bytes >= 0, got '48 KB'",
        ),
        (
            *(max_trigger_bytes, MAX_TRIGGER_BYTES, "1.5"),
            "[responses] max_trigger_bytes must be a whole number of bytes >= 0, got '1.5'",
        ),
        (
            *(batch_poll_interval, BATCH_POLL_INTERVAL, "0"),
            "[responses] batch_poll_interval must be a number of seconds from 0.01 to 86400.0, got 0.0",
        ),
        (
            *(batch_poll_interval, BATCH_POLL_INTERVAL, "often"),
            "[responses] batch_poll_interval must be a number of seconds from 0.01 to 86400.0, got 'often'",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_the_option(read, variable, text, message, monkeypatch):
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError) as caught:
        read()
    assert str(caught.value) == message
    assert not caught.value.retryable


def test_a_wrong_value_fails_a_task_that_defers_before_anything_is_sent(responses_sandbox, monkeypatch):
    monkeypatch.setenv(MIN_DEFERRAL, "soon")
    with pytest.raises(AirflowFailException, match=r"\[responses\] min_deferral must be a number of seconds >= 0"):
        ask().execute(context())
    assert not responses_sandbox.ledger


def test_a_task_on_a_worker_does_not_read_them(responses_sandbox, monkeypatch):
    monkeypatch.setenv(MIN_DEFERRAL, "soon")
    monkeypatch.setenv(MAX_TRIGGER_BYTES, "48 KB")
    task = ResponsesOperator(task_id="ask", model=MODEL, input="Hello")
    assert task.execute(context())


def test_a_wrong_value_keeps_a_start_in_the_triggerer_on_the_worker_which_reports_it(responses_sandbox, monkeypatch):
    monkeypatch.setenv(MAX_TRIGGER_BYTES, "48 KB")
    with pytest.raises(AirflowFailException, match=r"\[responses\] max_trigger_bytes must be a whole number"):
        ask(start_from_trigger=True).execute(context())


def test_no_worker_resumes_before_min_deferral(responses_sandbox, monkeypatch):
    monkeypatch.setenv(MIN_DEFERRAL, "60")
    with pytest.raises(TaskDeferred) as caught:
        ask().execute(context())
    kwargs = caught.value.trigger.kwargs
    assert kwargs["not_before"] == pytest.approx(kwargs["deadline"] - 600 + 60, abs=1)


def test_a_larger_request_is_sent_by_the_worker(responses_sandbox, monkeypatch):
    monkeypatch.setenv(MAX_TRIGGER_BYTES, "100")
    assert ask().execute(context())
    assert len(responses_sandbox.ledger) == 1


def test_airflow_lists_the_options(airflow_db):
    environment = {name: text for name, text in os.environ.items() if name != MIN_DEFERRAL}
    listed = run_airflow(
        ["config", "list", "--section", "responses", "--include-descriptions"],
        ["config", "get-value", "responses", "max_trigger_bytes"],
        env=environment,
    )
    assert "Seconds after its deferral before which no worker resumes a task." in listed
    assert "max_trigger_bytes = " in listed
    assert listed.splitlines()[-1] == "48000"
