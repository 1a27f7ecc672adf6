"""@task.responses_enrich: the function returns the request of a row."""

from __future__ import annotations

import datetime
import inspect
import textwrap
import typing

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, task

from airflow_provider_responses.decorators.enrich import responses_enrich_task
from airflow_provider_responses.enrich import Limits
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.base import BaseResponsesOperator
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from tests.airflow_fakes import TaskInstance, context

ROWS = [{"text": "one"}, {"text": "two"}]


def operator(function, folder, *args, given=None, **kwargs):
    given = {"model": "vendor/m", "source": ROWS, "output_path": str(folder / "out")} | (given or {})
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        decorated = task.responses_enrich(**given)(function)
        return decorated(*args, **kwargs).operator


def test_the_function_is_called_for_each_row(tmp_path, responses_sandbox):
    def ask(row):
        return f"What is {row['text']}? {{{{ not a template }}}}"

    manifest = operator(ask, tmp_path).execute(context())
    assert manifest["counts"] == {"ok": 2}
    inputs = {entry.body["input"] for entry in responses_sandbox.ledger}
    assert inputs == {"What is one? {{ not a template }}", "What is two? {{ not a template }}"}


def test_it_gets_its_arguments_from_the_call_and_the_context(tmp_path, responses_sandbox):
    def ask(row, language, ti):
        return f"{ti.task_id}: {row['text']} in {language}"

    operator(ask, tmp_path, language="Frisian").execute(context(TaskInstance(task_id="me")))
    assert {entry.body["input"] for entry in responses_sandbox.ledger} == {"me: one in Frisian", "me: two in Frisian"}


def test_another_function_is_another_prompt(tmp_path, responses_sandbox):
    def mood(row):
        return f"Mood of {row['text']}"

    def tone(row):
        return f"Tone of {row['text']}"

    first = operator(mood, tmp_path).execute(context())
    assert first["prompt"]["input"] == textwrap.dedent(inspect.getsource(mood)).strip()
    given = {"on_changed_request": "fail", "limits": Limits(concurrency=1)}
    with pytest.raises(AirflowFailException, match="2 of 2 rows have a response to another prompt") as caught:
        operator(tone, tmp_path, given=given).execute(context())
    assert first["prompt"]["fingerprint"] in str(caught.value)
    assert len(responses_sandbox.ledger) == 2
    assert operator(mood, tmp_path, given=given).execute(context())["requests_sent"] == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"on_changed_request": "ask"}, "on_changed_request must be 'send' or 'fail', got 'ask'"),
        ({"limits": {"concurrency": 0}}, "limits.concurrency must be a whole number >= 1, got 0"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_arguments_are_checked_when_the_dag_is_parsed(given, message, mapped, tmp_path):
    def ask(row, tone="short"):
        return row["text"]

    arguments = {"source": ROWS, "output_path": str(tmp_path)} | given
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        decorated = task.responses_enrich(**arguments)(ask)
        with pytest.raises(RequestValidationError, match=message):
            decorated.expand(tone=["long"]) if mapped else decorated()


def test_a_wrong_function_is_refused(tmp_path):
    async def ask(row):
        return row["text"]

    with pytest.raises(
        RequestValidationError, match=r"ask must be a plain function for @task\.responses_enrich, got an async one"
    ):
        operator(ask, tmp_path)
    with pytest.raises(RequestValidationError, match="must have a parameter `row`"):
        operator(lambda text: text, tmp_path)
    with pytest.raises(
        RequestValidationError, match=r"input is the value that the function of @task\.responses_enrich returns"
    ):
        task.responses_enrich(input="x", output_path="x", source=ROWS)(lambda row: row["text"])()


def test_the_typed_arguments_are_those_of_the_operator(tmp_path):
    classes = (BaseResponsesOperator, ResponsesEnrichOperator)
    own = {name: it for cls in classes for name, it in inspect.signature(cls.__init__).parameters.items()}
    called, plain = typing.get_overloads(responses_enrich_task)
    typed = {name: it for name, it in inspect.signature(called).parameters.items() if it.kind is it.KEYWORD_ONLY}
    assert {"on_changed_request", "limits", "output_path"} <= set(typed) <= set(own) - {"input"}
    assert {name: it.default for name, it in typed.items()} == {name: own[name].default for name in typed}
    assert list(inspect.signature(plain).parameters) == ["python_callable", "multiple_outputs", "kwargs"]
