"""Tasks with tools in DAG files: wrong arguments, where they start, decorated and mapped."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    TaskDeferred,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.operators.one_request import ask


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="before, no task starts in the triggerer")
def test_a_task_with_tools_starts_on_a_worker_and_the_log_states_the_reason(responses_sandbox, shop, logged):
    with DAG("started", schedule=None):
        task = ask(tools=[shop.charge], start_from_trigger=True)

    assert task.start_trigger_args is None
    task.render_template_fields(context(TaskInstance()))
    with pytest.raises(TaskDeferred):
        task.execute(context(TaskInstance(), task_state_store=TaskStateStore()))
    assert "Not started in the triggerer, but deferred from a worker: its tools run on a worker" in logged()


def charge(order: int) -> int:
    """Charge."""
    return order


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tools": [lambda order: order]}, "tool '<lambda>' needs a name of 1 to 64 letters"),
        ({"tools": [charge, charge]}, "tools must have different names, got 'charge' twice"),
        ({"tools": [charge, {"type": "custom", "name": "charge"}]}, "tools must have different names, got 'charge'"),
        ({"tools": [charge, 7]}, r"tools\[1\] must be a function, a Tool or a dict, got int"),
        ({"tools": charge}, "tools must be a list of functions and dicts, got function"),
        ({"tools": [charge, {"type": "function", "name": "x"}]}, r"tools\[1\] must be a function, got a dict of type"),
        ({"tools": [charge], "request": {"tools": []}}, "tools is given twice, as an argument and in `request`"),
        ({"tools": [charge], "max_steps": 0}, "max_steps must be a whole number from 1 to 100, got 0"),
        ({"tools": [charge], "fatal_tool_errors": ["x"]}, "fatal_tool_errors must be a list of exception classes"),
        ({"tools": [charge], "on_interrupted_tool": "skip"}, "on_interrupted_tool must be 'fail' or 'repeat'"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_bad_input_is_refused_when_the_dag_is_parsed(arguments, message, mapped):
    def parse():
        with DAG("refused", schedule=None):
            if mapped:
                ResponsesOperator.partial(task_id="ask", model="openai/gpt-4o-mini", **arguments).expand(input=["a"])
            else:
                ask(**arguments)

    with pytest.raises(RequestValidationError, match=message) as info:
        parse()
    assert "Task: ask" in str(info.value)


def test_a_decorated_function_has_tools(run_dag, responses_sandbox):
    source = """
import datetime
from airflow.providers.common.compat.sdk import dag, task

def charge(order: int) -> str:
    "Charge an order."
    return f"charged {order}"

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False)
def decorated():
    @task.responses(model="sandbox/calls-2", tools=[charge], deferrable=%s)
    def ask():
        return "charge order 7"

    ask()

decorated()
"""
    for deferrable in (False, True):
        responses_sandbox.reset()
        result = run_dag(source % deferrable, "decorated")

        assert result.state == "success"
        assert len(result.xcom("ask", "usage")["steps"]) == 3
        assert len(responses_sandbox.ledger) == 3
        last = json.dumps(responses_sandbox.ledger[-1].body["input"])
        assert last.count("charged ") == 2


def test_a_mapped_task_has_tools(run_dag, responses_sandbox):
    source = """
import datetime
from airflow.providers.common.compat.sdk import dag
from airflow_provider_responses.operators.responses import ResponsesOperator

def charge(order: int) -> str:
    "Charge an order."
    return f"charged {order}"

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False)
def mapped_tools():
    arguments = {"task_id": "ask", "model": "sandbox/calls-1", "tools": [charge], "max_steps": 3}
    ResponsesOperator.partial(**arguments).expand(input=["charge 1", "charge 2"])

mapped_tools()
"""

    result = run_dag(source, "mapped_tools")

    assert result.state == "success"
    assert [len(result.xcom("ask", "usage", index)["steps"]) for index in (0, 1)] == [2, 2]
    assert len({entry.body["metadata"]["airflow"] for entry in responses_sandbox.ledger}) == 4
