"""A connection becomes a client, and says whether it works."""

from __future__ import annotations

import json

import httpx
import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_responses import get_provider_info
from airflow_provider_responses.client import ClientConfig, RequestOptions, ResponsesClient
from airflow_provider_responses.client.transport import SyncPool
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.hooks.responses import ResponsesHook, _test, config_from_connection
from airflow_provider_responses.sandbox import Sandbox

REQUEST = {"model": "openai/gpt-4o-mini", "input": "Hello there"}


def connection(**fields):
    extra = fields.pop("extra", None)
    text = extra if extra is None or isinstance(extra, str) else json.dumps(extra)
    return Connection(conn_id="c", conn_type="responses", **({"password": "k"} | fields), extra=text)


class TestConnection:
    def test_nothing_but_a_key_means_openrouter(self):
        config = config_from_connection(connection(), "c")
        assert config.base_url == "https://openrouter.ai/api/v1"
        assert config.dialect == "openrouter"

    def test_every_extra_is_read(self):
        extra = {
            "default_model": "a/b",
            "timeout": "30",
            "connect_timeout": 3,
            "read_timeout": 20.5,
            "max_retries": "0",
            "max_ambiguous_retries": 2,
            "max_retry_wait": 5,
            "app_title": "nightly",
            "app_url": "https://example.com",
            "extra_headers": '{"X-Team": "data"}',
            "dialect": "openrouter",
            "proxy": "http://proxy.example:3128",
            "ca_bundle": __file__,
            "allow_insecure_http": "true",
        }
        config = config_from_connection(connection(host="http://llm.internal:8000/v1/", extra=extra), "c")
        assert config.base_url == "http://llm.internal:8000/v1"
        assert (config.timeout, config.connect_timeout, config.read_timeout) == (30.0, 3.0, 20.5)
        assert (config.max_retries, config.max_ambiguous_retries, config.max_retry_wait) == (0, 2, 5.0)
        assert (config.app_title, config.app_url, config.default_model) == ("nightly", "https://example.com", "a/b")
        assert config.extra_headers == {"X-Team": "data"}
        assert config.route[:2] == ("http://proxy.example:3128", __file__)
        assert config.is_openrouter
        assert set(extra) == set(get_provider_info()["connection-types"][0]["conn-fields"])

    def test_empty_form_fields_mean_the_default(self):
        fields = get_provider_info()["connection-types"][0]["conn-fields"]
        config = config_from_connection(connection(host="", extra=dict.fromkeys(fields, "")), "c")
        assert config == config_from_connection(connection(), "c")

    @pytest.mark.parametrize(
        ("fields", "url"),
        [
            ({"host": "https://example.com/v1"}, "https://example.com/v1"),
            ({"host": "https://example.com/v1/responses"}, "https://example.com/v1"),
            ({"host": "http://localhost/v1", "port": 8000}, "http://localhost:8000/v1"),
            ({"host": "http://localhost:8000/v1", "port": 8000}, "http://localhost:8000/v1"),
            ({"host": "http://[::1]:11434/v1"}, "http://[::1]:11434/v1"),
            ({"host": "http://[::1]/v1", "port": 8000}, "http://[::1]:8000/v1"),
        ],
    )
    def test_hosts(self, fields, url):
        config = config_from_connection(connection(**fields), "c")
        assert config.base_url == url
        assert config.dialect == "open"

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"password": ""}, "password is missing"),
            ({"password": "two\nlines"}, "api_key: the given text has line breaks"),
            ({"host": "openrouter.ai"}, "host is 'openrouter.ai'; allowed is a full URL"),
            ({"host": "https://me:pw@example.com/v1"}, "the key belongs in the password field"),
            ({"host": "https://example.com/v1?x=1"}, "allowed is a full URL without query"),
            ({"host": "http://example.com/v1"}, "allow_insecure_http"),
            ({"extra": "no json"}, "extra is no JSON object"),
            ({"extra": {"extra_headers": "no json"}}, "'extra_headers' is no JSON object"),
            ({"extra": {"extra_headers": {"Authorization": "x"}}}, "'Authorization' is set by the client"),
            ({"extra": {"dialect": "french"}}, "dialect is 'french'; allowed are openrouter and open"),
            ({"extra": {"max_retries": -1}}, "max_retries is -1"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, fields, said):
        with pytest.raises(ConfigurationError, match="connection 'c': ") as caught:
            config_from_connection(connection(**fields), "c")
        assert said in str(caught.value)
        assert "pw" not in str(caught.value)


class TestCalls:
    def test_send(self, responses_sandbox):
        response = ResponsesHook().send(REQUEST, options=RequestOptions(headers={"X-Team": "data"}))
        assert response.output_text
        assert responses_sandbox.ledger[0].headers["x-team"] == "data"
        assert "metadata" not in responses_sandbox.ledger[0].body

    def test_stream(self, responses_sandbox):
        events = list(ResponsesHook().stream(REQUEST))
        assert [event.is_terminal for event in events][-1]
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == (
            events[-1].response.output_text
        )

    async def test_asend(self, responses_sandbox):
        assert (await ResponsesHook().asend(REQUEST)).output_text

    async def test_astream(self, responses_sandbox):
        events = [event async for event in ResponsesHook().astream(REQUEST)]
        assert events[-1].is_terminal

    def test_get_generation(self, responses_sandbox):
        hook = ResponsesHook()
        response = hook.send(REQUEST)
        assert hook.get_generation(response.generation_id)["total_cost"] == pytest.approx(response.usage.cost)

    def test_get_key(self, responses_sandbox):
        assert ResponsesHook().get_key()["label"] == "sandbox"


class TestTestConnection:
    def test_a_key_without_limit(self, responses_sandbox):
        assert ResponsesHook().test_connection() == (True, "Key sandbox: works, has no limit; $0.00 used so far")

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
            ({"password": "wrong"}, "refuses the key"),
            ({"host": "http://127.0.0.1:9/api/v1"}, "No connection to http://127.0.0.1:9/api/v1: check the host"),
            ({"password": ""}, "connection 'responses_default': password is missing"),
        ],
    )
    def test_each_failure_has_its_own_sentence(self, fields, said, responses_sandbox, monkeypatch):
        value = json.dumps(responses_sandbox.connection | fields)
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", value)
        ok, sentence = ResponsesHook().test_connection()
        assert not ok
        assert said in sentence

    def test_a_wrong_path(self, responses_sandbox, monkeypatch):
        host = responses_sandbox.base_url.replace("/api/v1", "/elsewhere")
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(responses_sandbox.connection | {"host": host}))
        ok, sentence = ResponsesHook().test_connection()
        assert not ok
        assert "neither /key nor /models is there" in sentence

    def test_a_server_without_key_lists_its_models(self, monkeypatch):
        with Sandbox(dialect="open") as server:
            monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(server.connection))
            ok, sentence = ResponsesHook().test_connection()
        assert ok
        assert "a server without /key" in sentence
        assert " models, such as " in sentence


@pytest.mark.parametrize(
    ("key", "models", "dialect", "works", "said"),
    [
        ((200, {"error": "Unexpected endpoint"}), (200, {"data": [{"id": "m"}]}), "open", True, "1 models, such as m"),
        ((404, {}), (200, {"data": None}), "open", True, "0 models"),
        ((404, {}), (401, {"error": {"message": "no"}}), "open", False, "refuses the key"),
        ((404, {}), (500, {"error": {"message": "broken"}}), "open", False, "500 Internal Server Error: broken"),
        ((401, {"error": {"message": "?"}}), (200, {"data": [{"id": "m"}]}), "open", True, "1 models"),
        ((401, {"error": {"message": "?"}}), (200, {"data": [{"id": "m"}]}), "openrouter", False, "refuses the key"),
        ((200, {}), (200, {}), "openrouter", False, "neither a key nor models"),
        (
            (200, {"data": {"label": "k", "limit": "10", "limit_remaining": "?"}}),
            (404, {}),
            "openrouter",
            True,
            "Key k",
        ),
    ],
)
def test_odd_servers_get_a_true_sentence(key, models, dialect, works, said):
    def answer(request):
        status, body = key if request.url.path.endswith("/key") else models
        return httpx.Response(status, json=body)

    config = ClientConfig(api_key="k", dialect=dialect, max_retries=0)
    client = ResponsesClient(config, pool=SyncPool(httpx.MockTransport(answer)))
    ok, sentence = _test(client)
    assert ok is works
    assert said in sentence
