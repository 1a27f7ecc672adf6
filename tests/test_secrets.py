"""The key is in no log, repr, error, XCom and rendered field."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import traceback

import airflow
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, redact

from airflow_provider_responses.hooks.responses import ResponsesHook
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import TaskInstance, context
from tests.conftest import DAGS, DATABASE, HOME

KEY = "plainly-made-up-key-4711"
HEADER = "plainly-made-up-gateway-token-0815"

DAG = """
import datetime
from airflow.providers.common.compat.sdk import dag, task
from airflow_provider_responses.hooks.responses import ResponsesHook
from airflow_provider_responses.operators.responses import ResponsesOperator

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False)
def secretive():
    ResponsesOperator(task_id="good", model="openai/gpt-4o-mini", input="Hello", options={"timeout": 60})
    ResponsesOperator(task_id="bad", model="sandbox/error-402", input="Hello")
    ResponsesOperator(task_id="again", model="openai/gpt-4o-mini", input="Hello again", result="response")

    @task
    def chatty():
        hook = ResponsesHook()
        print(hook, vars(hook), hook.config, hook.get_conn(), vars(hook.get_conn()))

    chatty()

secretive()
"""


@pytest.fixture
def secret_connection(responses_sandbox, monkeypatch):
    extra = {"dialect": "openrouter", "extra_headers": {"X-Gateway-Token": HEADER}}
    value = json.dumps(responses_sandbox.connection | {"password": KEY, "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", value)
    return responses_sandbox


def test_a_dag_run_stores_and_logs_no_key(airflow_db, secret_connection):
    target = DAGS / "secretive.py"
    target.write_text(DAG)
    try:
        command = [sys.executable, "-m", "airflow", "dags", "test", "secretive"]
        run = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    finally:
        target.unlink()
    assert "Payment Required" in run.stdout + run.stderr, "the run did what it should"
    assert len(secret_connection.ledger) == 3
    files = [path for path in HOME.rglob("*") if path.is_file()]
    assert DATABASE in files  # XComs, rendered fields and task state are rows in it
    output = (run.stdout + run.stderr).splitlines()
    if airflow.__version__.startswith("3.0."):  # its debug lines print the values that it masks
        output = [line for line in output if "msg=MaskSecret(" not in line]
    places = {str(path): path.read_bytes() for path in files} | {"output": "\n".join(output).encode()}
    assert [name for name, text in places.items() if KEY.encode() in text or HEADER.encode() in text] == []


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "sandbox/error-401", "sandbox/drop"])
def test_neither_objects_nor_errors_hold_the_key(model, secret_connection, caplog, capfd):
    caplog.set_level("DEBUG")
    ti = TaskInstance()
    operator = ResponsesOperator(task_id="ask", model=model, input="Hello", options={"max_retries": 0})
    hook = ResponsesHook()
    texts = [repr(hook.config), str(hook.config), repr(hook.get_conn()), repr(vars(operator))]
    try:
        operator.execute(context(ti))
    except Exception as error:  # noqa: BLE001  no exception may hold the key
        texts += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error)), repr(error.__cause__)]
        if not isinstance(error, AirflowFailException):
            texts.append(str(pickle.dumps(error)))
    texts += [repr(ti.xcoms), caplog.text, *capfd.readouterr()]
    assert not [text for text in texts if KEY in text or HEADER in text]


def test_airflow_masks_the_key_in_logs_of_users(secret_connection):
    assert ResponsesHook().config.is_openrouter
    shown = redact(f"my key is {KEY}, my header {HEADER}")
    assert KEY not in shown
    assert HEADER not in shown
