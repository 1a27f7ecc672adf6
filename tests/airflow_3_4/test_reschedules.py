"""A long wait that uses up no retry, as Airflow's own task runner takes it."""

from __future__ import annotations

import datetime
import uuid

import pytest
import structlog
from airflow.sdk import ChainRetryPolicy, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.api.datamodels._generated import TIRunContext
from airflow.sdk.execution_time import task_runner

from airflow_provider_responses.exceptions import TooManyRequestsResponseError
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

NOW = datetime.datetime.now(datetime.UTC)


def fail(task, *, retry_after=90.0, count=0, first=None):
    """Let an attempt fail; give what Airflow's task runner then sends to its supervisor."""
    ti = task_runner.RuntimeTaskInstance.model_construct(
        id=uuid.uuid4(),
        dag_id="nightly",
        task_id=task.task_id,
        run_id="r",
        try_number=1,
        map_index=-1,
        task=task,
        _ti_context_from_server=TIRunContext.model_construct(
            max_tries=task.retries,
            should_retry=task.retries > 0,
            task_reschedule_count=count,
            first_task_reschedule_start_date=first,
            dag_run=None,
        ),
    )
    context = {"ti": ti, "task": task, "task_reschedule_count": count}
    error = TooManyRequestsResponseError("429", retry_after=retry_after)
    message, _ = task_runner._handle_current_task_failed(ti, error, structlog.get_logger(), context)
    return message


def ask(retries=2, retry_delay=1.0):
    return ResponsesOperator(
        task_id="ask", input="a", retries=retries, retry_delay=datetime.timedelta(seconds=retry_delay)
    )


@pytest.fixture(autouse=True)
def _without_tags(monkeypatch):
    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "stats_tags", {})


@pytest.mark.parametrize("retry_delay", [1, 300])
@pytest.mark.parametrize("retries", [0, 2])
def test_a_long_wait_is_the_servers_and_uses_up_no_retry(retries, retry_delay):
    message = fail(ask(retries, retry_delay))
    assert type(message).__name__ == "RescheduleTask"
    assert message.reschedule_date - message.end_date == datetime.timedelta(seconds=90)


def test_a_short_wait_uses_up_a_retry():
    message = fail(ask(), retry_after=30)
    assert type(message).__name__ == "RetryTask"
    assert message.retry_delay_seconds == 30


@pytest.mark.parametrize(("count", "kind"), [(23, "RescheduleTask"), (24, "RetryTask")])
def test_an_attempt_is_rescheduled_24_times_at_most(count, kind):
    assert type(fail(ask(), count=count, first=NOW)).__name__ == kind


@pytest.mark.parametrize(("hours", "kind"), [(23, "RescheduleTask"), (25, "RetryTask")])
def test_an_attempt_is_rescheduled_for_a_day_at_most(hours, kind):
    assert type(fail(ask(), count=1, first=NOW - datetime.timedelta(hours=hours))).__name__ == kind


def test_the_policy_can_be_one_of_a_chain():
    others = ExceptionRetryPolicy([RetryRule(exception=ValueError, action=RetryAction.FAIL)])
    chain = ChainRetryPolicy([ResponsesRetryPolicy(), others])
    busy = TooManyRequestsResponseError("429", retry_after=90)
    assert chain.evaluate(busy, 1, 3).action is RetryAction.RESCHEDULE
    assert chain.evaluate(ValueError("not ours"), 1, 3).action is RetryAction.FAIL
