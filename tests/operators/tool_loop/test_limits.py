"""The limits of a task with tools: ``max_steps`` and ``max_cost``."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
)

from airflow_provider_responses.exceptions import BudgetExceededError
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.operators.one_request import ask
from tests.operators.tool_loop.shop import FOREVER, calling, statuses


def test_a_model_that_calls_a_tool_forever_is_stopped_by_max_steps(perform, responses_sandbox, shop):
    ti = TaskInstance()

    with pytest.raises(
        AirflowFailException, match=r"max_steps of 3 is reached, and the model still calls charge"
    ) as info:
        perform(ask(model=FOREVER, tools=[shop.charge], max_steps=3), context(ti, task_state_store=TaskStateStore()))

    assert info.value.__cause__.reason == "max_steps"
    assert "call 3 of it" in str(info.value)
    assert len(shop.charged) == 2
    assert len(responses_sandbox.ledger) == 3
    assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger))
    assert statuses(ti) == [["succeeded"], ["succeeded"], [None]]


def test_the_last_of_max_steps_may_be_the_text(perform, responses_sandbox, shop):
    perform(ask(model="sandbox/calls-2", tools=[shop.charge], max_steps=3), context(task_state_store=TaskStateStore()))

    assert len(shop.charged) == 2


def test_max_cost_refuses_a_step_that_no_longer_fits(perform, responses_sandbox, shop):
    first = {"max_output_tokens": 50}
    ti = TaskInstance()
    task = ask(model="openai/gpt-4o-mini", tools=[shop.charge], request=first, max_cost=0.0002)
    responses_sandbox.script({**calling(("charge", {"order": 7})), "times": 20})

    with pytest.raises(AirflowFailException, match=r"max_cost of \$0\.0002 leaves no room") as info:
        perform(task, context(ti, task_state_store=TaskStateStore()))

    assert isinstance(info.value.__cause__, BudgetExceededError)
    spent = sum(entry.cost for entry in responses_sandbox.billed)
    assert 0 < spent <= 0.0002
    assert len(responses_sandbox.billed) == len(shop.charged) > 1
    assert ti.xcoms["usage"]["cost"] == pytest.approx(spent)


def test_a_kill_in_a_later_send_counts_against_max_cost_after_the_recorded_steps(responses_sandbox, shop):
    """A cached response of an earlier step says nothing about the send that was in flight."""
    store, request = TaskStateStore(), {"max_output_tokens": 50}
    responses_sandbox.script(calling(("charge", {"order": 1})), {"drop": True}, {"text": "Done."})
    limits = {"max_cost": 1, "request": request, "options": {"max_retries": 0, "max_ambiguous_retries": 0}}
    task = ask(tools=[shop.charge], **limits)
    with pytest.raises(Exception, match="the connection broke"):
        task.execute(context(TaskInstance(), task_state_store=store))
    assert store["airflow_provider_responses.spent"]["ambiguous"] == 1

    ask(tools=[shop.charge], **limits).execute(context(TaskInstance(try_number=2), task_state_store=store))

    assert store["airflow_provider_responses.spent"]["ambiguous"] == 1
    assert shop.charged == [1]


def test_the_prices_are_read_once_for_all_steps(responses_sandbox, shop, monkeypatch):
    from airflow_provider_responses.operators import before_paying

    reads = []
    read = before_paying.read_model_prices
    monkeypatch.setattr(before_paying, "read_model_prices", lambda config: reads.append(config) or read(config))
    responses_sandbox.script(calling(("charge", {"order": 1})), calling(("charge", {"order": 2})), {})

    ask(tools=[shop.charge], max_cost=1, request={"max_output_tokens": 50}).execute(
        context(task_state_store=TaskStateStore())
    )

    assert len(reads) == 1
    assert len(responses_sandbox.ledger) == 3
