"""The part that both operators share: the same arguments, checked in the same way."""

from __future__ import annotations

import datetime

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

START = datetime.datetime(2026, 1, 1)


def one(**arguments):
    return ResponsesOperator(task_id="one", input="Hello", **arguments)


def many(**arguments):
    return ResponsesEnrichOperator(
        task_id="many", source=[{"text": "a"}], input="{{ row.text }}", output_path="out", **arguments
    )


both = pytest.mark.parametrize("make", [one, many])


@both
def test_the_default_args_of_a_dag_reach_the_shared_arguments(make):
    shared = {"model": "vendor/m", "conn_id": "other", "cache_ttl": 60, "options": {"timeout": 5}}
    with DAG("with_defaults", schedule=None, start_date=START, default_args=shared):
        task = make(conn_id="own")
    assert (task.model, task.cache_ttl, task.options) == ("vendor/m", 60, {"timeout": 5})
    assert task.conn_id == "own"


@both
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_invalid_output": "skip"}, "on_invalid_output must be 'fail' or 'return', got 'skip'"),
        ({"cache_ttl": "1.5"}, "cache_ttl must be a whole number from 1 to 86400, got '1.5'"),
        ({"conn_id": 5}, "conn_id must be str, got int"),
    ],
)
def test_wrong_arguments_are_refused_in_the_same_words(make, arguments, message):
    with pytest.raises(RequestValidationError) as caught:
        make(**arguments)
    assert message in str(caught.value)


@both
def test_whole_numbers_may_be_text_as_templates_render_them(make):
    arguments = make(cache_ttl="60", output_retries="2.0")._arguments()
    request = arguments.to_task_request(idempotency_key=None, stream=False)
    assert (request.cache_ttl, request.output_retries) == (60, 2)


@both
@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow has retry policies from 3.3 on")
def test_the_retry_policy_is_the_packages_by_default(make):
    from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

    assert isinstance(make().retry_policy, ResponsesRetryPolicy)


@both
def test_a_retryable_error_is_left_to_airflows_retries(make):
    error = ConfigurationError("gone", retryable=True)
    with pytest.raises(ConfigurationError) as caught:
        make()._fail(error)
    assert caught.value is error
    assert make().retry_note in error.__notes__[0]


@both
def test_another_error_fails_the_task_at_once(make):
    error = ConfigurationError("wrong")
    with pytest.raises(AirflowFailException, match="wrong") as caught:
        make()._fail(error)
    assert caught.value.__cause__ is error
