"""A proxy that the environment names carries the calls, and hosts in no_proxy go around it."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig, ResponsesClient
from airflow_provider_responses.client.transport import AsyncPool, SyncPool

REQUEST = {"model": "a/b", "input": "x"}
ANSWER = {"id": "r", "status": "completed", "output": []}


class Proxy(BaseHTTPRequestHandler):
    asked: list[str]

    def do_POST(self):
        self.asked.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy(monkeypatch):
    Proxy.asked = []
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


async def send(flavour: str, base_url: str) -> str | None:
    config = ClientConfig(api_key="k", base_url=base_url, allow_insecure_http=True, max_retries=0)
    if flavour == "sync":
        with ResponsesClient(config, pool=SyncPool()) as client:
            return client.send(REQUEST).status
    async with AsyncResponsesClient(config, pool=AsyncPool()) as client:
        return (await client.send(REQUEST)).status


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_the_proxy_of_the_environment_is_used(flavour, proxy):
    assert await send(flavour, "http://llm.example/v1") == "completed"
    assert proxy.RequestHandlerClass.asked == ["http://llm.example/v1/responses"]


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_hosts_in_no_proxy_go_around_it(flavour, proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert await send(flavour, proxy.url) == "completed"
    assert proxy.RequestHandlerClass.asked == ["/direct/responses"]
