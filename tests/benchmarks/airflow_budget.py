"""A DAG of 200 mapped tasks with a budget of one dollar, 16 at once: the bill of the sandbox against the budget."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from airflow_provider_responses.sandbox import Sandbox

TASKS = 200
AT_ONCE = 16
BUDGET = 1.0
SIZE = 16_000  # bytes of an input, a cent of gpt-4o
MODES = ("worker", "deferred")
TIME_LIMIT = 900.0  # seconds

DAG_FILE = """
from airflow.sdk import DAG

from airflow_provider_responses.operators.budget import Budget
from airflow_provider_responses.operators.responses import ResponsesOperator

for mode in {modes!r}:
    with DAG("budget_" + mode, schedule=None):
        ResponsesOperator.partial(
            task_id="ask",
            conn_id="budget_" + mode,
            model="openai/gpt-4o",
            request={{"max_output_tokens": 100}},
            budget=Budget(dag_run={budget}),
            deferrable=mode == "deferred",
            pool="sixteen",
        ).expand(input=[f"Number {{n}}. ".ljust({size}, "x") for n in range({tasks})])
"""

pytestmark = [pytest.mark.bench, pytest.mark.timeout(2 * TIME_LIMIT + 300)]


@pytest.fixture(scope="module")
def runs():
    """Run the DAG of each mode, one after another; return the sandbox and the XComs of each."""
    from tests.e2e.deployment import Deployment, ended_by_sigterm

    found = {}
    with ExitStack() as stack:
        stack.enter_context(ended_by_sigterm())
        sandboxes = {mode: stack.enter_context(Sandbox()) for mode in MODES}
        connections = {f"budget_{mode}": sandbox.connection for mode, sandbox in sandboxes.items()}
        airflow = stack.enter_context(Deployment(connections=connections, parallelism=AT_ONCE))
        airflow.make_pool("sixteen", AT_ONCE, include_deferred=True)
        source = DAG_FILE.format(modes=MODES, budget=BUDGET, size=SIZE, tasks=TASKS)
        airflow.write_dag("budgets", source, *connections)
        for mode, sandbox in sandboxes.items():
            dag_id = f"budget_{mode}"
            run_id = airflow.trigger(dag_id)
            state = airflow.wait_for_run(dag_id, run_id, limit=TIME_LIMIT)
            found[mode] = state, sandbox.ledger, airflow.all_xcoms(dag_id, run_id, "ask", "usage")
    return found


@pytest.mark.parametrize("mode", MODES)
def test_the_bill_exceeds_the_budget_by_the_requests_in_flight_at_most(runs, mode):
    state, ledger, usages = runs[mode]
    highest = 1.05 * SIZE / 1.5 * 2.5e-6 + 100 * 10e-6
    spent = sum(entry.cost for entry in ledger)
    assert state == "failed"  # the tasks for which there was no room
    assert len(usages) == TASKS
    sent = [usage for usage in usages if usage["sends"]]
    assert len(sent) == len(ledger) < TASKS
    assert sum(usage["cost"] for usage in sent) == pytest.approx(spent)
    assert BUDGET - highest < spent <= BUDGET + (AT_ONCE - 1) * highest
