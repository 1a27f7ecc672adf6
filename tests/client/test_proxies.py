"""Calls use the proxy of the environment, except to hosts in no_proxy."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig, ResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.client.sync_pool import SyncPool, process_pools
from airflow_provider_responses.exceptions import ConfigurationError, TransportError

REQUEST = {"model": "a/b", "input": "x"}
RESPONSE = {"id": "r", "status": "completed", "output": []}


class Proxy(BaseHTTPRequestHandler):
    requested: list[str]

    def do_POST(self):
        self.requested.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(RESPONSE).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy(monkeypatch):
    Proxy.requested = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "http_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("NO_PROXY", "::1,10.0.0.0/8,.corp.example,localhost:81")
        server.url = f"http://127.0.0.1:{server.server_port}/direct"
        yield server
        server.shutdown()
        thread.join()


async def send(flavour: str, base_url: str, **settings: str) -> str | None:
    config = ClientConfig(api_key="k", base_url=base_url, allow_insecure_http=True, max_retries=0, **settings)
    if flavour == "sync":
        with ResponsesClient(config, pool=SyncPool(route=config.route)) as client:
            return client.send(REQUEST).status
    async with AsyncResponsesClient(config, pool=AsyncPool(route=config.route)) as client:
        return (await client.send(REQUEST)).status


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_the_proxy_of_the_environment_is_used(flavour, proxy):
    assert await send(flavour, "http://llm.example/v1") == "completed"
    assert proxy.RequestHandlerClass.requested == ["http://llm.example/v1/responses"]


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_a_proxy_may_be_named_without_its_scheme(flavour, proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.server_port}")
    assert await send(flavour, "http://llm.example/v1") == "completed"
    assert proxy.RequestHandlerClass.requested == ["http://llm.example/v1/responses"]


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_hosts_in_no_proxy_are_reached_directly(flavour, proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "llm.example")
    with pytest.raises(TransportError, match="no connection"):
        await send(flavour, "http://llm.example/v1")
    assert proxy.RequestHandlerClass.requested == []


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_a_key_for_this_machine_goes_through_no_proxy(flavour, host, name, proxy, monkeypatch):
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await send(flavour, proxy.url.replace("127.0.0.1", host)) == "completed"
    assert proxy.RequestHandlerClass.requested == ["/direct/responses"]


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTP_PROXY"])
@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_a_socks_proxy_of_the_environment_is_refused_by_its_name(flavour, name, proxy, monkeypatch):
    monkeypatch.setenv(name, "socks5://me:hidden@127.0.0.1:9")
    with pytest.raises(
        ConfigurationError, match=f"{name} .* must name an http or https proxy, got a socks5 proxy"
    ) as caught:
        await send(flavour, "http://llm.example/v1")
    assert "hidden" not in str(caught.value)
    # The connection's proxy overrides it.
    mine = proxy.url.removesuffix("/direct")
    assert await send(flavour, "http://llm.example/v1", proxy=mine) == "completed"


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_the_connections_proxy_overrides_the_environments(flavour, proxy, monkeypatch):
    mine = proxy.url.removesuffix("/direct")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert await send(flavour, "http://llm.example/v1", proxy=mine) == "completed"
    assert proxy.RequestHandlerClass.requested == ["http://llm.example/v1/responses"]


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_a_proxy_that_is_not_there_is_a_failed_connection(flavour):
    with pytest.raises(TransportError, match="Check the base URL, the network and the proxy settings") as caught:
        await send(flavour, "http://llm.example/v1", proxy="http://127.0.0.1:9")
    assert caught.value.kind == "connect"
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proxy": "proxy:3128"}, "proxy must be an http or https URL"),
        ({"proxy": "socks5://me:hidden@proxy:3128"}, "proxy must be an http or https URL"),
        ({"ca_bundle": "nowhere.pem"}, "ca_bundle must be a file on this machine, got 'nowhere.pem'"),
        ({"ca_bundle": __file__}, "ca_bundle must be a file of certificates, got "),
    ],
)
@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_a_proxy_or_authority_that_cannot_be_used_is_named(flavour, settings, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        await send(flavour, "https://llm.example/v1", **settings)
    assert "hidden" not in str(caught.value)


async def test_clients_with_other_routes_share_nothing():
    by_proxy = ClientConfig(api_key="k", proxy="http://127.0.0.1:9")
    pools = process_pools
    assert pools.get(by_proxy.route) is pools.get(ClientConfig(api_key="other", proxy="http://127.0.0.1:9").route)
    assert pools.get(by_proxy.route) is not pools.get(ClientConfig(api_key="k").route)
    async with AsyncResponsesClient(by_proxy) as one, AsyncResponsesClient(ClientConfig(api_key="k")) as other:
        assert one._pool is not other._pool
