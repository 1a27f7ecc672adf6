"""The settings of a client: server, key, timeouts and retries."""

from __future__ import annotations

import copy
import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.validation import check_choice, check_known, check_number, check_type

DEFAULT_BASE_URL: Final = "https://openrouter.ai/api/v1"
# The client sets these headers; another value would leak a key or break the protocol.
RESERVED_HEADERS: Final = frozenset({"authorization", "content-type", "content-length", "host"})
SECRET_HEADERS: Final = ("auth", "key", "token", "secret", "cookie", "password")
SHORTEST_SECRET: Final = 6  # a shorter one, such as the key "none", occurs in too many words to be redacted
# Seconds until an idle connection is closed. Uvicorn, which most other servers run on, closes it after 5 s: a request
# that is sent at that moment is lost, and it is unknown whether it was served.
IDLE_OPENROUTER: Final = 30.0
IDLE_OTHERS: Final = 4.0


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """
    Options of one call. Those that are not set are the connection's.

    :param timeout: seconds for the call with all its retries.
    :param max_retries: further sends inside the call.
    :param max_ambiguous_retries: further sends inside the call after failures that may have been billed.
    :param headers: added to the connection's; names may not be ``Authorization`` and the like.
    :param metadata_level: ``enabled`` requests routing metadata from OpenRouter (``openrouter_metadata``).
    :param base_url: another server for this call, with the connection's key.
    :param accept: overrides the ``Accept`` header.
    """

    timeout: float | None = None
    max_retries: int | None = None
    max_ambiguous_retries: int | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    metadata_level: Literal["enabled", "disabled"] | None = None
    base_url: str | None = None
    accept: str | None = None

    @classmethod
    def parse(cls, value: RequestOptions | Mapping[str, Any] | None) -> Self:
        """
        Check options, or a dict of them. Numbers may be text, since templates render text.

        :raises ConfigurationError: naming the field.
        """
        given = cls.to_dict(value)
        check_known("options", given, [f.name for f in fields(cls)], error=ConfigurationError)
        return cls(
            timeout=_seconds("options.timeout", given.get("timeout"), optional=True),
            max_retries=_count("options.max_retries", given.get("max_retries"), optional=True),
            max_ambiguous_retries=_count(
                "options.max_ambiguous_retries", given.get("max_ambiguous_retries"), optional=True
            ),
            headers=_headers("options.headers", given.get("headers")),
            metadata_level=_choice("options.metadata_level", given.get("metadata_level"), ("enabled", "disabled")),
            base_url=_base_url("options.base_url", given["base_url"]) if given.get("base_url") else None,
            accept=_header_text("options.accept", given["accept"]) if given.get("accept") else None,
        )

    @classmethod
    def to_dict(cls, value: RequestOptions | Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the set options as a plain dict, unchecked."""
        if value is None:
            return {}
        if isinstance(value, RequestOptions):
            value = {f.name: getattr(value, f.name) for f in fields(value)}
        check_type(
            "options", value, Mapping, expected="RequestOptions or a dict", type_only=True, error=ConfigurationError
        )
        return {name: item for name, item in value.items() if item is not None}

    def with_headers(self, headers: Mapping[str, str], *, but_not: Iterable[str] = ()) -> Self:
        """Return a copy with these headers added, except those that the call or ``but_not`` has."""
        existing = {name.lower() for name in (*(self.headers or {}), *but_not)}
        added = {name: text for name, text in headers.items() if name.lower() not in existing}
        return replace(self, headers={**added, **(self.headers or {})})


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """
    Settings of a client.

    :param api_key: sent as ``Authorization: Bearer``; never shown.
    :param base_url: the server, without ``/responses``.
    :param dialect: whose rules apply: ``openrouter`` or ``open``; by default the host decides.
    :param default_model: the model of requests that name none.
    :param timeout: seconds for one call with all its sends and waits.
    :param connect_timeout: seconds until a connection is made.
    :param read_timeout: seconds of silence between two bytes.
    :param max_retries: further sends after failures that cannot have been billed.
    :param max_ambiguous_retries: further sends after failures that may have been billed.
    :param max_retry_wait: seconds; a longer wait ends the call, and is left to Airflow.
    :param extra_headers: sent with every request; values are never shown.
    :param proxy: URL of a proxy; by default that of the environment (``HTTPS_PROXY`` and the like).
    :param ca_bundle: PEM file of the certificate authorities to trust; by default the usual ones.
    :param allow_insecure_http: allow sending the key unencrypted to another machine.
    :raises ConfigurationError: naming the field, the expected value and the given one.
    """

    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    dialect: Dialect | None = None
    default_model: str | None = None
    timeout: float = 600.0
    connect_timeout: float = 10.0
    read_timeout: float = 300.0
    max_retries: int = 3
    max_ambiguous_retries: int = 1
    max_retry_wait: float = 60.0
    app_title: str | None = None
    app_url: str | None = None
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)  # may hold a password
    ca_bundle: str | None = None
    allow_insecure_http: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.api_key, str) or not self.api_key.strip():
            raise ConfigurationError("api_key is missing. For a server without keys, set any text, such as 'none'")
        if (first := self.api_key.split()[0]).lower() == "bearer":
            raise ConfigurationError(f"api_key must not begin with {first!r}, which the client adds: set the key alone")
        set_field = object.__setattr__  # the way to normalize fields of a frozen dataclass
        set_field(self, "api_key", _header_text("api_key", self.api_key.strip(), secret=True))
        set_field(self, "base_url", _base_url("base_url", self.base_url or DEFAULT_BASE_URL))
        set_field(
            self,
            "dialect",
            _choice("dialect", self.dialect, ("openrouter", "open")) or _dialect_of(self.base_url),
        )
        set_field(self, "extra_headers", _headers("extra_headers", self.extra_headers) or {})
        for name in ("timeout", "connect_timeout", "read_timeout", "max_retry_wait"):
            at_least = 0 if name == "max_retry_wait" else None
            set_field(self, name, _seconds(name, getattr(self, name), at_least=at_least))
        for name in ("max_retries", "max_ambiguous_retries"):
            set_field(self, name, _count(name, getattr(self, name)))
        if self.proxy and urlsplit(self.proxy).scheme not in {"http", "https"}:
            raise ConfigurationError("proxy must be an http or https URL, such as http://proxy.example.com:3128")
        if self.ca_bundle and not os.path.isfile(self.ca_bundle):
            raise ConfigurationError(f"ca_bundle must be a file on this machine, got {self.ca_bundle!r}")
        for name in ("app_title", "app_url"):
            if getattr(self, name):
                _header_text(name, getattr(self, name))
        check_secure("base_url", self.base_url, allow_insecure_http=self.allow_insecure_http)

    def for_call(self, options: RequestOptions | None) -> Self:
        """Return the settings of one call: its options override these."""
        if options is None:
            return self
        config = self
        if options.base_url:
            check_secure("options.base_url", options.base_url, allow_insecure_http=self.allow_insecure_http)
            elsewhere = urlsplit(options.base_url).netloc != urlsplit(self.base_url).netloc
            # The host of another server decides its dialect.
            config = replace(self, base_url=options.base_url, dialect=None if elsewhere else self.dialect)
        given = {
            "timeout": options.timeout,
            "max_retries": options.max_retries,
            "max_ambiguous_retries": options.max_ambiguous_retries,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if changes:
            config = copy.copy(config)  # a copy does not check the other fields again
            for name, value in changes.items():
                object.__setattr__(config, name, value)
        return config

    @property
    def route(self) -> Route:
        """The route of the connections; different routes share none. Loopback is reached without a proxy."""
        # The host decides, not the dialect: a proxy in front of OpenRouter has other idle times.
        idle = IDLE_OPENROUTER if _dialect_of(self.base_url) == "openrouter" else IDLE_OTHERS
        if _is_loopback(urlsplit(self.base_url).hostname or ""):
            return Route(ca_bundle=self.ca_bundle, environment=False, idle_seconds=idle)
        return Route(proxy=self.proxy, ca_bundle=self.ca_bundle, idle_seconds=idle)

    @property
    def secrets(self) -> list[str]:
        """The texts that must never be shown: the key, headers that look like one, and the proxy's password."""
        found = (self.api_key, *secret_headers(self.extra_headers).values(), urlsplit(self.proxy or "").password)
        return [secret for secret in found if secret and len(secret) >= SHORTEST_SECRET]

    @property
    def is_openrouter(self) -> bool:
        """Whether OpenRouter's own features may be used."""
        return self.dialect == "openrouter"


class Route(NamedTuple):
    """
    The way to a server; connections of different routes are not shared.

    :param proxy: URL of a proxy.
    :param ca_bundle: file of the certificate authorities to trust.
    :param environment: whether a proxy of the environment is used.
    :param idle_seconds: seconds after which an idle connection is closed.
    """

    proxy: str | None = None
    ca_bundle: str | None = None
    environment: bool = True
    idle_seconds: float = IDLE_OTHERS


def secret_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers whose names suggest a secret."""
    return {name: text for name, text in headers.items() if any(word in name.lower() for word in SECRET_HEADERS)}


def check_secure(name: str, url: str, *, allow_insecure_http: bool) -> None:
    """Refuse to send a key unencrypted to another machine."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not allow_insecure_http and not _is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"{name} must begin with https, got {url}: the key would be sent unencrypted. In a network that you trust, "
            "set the connection's extra `allow_insecure_http` to true"
        )


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _dialect_of(base_url: str) -> Dialect:
    host = urlsplit(base_url).hostname or ""
    return "openrouter" if host == "openrouter.ai" or host.endswith(".openrouter.ai") else "open"


def _base_url(name: str, value: Any) -> str:
    text = str(value).strip()
    expected = f"{name} must be a full URL without query, such as https://llm.example.com/v1"
    # A query or a password may be a secret.
    shown = "a value that may hold a secret" if set("?#@") & set(text) else repr(text[:200])
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError as error:
        raise ConfigurationError(f"{expected} ({error})") from None
    if parts.username or parts.password:
        raise ConfigurationError(f"{name} must not hold a user name or password: put the key into the password field")
    clean = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment or not clean:
        raise ConfigurationError(f"{expected}, got {shown}")
    path = parts.path.rstrip("/").removesuffix("/responses")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _seconds(name: str, value: Any, *, at_least: float | None = None, optional: bool = False) -> Any:
    """Return a number of seconds above 0, or with ``at_least`` from there."""
    above = 0 if at_least is None else None
    return _number(name, value, at_least=at_least, above=above, unit="seconds", optional=optional)


def _count(name: str, value: Any, *, optional: bool = False) -> Any:
    return _number(name, value, at_least=0, whole=True, optional=optional)


def _number(name: str, value: Any, *, optional: bool, **bounds: Any) -> Any:
    if value is None and not optional:
        raise ConfigurationError(f"{name} must not be None; leave it out for the default")
    return check_number(name, value, convert=True, optional=optional, error=ConfigurationError, **bounds)


def _choice(name: str, value: Any, allowed: tuple[str, ...]) -> Any:
    return check_choice(name, None if value == "" else value, allowed, optional=True, error=ConfigurationError)


def _headers(name: str, value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    expected = "an object of header names and texts"
    check_type(name, value, Mapping, expected=expected, type_only=True, error=ConfigurationError)
    for header, text in value.items():
        if (
            not isinstance(header, str)
            or not header.isascii()
            or not header.replace("-", "").replace("_", "").isalnum()
        ):
            raise ConfigurationError(f"{name} must have names of headers as keys, got {header!r}")
        if header.lower() in RESERVED_HEADERS:
            raise ConfigurationError(
                f"{name} must not have {header!r}, which the client sets: put a key into the connection's password"
            )
        _header_text(f"{name}.{header}", text, secret=True)
    return dict(value)


def _header_text(name: str, value: Any, *, secret: bool = False) -> str:
    text: str = check_type(name, value, str, expected="text", type_only=True, error=ConfigurationError)
    if not text.isascii() or not text.isprintable():
        shown = "other characters" if secret else repr(text)
        raise ConfigurationError(f"{name} must be printable ASCII, as in a header, got {shown}")
    return text
