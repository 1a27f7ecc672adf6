"""Sockets and TLS of both pools."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from http.cookiejar import DefaultCookiePolicy
from typing import Final

import httpx

from airflow_provider_responses.exceptions import ConfigurationError

# A model can reason in silence for minutes, and a NAT on the way drops silent connections.
TCP_KEEPALIVE: Final = tuple(
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 5),
    )
    if hasattr(socket, name)
)


@functools.lru_cache(maxsize=8)  # loading the usual authorities takes tens of milliseconds
def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return TLS settings that trust these certificate authorities, by default the usual ones."""
    try:
        return ssl.create_default_context(cafile=ca_bundle) if ca_bundle else httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"ca_bundle must be a file of certificates, got {ca_bundle!r} ({error})") from None


def enable_keep_alive(sock: socket.socket) -> None:
    """Make the kernel probe silent connections."""
    for option in TCP_KEEPALIVE:
        sock.setsockopt(*option)


def shut_down(sock: socket.socket) -> None:
    """Shut down a socket below TLS, whose state the interrupted read still uses."""
    with contextlib.suppress(OSError):  # the socket is closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def disable_cookies(http: httpx.Client | httpx.AsyncClient) -> None:
    """Store no cookies: calls share only connections."""
    http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
