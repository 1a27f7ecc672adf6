"""Servers, keys and other settings that are accepted or refused."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_responses import client
from airflow_provider_responses.client.config import RESERVED_HEADERS, ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import ConfigurationError

from .wire import KEY


def made(**changes: Any) -> ClientConfig:
    return ClientConfig(**({"api_key": KEY} | changes))


@pytest.mark.parametrize("name", client.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(client, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = client.Nonsense


def test_defaults_are_as_documented() -> None:
    config = made()
    assert (config.base_url, config.dialect) == ("https://openrouter.ai/api/v1", "openrouter")
    assert (config.max_retries, config.max_ambiguous_retries, config.max_retry_wait) == (3, 1, 60.0)


@pytest.mark.parametrize(
    ("given", "normalized"),
    [
        (" https://openrouter.ai/api/v1/ ", "https://openrouter.ai/api/v1"),
        ("https://openrouter.ai/api/v1/responses", "https://openrouter.ai/api/v1"),
        ("https://openrouter.ai/api/v1/responses/", "https://openrouter.ai/api/v1"),
        ("", "https://openrouter.ai/api/v1"),
        ("http://127.0.0.1:8642/v1", "http://127.0.0.1:8642/v1"),
    ],
)
def test_the_base_url_is_normalized(given: str, normalized: str) -> None:
    assert made(base_url=given).base_url == normalized


@pytest.mark.parametrize(
    ("url", "dialect"),
    [
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://OpenRouter.ai/api/v1", "openrouter"),
        ("https://eu.openrouter.ai/api/v1", "openrouter"),
        ("https://notopenrouter.ai/v1", "open"),
        ("https://openrouter.ai.example.org/v1", "open"),
        ("https://example.org/openrouter.ai", "open"),
        ("http://localhost:8642/v1", "open"),
    ],
)
def test_the_host_decides_the_dialect(url: str, dialect: str) -> None:
    assert made(base_url=url).dialect == dialect
    assert made(base_url=url).is_openrouter == (dialect == "openrouter")


def test_a_given_dialect_overrides_the_host() -> None:
    assert made(base_url="http://localhost:1/v1", dialect="openrouter").is_openrouter
    assert not made(dialect="open").is_openrouter


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/v1",
        "HTTP://example.org/v1",
        "http://10.0.0.1/v1",
        "http://0.0.0.0/v1",
        "http://localhost.example.org/v1",
        "http://127.0.0.1.example.org/v1",
        "http://[2001:db8::1]/v1",
    ],
)
def test_a_key_goes_unencrypted_to_loopback_only(url: str) -> None:
    with pytest.raises(ConfigurationError, match="unencrypted"):
        made(base_url=url)
    assert made(base_url=url, allow_insecure_http=True).base_url == url.replace("HTTP", "http")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/v1", "http://127.9.9.9/v1", "http://[::1]:80/v1", "http://localhost"]
)
def test_loopback_may_be_plain_http(url: str) -> None:
    assert made(base_url=url).base_url == url


def test_a_calls_own_address_is_checked_as_well() -> None:
    options = RequestOptions.parse({"base_url": "http://example.org/v1"})
    with pytest.raises(ConfigurationError, match="unencrypted"):
        made().for_call(options)


def test_the_host_of_a_calls_own_address_decides_the_dialect() -> None:
    config = made(dialect="openrouter")
    assert config.for_call(RequestOptions(base_url="https://example.org/v1")).dialect == "open"
    assert config.for_call(RequestOptions(base_url="https://openrouter.ai/other")).dialect == "openrouter"
    assert config.for_call(None) is config


@pytest.mark.parametrize(
    "url",
    [
        "openrouter.ai/api/v1",
        "ftp://openrouter.ai",
        "https://",
        "https:///v1",
        "https://example.org/v1?hidden-value",
        "https://example.org/v1#hidden-value",
        "https://example.org/a b",
        "https://user:hidden-value@example.org/v1",
        "https://hidden-value@example.org/v1",
        "user:hidden-value@example.org/v1",
        "https://example.org:port/v1",
        "https://[::1/v1",
        "https://example.org/\x00v1",
        "https://\u2488.example/v1",
    ],
)
def test_a_wrong_address_is_refused_without_showing_a_secret_in_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        made(base_url=url)
    assert "hidden-value" not in str(caught.value)


@pytest.mark.parametrize("key", [None, "", "  ", 5, "line\nbreak-hidden", "ümläut-hidden"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        made(api_key=key)
    assert "hidden" not in str(caught.value)


def test_a_key_is_trimmed() -> None:
    assert made(api_key=f" {KEY}\n").api_key == KEY


def test_no_secret_is_shown() -> None:
    config = made(extra_headers={"X-Token": "hidden-value"})
    options = RequestOptions(headers={"X-Token": "hidden-value"})
    for shown in (repr(config), str(config), repr(options), str(options)):
        assert KEY not in shown
        assert "hidden-value" not in shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", "soon"),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", True),
        ("connect_timeout", 0),
        ("read_timeout", []),
        ("max_retry_wait", -1),
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_retries", "many"),
        ("max_ambiguous_retries", False),
        ("dialect", "esperanto"),
        ("app_title", "line\nbreak"),
        ("app_url", "https://example.org/ü"),
        ("extra_headers", "X-A: b"),
        ("extra_headers", {"X A": "b"}),
        ("extra_headers", {"": "b"}),
        ("extra_headers", {"X-A": 5}),
        ("extra_headers", {"X-A": "line\r\nX-B: injected"}),
    ],
)
def test_a_wrong_setting_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=field):
        made(**{field: value})


def test_numbers_may_be_text() -> None:
    config = made(timeout="30", max_retries="2", max_retry_wait="0")
    assert (config.timeout, config.max_retries, config.max_retry_wait) == (30.0, 2, 0.0)
    options = RequestOptions.parse({"timeout": "7.5", "max_retries": "0"})
    assert (options.timeout, options.max_retries) == (7.5, 0)


@pytest.mark.parametrize("name", sorted(RESERVED_HEADERS | {"Authorization", "CONTENT-TYPE"}))
def test_headers_of_the_clients_own_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        made(extra_headers={name: "hidden-value"})
    assert "hidden-value" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=name):
        RequestOptions.parse({"headers": {name: "hidden-value"}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"time_out": 5}, "time_out"),
        ({"timeout": 0}, "options.timeout"),
        ({"max_retries": -1}, "options.max_retries"),
        ({"metadata_level": "all"}, "options.metadata_level"),
        ({"base_url": "nowhere"}, "options.base_url"),
        ({"accept": "a\nb"}, "options.accept"),
        ({"headers": ["X-A"]}, "options.headers"),
        ("timeout=5", "options"),
    ],
)
def test_a_wrong_option_is_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RequestOptions.parse(given)


def test_options_override_the_connection() -> None:
    config = made(timeout=100, max_retries=3).for_call(RequestOptions(timeout=5, max_retries=0))
    assert (config.timeout, config.max_retries, config.api_key) == (5, 0, KEY)


def test_added_headers_do_not_override_the_users() -> None:
    options = RequestOptions(headers={"X-A": "mine"}).with_headers(
        {"x-a": "theirs", "x-b": "added", "x-c": "theirs"}, but_not={"X-C": "the connection's"}
    )
    assert options.headers == {"x-b": "added", "X-A": "mine"}


def test_a_call_may_have_another_number_of_ambiguous_retries() -> None:
    options = RequestOptions.parse({"max_ambiguous_retries": "0"})
    assert made().for_call(options).max_ambiguous_retries == 0
    assert made().for_call(RequestOptions()).max_ambiguous_retries == 1
    with pytest.raises(ConfigurationError, match=r"options\.max_ambiguous_retries must be"):
        RequestOptions.parse({"max_ambiguous_retries": -1})
