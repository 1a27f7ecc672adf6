"""What follows a failed upload, and a failed submit, of a batch of OpenAI's."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_responses.client.batch_upload import FIRST_BYTES
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    ConfigurationError,
    NotFoundResponseError,
    RequestValidationError,
    ServiceUnavailableResponseError,
    TransportError,
)
from airflow_provider_responses.models import BatchRequest

from .batch_wire import BROKE, REFUSED, collect, large
from .openai_batch_wire import (
    BASE,
    batch,
    create,
    created,
    ok,
    on,
    seen,
    uploaded,
    with_status,
)
from .server import Connection, Server
from .wire import Flavour, Wire, failure


@pytest.mark.parametrize("first", [BROKE, REFUSED, *map(with_status, (500, 502, 408, 429))])
def test_an_upload_is_repeated_since_it_bills_nothing(flavour: Flavour, first: Any) -> None:
    wire = Wire(first, failure(503), uploaded(), created())
    assert create(on(flavour, wire, max_ambiguous_retries=0)).id == "batch_1"
    assert seen(wire) == ["POST /files"] * 3 + ["POST /batches"]
    assert len({request.content for request in wire.requests[:3]}) == 1


@pytest.mark.parametrize("last", [BROKE, with_status(500), with_status(200, b"{}"), with_status(200, b"")])
def test_an_upload_that_fails_is_not_ambiguous(flavour: Flavour, last: Any) -> None:
    wire = Wire(last)
    with pytest.raises((TransportError, APIError)) as raised:
        create(on(flavour, wire, max_retries=0))
    assert (raised.value.retryable, raised.value.ambiguous, wire.send_count) == (True, False, 1)
    assert "may exist" not in str(raised.value)
    assert "Request: POST https://api.openai.com/v1/files (model gpt-5-mini)" in str(raised.value)


@pytest.mark.parametrize("kind", ["iterator", "function"])
def test_a_large_upload_is_repeated_only_if_its_requests_can_be_read_again(flavour: Flavour, kind: str) -> None:
    wire = Wire(failure(503), uploaded(), created())
    if kind == "function":
        create(on(flavour, wire), lambda: large(150))
        first, second = (request.content for request in wire.requests[:2])
        assert first == second
        assert len(first) > FIRST_BYTES
        return
    with pytest.raises(ServiceUnavailableResponseError):
        create(on(flavour, wire), large(150))
    assert wire.send_count == 1


def test_a_rejected_submit_is_repeated_without_another_upload(flavour: Flavour) -> None:
    wire = Wire(uploaded(), REFUSED, failure(429), failure(503), created())
    assert create(on(flavour, wire)).id == "batch_1"
    assert seen(wire) == ["POST /files"] + ["POST /batches"] * 4


@pytest.mark.parametrize(
    "unknown",
    [BROKE, *map(with_status, (500, 502, 524, 408)), with_status(200, b""), with_status(200, b"{}")],
)
def test_a_submit_with_an_unknown_outcome_is_not_repeated_and_its_file_stays(flavour: Flavour, unknown: Any) -> None:
    wire = Wire(uploaded(), unknown)
    with pytest.raises((TransportError, APIError)) as raised:
        create(on(flavour, wire, max_ambiguous_retries=5, max_retries=5))
    assert (raised.value.ambiguous, raised.value.retryable) == (True, True)
    assert seen(wire) == ["POST /files", "POST /batches"]


@pytest.mark.parametrize(("status", "cls"), [(400, BadRequestResponseError), (503, ServiceUnavailableResponseError)])
def test_the_file_of_a_refused_submit_is_deleted(flavour: Flavour, status: int, cls: type[APIError]) -> None:
    wire = Wire(uploaded(), failure(status), ok(id="file-in", deleted=True))
    with pytest.raises(cls) as raised:
        create(on(flavour, wire, max_retries=0))
    assert not raised.value.ambiguous
    assert seen(wire) == ["POST /files", "POST /batches", "DELETE /files/file-in"]


def test_a_file_that_cannot_be_deleted_is_only_logged(flavour: Flavour, caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(uploaded(), failure(400), failure(403))
    with caplog.at_level(logging.WARNING), pytest.raises(BadRequestResponseError):
        create(on(flavour, wire))
    assert "The file file-in of a batch that was not submitted could not be deleted: 403" in caplog.text


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("name", ["create_batch", "list_batches"])
def test_a_server_without_batches_is_a_configuration_error(flavour: Flavour, name: str, status: int) -> None:
    wire = Wire(failure(status))
    client = on(flavour, wire)
    message = f"^{BASE} has no batches: it responds to .* with status {status}. Nothing was submitted"
    with pytest.raises(ConfigurationError, match=message):
        create(client) if name == "create_batch" else collect(client, name)
    assert wire.send_count == 1


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_with_files_but_without_batches_is_a_configuration_error(flavour: Flavour, status: int) -> None:
    wire = Wire(uploaded(), failure(status), ok(deleted=True), failure(status))
    with pytest.raises(ConfigurationError, match=f"{BASE} has no batches: it responds to GET /batches with"):
        create(on(flavour, wire))
    assert seen(wire) == ["POST /files", "POST /batches", "DELETE /files/file-in", "GET /batches?limit=1"]


@pytest.mark.parametrize("list_outcome", [with_status(200, b'{"data":[]}'), with_status(403), REFUSED])
def test_a_404_of_a_server_that_may_have_batches_stays_one(flavour: Flavour, list_outcome: Any) -> None:
    wire = Wire(uploaded(), failure(404), ok(deleted=True), list_outcome)
    with pytest.raises(NotFoundResponseError):
        create(on(flavour, wire, max_retries=0))
    assert wire.send_count == 4


def upload_server(server: Server, pieces: bytearray) -> None:
    """Let a server receive the chunks of an upload, and accept its batch."""

    def script(connection: Connection) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.sock.recv(65536)
        if b"POST /v1/batches" in data:
            connection.respond(batch())
            return
        assert b"transfer-encoding: chunked" in data.lower()
        pieces.extend(data)
        while not pieces.endswith(b"0\r\n\r\n"):
            piece = connection.sock.recv(1 << 20)
            if not piece:
                server.hung_up.set()
                return
            server.total += len(piece)  # type: ignore[attr-defined]
            pieces.extend(piece)
            del pieces[:-100]
        connection.respond({"id": "file-in"}, "connection: close")

    server.total = 0  # type: ignore[attr-defined]
    server.script = script


def test_memory_does_not_grow_with_the_requests(flavour: Flavour, server: Server) -> None:
    upload_server(server, bytearray())
    tracemalloc.start()
    try:
        create(flavour.network(base_url=server.url), large(5000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    total: int = server.total  # type: ignore[attr-defined]
    assert total > 50_000_000
    assert peak < total / 6


def test_an_upload_with_a_wrong_request_is_aborted_without_its_end(flavour: Flavour, server: Server) -> None:
    pieces = bytearray()
    upload_server(server, pieces)

    def rows() -> Iterator[BatchRequest]:
        yield from large(400)
        yield BatchRequest(custom_id="bad", request={"input": "x", "stream": True})

    with pytest.raises(RequestValidationError, match="Request 'bad' of the batch: stream must not be true"):
        create(flavour.network(base_url=server.url), rows())
    assert server.hung_up.wait(60)
    assert not pieces.endswith(b"0\r\n\r\n")
    assert server.connections == 1


def test_a_connection_that_breaks_during_the_upload_is_not_ambiguous(flavour: Flavour, server: Server) -> None:
    def script(connection: Connection) -> None:
        connection.sock.recv(65536)
        connection.reset()

    server.script = script
    with pytest.raises(TransportError) as raised:
        create(flavour.network(base_url=server.url, max_retries=1), lambda: large(4000))
    assert (raised.value.ambiguous, server.connections) == (False, 2)
