"""The hook's methods of the batch API, on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.hooks.responses import ResponsesHook
from airflow_provider_responses.models import Batch, BatchRequest
from tests.client.server import Connection, Server
from tests.client.wire import result

BATCH: dict[str, Any] = {"id": "batch_1", "object": "batch", "status": "completed", "model": "maker/small-1"}
RESULT = {"custom_id": "a", "response": {"status_code": 200, "request_id": None, "body": result("Hello")}}
BODIES = {
    "POST /v1/files": {"id": "file-1"},
    "POST /v1/batches": BATCH,
    "POST /v1/batches/batch_1/cancel": BATCH,
    "GET /v1/batches/batch_1": BATCH,
    "DELETE /v1/batches/batch_1": {"id": "batch_1", "object": "batch", "deletion": {"openrouter": "deleted"}},
    "GET /v1/batches?limit=100&status=completed": {"data": [BATCH], "has_more": False},
    "GET /v1/batches/batch_1/results?limit=250": {"data": [RESULT], "has_more": False, "next_cursor": None},
}


@pytest.fixture
def server(monkeypatch):
    made = Server()
    made.bodies = []

    def script(connection: Connection) -> None:
        while request := connection.read_request():
            head, body = request
            made.bodies.append(body)
            connection.respond(BODIES[" ".join(head.split()[:2])])

    made.script = script
    fields = {"conn_type": "responses", "password": "made-up-key", "host": made.url}
    monkeypatch.setenv("AIRFLOW_CONN_BATCHES", json.dumps({**fields, "extra": {"dialect": "openrouter"}}))
    monkeypatch.setenv("AIRFLOW_CONN_OTHERS", json.dumps(fields))
    yield made
    made.close()


def test_create_batch(server):
    requests = [BatchRequest(custom_id="a", request={"input": "Hello"})]
    made = ResponsesHook("batches").create_batch(requests, model="maker/small-1", provider={"only": ["maker"]})
    assert made == Batch(raw=BATCH)
    assert json.loads(server.bodies[0]) == {
        "endpoint": "/v1/responses",
        "model": "maker/small-1",
        "completion_window": "24h",
        "provider": {"only": ["maker"]},
        "requests": [{"custom_id": "a", "body": {"input": "Hello"}}],
    }


def test_get_batch(server):
    assert ResponsesHook("batches").get_batch("batch_1").is_finished


def test_list_batches(server):
    assert [found.id for found in ResponsesHook("batches").list_batches(status="completed")] == ["batch_1"]


def test_iter_batch_results(server):
    found = list(ResponsesHook("batches").iter_batch_results("batch_1"))
    assert [(one.custom_id, one.response.output_text) for one in found] == [("a", "Hello")]


def test_delete_batch(server):
    assert ResponsesHook("batches").delete_batch("batch_1")["deletion"] == {"openrouter": "deleted"}


def test_a_batch_of_openrouter_is_not_cancelled(server):
    with pytest.raises(ConfigurationError, match="batch_1 runs on, and is billed"):
        ResponsesHook("batches").cancel_batch("batch_1")
    assert server.connections == 0


def test_a_connection_to_another_server_has_openais_batches(server):
    hook = ResponsesHook("others")
    requests = [BatchRequest(custom_id="a", request={"input": "Hello"})]
    assert hook.create_batch(requests, model="maker/small-1", metadata={"job": "nightly"}) == Batch(raw=BATCH)
    line = b'{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"maker/small-1","input":"Hello"}}'
    assert line in server.bodies[0].splitlines()
    assert json.loads(server.bodies[1])["metadata"] == {"job": "nightly"}
    assert hook.cancel_batch("batch_1").id == "batch_1"
