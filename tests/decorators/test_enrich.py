"""@task.responses_enrich: the function says what to ask about a row."""

from __future__ import annotations

import datetime

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.exceptions import RequestValidationError
from tests.airflow_fakes import TaskInstance, context

ROWS = [{"text": "one"}, {"text": "two"}]


def operator(function, folder, *args, **kwargs):
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        decorated = task.responses_enrich(model="vendor/m", rows=ROWS, output_path=str(folder / "out"))(function)
        return decorated(*args, **kwargs).operator


def test_the_function_is_called_for_each_row(tmp_path, responses_sandbox):
    def ask(row):
        return f"What is {row['text']}? {{{{ not a template }}}}"

    manifest = operator(ask, tmp_path).execute(context())
    assert manifest["counts"] == {"ok": 2}
    inputs = {entry.body["input"] for entry in responses_sandbox.ledger}
    assert inputs == {"What is one? {{ not a template }}", "What is two? {{ not a template }}"}


def test_it_gets_what_it_names_of_the_call_and_of_the_context(tmp_path, responses_sandbox):
    def ask(row, language, ti):
        return f"{ti.task_id}: {row['text']} in {language}"

    operator(ask, tmp_path, language="Frisian").execute(context(TaskInstance(task_id="me")))
    assert {entry.body["input"] for entry in responses_sandbox.ledger} == {"me: one in Frisian", "me: two in Frisian"}


def test_what_it_cannot_be(tmp_path):
    async def ask(row):
        return row["text"]

    with pytest.raises(RequestValidationError, match="ask is async"):
        operator(ask, tmp_path)
    with pytest.raises(RequestValidationError, match="takes no `row`"):
        operator(lambda text: text, tmp_path)
    with pytest.raises(RequestValidationError, match="input: is what the decorated function returns"):
        task.responses_enrich(input="x", output_path="x", rows=ROWS)(lambda row: row["text"])()
