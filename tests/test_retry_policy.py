"""The delay of a task's next attempt is the service's Retry-After."""

from __future__ import annotations

import datetime
import logging
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS

from airflow_provider_responses.exceptions import (
    OutputLockedError,
    PaymentRequiredResponseError,
    ServiceUnavailableResponseError,
    TooManyRequestsResponseError,
    TransportError,
)
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import MODES, performer
from tests.operators.enrichments import MODEL, Label

LONG = "reschedule" if AIRFLOW_V_3_4_PLUS else "retry"
pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow has retry policies from 3.3 on")


def decide(exception):
    from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

    return ResponsesRetryPolicy().evaluate(exception, 1, 3, None)


def raised_from(cause):
    error = RuntimeError("mine")
    error.__cause__ = cause
    return error


def in_a_circle():
    error = raised_from(ValueError("also"))
    error.__cause__.__cause__ = error
    return error


@pytest.mark.parametrize(
    ("exception", "action", "delay"),
    [
        (TooManyRequestsResponseError("429", retry_after=90), LONG, 90),
        (TooManyRequestsResponseError("429", retry_after=60), "retry", 60),
        (TooManyRequestsResponseError("429", retry_after=60.5), LONG, 60.5),
        (ServiceUnavailableResponseError("503", retry_after=0.5), "retry", 0.5),
        (ServiceUnavailableResponseError("503", retry_after=90), LONG, 90),
        (ServiceUnavailableResponseError("503", retry_after=90, ambiguous=True), "retry", 90),
        (OutputLockedError("locked", retry_after=90), "retry", 90),
        (TooManyRequestsResponseError("429", retry_after=1e9), LONG, 86_400),
        (raised_from(TooManyRequestsResponseError("429", retry_after=90)), LONG, 90),
        (TransportError("broke"), "default", None),
        (PaymentRequiredResponseError("402"), "fail", None),
        (raised_from(PaymentRequiredResponseError("402")), "fail", None),
        (ValueError("not ours"), "default", None),
        (in_a_circle(), "default", None),
    ],
)
def test_the_decision(exception, action, delay):
    decision = decide(exception)
    assert decision.action.value == action
    assert decision.retry_delay == (None if delay is None else datetime.timedelta(seconds=delay))
    assert (decision.reason is None) == (action == "default")
    if action == "reschedule":
        assert (decision.max_reschedules, decision.reschedule_timeout) == (24, datetime.timedelta(days=1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("steps", "arguments", "action"),
    [
        ([{"status": 429, "retry_after": 120}], {}, LONG),
        ([{"status": 503, "retry_after": 0}, {"status": 429, "retry_after": 120}], {}, LONG),
        ([{"text": "no JSON"}, {"status": 429, "retry_after": 120}], {"output_type": Label}, "retry"),
        ([{"drop": "after"}, {"status": 429, "retry_after": 120}], {"stream": False}, "retry"),
    ],
)
def test_an_attempt_that_may_have_been_paid_uses_a_retry(
    mode, steps, arguments, action, responses_sandbox, monkeypatch
):
    responses_sandbox.script(*steps)
    task = ResponsesOperator(task_id="ask", model=MODEL, input="x", **arguments)
    with pytest.raises(TooManyRequestsResponseError) as caught:
        performer(mode, monkeypatch)(task, context(TaskInstance()))
    assert len(responses_sandbox.ledger) == len(steps)
    assert decide(caught.value).action.value == action


@pytest.mark.parametrize(("own", "action"), [(5, "retry"), (50, "default"), (300, "default")])
def test_the_longer_of_the_tasks_delay_and_retry_after_counts(own, action):
    from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

    task = ResponsesOperator(task_id="a", input="a", retry_delay=datetime.timedelta(seconds=own))
    error = TooManyRequestsResponseError("429", retry_after=50)
    assert ResponsesRetryPolicy().evaluate(error, 1, 3, {"task": task}).action.value == action


def backing_off(backoff, longest):
    """Return a task that waits for half a minute, and longer with each attempt."""
    return ResponsesOperator(
        task_id="a",
        input="a",
        retry_delay=datetime.timedelta(seconds=30),
        retry_exponential_backoff=backoff,
        max_retry_delay=None if longest is None else datetime.timedelta(seconds=longest),
    )


@pytest.mark.parametrize(
    ("backoff", "try_number", "longest", "action"),
    [
        (0, 6, None, "retry"),
        (1, 6, None, "retry"),
        (True, 1, None, "retry"),
        (True, 2, None, "default"),  # 60 s
        (2.0, 6, None, "default"),
        (1.2, 3, None, "retry"),  # 43.2 s
        (1.2, 4, None, "default"),
        (0.5, 6, None, "retry"),
        (2.0, 6, 40, "retry"),
        (2.0, 6, 55, "default"),
        (2.0, 5000, None, "default"),
    ],
)
def test_a_backoff_that_is_longer_than_retry_after_is_kept(backoff, try_number, longest, action):
    from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

    task = backing_off(backoff, longest)
    error = TooManyRequestsResponseError("429", retry_after=50)
    assert ResponsesRetryPolicy().evaluate(error, try_number, 9, {"task": task}).action.value == action


@pytest.mark.parametrize("backoff", [0, 1, 0.5, 1.2, 2.0, 3])
@pytest.mark.parametrize("try_number", [1, 2, 5, 30, 2000])
@pytest.mark.parametrize("longest", [None, 100])
def test_the_computed_delay_is_that_of_airflows_scheduler(backoff, try_number, longest):
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import TaskInstanceState

    from airflow_provider_responses.retry_policy import _own_delay

    task = backing_off(backoff, longest)
    end = datetime.datetime(2026, 1, 1)
    ti = SimpleNamespace(
        task=task,
        state=TaskInstanceState.UP_FOR_RETRY,
        try_number=try_number + AIRFLOW_V_3_4_PLUS,  # from Airflow 3.4 on, that of the next attempt
        end_date=end,
        retry_delay_override=None,
        dag_id="nightly",
        task_id="a",
        logical_date=end,
        log=logging.getLogger(__name__),
    )
    waits = TaskInstance.next_retry_datetime(ti) - end
    chance = 1 if backoff in {0, 1} else 2
    assert (
        _own_delay(task, try_number) <= waits <= chance * _own_delay(task, try_number) + datetime.timedelta(seconds=1)
    )


def test_operators_have_it_unless_another_is_set():
    from airflow.sdk import ExceptionRetryPolicy

    from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

    own = ExceptionRetryPolicy(rules=[])
    assert isinstance(ResponsesOperator(task_id="a", input="x").retry_policy, ResponsesRetryPolicy)
    assert ResponsesOperator(task_id="a", input="x", retry_policy=own).retry_policy is own
    assert ResponsesOperator(task_id="a", input="x", default_args={"retry_policy": own}).retry_policy is own


def test_a_dag_that_holds_it_can_be_stored():
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    with DAG("stored", schedule=None, start_date=datetime.datetime(2026, 1, 1)) as dag:
        ResponsesOperator(task_id="a", input="x", retries=2)
        ResponsesOperator.partial(task_id="b").expand(input=["x", "y"])
    assert set(DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict) == {"a", "b"}
