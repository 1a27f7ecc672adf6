"""The server of the connection decides, when the task runs, by which rules a request is checked."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.sandbox import Sandbox
from tests.airflow_fakes import context

FOR_OTHERS = {
    "conversation": "conv_1",
    "stream_options": {"include_obfuscation": False},
    "context_management": [{"type": "compaction"}],
    "prompt_cache_retention": "24h",
    "include": ["message.output_text.logprobs"],
    "service_tier": "standard",
    "metadata": {f"key {place}": "x" for place in range(17)},
    "store": True,
}


@pytest.fixture(scope="module")
def other_server():
    with Sandbox(dialect="open") as server:
        yield server


def ask(**request):
    return ResponsesOperator(task_id="ask", model="other/model", input="Hello", request=request, conn_id="other")


def test_other_servers_get_their_own_fields(perform, other_server, monkeypatch):
    other_server.reset()
    connection = other_server.connection
    connection["extra"] = {**(connection.get("extra") or {}), "dialect": "open"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
    perform(ask(**FOR_OTHERS), context())
    (entry,) = other_server.ledger
    assert {name: entry.body[name] for name in FOR_OTHERS} == FOR_OTHERS


def test_fields_of_other_servers_are_refused_for_openrouter(perform, responses_sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(responses_sandbox.connection))
    with pytest.raises(AirflowFailException, match=r"conversation is a field of other servers \(dialect=\"open\"\)"):
        perform(ask(**FOR_OTHERS), context())
    assert not responses_sandbox.ledger


def test_extra_body_does_not_replace_the_idempotency_key(perform, responses_sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(responses_sandbox.connection))
    extra = {"metadata": {"b": "2"}, "temperature": 0, "a_field_of_tomorrow": {"x": [1]}}
    perform(ask(metadata={"a": "1"}, extra_body=extra), context())
    (entry,) = responses_sandbox.ledger
    idempotency_key = entry.body["metadata"].pop("airflow")
    assert len(idempotency_key) >= 32
    assert entry.body["metadata"] == {"a": "1", "b": "2"}
    assert (entry.body["temperature"], entry.body["a_field_of_tomorrow"]) == (0, {"x": [1]})
