"""A request whose response is invalid is sent again with the reason, in each execution mode; a retry replays all."""

from __future__ import annotations

import logging

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.exceptions import ResponsesError
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.operators.one_request import Label, ask, sent

WRONG = '{"topic": "great", "why": "it is"}'
GOOD = '{"topic": "good", "why": "it is"}'


def test_the_reason_is_sent(perform, responses_sandbox):
    responses_sandbox.script({"text": WRONG}, {"text": GOOD})
    ti = TaskInstance()
    assert perform(ask(output_type=Label), context(ti)) == {"topic": "good", "why": "it is"}
    first, second = sent(responses_sandbox)
    assert second["input"][0] == {"type": "message", "role": "user", "content": first["input"]}
    assert "- topic: Input should be 'good' or 'bad', got 'great'" in second["input"][1]["content"]
    assert second["metadata"]["airflow"] == f"{first['metadata']['airflow']}-1"
    assert {**second, "input": 0, "metadata": 0} == {**first, "input": 0, "metadata": 0} | {"stream": second["stream"]}
    billed = sum(entry.cost for entry in responses_sandbox.billed)
    assert ti.xcoms["usage"]["cost"] == pytest.approx(billed)
    assert len(ti.xcoms["usage"]["sends"]) == 2


def test_a_retry_gets_all_responses_at_no_cost(perform, responses_sandbox):
    store = TaskStateStore()
    responses_sandbox.script({"text": WRONG}, {"text": "no JSON"}, {"status": 503})
    given = {"output_type": Label, "output_retries": 3, "options": {"max_retries": 0}}
    with pytest.raises(ResponsesError, match="503"):
        perform(ask(**given), context(TaskInstance(max_tries=0), task_state_store=store))
    assert len(responses_sandbox.billed) == 2
    ti = TaskInstance(max_tries=0, try_number=2)
    responses_sandbox.script({"text": "cached"}, {"text": "cached"}, {"text": GOOD})
    assert perform(ask(**given), context(ti, task_state_store=store)) == {"topic": "good", "why": "it is"}
    assert len(responses_sandbox.billed) == 3  # the third one alone is fresh
    assert [entry.cache for entry in responses_sandbox.ledger if entry.status == 200] == [
        *("MISS", "MISS"),
        *("HIT", "HIT", "MISS"),
    ]
    bodies = [entry.body_sha256 for entry in responses_sandbox.ledger]
    assert len(set(bodies)) == 3
    billed = sum(entry.cost for entry in responses_sandbox.billed)
    assert ti.xcoms["usage"]["cost"] == pytest.approx(billed)
    assert ti.xcoms["usage"]["cost_this_attempt"] == pytest.approx(responses_sandbox.billed[-1].cost)


def test_without_feedback_the_same_request_is_sent_again(perform, responses_sandbox):
    responses_sandbox.script({"text": WRONG}, {"text": GOOD})
    assert perform(ask(output_type=Label, output_feedback=False), context())
    first, second = responses_sandbox.ledger
    assert first.body["input"] == second.body["input"]
    assert first.body["metadata"] == second.body["metadata"]
    assert "x-openrouter-cache-clear" not in {name.lower() for name in first.headers}
    assert {name.lower(): text for name, text in second.headers.items()}["x-openrouter-cache-clear"] == "true"


def test_output_feedback_may_be_the_text_of_a_template(perform, responses_sandbox):
    responses_sandbox.script({"text": WRONG}, {"text": GOOD})
    assert perform(ask(output_type=Label, output_feedback="False"), context())
    first, second = sent(responses_sandbox)
    assert first["input"] == second["input"]


def test_after_json_that_was_cut_off_the_same_request_is_sent_again(perform, responses_sandbox):
    responses_sandbox.script({"text": WRONG[:-9]}, {"text": GOOD})
    assert perform(ask(output_type=Label), context())
    first, second = sent(responses_sandbox)
    assert first["input"] == second["input"]


def test_the_log_quotes_neither_the_response_nor_the_reason(perform, responses_sandbox, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    responses_sandbox.script(*[{"text": '{"topic": "zanzibar", "why": "x"}'}] * 2)
    with pytest.raises(AirflowFailException) as caught:
        perform(ask(output_type=Label), context())
    out, err = capfd.readouterr()
    for text in (caplog.text, out, err, str(caught.value)):
        assert "zanzibar" not in text
        assert "Your last response" not in text


def test_a_json_schema_is_sent_again_with_the_reason_with_the_reason(perform, responses_sandbox):
    schema = {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1}
    responses_sandbox.script({"text": '{"response": ["c"]}'}, {"text": '{"response": ["a"]}'})
    assert perform(ask(output_type=schema), context()) == ["a"]
    assert '- response.0: must be one of ["a", "b"], got \'c\'' in sent(responses_sandbox)[1]["input"][1]["content"]
