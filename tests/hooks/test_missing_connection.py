"""The error of a missing connection names the task and the command that creates the connection."""

from __future__ import annotations

import re
import shlex

import pytest
from airflow.cli import cli_parser
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.hooks import responses as hooks
from airflow_provider_responses.hooks.responses import ResponsesHook, missing_connection
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import MODES, performer

MODEL = "openai/gpt-4o-mini"
COMMAND = "airflow connections add nowhere --conn-type responses --conn-password"


def check_advice(error: BaseException) -> None:
    text = str(error)
    assert text.startswith("connection 'nowhere' was not found. Create it: ")
    assert text.endswith(". Task: ask")
    assert COMMAND in text
    assert "AIRFLOW_CONN_NOWHERE" in text


@pytest.mark.parametrize("mode", MODES)
def test_the_error_of_a_request_has_the_command_in_each_execution_mode(mode, airflow_db, monkeypatch):
    task = ResponsesOperator(task_id="ask", model=MODEL, input="x", conn_id="nowhere")
    with pytest.raises(ConfigurationError) as caught:
        performer(mode, monkeypatch)(task, context(TaskInstance()))
    check_advice(caught.value)
    assert caught.value.retryable  # a secrets backend that is down looks the same


def test_the_error_of_an_enrichment_has_the_command(airflow_db, tmp_path):
    task = ResponsesEnrichOperator(
        task_id="ask", model=MODEL, source=[{"a": 1}], input="{{ row.a }}", output_path=str(tmp_path), conn_id="nowhere"
    )
    with pytest.raises(ConfigurationError) as caught:
        task.execute(context(TaskInstance()))
    check_advice(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("no context"), KeyError("ti")])
def test_outside_of_a_task_the_error_names_no_task(error, airflow_db, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(hooks, "get_current_context", fail)
    with pytest.raises(ConfigurationError) as caught:
        _ = ResponsesHook("nowhere").config
    assert str(caught.value).startswith("connection 'nowhere' was not found")


def test_in_another_operators_task_the_error_names_the_task(airflow_db, monkeypatch):
    monkeypatch.setattr(hooks, "get_current_context", lambda: context(TaskInstance(task_id="ask")))
    with pytest.raises(ConfigurationError) as caught:
        ResponsesHook("nowhere").send({"model": MODEL, "input": "x"})
    check_advice(caught.value)


async def test_the_async_hook_has_the_same_error(airflow_db):
    with pytest.raises(ConfigurationError, match="connection 'nowhere' was not found"):
        await ResponsesHook("nowhere").asend({"model": MODEL, "input": "x"})


@pytest.mark.parametrize("conn_id", ["nowhere", "it's; here"])
def test_the_command_is_valid(conn_id):
    command = re.search(r"airflow connections add .*?_KEY\"", str(missing_connection(conn_id)))
    arguments = cli_parser.get_parser().parse_args(shlex.split(command[0])[1:])
    assert (arguments.conn_id, arguments.conn_type) == (conn_id, "responses")
    assert arguments.conn_password == "$OPENROUTER_API_KEY"
    more = shlex.split(f"{command[0]} --conn-host https://llm.example.com/v1")[1:]
    assert cli_parser.get_parser().parse_args(more).conn_host == "https://llm.example.com/v1"


@pytest.mark.parametrize(
    ("conn_id", "message"),
    [
        ("nowhere", ", or set AIRFLOW_CONN_NOWHERE"),
        ("no_2", ", or set AIRFLOW_CONN_NO_2"),
        ("no-where", ""),
        ("no.where", ""),
        ("nö", ""),
    ],
)
def test_the_variable_is_named_only_if_a_shell_can_export_it(conn_id, message):
    text = str(missing_connection(conn_id))
    assert text.endswith(f"such as --conn-host https://llm.example.com/v1){message}")


@pytest.mark.parametrize("argument", ["source", "load_to"])
@pytest.mark.parametrize("conn_id", ["nowhere", "no-where"])
def test_the_error_of_a_database_has_a_command(argument, conn_id, airflow_db, responses_sandbox, tmp_path):
    given = {"source": SqlQuery(conn_id, "SELECT 1"), "key": "a"}
    if argument == "load_to":
        given = {"source": [{"a": 1}], "key": "a", "load_to": SqlTable(conn_id, "t")}
    task = ResponsesEnrichOperator(
        task_id="ask", model=MODEL, input="{{ row.a }}", output_path=str(tmp_path / "out"), **given
    )
    with pytest.raises(ConfigurationError) as caught:
        task.execute(context(TaskInstance()))
    text = str(caught.value)
    assert text.startswith(f"{argument}: connection {conn_id!r} was not found. Create it: ")
    assert text.endswith(". Task: ask")
    assert f"airflow connections add {conn_id} --conn-type" in text
    assert ("AIRFLOW_CONN_" in text) == (conn_id == "nowhere")
    assert caught.value.retryable  # a secrets backend that is down looks the same
    assert not responses_sandbox.ledger


def test_a_variable_that_airflow_cannot_read_is_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", "responses://:k@https://llm.example.com")
    text = str(missing_connection("nowhere"))
    assert "AIRFLOW_CONN_NOWHERE is set here, but Airflow cannot read it" in text
    assert "llm.example.com/v1" in text
    assert ":k@" not in text


# --- the sends before the last one


@pytest.mark.parametrize("mode", MODES)
def test_the_failure_of_a_task_names_the_sends_that_may_have_been_billed(mode, responses_sandbox, monkeypatch):
    responses_sandbox.script({"drop": True}, {"status": 400})
    task = ResponsesOperator(task_id="ask", model=MODEL, input="x", stream=False)
    with pytest.raises(AirflowFailException) as caught:
        performer(mode, monkeypatch)(task, context(TaskInstance()))
    assert "Before it, 1 earlier send may have been billed: TransportError (read" in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_that_is_left_to_retries_names_them_too(mode, responses_sandbox, monkeypatch):
    responses_sandbox.script({"drop": True, "times": 9})
    task = ResponsesOperator(task_id="ask", model=MODEL, input="x", stream=False)
    with pytest.raises(Exception, match="1 earlier send may have been billed") as caught:
        performer(mode, monkeypatch)(task, context(TaskInstance()))
    assert str(caught.value).endswith(". Task: ask")
