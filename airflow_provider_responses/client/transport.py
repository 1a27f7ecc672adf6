"""
Connection pools: one per process for threads, one per event loop for coroutines.

A fork or a new loop never uses another's sockets.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import inspect
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

import httpcore
import httpx

from airflow_provider_responses.client.calls import Call, parsed
from airflow_provider_responses.client.config import Route
from airflow_provider_responses.client.replies import AiohttpReply, Reply
from airflow_provider_responses.exceptions import ConfigurationError, TransportError

if TYPE_CHECKING:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

# A reasoning model can be silent for minutes, and a NAT on the way forgets silent connections.
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
# What httpcore takes of a response's head: gateways add long policies and reports to it, and many of them.
LONGEST_HEADER: Final = 100 * 1024  # bytes
MOST_HEADERS: Final = 1000


@functools.lru_cache(maxsize=8)  # reading all the usual authorities takes tens of milliseconds
def _trust(ca_bundle: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle) if ca_bundle else httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"ca_bundle is {ca_bundle!r}, which holds no certificates ({error})") from None


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel probe a silent connection."""
    for option in TCP_KEEPALIVE:
        sock.setsockopt(*option)


class SyncPool:
    """
    Connections for blocking calls, which end at a deadline and can be dropped from a signal handler.

    :param transport: stands in for the network, in tests.
    :param route: proxy and trusted authorities, see ``ClientConfig.route``.
    """

    def __init__(self, transport: httpx.BaseTransport | None = None, *, route: Route | None = None) -> None:
        route = route or Route()
        if transport is None and route.environment and not route.proxy:
            _environment_proxies()  # httpx reads them itself, and knows SOCKS only by an extra
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._dropped = False
        self._call = threading.local()
        self.http = httpx.Client(
            transport=transport,
            proxy=route.proxy,
            verify=_trust(route.ca_bundle),
            trust_env=route.environment,
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=20, keepalive_expiry=route.idle_seconds
            ),
        )
        _keep_no_cookies(self.http)

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take a request's connection into care when it is made (httpcore's ``trace`` extension)."""
        if event not in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            return
        stream = info["return_value"]
        sock = stream.get_extra_info("socket")
        if event.startswith("connection.connect"):
            keep_alive(sock)
        self._sockets.add(sock)
        if self._dropped:  # while this connection was being made
            shut(sock)
        read = stream.read
        stream.read = lambda max_bytes, timeout=None: read(max_bytes, self._at_most(timeout))

    @contextlib.contextmanager
    def until(self, deadline: float, clock: Callable[[], float]) -> Iterator[None]:
        """Let no read of this thread outlast the deadline, however often the server says a little."""
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
        Break every connection, so that a read that waits on one ends.

        Sockets are shut down instead of closed, and no lock is taken: this runs inside a signal handler
        that has interrupted that very read.
        """
        self._dropped = True
        for sock in list(self._sockets):
            shut(sock)

    def close(self) -> None:
        """Close the pool."""
        self.http.close()


def shut(sock: socket.socket) -> None:
    """Shut a socket down below TLS, whose state the interrupted read still uses."""
    with contextlib.suppress(OSError):  # it is closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _keep_no_cookies(http: httpx.Client | httpx.AsyncClient) -> None:
    """Calls share connections, and nothing else."""
    http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))


class _ProcessPools:
    """The pools that this process's blocking clients share, one per route."""

    def __init__(self) -> None:
        self._pools: dict[Route, SyncPool] = {}
        self._lock = threading.Lock()
        self._abandoned: list[SyncPool] = []

    def get(self, route: Route) -> SyncPool:
        with self._lock:
            if route not in self._pools:
                self._pools[route] = SyncPool(route=route)
            return self._pools[route]

    def after_fork(self) -> None:
        # The parent goes on using these connections: keep them unread and unclosed in the child.
        self._abandoned += self._pools.values()
        self._pools = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        while self._pools:
            self._pools.popitem()[1].close()


process_pools: Final = _ProcessPools()
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


class AsyncPool:
    """
    Connections for coroutines of one event loop: httpx's API on aiohttp's pool.

    :param transport: stands in for the network, in tests.
    :param route: proxy and trusted authorities, see ``ClientConfig.route``.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, route: Route | None = None) -> None:
        self.users = 0
        self.route = route = route or Route()
        direct = mounts = None
        if transport is None:
            make = functools.partial(_aiohttp_transport, _trust(route.ca_bundle), route.idle_seconds)
            transport = direct = make(httpx.Proxy(route.proxy) if route.proxy else None)
            mounts = _proxies(make) if route.environment and not route.proxy else None
        self.http = httpx.AsyncClient(
            transport=transport,
            mounts=mounts,
            follow_redirects=False,
            trust_env=False,  # the proxies are mounted; netrc would add a second authorization
        )
        _keep_no_cookies(self.http)
        # Without proxies to choose from, httpx's objects have nothing to add.
        self._direct = None if mounts else direct

    async def send(self, call: Call, patience: Mapping[str, float]) -> Reply:
        """
        Send a call's request; the body of the reply is unread.

        :param patience: httpx's timeouts.
        """
        import aiohttp

        try:
            if self._direct is None or self.http.is_closed:
                return Reply(await self.http.send(call.request({"timeout": patience}), stream=True))
            return AiohttpReply(await _request(self._direct, call, patience))
        # These two of aiohttp's show in their repr what was sent, and so the key.
        except aiohttp.ClientHttpProxyError as error:
            raise httpx.ProxyError(str(error)) from None
        except aiohttp.ClientResponseError as error:
            raise httpx.RemoteProtocolError(str(error)) from None

    async def close(self) -> None:
        """Close the pool."""
        await self.http.aclose()


@functools.cache
def _connector_class() -> type[aiohttp.TCPConnector]:
    """Return the class of the connectors, made here since aiohttp is imported where it is used alone."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        """
        Close every connection that was made, also those that are no longer in the pool.

        A connection that a server does not keep leaves aiohttp's pool at once, and over TLS it then waits for the
        server's farewell. A loop that ends before that would leave its socket open.
        """

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self._made: WeakSet[asyncio.Transport] = WeakSet()

        async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
            connection = await super().connect(*args, **kwargs)
            if connection.transport is not None:
                self._made.add(connection.transport)
            return connection

        async def close(self, **how: Any) -> None:
            await super().close(**how)
            for transport in list(self._made):
                transport.abort()
            await asyncio.sleep(0)  # the loop closes the sockets in its next turn

    return Connector


def _aiohttp_transport(
    trust: ssl.SSLContext, idle_seconds: float, proxy: httpx.Proxy | None = None
) -> AiohttpTransport:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    def make_socket(addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, *_ = addr_info
        sock = socket.socket(family=family, type=kind, proto=proto)
        keep_alive(sock)
        return sock

    def make_session() -> aiohttp.ClientSession:
        connector = _connector_class()(
            limit=0,  # no limit: how many calls are under way is the caller's to say
            keepalive_timeout=idle_seconds,
            ssl=trust,
            socket_factory=make_socket,
        )
        # httpx sets what it needs of these; aiohttp's own would be added beside it.
        return aiohttp.ClientSession(
            connector=connector,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            proxy=str(proxy.url) if proxy else None,
            proxy_auth=aiohttp.BasicAuth(*proxy.auth) if proxy and proxy.auth else None,
            **header_limits(aiohttp.ClientSession),
        )

    return AiohttpTransport(verify=trust, client=make_session)


def header_limits(session: Callable[..., Any]) -> dict[str, Any]:
    """Return the settings of aiohttp's session that let async calls take the heads that blocking calls take."""
    limits = {"max_line_size": LONGEST_HEADER, "max_field_size": LONGEST_HEADER, "max_headers": MOST_HEADERS}
    known = inspect.signature(session).parameters  # older versions have no limit to the number of headers
    return {name: limit for name, limit in limits.items() if name in known}


async def _request(transport: AiohttpTransport, call: Call, patience: Mapping[str, float]) -> aiohttp.ClientResponse:
    """Send as the transport would, by its session, which is made inside the loop."""
    import aiohttp

    if not isinstance(transport.client, aiohttp.ClientSession):
        transport.client = transport.get_client()
    return await transport.client.request(
        call.method,
        str(parsed(call.url)),
        headers=call.headers,
        data=call.body,
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(
            connect=patience["pool"], sock_connect=patience["connect"], sock_read=patience["read"]
        ),
    )


def _proxies(make: Callable[[httpx.Proxy], AiohttpTransport]) -> dict[str, httpx.AsyncBaseTransport | None]:
    """Return the proxies that the environment names, as httpx's mounts."""
    urls, without = _environment_proxies()
    mounts: dict[str, httpx.AsyncBaseTransport | None] = {
        f"{scheme}://": make(httpx.Proxy(url)) for scheme, url in urls.items()
    }
    if mounts:
        mounts |= {f"all://[{host}]" if host.count(":") > 1 else f"all://{host}": None for host in without}
        mounts |= {f"all://*.{host}": None for host in without if ":" not in host and not host[0].isdigit()}
    return mounts


def _environment_proxies() -> tuple[dict[str, str], list[str]]:
    """
    Give the URLs of the environment's proxies by scheme, and the hosts that are reached without one.

    :raises ConfigurationError: naming a variable whose proxy speaks anything but HTTP.
    """
    found = urllib.request.getproxies()
    without = [host.strip().lstrip(".") for host in found.get("no", "").split(",") if host.strip(" .")]
    schemes: list[str] = [scheme for scheme in ("http", "https", "all") if scheme in found and "*" not in without]
    urls = {scheme: found[scheme] if "://" in found[scheme] else f"http://{found[scheme]}" for scheme in schemes}
    for scheme, url in urls.items():
        if (kind := url.partition("://")[0].lower()) not in {"http", "https"}:
            raise ConfigurationError(
                f"{scheme.upper()}_PROXY of the environment names a {kind} proxy; allowed are http and https. Name one "
                "in the connection's `proxy`, or unset the variable where Airflow runs"
            )
    return urls, without


_loop_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Route, AsyncPool]] = WeakKeyDictionary()


def acquire_loop_pool(route: Route) -> AsyncPool:
    """Give the running loop's pool for a route; every caller releases it once."""
    pools = _loop_pools.setdefault(asyncio.get_running_loop(), {})
    if route not in pools:
        pools[route] = AsyncPool(route=route)
    pools[route].users += 1
    return pools[route]


async def release_loop_pool(pool: AsyncPool) -> None:
    """Let go of the loop's pool; the last one closes it."""
    pool.users -= 1
    if pool.users == 0:
        _loop_pools[asyncio.get_running_loop()].pop(pool.route)
        await pool.close()


def network_errors() -> tuple[type[Exception], ...]:
    """Give what an async call can raise: httpx's errors, and those of aiohttp that httpx-aiohttp passes on unmapped."""
    import aiohttp

    return httpx.HTTPError, aiohttp.ClientError


def to_transport_error(error: Exception, *, what: str) -> TransportError:
    """Say what an exception of httpx, or of aiohttp beneath it, means: whether the request went out."""
    kind = _kind(error)
    said = (str(error) or str(error.__cause__ or "") or type(error).__name__).rstrip(".")
    if kind == "connect":
        advice = "Nothing was sent. Check the base URL, the network and the proxy settings"
    elif kind == "timeout":
        advice = "The answer may have been billed. Raise `read_timeout` on the connection"
    else:
        advice = "The answer may have been billed; the same request can be sent again"
    happened = {"connect": "no connection", "timeout": "no answer in time", "read": "the connection broke"}[kind]
    return TransportError(f"{what}: {happened}: {said}. {advice}", kind=kind, ambiguous=kind != "connect")


def _kind(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) else error
    if type(cause).__module__.startswith("aiohttp"):
        import aiohttp

        before = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
        if isinstance(cause, (*before, aiohttp.ClientHttpProxyError)):
            return "connect"
        return "timeout" if isinstance(cause, TimeoutError) else "read"
    if isinstance(
        error,
        (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ProxyError,
            httpx.UnsupportedProtocol,
        ),
    ):
        return "connect"
    return "timeout" if isinstance(error, httpx.TimeoutException) else "read"
