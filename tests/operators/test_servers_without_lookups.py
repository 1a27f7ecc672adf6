"""Servers whose ``/models`` and ``/key`` are missing, fail, or send something else: prices and limits are unknown."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.operators.budget import Budget
from tests.airflow_fakes import TaskInstance, context
from tests.operators.enrichments import enrich
from tests.operators.one_request import ask

MISSING = {"error": {"code": 404, "message": "Not Found"}}
BROKEN = [
    pytest.param((404, json.dumps(MISSING)), id="missing"),
    pytest.param((500, "oops"), id="failing"),
    pytest.param((200, "<html>Log in</html>"), id="html"),
    pytest.param((200, "[]"), id="list"),
    pytest.param((200, '{"data": null}'), id="null"),
    pytest.param((200, '{"data": "x"}'), id="text"),
    pytest.param((200, '{"data": [{"id": 3}, null, "x"]}'), id="entries"),
    pytest.param((200, '{"data": {"limit_remaining": "much"}}'), id="text as an amount"),
    pytest.param((200, '{"data": {"limit_remaining": NaN}}'), id="no number"),
    pytest.param(None, id="connection closed"),
]


class Relay(ThreadingHTTPServer):
    """A server that passes everything on to the sandbox but ``/models`` and ``/key``."""

    daemon_threads = True
    answer: tuple[int, str] | None = None
    upstream = ""


class Handler(BaseHTTPRequestHandler):
    server: Relay

    def do_GET(self) -> None:
        if self.path.endswith(("/models", "/key")):
            if self.server.answer is None:
                self.close_connection = True
                return
            self._send(self.server.answer[0], self.server.answer[1].encode(), "application/json")
        else:
            self._pass_on(None)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["content-length"])))

    def _pass_on(self, body: bytes | None) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
        headers["Accept-Encoding"] = "identity"
        request = urllib.request.Request(self.server.upstream + self.path, body, headers)  # noqa: S310  loopback
        try:
            response: Any = urllib.request.urlopen(request)  # noqa: S310
        except urllib.error.HTTPError as error:
            response = error
        with response:
            self._send(response.status, response.read(), response.headers["content-type"])

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(params=BROKEN)
def server(request: pytest.FixtureRequest, responses_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The sandbox, behind a server with the answer to both lookups."""
    known = responses_sandbox.connection
    host, _, path = known["host"].partition("/api/")
    with Relay(("127.0.0.1", 0), Handler) as relay:
        relay.answer, relay.upstream = request.param, host
        thread = threading.Thread(target=relay.serve_forever, args=(0.01,))
        thread.start()
        connection = {**known, "host": f"http://127.0.0.1:{relay.server_port}/api/{path}"}
        connection["extra"] = {**known["extra"], "max_retries": 0}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
        yield responses_sandbox
        relay.shutdown()
        thread.join()


def test_an_estimate_has_requests_and_no_cost(server, tmp_path):
    found = enrich(tmp_path, estimate_only=True).execute(context())
    assert (found["requests"], found["cost"]) == (5, None)
    assert "/models" in found["cost_unknown_because"]
    assert server.ledger == []


def test_a_table_is_sent_without_a_warning_about_its_cost(server, tmp_path, caplog):
    manifest = enrich(tmp_path).execute(context())
    assert manifest["counts"] == {"ok": 5}
    assert len(server.ledger) == 5
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text for text in warnings if not text.startswith("Resending in")] == []


def test_a_preview_of_batches_is_estimated_at_half_the_price_of_its_responses(server, tmp_path):
    found = enrich(tmp_path, preview=2, mode="batch").execute(context())
    assert (found["sent"], found["failed"]) == (2, 0)
    assert found["cost"] > 0


@pytest.mark.parametrize("limits", [{"max_cost": 1.0}, {"budget": Budget(dag_run=1.0)}])
def test_a_task_with_a_limit_of_cost_is_refused_before_it_is_sent(server, limits):
    ti = TaskInstance()
    task = ask(request={"max_output_tokens": 100}, **limits)
    with pytest.raises(AirflowFailException, match=rf"{next(iter(limits))} cannot be checked: the server's /models"):
        task.execute(context(ti))
    assert server.ledger == []
    assert ti.xcoms["usage"]["cost"] == 0
