"""
Connection pools of the async client: one per event loop and route.

An event loop never uses the sockets of another one.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

import httpx

from airflow_provider_responses.client import proxies, sockets
from airflow_provider_responses.client.call import Call, parse_url
from airflow_provider_responses.client.config import Route
from airflow_provider_responses.client.http_response import AiohttpResponse, HTTPResponse

if TYPE_CHECKING:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

# httpcore's limits for the head of a response: gateways add many and long headers.
LONGEST_HEADER: Final = 100 * 1024  # bytes
MOST_HEADERS: Final = 1000


class AsyncPool:
    """
    Connections of one event loop: httpx's API on aiohttp's pool.

    :param transport: replaces the network, in tests.
    :param route: proxy and trusted authorities, see ``ClientConfig.route``.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, *, route: Route | None = None) -> None:
        self.users = 0
        self.route = route = route or Route()
        direct = mounts = None
        if transport is None:
            make = functools.partial(_aiohttp_transport, sockets.tls_context(route.ca_bundle), route.idle_seconds)
            transport = direct = make(httpx.Proxy(route.proxy) if route.proxy else None)
            mounts = proxies.build_mounts(make) if route.environment and not route.proxy else None
        self.http = httpx.AsyncClient(
            transport=transport,
            mounts=mounts,
            follow_redirects=False,
            trust_env=False,  # proxies are mounted; netrc would add a second authorization
        )
        sockets.disable_cookies(self.http)
        # Without mounted proxies, requests need no objects of httpx.
        self._direct = None if mounts else direct

    async def send(self, call: Call, timeouts: Mapping[str, float]) -> HTTPResponse:
        """
        Send a call; the body of the HTTP response is unread.

        :param timeouts: httpx's timeouts.
        """
        import aiohttp

        try:
            if self._direct is None or self.http.is_closed:
                return HTTPResponse(await self.http.send(call.build_request({"timeout": timeouts}), stream=True))
            return AiohttpResponse(await _request(self._direct, call, timeouts))
        # The repr of these two classes shows the request's headers, and so the key.
        except aiohttp.ClientHttpProxyError as error:
            raise httpx.ProxyError(str(error)) from None
        except aiohttp.ClientResponseError as error:
            raise httpx.RemoteProtocolError(str(error)) from None

    async def close(self) -> None:
        """Close the pool."""
        await self.http.aclose()


@functools.cache
def _connector_class() -> type[aiohttp.TCPConnector]:
    """Return the class of the connectors. It is defined here, since aiohttp is imported on first use."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        """
        Closes all connections that it opened, also those that are no longer in the pool.

        A connection that the server does not keep open leaves aiohttp's pool at once, and over TLS it then waits for
        the server to close it. A loop that ends before that would leave the socket open.
        """

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self._opened: WeakSet[asyncio.Transport] = WeakSet()

        async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
            connection = await super().connect(*args, **kwargs)
            if connection.transport is not None:
                self._opened.add(connection.transport)
            return connection

        async def close(self, **how: Any) -> None:
            await super().close(**how)
            for transport in list(self._opened):
                transport.abort()
            await asyncio.sleep(0)  # the loop closes the sockets in its next iteration

    return Connector


def _aiohttp_transport(
    trust: ssl.SSLContext, idle_seconds: float, proxy: httpx.Proxy | None = None
) -> AiohttpTransport:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    def make_socket(addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, *_ = addr_info
        sock = socket.socket(family=family, type=kind, proto=proto)
        sockets.enable_keep_alive(sock)
        return sock

    def make_session() -> aiohttp.ClientSession:
        connector = _connector_class()(
            limit=0,  # no limit: the caller limits the number of calls
            keepalive_timeout=idle_seconds,
            ssl=trust,
            socket_factory=make_socket,
        )
        # The call has all headers; aiohttp would add its own.
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
    """Return settings of aiohttp's session, with which async calls read heads as large as blocking calls do."""
    limits = {"max_line_size": LONGEST_HEADER, "max_field_size": LONGEST_HEADER, "max_headers": MOST_HEADERS}
    known = inspect.signature(session).parameters  # older versions do not limit the number of headers
    return {name: limit for name, limit in limits.items() if name in known}


async def _request(transport: AiohttpTransport, call: Call, timeouts: Mapping[str, float]) -> aiohttp.ClientResponse:
    """Send by the transport's session, which is created inside the loop."""
    import aiohttp

    if not isinstance(transport.client, aiohttp.ClientSession):
        transport.client = transport.get_client()
    return await transport.client.request(
        call.method,
        str(parse_url(call.url)),
        headers=call.all_headers,
        data=call.content,
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(
            connect=timeouts["pool"], sock_connect=timeouts["connect"], sock_read=timeouts["read"]
        ),
    )


_loop_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Route, AsyncPool]] = WeakKeyDictionary()


def acquire_loop_pool(route: Route) -> AsyncPool:
    """Return the running loop's pool for a route; each caller must release it once."""
    pools = _loop_pools.setdefault(asyncio.get_running_loop(), {})
    if route not in pools:
        pools[route] = AsyncPool(route=route)
    pools[route].users += 1
    return pools[route]


async def release_loop_pool(pool: AsyncPool) -> None:
    """Release the loop's pool; the last caller closes it."""
    pool.users -= 1
    if pool.users == 0:
        _loop_pools[asyncio.get_running_loop()].pop(pool.route)
        await pool.close()
