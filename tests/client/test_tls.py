"""A server with a private certificate is trusted only through the connection's ``ca_bundle``."""

from __future__ import annotations

import asyncio
import datetime
import gc
import ipaddress
import json
import ssl
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig, ResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.exceptions import TransportError

from .server import LIMIT, Connection, Server

REQUEST = {"model": "a/b", "input": "x"}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"id": "r", "status": "completed", "output": []}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    (file.parent / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


async def send(flavour: str, config: ClientConfig) -> str | None:
    if flavour == "sync":
        with ResponsesClient(config, pool=SyncPool(route=config.route)) as client:
            return client.send(REQUEST).status
    async with AsyncResponsesClient(config, pool=AsyncPool(route=config.route)) as client:
        return (await client.send(REQUEST)).status


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_a_ca_bundle_is_trusted(flavour: str, url: str, certificate: Path) -> None:
    config = ClientConfig(api_key="k", base_url=url, ca_bundle=str(certificate.parent / "ca.pem"))
    assert await send(flavour, config) == "completed"


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_without_the_ca_bundle_nothing_is_sent(flavour: str, url: str) -> None:
    with pytest.raises(TransportError, match=r"(?i)certificate") as caught:
        await send(flavour, ClientConfig(api_key="k", base_url=url, max_retries=0))
    assert caught.value.kind == "connect"
    assert not caught.value.ambiguous


@pytest.mark.parametrize("framing", ["connection: close", "connection: keep-alive"])
def test_no_socket_outlives_its_loop_however_late_the_server_closes_it(
    framing: str, server: Server, certificate: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop_is_over = Event()

    def responds_and_is_silent(connection: Connection) -> None:
        with context.wrap_socket(connection.sock, server_side=True) as connection.sock:
            connection.read_request()
            connection.respond({"id": "r", "status": "completed", "output": []}, framing)
            loop_is_over.wait(LIMIT)

    server.script = responds_and_is_silent
    url = server.url.replace("http:", "https:")
    config = ClientConfig(api_key="k", base_url=url, ca_bundle=str(certificate.parent / "ca.pem"))

    async def sends() -> str | None:
        async with AsyncResponsesClient(config) as client:
            return (await client.send(REQUEST)).status

    gc.collect()  # removes the objects of other tests
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        assert asyncio.run(sends()) == "completed"
        gc.collect()
    loop_is_over.set()
    assert [str(warning.message) for warning in left_open] == []
