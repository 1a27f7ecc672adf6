"""Both clients and the batch API: what is on the wire, what is refused, and that nothing is submitted twice."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.client.batch_body import BatchBody, BatchHead
from airflow_provider_responses.client.batch_results import BatchReader, ResultsReader, read_result
from airflow_provider_responses.client.batch_upload import FIRST_BYTES
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    ConfigurationError,
    ForbiddenResponseError,
    IncompleteResponseError,
    InternalServerResponseError,
    NotFoundResponseError,
    PaymentRequiredResponseError,
    RefusalError,
    RequestCancelledError,
    RequestValidationError,
    ServiceUnavailableResponseError,
    TooManyRequestsResponseError,
    TransportError,
)
from airflow_provider_responses.models import Batch, BatchRequest, BatchResult, ResponsesRequest

from .server import Connection, Server
from .wire import Body, Flavour, Handle, Wire, config, failure, result

MODEL = "maker/small-1"
BATCHES = "https://openrouter.ai/api/v1/batches"
REFUSED = httpx.ConnectError("refused")
BROKE = httpx.ReadError("broke")
SUMMARY = RequestSummary(label="GET /batches/b", is_openrouter=True, batch="read")


def batch(**changes: Any) -> dict[str, Any]:
    return {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/responses",
        "model": MODEL,
        "completion_window": "24h",
        "status": "validating",
        "created_at": 1_790_000_000,
        "finalized_at": None,
        "expires_at": None,
        "provider": None,
        "request_counts": {"total": 2, "completed": 0, "failed": 0},
        "usage": None,
        "results": None,
        "error": None,
    } | changes


def accepted(**changes: Any) -> httpx.Response:
    return httpx.Response(202, json=batch(**changes))


def item(custom_id: str = "a", text: str = "Hello", **changes: Any) -> dict[str, Any]:
    received = {"status_code": 200, "request_id": "gen-1", "body": result(text)}
    return {"id": f"r-{custom_id}", "custom_id": custom_id, "response": received, "error": None} | changes


def requests(*names: str, **fields: Any) -> list[BatchRequest]:
    return [BatchRequest(custom_id=name, request={"input": f"Hello {name}", **fields}) for name in names or "ab"]


def large(n: int, size: int = 10_000) -> Iterator[BatchRequest]:
    for i in range(n):
        yield BatchRequest(custom_id=f"row-{i}", request={"input": "x" * size})


def collect(client: Handle, name: str, *args: Any, **kwargs: Any) -> list[Any]:
    found = getattr(client.client, name)(*args, **kwargs)
    if hasattr(found, "__aiter__"):

        async def drain() -> list[Any]:
            return [one async for one in found]

        drained: list[Any] = client._runner.run(drain())
        return drained
    return list(found)


def create(client: Handle, given: Any = None, **kwargs: Any) -> Batch:
    made: Batch = client._run("create_batch", requests() if given is None else given, **({"model": MODEL} | kwargs))
    return made


# --- the submit


def test_everything_else_stands_before_the_requests(flavour: Flavour) -> None:
    wire = Wire(accepted())
    made = create(
        flavour.on(wire),
        [
            BatchRequest(custom_id="a", request=ResponsesRequest(model=MODEL, input="Hello", temperature=0.5)),
            {"custom_id": "b", "body": {"input": "Grüße", "stream": False}},
        ],
        provider={"only": ["maker"]},
        callback_url="https://example.org/done",
    )
    assert wire.requests[0].content.decode() == (
        '{"endpoint":"/v1/responses","model":"maker/small-1","completion_window":"24h","provider":{"only":["maker"]},'
        '"callback_url":"https://example.org/done","requests":['
        '{"custom_id":"a","body":{"input":"Hello","temperature":0.5}},{"custom_id":"b","body":{"input":"Grüße"}}]}'
    )
    assert (wire.requests[0].method, str(wire.requests[0].url)) == ("POST", BATCHES)
    assert (made.id, made.status, made.is_finished) == ("batch_1", "validating", False)


def test_fields_that_are_not_set_are_not_sent(flavour: Flavour) -> None:
    wire = Wire(accepted())
    create(flavour.on(wire))
    assert list(wire.sent[0]) == ["endpoint", "model", "completion_window", "requests"]


def test_the_sdk_reads_the_body_that_is_sent(flavour: Flavour) -> None:
    from openrouter.components import BatchSubmitBody

    wire = Wire(accepted())
    create(flavour.on(wire), provider={"only": ["maker"], "allow_fallbacks": False})
    parsed = BatchSubmitBody.model_validate(wire.sent[0])
    assert [request.custom_id for request in parsed.requests] == ["a", "b"]


def test_bodies_for_other_endpoints_are_sent_as_they_are(flavour: Flavour) -> None:
    wire = Wire(accepted())
    body = {"input": ["a", "b"], "model": MODEL, "dimensions": 8}
    create(flavour.on(wire), [{"custom_id": "a", "body": body}], endpoint="/v1/embeddings")
    assert wire.sent[0]["requests"][0]["body"] == {"input": ["a", "b"], "dimensions": 8}


@pytest.mark.parametrize("kind", ["list", "iterator", "function", "async iterator", "async function"])
def test_requests_come_from_any_iterable(flavour: Flavour, kind: str) -> None:
    async def stream() -> AsyncIterator[BatchRequest]:
        for one in requests():
            yield one

    given = {
        "list": requests(),
        "iterator": iter(requests()),
        "function": lambda: iter(requests()),
        "async iterator": stream(),
        "async function": stream,
    }[kind]
    if flavour.sync and kind.startswith("async"):
        pytest.skip("the blocking client reads no async iterables")
    wire = Wire(accepted())
    create(flavour.on(wire), given)
    assert [one["custom_id"] for one in wire.sent[0]["requests"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": "x", "temprature": 1}, "temprature"),
        ({"input": ""}, "input"),
        ({}, "input"),
        ({"input": "x", "model": "maker/other"}, "model"),
        ({"input": "x", "extra_body": {"model": "maker/other"}}, "model"),
        ({"input": "x", "models": [MODEL]}, "models"),
        ({"input": "x", "stream": True}, "stream"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "store": True}, "store"),
        ({"input": "x", "provider": {"zdr": True}}, "provider.zdr"),
        ({"input": "x", "modalities": ["text", "image"]}, "modalities.1"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools.0"),
        ({"input": "x", "tools": [{"type": "openrouter:web_search"}]}, "tools.0"),
        ({"input": "x", "plugins": [{"id": "web"}]}, "plugins.0"),
        *(
            ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}, part]}]}, path)
            for part, path in (
                ({"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AA"}, "image_url"),
                ({"type": "input_image", "detail": "auto", "image_url": "DATA:image/png;base64,AA"}, "image_url"),
                ({"type": "input_file", "filename": "a", "file_data": "data:text/plain;base64,AA"}, "file_data"),
                ({"type": "input_file", "filename": "a", "file_data": "AAAA"}, "file_data"),
                ({"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}, "input_audio"),
                ({"type": "input_video", "video_url": "data:video/mp4;base64,AA"}, "video_url"),
            )
        ),
    ],
)
def test_a_wrong_request_is_refused_naming_custom_id_and_field(
    flavour: Flavour, body: dict[str, Any], field: str
) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError, match=r"^Request 'row-7' of the batch: ") as raised:
        create(flavour.on(wire), [*requests(), {"custom_id": "row-7", "body": body}])
    assert raised.value.custom_id == "row-7"
    assert raised.value.fields[0].split(".")[-1] == field.rsplit(".", maxsplit=1)[-1]
    assert field in str(raised.value)
    assert "AA" not in str(raised.value)
    assert wire.send_count == 0


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "detail": "auto", "image_url": "https://example.org/a.png"},
        {"type": "input_file", "filename": "a", "file_url": "https://example.org/a.pdf"},
        {"type": "input_file", "filename": "a", "file_data": "https://example.org/a.pdf"},
    ],
)
def test_images_and_files_by_url_are_sent(flavour: Flavour, part: dict[str, Any]) -> None:
    wire = Wire(accepted())
    body = {"input": [{"role": "user", "content": [part]}]}
    create(flavour.on(wire), [{"custom_id": "a", "body": body}])
    assert wire.sent[0]["requests"][0]["body"]["input"][0]["content"] == [part]


def test_extra_body_is_not_checked(flavour: Flavour) -> None:
    wire = Wire(accepted())
    create(flavour.on(wire), requests("a", extra_body={"provider": {"zdr": True}, "new": 1}))
    assert wire.sent[0]["requests"][0]["body"]["provider"] == {"zdr": True}
    assert wire.sent[0]["requests"][0]["body"]["new"] == 1


def test_the_connections_default_model_is_not_that_of_a_batch(flavour: Flavour) -> None:
    wire = Wire(accepted())
    create(flavour.on(wire, default_model="maker/other"))
    assert wire.sent[0]["model"] == MODEL
    assert "model" not in wire.sent[0]["requests"][0]["body"]


def test_a_repeated_custom_id_is_refused_naming_it(flavour: Flavour) -> None:
    with pytest.raises(RequestValidationError, match="Request 'a' of the batch: custom_id must be unique") as raised:
        create(flavour.on(Wire()), requests("a", "b", "a"))
    assert (raised.value.custom_id, raised.value.fields) == ("a", ("custom_id",))


def test_an_item_without_custom_id_is_named_by_its_position(flavour: Flavour) -> None:
    with pytest.raises(RequestValidationError, match="Request 3 of the batch: custom_id is missing"):
        create(flavour.on(Wire()), [*requests(), {"body": {"input": "x"}}])


@pytest.mark.parametrize("given", [[], iter(()), list])
def test_an_empty_batch_is_refused(flavour: Flavour, given: Any) -> None:
    with pytest.raises(RequestValidationError, match="requests must have at least one request, got none"):
        create(flavour.on(Wire()), given)


def test_something_else_than_an_iterable_is_refused(flavour: Flavour) -> None:
    with pytest.raises(RequestValidationError, match=r"requests must be an iterable or a function .* got int"):
        create(flavour.on(Wire()), 7)


def test_more_than_5000_requests_are_refused(flavour: Flavour) -> None:
    wire = Wire(accepted())
    with pytest.raises(RequestValidationError, match="at most 5000, got more") as raised:
        create(flavour.on(wire), (BatchRequest(custom_id=str(i), request={"input": "x"}) for i in range(5001)))
    assert raised.value.custom_id == "5000"
    assert wire.send_count == 0
    create(flavour.on(wire), (BatchRequest(custom_id=str(i), request={"input": "x"}) for i in range(5000)))
    assert len(wire.sent[0]["requests"]) == 5000


def test_a_batch_above_its_bytes_is_refused_naming_the_request() -> None:
    head = BatchHead(endpoint="/v1/responses", model=MODEL, completion_window="24h")
    exact = BatchBody(head, config())
    size = len(exact.begin() + exact.add(requests("a")[0]) + exact.add(requests("b")[0]) + exact.end())
    body = BatchBody(head, config(), max_bytes=size)
    assert len(body.begin() + body.add(requests("a")[0]) + body.add(requests("b")[0]) + body.end()) == size
    body = BatchBody(head, config(), max_bytes=size - 1)
    body.begin()
    body.add(requests("a")[0])
    with pytest.raises(RequestValidationError, match=f"Request 'b' of the batch: .*at most {size - 1} bytes") as raised:
        body.add(requests("b")[0])
    assert raised.value.custom_id == "b"


def test_formats_must_be_equal_for_google_models_only(flavour: Flavour) -> None:
    mixed = [*requests("a"), *requests("b", text={"format": {"type": "json_object"}})]
    with pytest.raises(RequestValidationError, match=r"Request 'b' of the batch: text\.format must be the same"):
        create(flavour.on(Wire()), mixed, model="google/gemini-3-flash")
    create(flavour.on(Wire(accepted())), mixed)
    same = requests("a", "b", text={"format": {"type": "json_object"}})
    create(flavour.on(Wire(accepted())), same, model="google/gemini-3-flash")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": ""}, "model must be text that is not empty, got ''"),
        ({"model": "maker/small-1:online"}, "model must be a model without ':online'"),
        ({"endpoint": None}, "endpoint must be text"),
        ({"provider": ["maker"]}, "provider must be dict"),
        ({"provider": {"zdr": True}}, "provider.zdr must not be true"),
        ({"callback_url": "http://example.org"}, "callback_url must be a public https URL"),
    ],
)
def test_wrong_arguments_of_a_batch_are_refused(flavour: Flavour, arguments: dict[str, Any], message: str) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError, match=message):
        create(flavour.on(wire), **arguments)
    assert wire.send_count == 0


@pytest.mark.parametrize("name", ["create_batch", "get_batch", "list_batches", "iter_batch_results", "delete_batch"])
def test_another_server_is_refused_before_anything_is_sent(flavour: Flavour, name: str) -> None:
    wire = Wire()
    client = flavour.on(wire, base_url="http://127.0.0.1:8642/v1")
    given: dict[str, Any] = {"create_batch": (requests(),), "list_batches": ()}
    arguments = {"model": MODEL} if name == "create_batch" else {}
    with pytest.raises(ConfigurationError, match=r"http://127\.0\.0\.1:8642/v1 has no batches"):
        client._run(name, *given.get(name, ("batch_1",)), **arguments)
    assert wire.send_count == 0


# --- nothing is submitted twice


@pytest.mark.parametrize("status", [429, 503])
def test_a_rejected_submit_is_repeated_with_the_same_bytes(flavour: Flavour, status: int) -> None:
    wire = Wire(REFUSED, failure(status), accepted())
    assert create(flavour.on(wire)).id == "batch_1"
    assert wire.send_count == 3
    assert len({request.content for request in wire.requests}) == 1


@pytest.mark.parametrize("given", ["iterator", "function", "list"])
def test_a_large_batch_is_repeated_only_if_its_requests_can_be_read_again(flavour: Flavour, given: str) -> None:
    source: Any = {
        "iterator": large(150),
        "function": lambda: large(150),
        "list": list(large(150)),
    }[given]
    wire = Wire(failure(503), accepted())
    if given != "iterator":
        create(flavour.on(wire), source)
        first, second = (request.content for request in wire.requests)
        assert first == second
        assert len(first) > FIRST_BYTES
        return
    with pytest.raises(ServiceUnavailableResponseError) as raised:
        create(flavour.on(wire), source)
    assert wire.send_count == 1
    assert (raised.value.retryable, raised.value.ambiguous) == (True, False)


@pytest.mark.parametrize("status", [None, 500, 502, 524, 408])
def test_a_submit_with_an_unknown_outcome_is_never_repeated(flavour: Flavour, status: int | None) -> None:
    wire = Wire(BROKE if status is None else failure(status), accepted())
    advice = r"The batch may exist: look for it with list_batches\(\) before it is submitted again"
    with pytest.raises((TransportError, APIError), match=advice) as raised:
        create(flavour.on(wire, max_ambiguous_retries=5, max_retries=5))
    assert raised.value.ambiguous
    assert wire.send_count == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"object":"batch"}', b"[]"])
def test_a_success_without_an_id_is_ambiguous(flavour: Flavour, body: bytes) -> None:
    wire = Wire(httpx.Response(202, content=body))
    with pytest.raises(APIError) as raised:
        create(flavour.on(wire))
    assert (raised.value.ambiguous, wire.send_count) == (True, 1)


@pytest.mark.parametrize(
    ("status", "cls", "advice"),
    [
        (400, BadRequestResponseError, "Correct the request"),
        (402, PaymentRequiredResponseError, "Add credits"),
        (403, ForbiddenResponseError, "The key may not do this"),
        (404, NotFoundResponseError, "the model can be used in batches"),
        (413, APIError, "Split the requests over several batches"),
    ],
)
def test_a_refused_submit_is_no_batch(flavour: Flavour, status: int, cls: type[APIError], advice: str) -> None:
    wire = Wire(failure(status))
    with pytest.raises(cls, match=advice) as raised:
        create(flavour.on(wire))
    assert (raised.value.ambiguous, raised.value.retryable) == (False, False)
    assert f"POST {BATCHES} (model {MODEL})" in str(raised.value)


# --- on real sockets


def read_chunked(connection: Connection, received: bytearray) -> str:
    """Read a request with a body in chunks to its end, or until the client closes the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.sock.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    received += rest
    while not received.endswith(b"0\r\n\r\n"):
        piece = connection.sock.recv(1 << 20)
        if not piece:
            connection.server.hung_up.set()
            raise ConnectionError
        received += piece
    return head.decode().lower()


def dechunked(data: bytes) -> bytes:
    body = bytearray()
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        data = rest[length + 2 :] if length else b""
    return bytes(body)


def network(flavour: Flavour, server: Server, **changes: Any) -> Handle:
    return flavour.network(base_url=server.url, dialect="openrouter", **changes)


def test_the_body_is_sent_while_the_requests_are_read(flavour: Flavour, server: Server) -> None:
    received, seen_at = bytearray(), {}

    def wait_for_the_first_bytes() -> None:
        until = time.monotonic() + 5
        while len(received) < FIRST_BYTES and time.monotonic() < until:
            time.sleep(0.01)

    def rows() -> Iterator[BatchRequest]:
        for n, one in enumerate(large(400)):
            if n == 390:
                wait_for_the_first_bytes()
                seen_at[n] = len(received)
            yield one

    async def async_rows() -> AsyncIterator[BatchRequest]:
        for n, one in enumerate(large(400)):
            if n == 390:
                await asyncio.to_thread(wait_for_the_first_bytes)
                seen_at[n] = len(received)
            yield one

    def script(connection: Connection) -> None:
        head = read_chunked(connection, received)
        assert "transfer-encoding: chunked" in head
        assert "content-length" not in head
        connection.respond(batch())

    server.script = script
    assert create(network(flavour, server), rows() if flavour.sync else async_rows()).id == "batch_1"
    assert seen_at[390] > FIRST_BYTES
    sent = json.loads(dechunked(bytes(received)))
    assert [one["custom_id"] for one in sent["requests"]] == [f"row-{n}" for n in range(400)]


class OwnError(Exception):
    """An error of the user's source."""


@pytest.mark.parametrize("cause", ["wrong request", "own error", "http error", "too many bytes"])
def test_an_upload_is_aborted_without_its_end(
    flavour: Flavour, server: Server, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = bytearray()
    server.script = lambda connection: read_chunked(connection, received) and None
    if cause == "too many bytes":
        monkeypatch.setattr(BatchBody.__init__, "__kwdefaults__", {"max_requests": 5000, "max_bytes": 3_000_000})
    failures = {"own error": OwnError("mine"), "http error": httpx.ReadError("of the source")}

    def rows() -> Iterator[BatchRequest]:
        yield from large(200)
        if cause in failures:
            raise failures[cause]
        if cause == "wrong request":
            yield BatchRequest(custom_id="bad", request={"input": "x", "tools": [{"type": "web_search"}]})
        for one in large(200):
            yield BatchRequest(custom_id=f"more-{one.custom_id}", request=one.request)

    with pytest.raises((RequestValidationError, OwnError, httpx.ReadError)) as raised:
        create(network(flavour, server), rows())
    assert server.hung_up.wait(5)
    assert not received.endswith(b"0\r\n\r\n")
    assert server.connections == 1
    if cause in failures:
        assert raised.value is failures[cause]
    else:
        assert isinstance(raised.value, RequestValidationError)
        assert not raised.value.ambiguous
        assert str(raised.value.custom_id).startswith("bad" if cause == "wrong request" else "more-row-")


def test_a_connection_that_breaks_during_the_upload_is_ambiguous(flavour: Flavour, server: Server) -> None:
    def script(connection: Connection) -> None:
        connection.sock.recv(65536)
        connection.reset()

    server.script = script
    with pytest.raises(TransportError, match="The batch may exist") as raised:
        create(network(flavour, server), lambda: large(4000))
    assert (raised.value.ambiguous, server.connections) == (True, 1)


def test_a_refused_connection_is_not_ambiguous(flavour: Flavour, server: Server) -> None:
    client = network(flavour, server, max_retries=1)
    server.close()
    with pytest.raises(TransportError, match="Nothing was sent") as raised:
        create(client, lambda: large(200))
    assert (raised.value.kind, raised.value.ambiguous, raised.value.sends) == ("connect", False, 2)


def test_an_early_refusal_is_read_while_the_body_is_sent(flavour: Flavour, server: Server) -> None:
    def script(connection: Connection) -> None:
        connection.sock.recv(65536)
        body = b'{"error":{"code":401,"message":"no such key"}}'
        connection.send(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 46\r\n\r\n" + body)
        for _ in range(200):  # a server reads the rest, so that its response is not lost
            if not connection.sock.recv(1 << 20):
                break

    server.script = script
    with pytest.raises(APIError, match="401 Unauthorized: no such key") as raised:
        create(network(flavour, server), large(1000))
    assert (raised.value.ambiguous, server.connections) == (False, 1)


def test_an_upload_ends_at_its_deadline(flavour: Flavour, server: Server) -> None:
    received = bytearray()
    server.script = lambda connection: read_chunked(connection, received) and None

    def rows() -> Iterator[BatchRequest]:
        for one in large(300):
            time.sleep(0.005)
            yield one

    async def async_rows() -> AsyncIterator[BatchRequest]:
        for one in large(300):
            await asyncio.sleep(0.005)
            yield one

    with pytest.raises(TransportError, match="The batch may exist") as raised:
        create(network(flavour, server, timeout=0.2), rows() if flavour.sync else async_rows())
    assert (raised.value.kind, raised.value.ambiguous) == ("deadline", True)
    assert server.hung_up.wait(5)


def test_a_cancelled_client_aborts_the_upload(server: Server) -> None:
    received = bytearray()
    server.script = lambda connection: read_chunked(connection, received) and None
    flavour = Flavour(sync=True)
    client = network(flavour, server)

    def rows() -> Iterator[BatchRequest]:
        yield from large(200)
        client.client.cancel()
        for one in large(200):
            yield BatchRequest(custom_id=f"more-{one.custom_id}", request=one.request)

    try:
        with pytest.raises(RequestCancelledError, match="The batch may exist"):
            create(client, rows())
        assert server.hung_up.wait(5)
    finally:
        flavour.close()


def test_memory_does_not_grow_with_the_body_of_a_submit(flavour: Flavour, server: Server) -> None:
    total = [0]

    def script(connection: Connection) -> None:
        tail = b""
        while not tail.endswith(b"0\r\n\r\n"):
            piece = connection.sock.recv(1 << 16)
            total[0] += len(piece)
            tail = (tail + piece)[-8:]
        connection.respond(batch())

    server.script = script
    tracemalloc.start()
    try:
        create(network(flavour, server), large(5000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total[0] > 50_000_000
    assert peak < total[0] / 6


# --- one batch


def test_a_batch_is_read_by_its_id(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(200, json=batch(id="batch/1", status="in_progress")))
    found = flavour.on(wire).get("get_batch", "batch/1")
    assert (found.id, found.status) == ("batch/1", "in_progress")
    assert (wire.requests[0].method, str(wire.requests[0].url)) == ("GET", f"{BATCHES}/batch%2F1")


def test_a_batch_is_read_without_its_results(flavour: Flavour) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.25}
    raw = batch(
        status="failed", results=[item("a"), {"id": "x"}, [1]], usage=usage, error={"message": "row 7 is wrong"}
    )
    found = flavour.on(Wire(httpx.Response(200, json=raw))).get("get_batch", "batch_1")
    assert found.raw == {**raw, "results": None}
    assert (found.is_finished, found.usage.cost, found.error_message) == (True, 0.25, "row 7 is wrong")


def test_reads_of_a_batch_are_retried(flavour: Flavour) -> None:
    wire = Wire(BROKE, failure(500), failure(429), httpx.Response(200, json=batch()))
    assert flavour.on(wire).get("get_batch", "batch_1").id == "batch_1"


@pytest.mark.parametrize(
    ("method", "status", "cls", "advice"),
    [
        ("get_batch", 402, PaymentRequiredResponseError, "The account owes the price of the batch"),
        ("get_batch", 404, NotFoundResponseError, "belongs to another key"),
        ("get_batch", 410, APIError, "410 Gone: reported.*The batch has expired: the server holds results for 30 days"),
        ("delete_batch", 404, NotFoundResponseError, "belongs to another key"),
        ("delete_batch", 409, APIError, "409 Conflict: reported.*can be deleted after it has finished"),
        ("delete_batch", 410, APIError, "there is nothing to delete"),
    ],
)
def test_errors_of_one_batch_have_their_advice(
    flavour: Flavour, method: str, status: int, cls: type[APIError], advice: str
) -> None:
    wire = Wire(failure(status))
    with pytest.raises(cls, match=advice) as raised:
        flavour.on(wire).get(method, "batch_1")
    assert (raised.value.status_code, raised.value.ambiguous, wire.send_count) == (status, False, 1)


@pytest.mark.parametrize("body", [b"", b"null", b"<html>", b"{}", b'{"id": "batch_1", "sta'])
def test_a_body_that_is_no_batch_is_an_error(flavour: Flavour, body: bytes) -> None:
    wire = Wire(httpx.Response(200, content=body))
    with pytest.raises(APIError, match="expected a complete JSON object with status 200"):
        flavour.on(wire, max_retries=0).get("get_batch", "batch_1")


@pytest.mark.parametrize("name", ["get_batch", "iter_batch_results", "delete_batch"])
def test_an_empty_id_is_refused(flavour: Flavour, name: str) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError, match="batch_id must be text that is not empty, got ''"):
        flavour.on(wire)._run(name, "")
    assert wire.send_count == 0


def test_a_batch_is_deleted_and_the_report_returned(flavour: Flavour) -> None:
    report = {"id": "batch_1", "object": "batch", "deletion": {"openrouter": "deleted"}}
    wire = Wire(httpx.Response(200, json=report))
    assert flavour.on(wire).get("delete_batch", "batch_1") == report
    assert (wire.requests[0].method, str(wire.requests[0].url)) == ("DELETE", f"{BATCHES}/batch_1")
    from openrouter.components import BatchDeletedObject

    assert BatchDeletedObject.model_validate(report).id == "batch_1"


def test_a_deletion_whose_response_was_lost_is_a_success(flavour: Flavour) -> None:
    wire = Wire(BROKE, failure(404))
    assert flavour.on(wire).get("delete_batch", "batch_1")["id"] == "batch_1"


# --- the list


def page(*names: str, has_more: bool = False) -> httpx.Response:
    data = [batch(id=name) for name in names]
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return httpx.Response(200, json={"object": "list", "data": data, "has_more": has_more, **ends})


def test_the_list_is_read_page_by_page(flavour: Flavour) -> None:
    wire = Wire(page("c", "b", has_more=True), page("a"))
    found = collect(flavour.on(wire), "list_batches")
    assert [one.id for one in found] == ["c", "b", "a"]
    assert [request.url.query.decode() for request in wire.requests] == ["limit=100", "limit=100&after=b"]


def test_pages_are_fetched_as_needed(flavour: Flavour) -> None:
    wire = Wire(page("c", "b", has_more=True))
    client = flavour.on(wire)
    batches = client.client.list_batches()
    assert wire.send_count == 0
    first = next(batches) if flavour.sync else client._runner.run(anext(batches))
    assert (first.id, wire.send_count) == ("c", 1)


def test_the_list_ends_at_its_limit(flavour: Flavour) -> None:
    wire = Wire(page("c", "b", "a", has_more=True))
    assert [one.id for one in collect(flavour.on(wire), "list_batches", limit=2)] == ["c", "b"]
    assert wire.requests[0].url.params["limit"] == "2"


@pytest.mark.parametrize("names", [("a",), ()], ids=["same page", "empty page"])
def test_a_list_without_end_ends(flavour: Flavour, names: tuple[str, ...]) -> None:
    wire = Wire(page("a", has_more=True), page(*names, has_more=True))
    assert {one.id for one in collect(flavour.on(wire), "list_batches")} == {"a"}


def test_filters_are_sent(flavour: Flavour) -> None:
    wire = Wire(page())
    collect(
        flavour.on(wire),
        "list_batches",
        after="batch_9",
        status=["completed", "failed"],
        created_after=datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=1))),
        created_before=1_790_000_000,
    )
    assert wire.requests[0].url.params.multi_items() == [
        ("limit", "100"),
        ("after", "batch_9"),
        ("status", "completed"),
        ("status", "failed"),
        ("created_after", "2026-11-01T11:00:00Z"),
        ("created_before", datetime.fromtimestamp(1_790_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit must be a whole number >= 1, got 0"),
        ({"status": "finalizing"}, "status must be 'validating', 'in_progress', .* got 'finalizing'"),
        ({"created_after": datetime(2026, 11, 1)}, "created_after must be a datetime with a time zone"),
        ({"created_before": True}, "created_before must be a datetime with a time zone"),
        ({"after": 7}, "after must be str, got 7"),
    ],
)
def test_wrong_filters_are_refused_at_once(flavour: Flavour, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestValidationError, match=message):
        flavour.on(Wire()).client.list_batches(**arguments)


# --- the results


def results_page(*items: Any, cursor: str | None = None) -> httpx.Response:
    body = {"object": "list", "data": list(items), "has_more": cursor is not None, "next_cursor": cursor}
    return httpx.Response(200, json=body)


def inline(*items: Any, pieces: int = 1, **changes: Any) -> httpx.Response:
    body = json.dumps(batch(**{"status": "completed", "results": list(items), **changes})).encode()
    size = -(-len(body) // pieces)
    return httpx.Response(200, stream=Body(*(body[i : i + size] for i in range(0, len(body), size))))


def test_results_are_read_page_by_page(flavour: Flavour) -> None:
    wire = Wire(results_page(item("b"), item("a"), cursor="c/1"), BROKE, results_page(item("c")))
    found = collect(flavour.on(wire), "iter_batch_results", Batch(raw=batch(status="completed")))
    assert [one.custom_id for one in found] == ["b", "a", "c"]
    assert [str(request.url).removeprefix(BATCHES) for request in wire.requests] == [
        "/batch_1/results?limit=250",
        *["/batch_1/results?limit=250&cursor=c%2F1"] * 2,
    ]


@pytest.mark.parametrize("status", [404, 405, 200])
def test_results_are_read_from_the_batch_where_the_server_has_no_pages(flavour: Flavour, status: int) -> None:
    no_pages = httpx.Response(200, json=batch()) if status == 200 else failure(status)
    wire = Wire(no_pages, inline(item(), item("b")))
    found = collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert [one.custom_id for one in found] == ["a", "b"]
    assert str(wire.requests[1].url) == f"{BATCHES}/batch_1"


@pytest.mark.parametrize("status", [402, 409, 410])
def test_errors_of_the_pages_are_raised(flavour: Flavour, status: int) -> None:
    wire = Wire(failure(status))
    with pytest.raises(APIError) as raised:
        collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert (raised.value.status_code, wire.send_count) == (status, 1)


def test_a_batch_that_is_unknown_has_no_results(flavour: Flavour) -> None:
    with pytest.raises(NotFoundResponseError, match="belongs to another key"):
        collect(flavour.on(Wire(failure(404), failure(404))), "iter_batch_results", "batch_1")


def test_a_later_page_of_another_shape_is_an_error_and_no_end(flavour: Flavour) -> None:
    wire = Wire(results_page(item("a"), cursor="c"), httpx.Response(200, json={"next_cursor": None}))
    with pytest.raises(APIError, match="expected a page of results"):
        collect(flavour.on(wire), "iter_batch_results", "batch_1")


def test_results_of_a_batch_in_progress_are_an_error(flavour: Flavour) -> None:
    early = httpx.Response(200, json=batch(status="in_progress"))
    wire = Wire(failure(404), early, httpx.Response(200, json=batch(status="in_progress")))
    with pytest.raises(APIError, match=r"the batch has no results yet: its status is 'in_progress'"):
        collect(flavour.on(wire), "iter_batch_results", "batch_1")


def test_a_failed_batch_without_results_yields_none(flavour: Flavour) -> None:
    failed = {"status": "failed", "results": None}
    wire = Wire(failure(404), httpx.Response(200, json=batch(**failed)), httpx.Response(200, json=batch(**failed)))
    assert collect(flavour.on(wire), "iter_batch_results", "batch_1") == []


def test_a_download_that_breaks_is_resumed_without_repeating_a_result(flavour: Flavour) -> None:
    items = [item(str(n), "x" * 200) for n in range(20)]
    body = json.dumps(batch(status="completed", results=items)).encode()
    half = httpx.Response(200, stream=Body(body[: len(body) // 2], BROKE))
    wire = Wire(failure(404), half, inline(*reversed(items), pieces=7))
    found = collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert sorted(int(one.custom_id) for one in found) == list(range(20))
    assert wire.send_count == 3


def test_a_body_that_ends_early_is_read_again_and_then_an_error(flavour: Flavour) -> None:
    body = json.dumps(batch(status="completed", results=[item("a"), item("b")])).encode()
    wire = Wire(failure(404), *(httpx.Response(200, content=body[:-40]) for _ in range(2)))
    client = flavour.on(wire, max_retries=1)
    with pytest.raises(APIError, match="expected a complete JSON object"):
        collect(client, "iter_batch_results", "batch_1")
    assert wire.send_count == 3


def test_the_callers_work_does_not_count_as_waiting(flavour: Flavour) -> None:
    wire = Wire(failure(404), inline(*(item(str(n)) for n in range(6)), pieces=12))
    client = flavour.on(wire, timeout=5)
    found = client.client.iter_batch_results("batch_1")
    names = []
    while one := (next(found, None) if flavour.sync else client._runner.run(anext(found, None))):  # type: ignore[arg-type]
        names.append(one.custom_id)
        wire.now += 4
    assert names == [str(n) for n in range(6)]


def test_repeated_and_nameless_results_are_yielded_for_the_caller_to_judge(flavour: Flavour) -> None:
    wire = Wire(failure(404), inline(item("a"), item("a"), {"id": "x"}, "nonsense", None))
    found = collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert [one.custom_id for one in found] == ["a", "a", "", "", ""]
    assert [type(one.error) for one in found[2:]] == [InternalServerResponseError] * 3


def test_memory_does_not_grow_with_the_results(flavour: Flavour) -> None:
    one = json.dumps(item("NAME", "x" * 10_000)).encode()
    total = [0]

    def pieces() -> Iterator[bytes]:
        yield b'{"id":"batch_1","object":"batch","status":"completed","results":['
        for n in range(5000):
            piece = (b"," if n else b"") + one.replace(b"NAME", b"row-%d" % n)
            total[0] += len(piece)
            yield piece
        yield b'],"error":null}'

    class Streamed(Body):
        def __iter__(self) -> Iterator[bytes]:
            return pieces()

    wire = Wire(failure(404), httpx.Response(200, stream=Streamed()))
    client = flavour.on(wire)
    tracemalloc.start()
    try:
        found = client.client.iter_batch_results("batch_1")
        if flavour.sync:
            count = sum(len(one.response.output_text) == 10_000 for one in found)
        else:

            async def drain() -> int:
                return sum([len(one.response.output_text) == 10_000 async for one in found])

            count = client._runner.run(drain())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert total[0] > 50_000_000
    assert peak < total[0] / 20


# --- one result


def test_a_result_holds_the_response_that_send_returns() -> None:
    one = read_result(item("a", "Hello"), "batch_1")
    assert (one.custom_id, one.status_code, one.error) == ("a", 200, None)
    assert one.response is not None
    assert (one.response.output_text, one.response.usage.cost) == ("Hello", 0.5)
    assert one.response.generation_id == "gen-1"


@pytest.mark.parametrize(
    ("error", "cls", "retryable"),
    [
        ({"message": "slow down", "type": "rate_limit_error", "param": None, "error_type": "rate_limit_exceeded"},
         TooManyRequestsResponseError, True),
        ({"message": "too long", "type": "invalid_request_error", "param": "input",
          "error_type": "context_length_exceeded"}, BadRequestResponseError, False),
        ({"message": "out of time", "type": "batch_expired", "param": None}, InternalServerResponseError, True),
        ({"message": "broke", "type": "server_error", "param": None}, InternalServerResponseError, True),
    ],
)  # fmt: skip
def test_a_failed_request_has_the_error_of_send(error: dict[str, Any], cls: type[APIError], retryable: bool) -> None:
    one = read_result(item("row-7", response=None, error=error), "batch_1")
    assert type(one.error) is cls
    assert (one.response, one.status_code, one.error.retryable) == (None, None, retryable)
    assert error["message"] in str(one.error)
    assert str(one.error).endswith("Request: 'row-7' in batch batch_1")
    assert ("Send this request again" in str(one.error)) is retryable


def test_a_status_of_a_failure_decides_its_error() -> None:
    body = {"error": {"code": 402, "message": "no credits"}}
    received = {"status_code": 402, "request_id": None, "body": body}
    one = read_result(item("a", response=received), "batch_1")
    assert isinstance(one.error, PaymentRequiredResponseError)
    assert (one.response, one.status_code) == (None, 402)


def test_truncated_and_refused_responses_have_the_errors_of_send() -> None:
    cut = result(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    no = result()
    no["output"][0]["content"] = [{"type": "refusal", "refusal": "I will not"}]
    failed = result(status="failed", output=[], error={"code": "server_error", "message": "broke"})
    found = [
        read_result(item("a", response={"status_code": 200, "request_id": None, "body": body}), "batch_1")
        for body in (cut, no, failed)
    ]
    assert [type(one.error) for one in found] == [IncompleteResponseError, RefusalError, InternalServerResponseError]
    for one in found:
        assert one.response is not None
        assert one.error is not None
        assert one.error.response is one.response


def test_bodies_of_other_endpoints_are_not_checked_as_a_response() -> None:
    body = {"object": "list", "data": [{"embedding": [0.5]}], "model": MODEL}
    one = read_result(item("a", response={"status_code": 200, "request_id": None, "body": body}), "batch_1")
    assert (one.error, one.response.raw if one.response else None) == (None, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["id", "custom_id", "response", "error"]), json_values) | json_values)
def test_no_shape_of_a_result_raises(raw: Any) -> None:
    one = read_result(raw, "batch_1")
    assert isinstance(one, BatchResult)
    assert one.response is not None or one.error is not None


def http() -> HTTPResponse:
    return HTTPResponse(httpx.Response(200))


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[start:end] for start, end in pairwise(ends)]


finite = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    items=st.lists(finite | st.dictionaries(st.just("results"), st.lists(finite, max_size=2)), max_size=4),
    fields=st.dictionaries(st.text("abr", max_size=3), finite, max_size=3),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    before=st.sampled_from([b"", b" \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \r\n"]),
    ascii_only=st.booleans(),
)
def test_any_split_of_a_body_yields_the_same_batch_and_results(
    items: list[Any], fields: dict[str, Any], cuts: list[int], before: bytes, ascii_only: bool
) -> None:
    raw = {"id": "batch_1", **fields, "results": items, "error": {"results": [1]}}
    body = before + json.dumps(raw, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if not ascii_only:
        body.decode()
    reader, results = BatchReader(http(), SUMMARY), ResultsReader(http(), SUMMARY)
    found: list[Any] = []
    for piece in split(body, cuts):
        reader.feed(piece)
        found += results.feed(piece)
    results.finish()
    assert found == items
    assert repr(found) == repr(json.loads(json.dumps(items)))  # also the types of numbers
    assert reader.finish().raw == {**raw, "results": None}


@given(st.binary(max_size=40).filter(lambda body: not body.strip().startswith(b"{")))
def test_a_body_that_is_no_object_is_an_error_and_nothing_else(body: bytes) -> None:
    for make in (BatchReader, ResultsReader):
        with pytest.raises(APIError, match="expected a complete JSON object"):
            read_whole(make(http(), SUMMARY), body)


def read_whole(reader: Any, body: bytes) -> None:
    reader.feed(body)
    reader.finish()
    if isinstance(reader, ResultsReader):
        read_whole(BatchReader(http(), SUMMARY), body)  # a number or a list holds no results either


def test_the_sdk_reads_the_results_that_these_tests_use() -> None:
    from openrouter.components import BatchListResponse, BatchObject

    names = (
        "completed_at",
        "frequency_penalty",
        "instructions",
        "metadata",
        "presence_penalty",
        "temperature",
        "top_p",
    )
    others = {"created_at": 1, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    body = result() | dict.fromkeys(names) | others
    error = {"message": "no", "type": "server_error", "param": None, "error_type": "server"}
    failed = item("b", response=None, error=error)
    raw = batch(
        status="completed", results=[item("a", response={"status_code": 200, "request_id": None, "body": body}), failed]
    )
    parsed = BatchObject.model_validate(raw)
    assert parsed.results is not None
    assert [one.custom_id for one in parsed.results] == ["a", "b"]
    assert BatchListResponse.model_validate(json.loads(page("a").content)).data[0].id == "a"


def test_the_clients_have_a_method_for_each_operation_of_the_sdk() -> None:
    from openrouter.batch import Batch as Operations

    from airflow_provider_responses.client import ResponsesClient

    names = {
        "create_batches": "create_batch",
        "get_batches": "get_batch",
        "list": "list_batches",
        "delete": "delete_batch",
    }
    operations = {name for name in vars(Operations) if not name.startswith("_") and not name.endswith("_async")}
    assert operations <= set(names)
    assert [name for name in names.values() if not callable(getattr(ResponsesClient, name))] == []
