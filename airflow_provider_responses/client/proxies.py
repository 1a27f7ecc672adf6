"""Proxies of the environment."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx

from airflow_provider_responses.exceptions import ConfigurationError

if TYPE_CHECKING:
    from httpx_aiohttp import AiohttpTransport


def build_mounts(make: Callable[[httpx.Proxy], AiohttpTransport]) -> dict[str, httpx.AsyncBaseTransport | None]:
    """Return the proxies of the environment as httpx's mounts."""
    urls, without = read_environment()
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {
        f"{scheme}://": make(httpx.Proxy(url)) for scheme, url in urls.items()
    }
    if mounts:
        mounts |= {f"all://[{host}]" if host.count(":") > 1 else f"all://{host}": None for host in without}
        mounts |= {f"all://*.{host}": None for host in without if ":" not in host and not host[0].isdigit()}
    return mounts


def read_environment() -> tuple[dict[str, str], list[str]]:
    """
    Return the URLs of the environment's proxies by scheme, and the hosts that are reached without one.

    :raises ConfigurationError: naming a variable whose proxy is not an HTTP proxy.
    """
    found = urllib.request.getproxies()
    without = [host.strip().lstrip(".") for host in found.get("no", "").split(",") if host.strip(" .")]
    schemes: list[str] = [scheme for scheme in ("http", "https", "all") if scheme in found and "*" not in without]
    urls = {scheme: found[scheme] if "://" in found[scheme] else f"http://{found[scheme]}" for scheme in schemes}
    for scheme, url in urls.items():
        if (kind := url.partition("://")[0].lower()) not in {"http", "https"}:
            raise ConfigurationError(
                f"{scheme.upper()}_PROXY in the environment must name an http or https proxy, got a {kind} proxy. Name "
                "one in the connection's `proxy`, or unset the variable where Airflow runs"
            )
    return urls, without
