"""The submit of a batch: its body on the wire, refusals, and that nothing is submitted twice."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from airflow_provider_responses.client.batch_body import HEAD_ROOM, BatchBody, BatchHead
from airflow_provider_responses.client.batch_upload import FIRST_BYTES
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    ForbiddenResponseError,
    NotFoundResponseError,
    PaymentRequiredResponseError,
    RequestCancelledError,
    RequestValidationError,
    ServiceUnavailableResponseError,
    TransportError,
)
from airflow_provider_responses.models import BatchRequest, ResponsesRequest
from airflow_provider_responses.models.batch import PreparedBatchRequest

from .batch_wire import BATCHES, BROKE, MODEL, REFUSED, accepted, batch, create, large, requests
from .server import Connection, Server
from .wire import Flavour, Handle, Wire, config, failure


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


def prepared(custom_id: str, body: bytes = b'{"model":"maker/small-1","input":"Hi"}', **changes: Any) -> Any:
    return PreparedBatchRequest(**({"custom_id": custom_id, "body": body, "model": MODEL} | changes))


def test_prepared_requests_are_sent_byte_by_byte_among_others(flavour: Flavour) -> None:
    wire = Wire(accepted())
    create(flavour.on(wire), [prepared('"a"', b'{"input" : "Gr\xc3\xbc\xc3\x9fe"}'), *requests("b"), prepared("c")])
    _, _, sent = wire.requests[0].content.partition(b'"requests":')
    assert sent.decode() == (
        '[{"custom_id":"\\"a\\"","body":{"input" : "Grüße"}},{"custom_id":"b","body":{"input":"Hello b"}},'
        '{"custom_id":"c","body":{"model":"maker/small-1","input":"Hi"}}]}'
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([prepared("a"), prepared("a")], "Request 'a' of the batch: custom_id must be unique"),
        ([*requests("a"), prepared("a")], "Request 'a' of the batch: custom_id must be unique"),
        ([prepared("a", model="maker/other")], "Request 'a' of the batch: model must be 'maker/small-1', the batch's"),
    ],
)
def test_a_prepared_request_is_refused_if_it_does_not_fit_the_batch(
    flavour: Flavour, given: list[Any], message: str
) -> None:
    with pytest.raises(RequestValidationError, match=message):
        create(flavour.on(Wire()), given)


def test_a_packer_knows_the_bytes_of_a_body_before_it_is_built() -> None:
    head = BatchHead(endpoint="/v1/responses", model=MODEL, completion_window="24h", callback_url="https://example.org")
    packed = [prepared("a"), prepared('Grüße "b"', b"{}"), prepared("c")]
    size = sum(map(BatchBody.size_of, packed))
    body = BatchBody(head, config(), max_bytes=size + HEAD_ROOM)
    beginning = body.begin()
    added = b"".join(map(body.add, packed))
    assert len(added) == size - 1  # no comma before the first one
    assert len(beginning + body.end()) < HEAD_ROOM
    body = BatchBody(head, config(), max_bytes=len(beginning + added + body.end()) - 1)
    body.begin()
    with pytest.raises(RequestValidationError, match=r"Request 'c' of the batch: .*split them over several batches"):
        list(map(body.add, packed))


def test_a_prepared_request_shows_no_content() -> None:
    assert repr(prepared("a", b"{}")) == "PreparedBatchRequest(custom_id='a', model='maker/small-1', bytes=2)"


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
        ({"metadata": {"job": "nightly"}}, "metadata must not be set for a batch of OpenRouter"),
        ({"metadata": {"job": 7}}, "metadata must be a dict of names and texts"),
    ],
)
def test_wrong_arguments_of_a_batch_are_refused(flavour: Flavour, arguments: dict[str, Any], message: str) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError, match=message):
        create(flavour.on(wire), **arguments)
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
        (501, APIError, "change the model"),
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
        until = time.monotonic() + 60
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
        monkeypatch.setattr(BatchBody, "MAX_BYTES", 3_000_000)
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
    assert server.hung_up.wait(60)
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
    assert server.hung_up.wait(60)


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
        assert server.hung_up.wait(60)
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
