"""The hook reads a connection, and its clients send requests."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_responses.client import RequestOptions
from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.get_provider_info import get_provider_info
from airflow_provider_responses.hooks.responses import ResponsesHook, config_from_connection, remarks_on

REQUEST = {"model": "openai/gpt-4o-mini", "input": "Hello there"}


def connection(**fields):
    extra = fields.pop("extra", None)
    text = extra if extra is None or isinstance(extra, str) else json.dumps(extra)
    return Connection(conn_id="c", **({"conn_type": "responses", "password": "k"} | fields), extra=text)


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
    def test_the_host_becomes_the_base_url(self, fields, url):
        config = config_from_connection(connection(**fields), "c")
        assert config.base_url == url
        assert config.dialect == "open"

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"password": ""}, "password is missing"),
            (
                {"password": "", "login": "kpw"},
                "password is missing (it holds the API key). For a server without keys",
            ),
            ({"password": "", "login": "kpw"}, "its login is ignored: the key belongs in the password"),
            ({"password": "Bearer kpw"}, "password must not begin with 'Bearer', which the client adds"),
            ({"password": "bearer\tkpw"}, "set the key alone"),
            ({"password": "Bearer "}, "password must not begin with 'Bearer'"),
            (
                {"host": "example.com", "conn_type": "http", "schema": "https"},
                "its type is 'http' instead of 'responses': its host, password and extras are read as those",
            ),
            ({"host": "example.com", "conn_type": "http", "schema": "https"}, "its schema 'https' is ignored"),
            ({"password": "two\nlines"}, "password must be printable ASCII, as in a header, got other characters"),
            (
                {"host": "openrouter.ai"},
                "host must be a full URL without query, such as https://llm.example.com/v1, got 'openrouter.ai'",
            ),
            ({"host": "https://me:pw@example.com/v1"}, "put the key into the password field"),
            ({"host": "https://example.com/v1?x=1"}, "host must be a full URL without query"),
            ({"host": "http://example.com/v1"}, "allow_insecure_http"),
            ({"extra": "no json"}, "extra must be a JSON object"),
            ({"extra": {"extra_headers": "no json"}}, "extra 'extra_headers' must be a JSON object, such as "),
            (
                {"extra": {"extra_headers": {"Authorization": "x"}}},
                "must not have 'Authorization', which the client sets",
            ),
            ({"extra": {"dialect": "french"}}, "dialect must be 'openrouter' or 'open', got 'french'"),
            ({"extra": {"max_retries": -1}}, "max_retries must be a whole number >= 0, got -1"),
        ],
    )
    def test_a_wrong_field_is_refused_with_its_name(self, fields, message):
        with pytest.raises(ConfigurationError, match=r"\. Connection: c$") as caught:
            config_from_connection(connection(**fields), "c")
        assert message in str(caught.value)
        assert "pw" not in str(caught.value)


class TestRemarks:
    @pytest.mark.parametrize(
        ("fields", "remarks"),
        [
            ({}, []),
            ({"conn_type": "openai"}, ["are read as those of a connection of type 'responses'"]),
            ({"login": "the-key-in-the-wrong-place"}, ["its login is ignored: the key belongs in the password"]),
            ({"schema": "v1"}, ["its schema 'v1' is ignored: the host is the whole base URL"]),
            ({"conn_type": "http", "login": "me", "schema": "https"}, ["its type", "its login", "its schema"]),
            ({"schema": "x" * 1000}, ["its schema 'xxx"]),
        ],
        ids=str,
    )
    def test_each_ignored_or_unexpected_part_has_a_remark(self, fields, remarks):
        found = remarks_on(connection(**fields))
        assert [remark in text for remark, text in zip(remarks, found, strict=True)] == [True] * len(found)
        assert all(len(text) < 200 for text in found)
        assert "wrong-place" not in "".join(found)

    @pytest.mark.parametrize("is_async", [False, True])
    def test_remarks_are_logged_once_and_the_connection_is_used(self, is_async, responses_sandbox, monkeypatch, caplog):
        fields = responses_sandbox.connection | {"conn_type": "openai", "login": "hidden-value", "schema": "v1"}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(fields))
        hook = ResponsesHook()
        for _ in range(2):
            response = asyncio.run(hook.asend(REQUEST)) if is_async else hook.send(REQUEST)
            assert response.output_text
        warnings = [
            record.getMessage() for record in caplog.records if "Connection 'responses_default'" in record.getMessage()
        ]
        assert len(warnings) == 3
        assert "hidden-value" not in caplog.text


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
