"""The Test button: a true sentence about every kind of server, and nothing billed."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest

from airflow_provider_responses.client import ClientConfig, ResponsesClient
from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.hooks.connection_check import MISSING_PATH, check_connection
from airflow_provider_responses.hooks.responses import ResponsesHook
from airflow_provider_responses.sandbox import Sandbox


class TestTestConnection:
    def test_a_key_without_limit(self, responses_sandbox):
        assert ResponsesHook().test_connection() == (True, "Key sandbox: works and has no limit; $0.00 used so far")

    def test_what_is_left_and_when_it_resets(self, responses_sandbox):
        responses_sandbox.key = {"label": "nightly", "limit": 10, "limit_remaining": 2.5, "limit_reset": "monthly"}
        ok, said = ResponsesHook().test_connection()
        assert ok
        assert said == "Key nightly: works, $2.50 of its limit of $10.00 is left (resets monthly)"

    def test_an_exhausted_limit(self, responses_sandbox):
        responses_sandbox.key = {"label": "nightly", "limit": 10, "limit_remaining": 0, "limit_reset": "daily"}
        ok, said = ResponsesHook().test_connection()
        assert not ok
        assert "its limit of $10.00 is used up (resets daily)" in said

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"password": "wrong"}, "rejects the key"),
            ({"host": "http://127.0.0.1:9/api/v1"}, "No connection to http://127.0.0.1:9/api/v1: check the host"),
            ({"password": ""}, "password is missing"),
            ({"password": "Bearer k"}, "password must not begin with 'Bearer'"),
        ],
    )
    def test_each_failure_has_its_own_sentence(self, fields, said, responses_sandbox, monkeypatch):
        value = json.dumps(responses_sandbox.connection | fields)
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", value)
        ok, sentence = ResponsesHook().test_connection()
        assert not ok
        assert said in sentence
        assert "'responses_default'" not in sentence  # the Test button gives the connection a random id

    def test_a_wrong_path(self, responses_sandbox, monkeypatch):
        host = responses_sandbox.base_url.replace("/api/v1", "/elsewhere")
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(responses_sandbox.connection | {"host": host}))
        ok, sentence = ResponsesHook().test_connection()
        assert not ok
        assert "no /key, /models or /responses" in sentence

    def test_a_server_without_key_lists_its_models(self, monkeypatch):
        with Sandbox(dialect="open") as server:
            monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(server.connection))
            ok, sentence = ResponsesHook().test_connection()
        assert ok
        assert "a server without /key" in sentence
        assert " models, such as " in sentence


MODELS = (200, {"object": "list", "data": [{"id": "m"}]})
ABSENT = (404, {"detail": "Not Found"})
NO_METHOD = (405, {"detail": "Method Not Allowed"})
REFUSED = (401, {"error": "Unauthorized"})
BROKEN = (500, {"error": {"message": "broken"}})
UNKNOWN = "cannot be determined without sending a request"


def server(key, models, responses, others=ABSENT, **settings):
    """Return a function that checks a server with these responses to its paths, and the list of its requests."""
    requests = []

    def respond(request):
        requests.append((request.method, request.url.path))
        name = request.url.path.removeprefix("/api").removeprefix("/v1/")
        status, body = {"key": key, "models": models, "responses": responses}.get(name, others)
        return httpx.Response(status, text=body) if isinstance(body, str) else httpx.Response(status, json=body)

    config = ClientConfig(**({"api_key": "k", "base_url": "https://llm.example.com/v1", "max_retries": 0} | settings))
    pool = SyncPool(httpx.MockTransport(respond))
    missing = ResponsesClient(replace(config, base_url=f"{config.base_url}{MISSING_PATH}"), pool=pool)
    return lambda: check_connection(ResponsesClient(config, pool=pool), missing), requests


@pytest.mark.parametrize(
    ("key", "models", "responses", "works", "said"),
    [
        # The server has the path.
        (ABSENT, MODELS, NO_METHOD, True, "1 model, such as m"),
        (ABSENT, MODELS, (200, {"object": "list", "data": []}), True, "1 model, such as m"),
        (ABSENT, (200, {"data": None}), NO_METHOD, True, "0 models"),
        ((200, {"error": "Unexpected endpoint"}), MODELS, NO_METHOD, True, "1 model"),
        (REFUSED, MODELS, NO_METHOD, True, "1 model"),
        (ABSENT, ABSENT, NO_METHOD, True, f"lists no models, so whether it accepts the key {UNKNOWN}"),
        # It has not, or that is unknown.
        (ABSENT, MODELS, ABSENT, False, "probably offers chat completions only"),
        (ABSENT, MODELS, ABSENT, False, f"whether this is one of them {UNKNOWN}"),
        (ABSENT, MODELS, BROKEN, False, f"lists 1 model, but whether it has /responses {UNKNOWN}"),
        (ABSENT, MODELS, (200, {"error": "Unexpected endpoint"}), False, f"whether it has /responses {UNKNOWN}"),
        (ABSENT, MODELS, (200, "<html>a page for every path</html>"), False, f"whether it has /responses {UNKNOWN}"),
        (ABSENT, MODELS, (403, {"detail": "no"}), False, f"whether it has /responses {UNKNOWN}"),
        (ABSENT, MODELS, (307, {}), False, f"whether it has /responses {UNKNOWN}"),
        (ABSENT, ABSENT, BROKEN, False, f"Whether it has /responses {UNKNOWN}"),
        (ABSENT, ABSENT, ABSENT, False, "no /key, /models or /responses: check the host's path, such as /v1"),
        # It rejects the key, or is broken.
        (ABSENT, REFUSED, NO_METHOD, False, "rejects the key"),
        (ABSENT, ABSENT, REFUSED, False, "rejects the key"),
        (ABSENT, MODELS, REFUSED, False, "rejects the key"),
        (ABSENT, BROKEN, NO_METHOD, False, "500 Internal Server Error: broken"),
    ],
)
def test_the_result_for_servers_without_key_is_true_and_free(key, models, responses, works, said):
    check, requests = server(key, models, responses)
    ok, sentence = check()
    assert ok is works
    assert said in sentence
    assert ("Connected" in sentence) is works
    assert "openrouter" not in sentence.lower()
    assert {method for method, _ in requests} == {"GET"}  # nothing that could be billed


EMPTY = (200, {})
OK = (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("models", "others", "said"),
    [
        (EMPTY, EMPTY, f"responds, but lists no models. Whether it has /responses {UNKNOWN}"),
        (OK, OK, f"responds, but lists no models. Whether it has /responses {UNKNOWN}"),
        (MODELS, EMPTY, f"lists 1 model, but whether it has /responses {UNKNOWN}"),
        (MODELS, OK, f"lists 1 model, but whether it has /responses {UNKNOWN}"),
        (MODELS, NO_METHOD, f"lists 1 model, but whether it has /responses {UNKNOWN}"),
        (NO_METHOD, NO_METHOD, f"has neither /key nor /models. Whether it has /responses {UNKNOWN}"),
    ],
)
def test_the_responses_of_a_server_that_accepts_every_path_show_nothing(models, others, said):
    check, requests = server(others, models, others, others)
    ok, sentence = check()
    assert not ok
    assert said in sentence
    assert requests[-1] == ("GET", "/v1/no-such-path/responses")


@pytest.mark.parametrize(
    ("key", "models", "responses", "works", "said"),
    [
        (REFUSED, MODELS, NO_METHOD, False, "rejects the key"),
        ((200, {}), (200, {}), NO_METHOD, False, "neither a key nor models"),
        (ABSENT, ABSENT, ABSENT, False, "no /key, /models or /responses"),
        ((200, {"data": {"label": "k", "limit": "10", "limit_remaining": "?"}}), ABSENT, ABSENT, True, "Key k"),
        (
            (200, {"data": {"label": "k", "limit": 1, "limit_remaining": 0}}),
            ABSENT,
            ABSENT,
            False,
            "openrouter.ai/settings",
        ),
        ((503, {"error": {"message": "busy"}}), MODELS, NO_METHOD, False, "503 Service Unavailable: busy"),
    ],
)
def test_openrouter_reports_the_state_of_the_key(key, models, responses, works, said):
    check, _ = server(key, models, responses, base_url="https://openrouter.ai/api/v1")
    ok, sentence = check()
    assert ok is works
    assert said in sentence


def test_a_server_that_cannot_be_reached_is_reported():
    def fail(request):
        raise httpx.ConnectError("refused")

    config = ClientConfig(api_key="k", base_url="https://llm.example.com/v1", max_retries=0)
    client = ResponsesClient(config, pool=SyncPool(httpx.MockTransport(fail)))
    ok, sentence = check_connection(client, client)
    assert not ok
    assert sentence.startswith("No connection to https://llm.example.com/v1: check the host")


def test_parts_of_the_connection_that_are_ignored_are_noted(responses_sandbox, monkeypatch):
    fields = responses_sandbox.connection | {"login": "hidden-value", "schema": "v1"}
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(fields))
    ok, sentence = ResponsesHook().test_connection()
    assert ok
    assert "Note: its login is ignored" in sentence
    assert "Note: its schema 'v1' is ignored" in sentence
    assert "hidden-value" not in sentence
