"""``sql_tool``: a model reads the listed tables of a database."""

from __future__ import annotations

import json
import logging
import sqlite3

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, mask_secret

from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError
from airflow_provider_responses.operators import sql_tool as module
from airflow_provider_responses.operators.sql_tool import SqlFailedError, sql_tool
from tests.airflow_fakes import TaskStateStore, context
from tests.operators.one_request import ask, sent


def call(tool, sql: str):
    return tool.call(tool.read_arguments(json.dumps({"sql": sql})), "key")


def test_a_model_reads_the_listed_tables_and_gets_the_reason_of_a_refusal(responses_sandbox, database):
    statements = ["SELECT id, text FROM reviews ORDER BY id LIMIT 1", "DELETE FROM reviews", "SELECT * FROM labels"]
    calls = [{"name": "query_database", "arguments": {"sql": sql}} for sql in statements]
    responses_sandbox.script({"calls": calls}, {})

    ask(tools=[sql_tool("warehouse", tables=["reviews"])]).execute(context(task_state_store=TaskStateStore()))

    first, second = sent(responses_sandbox)
    (tool,) = first["tools"]
    assert "Tables: reviews. At most 100 rows" in tool["description"]
    assert tool["strict"] is True
    rows, write, other = [it["output"] for it in second["input"] if it["type"] == "function_call_output"]
    found = json.loads(rows)
    assert (found["columns"], len(found["rows"]), found["truncated"]) == (["id", "text"], 1, False)
    assert write == "Error: SqlRefusedError: the statement must begin with SELECT or WITH"
    assert other.startswith("Error: SqlRefusedError: the table labels is not allowed")


def test_a_result_has_at_most_row_limit_rows(database):
    tool = sql_tool("warehouse", tables=["reviews"], row_limit=2)

    found = call(tool, "SELECT * FROM reviews")

    assert (len(found["rows"]), found["truncated"]) == (2, True)


def test_the_session_itself_refuses_to_write(database, monkeypatch):
    monkeypatch.setattr(
        "airflow_provider_responses.tools.select_only.read_only_sql", lambda sql, **_: sql.partition("--")[0]
    )
    tool = sql_tool("warehouse", tables=["reviews"])

    with pytest.raises(SqlFailedError, match="OperationalError: attempt to write a readonly database"):
        call(tool, "DELETE FROM reviews -- past the parser")


def test_an_error_of_the_database_is_the_result_of_the_call(responses_sandbox, database):
    responses_sandbox.script({"calls": [{"name": "query_database", "arguments": {"sql": "SELECT x FROM reviews"}}]}, {})

    ask(tools=[sql_tool("warehouse", tables=["reviews"])]).execute(context())

    output = sent(responses_sandbox)[1]["input"][-1]["output"]
    assert "no such column: x" in output


def test_an_interrupted_query_is_repeated():
    assert sql_tool("warehouse", tables=["reviews"]).on_interrupted == "repeat"


def test_two_databases_are_two_tools(responses_sandbox):
    tools = [
        sql_tool("warehouse", tables=["reviews"], description="Reviews of customers."),
        sql_tool("shop", tables=["orders"], name="query_shop"),
    ]

    responses_sandbox.script({"text": "Nothing to look up."})
    ask(tools=tools).execute(context())

    first, second = sent(responses_sandbox)[0]["tools"]
    assert (first["name"], second["name"]) == ("query_database", "query_shop")
    assert first["description"].endswith("Reviews of customers.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tables": []}, "sql_tool: tables must name at least one table"),
        ({"tables": " "}, "sql_tool: tables must be a list of names, got ' '"),
        ({"tables": ["reviews", " "]}, "sql_tool: tables must name at least one table"),
        ({"tables": ["reviews"], "row_limit": 0}, "sql_tool: row_limit must be a whole number from 1 to 10000, got 0"),
        ({"conn_id": 7, "tables": ["reviews"]}, "sql_tool: conn_id must be str, got 7"),
        (
            {"tables": ["reviews"], "dialect": "oracle"},
            "sql_tool: dialect must be one of duckdb, mysql, postgres, sqlite, got 'oracle'",
        ),
        ({"tables": ["reviews"], "name": "a b"}, "tool 'a b' needs a name"),
    ],
)
def test_wrong_arguments_are_refused_when_the_dag_is_parsed(arguments, message):
    with pytest.raises(RequestValidationError, match=message):
        sql_tool(**({"conn_id": "warehouse"} | arguments))


def test_the_missing_parser_is_named(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(ConfigurationError, match=r"pip install 'airflow-provider-responses\[sql\]'"):
        sql_tool("warehouse", tables=["reviews"])


def test_a_connection_that_is_missing_ends_the_task(responses_sandbox):
    responses_sandbox.script({"calls": [{"name": "query_database", "arguments": {"sql": "SELECT 1"}}]})

    with pytest.raises(Exception, match="sql_tool: connection 'nowhere' was not found") as info:
        ask(tools=[sql_tool("nowhere", tables=["reviews"])]).execute(context())
    assert not isinstance(info.value, AirflowFailException)  # it is retryable


def test_a_database_that_is_not_supported_fails_the_task_at_once(responses_sandbox, database, monkeypatch):
    monkeypatch.delitem(module.DIALECTS, "sqlite")
    responses_sandbox.script({"calls": [{"name": "query_database", "arguments": {"sql": "SELECT 1"}}]}, {})

    with pytest.raises(AirflowFailException, match="'warehouse' is of type 'sqlite', which is not supported"):
        ask(tools=[sql_tool("warehouse", tables=["reviews"])]).execute(context())


def test_a_table_that_is_no_name_fails_the_task_at_once(responses_sandbox, database):
    responses_sandbox.script({"calls": [{"name": "query_database", "arguments": {"sql": "SELECT 1"}}]}, {})

    with pytest.raises(AirflowFailException, match=r"sql_tool: tables: \"json_each\('a'\)\" is no name of a table"):
        ask(tools=[sql_tool("warehouse", tables=["json_each('a')"])]).execute(context())


class Hook:
    """A hook whose connection fails in one of its functions, with a message that the model must not see."""

    conn_type = "sqlite"

    def __init__(self, failing: str, message: str) -> None:
        self.failing = failing
        self.message = message
        self.closed = False
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("CREATE TABLE reviews (id TEXT)")
        self.connection.execute("INSERT INTO reviews VALUES ('1')")
        self.connection.commit()

    def _fail_in(self, name: str) -> None:
        if name == self.failing:
            raise sqlite3.OperationalError(self.message)

    def get_conn(self):
        self._fail_in("get_conn")
        return self

    def cursor(self):
        self._fail_in("cursor")
        return self.connection.cursor()

    def rollback(self) -> None:
        self._fail_in("rollback")

    def close(self) -> None:
        self.closed = True
        self._fail_in("close")


SECRET = "postgresql://ada:hunter2-password@db.internal:5432/x"


@pytest.fixture
def failing_hook(monkeypatch):
    def install(failing: str) -> Hook:
        hook = Hook(failing, SECRET)
        monkeypatch.setattr("airflow_provider_responses.operators.databases.lookup.get_db_hook", lambda *_: hook)
        return hook

    return install


@pytest.mark.parametrize("failing", ["get_conn", "cursor"])
def test_a_connection_that_cannot_be_opened_ends_the_attempt_and_names_no_host(
    responses_sandbox, failing_hook, failing
):
    hook = failing_hook(failing)
    responses_sandbox.script({"calls": [{"name": "query_database", "arguments": {"sql": "SELECT 1"}}]}, {})

    with pytest.raises(Exception, match="'warehouse' cannot be opened for reading: OperationalError") as info:
        ask(tools=[sql_tool("warehouse", tables=["reviews"])]).execute(context())

    assert not isinstance(info.value, AirflowFailException)  # it is retryable
    assert "hunter2" not in str(info.value)
    assert "db.internal" not in str(info.value)
    assert len(sent(responses_sandbox)) == 1
    assert hook.closed is (failing == "cursor")


@pytest.mark.parametrize("failing", ["rollback", "close"])
def test_the_rows_are_not_lost_by_an_error_at_the_end_of_the_session(failing_hook, caplog, failing):
    hook = failing_hook(failing)

    with caplog.at_level(logging.WARNING):
        found = call(sql_tool("warehouse", tables=["reviews"]), "SELECT id FROM reviews")

    assert found["rows"] == [["1"]]
    assert hook.closed
    assert f"sql_tool: {failing} of the connection failed: OperationalError" in caplog.text
    assert "hunter2" not in caplog.text


def test_an_error_of_the_database_is_redacted_for_the_model(database):
    mask_secret("hunter2-password")

    with pytest.raises(SqlFailedError) as info:
        call(sql_tool("warehouse", tables=["reviews"]), 'SELECT reviews."hunter2-password" FROM reviews')

    assert str(info.value) == "OperationalError: no such column: reviews.***"


def test_a_dialect_can_be_named(database, monkeypatch):
    monkeypatch.delitem(module.DIALECTS, "sqlite")

    assert call(sql_tool("warehouse", tables=["reviews"], dialect="sqlite"), "SELECT 1 AS one")["rows"] == [[1]]
