"""
Connection pools of the blocking client: one per process and route.

A forked process never uses its parent's sockets.
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
    Connections of blocking calls. Calls end at their deadline, and a signal handler can drop them.

    :param transport: replaces the network, in tests.
    :param route: proxy and trusted authorities, see ``ClientConfig.route``.
    """

    def __init__(self, transport: httpx.BaseTransport | None = None, *, route: Route | None = None) -> None:
        route = route or Route()
        if transport is None and route.environment and not route.proxy:
            proxies.read_environment()  # only checks them: httpx reads them itself, and would need an extra for SOCKS
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._dropped = False
        self._call = threading.local()
        self.http = httpx.Client(
            transport=transport,
            proxy=route.proxy,
            verify=sockets.tls_context(route.ca_bundle),
            trust_env=route.environment,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=20, keepalive_expiry=route.idle_seconds
            ),
        )
        sockets.disable_cookies(self.http)

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Register a new connection of a request (httpcore's ``trace`` extension)."""
        if event not in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            return
        stream = info["return_value"]
        sock = stream.get_extra_info("socket")
        if event.startswith("connection.connect"):
            sockets.enable_keep_alive(sock)
        self._sockets.add(sock)
        if self._dropped:  # while the connection was opened
            sockets.shut_down(sock)
        read = stream.read
        stream.read = lambda max_bytes, timeout=None: read(max_bytes, self._limit_to_deadline(timeout))

    @contextlib.contextmanager
    def end_reads_at(self, deadline: float, clock: Callable[[], float]) -> Iterator[None]:
        """End the reads of this thread at the deadline, also if the server keeps sending a few bytes."""
        before = getattr(self._call, "left", None)
        self._call.left = lambda: deadline - clock()
        try:
            yield
        finally:
            self._call.left = before

    def _limit_to_deadline(self, timeout: float | None) -> float | None:
        left = getattr(self._call, "left", None)
        if left is None:
            return timeout
        seconds: float = left()
        if seconds <= 0:
            raise httpcore.ReadTimeout("the deadline is over")
        return seconds if timeout is None else min(seconds, timeout)

    def drop(self) -> None:
        """
        Break all connections, which ends the reads that wait for them.

        Sockets are shut down instead of closed, and no lock is taken: this runs inside a signal handler that may have
        interrupted one of these reads.
        """
        self._dropped = True
        for sock in list(self._sockets):
            sockets.shut_down(sock)

    def close(self) -> None:
        """Close the pool."""
        self.http.close()


class ProcessPools:
    """The pools that all blocking clients of the process share, one per route."""

    def __init__(self) -> None:
        self._pools: dict[Route, SyncPool] = {}
        self._lock = threading.Lock()
        self._abandoned: list[SyncPool] = []

    def get(self, route: Route) -> SyncPool:
        """Return the pool of a route, which is created if it is new."""
        with self._lock:
            if route not in self._pools:
                self._pools[route] = SyncPool(route=route)
            return self._pools[route]

    def after_fork(self) -> None:
        # The parent still uses these connections: the child must neither read nor close them.
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
    """The body of a response that ends at the deadline of the call, whatever the server sends."""

    def __init__(self, http: httpx.Response, pool: SyncPool, deadline: float, clock: Callable[[], float]) -> None:
        self._stream: Any = http.stream
        self._pool = pool
        self._deadline = deadline
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._stream)
        while True:
            with self._pool.end_reads_at(self._deadline, self._clock):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk
            if self._clock() >= self._deadline:
                raise httpx.ReadTimeout("the deadline is over")

    def end_at(self, deadline: float) -> None:
        """Set another deadline: that of the next read, where a body is read in several calls."""
        self._deadline = deadline

    def end_within(self, seconds: float) -> None:
        """Set an earlier deadline, if it is later than these seconds from now."""
        self._deadline = min(self._deadline, self._clock() + seconds)

    def close(self) -> None:
        self._stream.close()
