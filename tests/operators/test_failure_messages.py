"""Failures as a person reads them in Airflow's UI: the cause first, then the advice, then the request and the task."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel, field_validator

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    RequestValidationError,
    ResponsesError,
    TooManyRequestsResponseError,
)
from airflow_provider_responses.operators.base import NO_RETRY, BaseResponsesOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import TaskInstance, context
from tests.operators.enrichments import MODEL, enrich

UI_WIDTH = 170  # characters of a log line at 1,400 pixels
RETRIES = BaseResponsesOperator.retry_note
REQUEST = r"Request: POST http://127\.0\.0\.1:\d+/api/v1/responses \(model {}\)"


class Mood(BaseModel):
    mood: str

    @field_validator("mood")
    @classmethod
    def _check(cls, mood: str) -> str:
        if mood not in {"good", "bad"}:
            raise ValueError("mood must be good or bad")
        return mood


class Failure:
    """
    A failure at the wire.

    :param cause: the first characters of the message.
    :param advice: a later part of it.
    :param end: a pattern of its end, before the task.
    :param error: the class of the error that Airflow gets.
    """

    def __init__(
        self,
        cause: str,
        advice: str,
        end: str,
        *steps: dict[str, Any],
        error: type[Exception] = AirflowFailException,
        **arguments: Any,
    ) -> None:
        self.cause, self.advice, self.end, self.error = cause, advice, end, error
        self.steps, self.arguments = steps, arguments


FAILURES = {
    "a rejected key": Failure(
        "401 Unauthorized: The API key is not accepted",
        "Check the API key in the connection's password field",
        REQUEST.format("sandbox/error-401"),
        model="sandbox/error-401",
    ),
    "a rate limit that stays": Failure(
        "429 Too Many Requests: Too many requests for this key",
        "run fewer tasks at once (a pool)",
        REQUEST.format(MODEL),
        {"status": 429, "retry_after": 300},
        error=TooManyRequestsResponseError,
    ),
    "an output that a validator refuses": Failure(
        "the response does not match Mood: mood: mood must be good or bad, got 'odd'",
        "Describe the fields in `instructions`",
        "The response has 14 characters",
        {"text": '{"mood":"odd"}'},
        output_type=Mood,
        output_retries=0,
    ),
    "a refusal": Failure(
        "the model refused", "Change the input or the model", REQUEST.format("sandbox/refusal"), model="sandbox/refusal"
    ),
    "a truncated response": Failure(
        "the response was truncated (max_output_tokens)",
        'set on_invalid_output="return"',
        REQUEST.format(MODEL),
        {"text": "word " * 500},
        request={"max_output_tokens": 16},
    ),
    "a connection that is missing": Failure(
        "connection 'nowhere' was not found",
        "Create it: airflow connections add nowhere",
        "or set AIRFLOW_CONN_NOWHERE",
        conn_id="nowhere",
        error=ConfigurationError,
    ),
    "a wrong field": Failure(
        "the request is not valid: temperature must be a finite number, got 'hot'",
        "",
        "got 'hot'",
        request={"temperature": "hot"},
    ),
}
each_failure = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)


def error_lines(text: str) -> list[str]:
    """The log lines of level ERROR, without the source of the line."""
    return [line.partition(" [airflow")[0] for line in text.splitlines() if re.search(r"\berror\b", line[:60], re.I)]


def logged_errors(caplog, capfd) -> list[str]:
    """The error lines of a task's log, which some versions of Airflow print, some hand to logging, and some both."""
    records = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    return records or error_lines("".join(capfd.readouterr()))


@each_failure
def test_a_message_has_the_cause_then_the_advice_then_the_request_and_the_task(
    failure, perform, airflow_db, responses_sandbox
):
    responses_sandbox.script(*failure.steps)
    task = ResponsesOperator(task_id="ask", **{"model": MODEL, "input": "Hello", **failure.arguments})
    with pytest.raises(failure.error) as caught:
        perform(task, context())
    message = str(caught.value)
    assert failure.cause in message[:100]
    assert message.startswith(failure.cause)
    assert failure.advice in message
    assert re.search(rf"{failure.end}\. Task: ask$", message)


@each_failure
def test_one_short_error_line_stands_before_the_traceback(
    failure, perform, airflow_db, responses_sandbox, caplog, capfd
):
    responses_sandbox.script(*failure.steps)
    task = ResponsesOperator(task_id="ask", **{"model": MODEL, "input": "Hello", **failure.arguments})
    with pytest.raises(failure.error) as caught:
        perform(task, context())
    (line,) = logged_errors(caplog, capfd)
    next_step = NO_RETRY if isinstance(caught.value, AirflowFailException) else RETRIES
    assert line.endswith(f"{failure.cause}. {next_step}")
    assert len(line) <= UI_WIDTH


def test_rows_fail_with_the_cause_first_too(responses_sandbox, tmp_path, caplog, capfd):
    with pytest.raises(AirflowFailException) as caught:
        enrich(tmp_path, model="sandbox/error-401").execute(context())
    assert str(caught.value).startswith("401 Unauthorized: The API key is not accepted. Check the API key")
    assert re.search(rf"{REQUEST.format('sandbox/error-401')}\. Task: label$", str(caught.value))
    (line,) = logged_errors(caplog, capfd)
    assert line.endswith(f"401 Unauthorized: The API key is not accepted. {NO_RETRY}")


def test_a_function_of_rows_shows_its_exception_and_the_row_in_the_first_characters(responses_sandbox, tmp_path):
    def price(row):
        raise ValueError("price must be > 0, got -5")

    with pytest.raises(AirflowFailException) as caught:
        enrich(tmp_path, source=[{"id": "r0", "text": "x" * 500}], key="id", input=price).execute(context())
    message = str(caught.value)
    assert message.startswith(
        "row 0 (key r0): the function raised ValueError: price must be > 0, got -5, for {'id': 'r0', 'text': 'xxx"
    )
    assert len(message) < 300
    assert message.endswith(". No row can be sent. Task: label")
    assert not responses_sandbox.ledger


def test_a_wrong_argument_has_the_cause_first_when_the_dag_is_parsed():
    with pytest.raises(RequestValidationError) as caught:
        ResponsesOperator(task_id="ask", input="Hello", cache_ttl=0)
    assert str(caught.value) == "cache_ttl must be a whole number from 1 to 86400, got 0. Task: ask"


@pytest.mark.parametrize(
    ("message", "headline"),
    [
        ("401 Unauthorized: no key. Check it. Request: POST x", "401 Unauthorized: no key"),
        ("the timeout of 1.5 s passed", "the timeout of 1.5 s passed"),
        ("a\nb", "a"),
        ("x" * 500, f"{'x' * 99}…"),
        ("", ""),
    ],
)
def test_the_headline_is_the_first_sentence_cut(message, headline):
    assert ResponsesError(message).headline == headline


def test_a_place_is_named_once():
    error = ConfigurationError("wrong.").add_place("Connection", "c").add_place("Task", "ask").add_place("Task", "ask")
    assert str(error) == error.message == "wrong. Connection: c. Task: ask"
    assert str(ConfigurationError().add_place("Task", "ask")) == "Task: ask"


def test_a_retry_of_a_task_instance_fails_with_its_own_message(responses_sandbox):
    """The same task object runs again in `dag.test()`: its place is named once in each attempt."""
    task = ResponsesOperator(task_id="ask", model="sandbox/error-401", input="Hello")
    for number in (1, 2):
        with pytest.raises(AirflowFailException, match=r"\)\. Task: ask$") as caught:
            task.execute(context(TaskInstance(try_number=number)))
        assert str(caught.value).count("Task: ask") == 1


def test_a_cause_that_is_a_question_gets_no_full_stop(responses_sandbox, caplog, capfd):
    task = ResponsesOperator(task_id="ask", model=MODEL, input="Hello", request="{{ wrong }}")
    task.request = {"temprature": 1}
    with pytest.raises(AirflowFailException, match=r"did you mean 'temperature'"):
        task.execute(context())
    (line,) = logged_errors(caplog, capfd)
    assert "?." not in line
    assert line.endswith(NO_RETRY)
