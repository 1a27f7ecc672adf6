"""
Connection pools for threads: one per process and route.

A fork never uses its parent's sockets.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final
from weakref import WeakSet

import httpcore
import httpx

from airflow_provider_responses.client import proxies, sockets
from airflow_provider_responses.client.config import Route


class SyncPool:
    """
    Connections for blocking calls, which end at a deadline and can be dropped from a signal handler.

    :param transport: replaces the network, in tests.
    :param route: proxy and trusted authorities, see ``ClientConfig.route``.
    """

    def __init__(self, transport: httpx.BaseTransport | None = None, *, route: Route | None = None) -> None:
        route = route or Route()
        if transport is None and route.environment and not route.proxy:
            proxies.read_environment()  # checks them: httpx reads them itself, and needs an extra for SOCKS
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._dropped = False
        self._call = threading.local()
        self.http = httpx.Client(
            transport=transport,
            proxy=route.proxy,
            verify=sockets.trust(route.ca_bundle),
            trust_env=route.environment,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=20, keepalive_expiry=route.idle_seconds
            ),
        )
        sockets.keep_no_cookies(self.http)

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Register a new connection of a request (httpcore's ``trace`` extension)."""
        if event not in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            return
        stream = info["return_value"]
        sock = stream.get_extra_info("socket")
        if event.startswith("connection.connect"):
            sockets.keep_alive(sock)
        self._sockets.add(sock)
        if self._dropped:  # while this connection was being made
            sockets.shut(sock)
        read = stream.read
        stream.read = lambda max_bytes, timeout=None: read(max_bytes, self._at_most(timeout))

    @contextlib.contextmanager
    def until(self, deadline: float, clock: Callable[[], float]) -> Iterator[None]:
        """Let no read of this thread outlast the deadline, however often the server sends a few bytes."""
        before = getattr(self._call, "left", None)
        self._call.left = lambda: deadline - clock()
        try:
            yield
        finally:
            self._call.left = before

    def _at_most(self, timeout: float | None) -> float | None:
        left = getattr(self._call, "left", None)
        if left is None:
            return timeout
        seconds: float = left()
        if seconds <= 0:
            raise httpcore.ReadTimeout("the deadline is over")
        return seconds if timeout is None else min(seconds, timeout)

    def drop(self) -> None:
        """
        Break every connection, so that the reads that wait on them end.

        Sockets are shut down instead of closed, and no lock is taken: this runs inside a signal handler
        that has interrupted that very read.
        """
        self._dropped = True
        for sock in list(self._sockets):
            sockets.shut(sock)

    def close(self) -> None:
        """Close the pool."""
        self.http.close()


class ProcessPools:
    """The pools that this process's blocking clients share, one per route."""

    def __init__(self) -> None:
        self._pools: dict[Route, SyncPool] = {}
        self._lock = threading.Lock()
        self._abandoned: list[SyncPool] = []

    def get(self, route: Route) -> SyncPool:
        """Return the pool of a route, made if it is new."""
        with self._lock:
            if route not in self._pools:
                self._pools[route] = SyncPool(route=route)
            return self._pools[route]

    def after_fork(self) -> None:
        # The parent still uses these connections: the child neither reads nor closes them.
        self._abandoned += self._pools.values()
        self._pools = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        while self._pools:
            self._pools.popitem()[1].close()


process_pools: Final = ProcessPools()
os.register_at_fork(after_in_child=process_pools.after_fork)
atexit.register(process_pools.close)


class DeadlineStream(httpx.SyncByteStream):
    """A response body that ends at the call's deadline, whatever the server sends."""

    def __init__(self, http: httpx.Response, pool: SyncPool, deadline: float, clock: Callable[[], float]) -> None:
        self._stream: Any = http.stream
        self._pool = pool
        self._deadline = deadline
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._stream)
        while True:
            with self._pool.until(self._deadline, self._clock):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk
            if self._clock() >= self._deadline:
                raise httpx.ReadTimeout("the deadline is over")

    def end_within(self, seconds: float) -> None:
        """Bring the deadline nearer."""
        self._deadline = min(self._deadline, self._clock() + seconds)

    def close(self) -> None:
        self._stream.close()
