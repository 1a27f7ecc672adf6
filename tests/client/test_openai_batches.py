"""OpenAI's batch API behind the methods of both clients: its file, what follows a failure, results and lists."""

from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Batch as SDKBatch
from openai.types import BatchCreateParams
from pydantic import TypeAdapter

from airflow_provider_responses.client.base_client import batch_protocol_of
from airflow_provider_responses.client.batch_results import LinesReader
from airflow_provider_responses.client.batch_upload import FIRST_BYTES
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.client.openai_batch_body import OpenAIBatchBody, OpenAIBatchHead
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    ConfigurationError,
    InternalServerResponseError,
    NotFoundResponseError,
    PaymentRequiredResponseError,
    RequestValidationError,
    ServiceUnavailableResponseError,
    TransportError,
)
from airflow_provider_responses.models import Batch, BatchRequest
from airflow_provider_responses.models.batch import BatchProblem, PreparedBatchRequest
from airflow_provider_responses.sandbox.http.multipart import parse_form
from tests.sandbox.batches import SECONDS, BatchApi, batch_sandbox

from .batch_wire import BROKE, REFUSED, SUMMARY, collect, item, large, requests
from .server import Connection, Server
from .wire import Body, Flavour, Handle, Wire, config, failure

MODEL = "gpt-5-mini"
BASE = "https://api.openai.com/v1"
DATA_URL = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AA"}


def batch(**changes: Any) -> dict[str, Any]:
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    made = {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/responses",
        "model": MODEL,
        "errors": None,
        "input_file_id": "file-in",
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1_790_000_000,
        **{f"{name}_at": None for name in times},
        "expires_at": 1_790_086_400,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": None,
    } | changes
    assert SDKBatch.model_validate(made).model_extra == {}
    return made


def ok(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


def uploaded() -> httpx.Response:
    return ok(id="file-in", object="file", purpose="batch")


def created(**changes: Any) -> httpx.Response:
    return ok(**batch(**changes))


def finished(**changes: Any) -> Batch:
    return Batch(raw=batch(status="completed", **changes))


def with_status(status: int, content: bytes | None = None) -> Callable[[httpx.Request], httpx.Response]:
    """Return a scripted response for a parameter: both flavours use it, each needs its own."""
    return lambda _: failure(status) if content is None else httpx.Response(status, content=content)


def lines(*items: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in items)


def create(client: Handle, given: Any = None, **kwargs: Any) -> Batch:
    made: Batch = client._run("create_batch", requests() if given is None else given, **({"model": MODEL} | kwargs))
    return made


def on(flavour: Flavour, wire: Wire, **changes: Any) -> Handle:
    return flavour.on(wire, base_url=BASE, **changes)


def seen(wire: Wire) -> list[str]:
    return [f"{request.method} {str(request.url).removeprefix(BASE)}" for request in wire.requests]


def file_of(request: httpx.Request) -> list[dict[str, Any]]:
    content = parse_form(request.headers["content-type"], request.content)["file"].content
    return [json.loads(line) for line in content.splitlines()]


def prepared(custom_id: str, body: bytes = b'{"model":"gpt-5-mini","input":"Hi"}', model: str = MODEL) -> Any:
    return PreparedBatchRequest(custom_id, body, model)


# --- the submit


def test_the_requests_are_uploaded_as_lines_and_then_submitted(flavour: Flavour) -> None:
    wire = Wire(uploaded(), created(metadata={"job": "nightly"}))
    given = [
        BatchRequest(custom_id="a", request={"input": "Hello", "temperature": 0.5}),
        {"custom_id": "ß", "body": {"model": MODEL, "input": "Grüße", "stream": False}},
        prepared("c", b'{"model" : "gpt-5-mini"}'),
    ]
    made = create(on(flavour, wire), given, metadata={"job": "nightly"})
    assert seen(wire) == ["POST /files", "POST /batches"]
    upload, submit = wire.requests
    boundary = upload.headers["content-type"].removeprefix("multipart/form-data; boundary=")
    assert upload.content.decode() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
        '{"custom_id":"a","method":"POST","url":"/v1/responses",'
        '"body":{"model":"gpt-5-mini","input":"Hello","temperature":0.5}}\n'
        '{"custom_id":"ß","method":"POST","url":"/v1/responses","body":{"model":"gpt-5-mini","input":"Grüße"}}\n'
        '{"custom_id":"c","method":"POST","url":"/v1/responses","body":{"model" : "gpt-5-mini"}}\n'
        f"\r\n--{boundary}--\r\n"
    )
    sent = json.loads(submit.content)
    assert sent == {
        "input_file_id": "file-in",
        "endpoint": "/v1/responses",
        "completion_window": "24h",
        "metadata": {"job": "nightly"},
    }
    TypeAdapter(BatchCreateParams).validate_python(sent)
    assert submit.headers["content-type"] == "application/json"
    assert (made.id, made.status, made.metadata) == ("batch_1", "validating", {"job": "nightly"})


def test_bodies_for_other_endpoints_get_the_model(flavour: Flavour) -> None:
    wire = Wire(uploaded(), created())
    create(on(flavour, wire), [{"custom_id": "a", "body": {"input": ["x"]}}], endpoint="/v1/embeddings")
    assert file_of(wire.requests[0]) == [
        {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": MODEL, "input": ["x"]}}
    ]
    assert json.loads(wire.requests[1].content)["endpoint"] == "/v1/embeddings"


@pytest.mark.parametrize(
    "body",
    [
        {"input": [{"role": "user", "content": [DATA_URL]}]},
        {"input": "x", "tools": [{"type": "web_search"}]},
        {"previous_response_id": "resp_1"},
        {"input": "x", "store": True},
        {"prompt": {"id": "pmpt_1"}},
        {"conversation": "conv_1", "service_tier": "standard"},
    ],
)
def test_the_rules_of_openrouters_batches_do_not_hold_for_other_servers(flavour: Flavour, body: dict[str, Any]) -> None:
    wire = Wire(uploaded(), created())
    create(on(flavour, wire, default_model="another"), [{"custom_id": "a", "body": body}])
    assert file_of(wire.requests[0])[0]["body"] == {"model": MODEL, **body}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": "x", "stream": True}, "stream"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "models": [MODEL]}, "models"),
        ({"input": "x", "model": "gpt-5"}, "model"),
        ({"input": "x", "extra_body": {"model": "gpt-5"}}, "model"),
        ({}, "input"),
    ],
)
def test_a_wrong_request_is_refused_naming_custom_id_and_field(
    flavour: Flavour, body: dict[str, Any], field: str
) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError, match=r"^Request 'row-7' of the batch: ") as raised:
        create(on(flavour, wire), [*requests(), {"custom_id": "row-7", "body": body}])
    assert (raised.value.custom_id, raised.value.fields, wire.send_count) == ("row-7", (field,), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (requests("a", "a"), "Request 'a' of the batch: custom_id must be unique"),
        ([prepared("a"), prepared("a")], "Request 'a' of the batch: custom_id must be unique"),
        ([prepared("a", model="gpt-5")], "Request 'a' of the batch: model must be 'gpt-5-mini'"),
        ([], "requests must have at least one request"),
        (lambda: (prepared(str(n)) for n in range(50_001)), "Request '50000' .*: requests must be at most 50000"),
    ],
)
def test_requests_that_do_not_fit_the_batch_are_refused(flavour: Flavour, given: Any, message: str) -> None:
    wire = Wire(uploaded(), created())
    with pytest.raises(RequestValidationError, match=message):
        create(on(flavour, wire), given)
    assert "POST /batches" not in seen(wire)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"provider": {"only": ["maker"]}}, "provider must not be set for a server other than OpenRouter"),
        ({"callback_url": "https://example.org"}, "callback_url must not be set for a server other than OpenRouter"),
        ({"metadata": ["job"]}, "metadata must be dict"),
        ({"model": ""}, "model must be text that is not empty, got ''"),
    ],
)
def test_wrong_arguments_of_a_batch_are_refused(flavour: Flavour, arguments: dict[str, Any], message: str) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError, match=message):
        create(on(flavour, wire), **arguments)
    assert wire.send_count == 0


@pytest.mark.parametrize(
    ("dialect", "most", "size"),
    [
        ("openrouter", 5_000, len(',{"custom_id":"a","body":{}}')),
        ("open", 50_000, len('{"custom_id":"a","method":"POST","url":"/v1/responses","body":{}}\n')),
    ],
)
def test_a_packer_finds_the_limits_of_a_server(dialect: str, most: int, size: int) -> None:
    body = batch_protocol_of(config(dialect=dialect)).body
    assert (body.MAX_REQUESTS, body.MAX_BYTES, body.size_of(prepared("a", b"{}"))) == (most, 200_000_000, size)


def test_a_packer_knows_the_bytes_of_a_file_before_it_is_built() -> None:
    head = OpenAIBatchHead(endpoint="/v1/responses", model=MODEL, completion_window="24h")
    packed = [prepared("a"), prepared('Grüße "b"', b"{}"), prepared("c")]
    size = sum(map(OpenAIBatchBody.size_of, packed)) + OpenAIBatchBody.HEAD_ROOM
    body = OpenAIBatchBody(head, config(base_url=BASE), max_bytes=size)
    body.begin()
    assert len(b"".join(map(body.add, packed))) == size
    body = OpenAIBatchBody(head, config(base_url=BASE), max_bytes=size - 1)
    body.begin()
    with pytest.raises(RequestValidationError, match=r"Request 'c' of the batch: .*split them over several batches"):
        list(map(body.add, packed))


# --- what follows a failure


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


# --- on real sockets


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
    assert server.hung_up.wait(5)
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


def test_a_file_without_a_last_line_break_is_read_to_its_end(flavour: Flavour, server: Server) -> None:
    body = lines(item("a"), item("b")).removesuffix(b"\n")

    def script(connection: Connection) -> None:
        while connection.read_request():
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.send(head.encode() + body)

    server.script = script
    client = flavour.network(base_url=server.url)
    found = collect(client, "iter_batch_results", finished(output_file_id="file-out", error_file_id="file-err"))
    assert [one.custom_id for one in found] == ["a", "b", "a", "b"]
    assert server.connections == 1


# --- in the sandbox


@pytest.fixture(scope="module")
def module_api() -> Iterator[BatchApi]:
    with batch_sandbox(dialect="open") as api:
        yield api


@pytest.fixture
def api(module_api: BatchApi) -> BatchApi:
    module_api.sandbox.reset()
    return module_api


@pytest.fixture
def client(flavour: Flavour, api: BatchApi) -> Handle:
    return flavour.network(base_url=api.sandbox.base_url, api_key="sandbox-key")


@pytest.fixture
def sdk(api: BatchApi) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=api.sandbox.base_url, api_key="sandbox-key", max_retries=0) as made:
        yield made


def test_a_batch_is_submitted_polled_and_read(client: Handle, api: BatchApi, sdk: openai.OpenAI) -> None:
    api.sandbox.script_batches({"responses": [{"status": 500}]})
    made = create(client, requests("a", "b", "c"), metadata={"job": "nightly"})
    assert (made.status, made.is_finished, made.finalized_at) == ("validating", False, None)
    assert sdk.batches.retrieve(made.id).metadata == made.metadata == {"job": "nightly"}
    assert sdk.files.retrieve(made.input_file_id or "").filename == "batch.jsonl"
    with pytest.raises(APIError, match="the batch has no results yet: its status is 'validating'"):
        collect(client, "iter_batch_results", made)
    api.clock.now += SECONDS
    done = client.get("get_batch", made.id)
    assert (done.status, done.counts, done.usage.cost) == ("completed", (3, 2, 1), None)
    assert done.usage.total_tokens == sdk.batches.retrieve(made.id).usage.total_tokens  # type: ignore[union-attr]
    assert done.created_at < done.finalized_at < done.expires_at
    for named in (done, made.id):
        found = {one.custom_id: one for one in collect(client, "iter_batch_results", named)}
        assert sorted(found) == ["a", "b", "c"]
        assert type(found["a"].error) is InternalServerResponseError
        assert str(found["a"].error).endswith(f"Request: 'a' in batch {made.id}")
        assert [(found[name].error, found[name].status_code) for name in "bc"] == [(None, 200)] * 2
        assert found["b"].response.output_text
    assert api.sandbox.batches[0].billed


def test_a_download_that_breaks_is_read_again(client: Handle, api: BatchApi) -> None:
    made = create(client, requests(*map(str, range(20))))
    api.clock.now += SECONDS
    api.sandbox.script_batches({"call": "content", "cut": True}, {"call": "content", "status": 503})
    found = collect(client, "iter_batch_results", made.id)
    assert sorted(int(one.custom_id) for one in found) == list(range(20))


def test_an_expired_batch_has_a_result_for_each_request(client: Handle, api: BatchApi) -> None:
    api.sandbox.script_batches({"ending": "expired"})
    made = create(client, requests(*"abcd"))
    api.clock.now += SECONDS
    found = collect(client, "iter_batch_results", made.id)
    assert sorted(one.custom_id for one in found) == list("abcd")
    failed = [one.error for one in found if one.error]
    assert [error.retryable for error in failed] == [True, True]
    assert "could not be executed before the completion window expired" in str(failed[0])


def test_a_batch_that_fails_its_validation_names_the_requests(client: Handle, api: BatchApi) -> None:
    given = [prepared("a"), prepared("b", b'{"input":"x"}'), prepared("c", b"[]")]
    made = create(client, given)
    api.clock.now += SECONDS
    done = client.get("get_batch", made.id)
    assert (done.status, done.finalized_at > done.created_at) == ("failed", True)
    assert [(error.line, error.param, error.code) for error in done.errors] == [
        (2, "body.model", "missing_required_parameter"),
        (3, "body", "missing_required_parameter"),
    ]
    assert done.error_message == "body.model must be the name of a model (request 2, field body.model)"
    assert collect(client, "iter_batch_results", done) == []


def test_a_batch_is_cancelled(client: Handle, api: BatchApi) -> None:
    made = create(client, requests(*"abcd"))
    api.clock.now += SECONDS / 2
    assert client.get("cancel_batch", made.id).status == "cancelling"
    api.clock.now += SECONDS
    assert client.get("get_batch", made.id).status == "cancelled"
    assert len(collect(client, "iter_batch_results", made.id)) == 2
    with pytest.raises(APIError, match=r"409 Conflict: .*The batch has finished: read its results") as raised:
        client.get("cancel_batch", made.id)
    assert not raised.value.retryable


def test_the_files_of_a_batch_are_deleted(client: Handle, api: BatchApi, sdk: openai.OpenAI) -> None:
    api.sandbox.script_batches({"responses": [{"status": 500}]})
    made = create(client)
    with pytest.raises(APIError, match="the batch has not finished: its status is 'validating'") as raised:
        client.get("delete_batch", made.id)
    assert raised.value.status_code == 409
    api.clock.now += SECONDS
    done = client.get("get_batch", made.id)
    files = [done.input_file_id, done.output_file_id, done.error_file_id]
    sdk.files.delete(done.input_file_id)
    report = client.get("delete_batch", made.id)
    assert report == {"id": made.id, "object": "batch", "deleted_files": files[1:]}


def test_the_list_is_filtered_by_the_client(client: Handle, api: BatchApi) -> None:
    start = api.sandbox.state.batches.time()
    ids = []
    for _ in range(4):
        ids.append(create(client).id)
        api.clock.now += SECONDS
    create(client)
    listed = collect(client, "list_batches")
    assert [one.id for one in listed[1:]] == ids[::-1]
    assert [one.id for one in collect(client, "list_batches", limit=2, status="completed")] == [ids[3], ids[2]]
    assert [one.id for one in collect(client, "list_batches", status=["validating"])] == [listed[0].id]
    until, since = start + 2.5 * SECONDS, start + 0.5 * SECONDS
    found = collect(client, "list_batches", created_after=since, created_before=datetime.fromtimestamp(until, UTC))
    assert [one.id for one in found] == [ids[2], ids[1]]
    assert [one.id for one in collect(client, "list_batches", after=ids[1])] == [ids[0]]


# --- reading, at the wire


def test_the_files_of_results_are_read_one_after_the_other(flavour: Flavour) -> None:
    failed = item("c", response={"status_code": 402, "request_id": "req_1", "body": {"error": {"message": "no"}}})
    wire = Wire(
        created(status="completed", output_file_id="file-out", error_file_id="file/err"),
        httpx.Response(200, content=lines(item("b"), item("a"))),
        httpx.Response(200, content=lines(failed)),
    )
    found = collect(on(flavour, wire), "iter_batch_results", "batch_1")
    assert [one.custom_id for one in found] == ["b", "a", "c"]
    assert isinstance(found[2].error, PaymentRequiredResponseError)
    assert "openrouter" not in str(found[2].error)
    assert seen(wire) == ["GET /batches/batch_1", "GET /files/file-out/content", "GET /files/file%2Ferr/content"]
    assert wire.requests[1].headers["accept"] == "*/*"


def test_a_batch_without_files_has_no_results(flavour: Flavour) -> None:
    assert collect(on(flavour, Wire()), "iter_batch_results", Batch(raw=batch(status="failed"))) == []


def test_a_file_that_breaks_is_read_again_without_repeating_a_result(flavour: Flavour) -> None:
    body = lines(*(item(str(n), "x" * 200) for n in range(20)))
    half = httpx.Response(200, stream=Body(body[: len(body) // 2], BROKE))
    cut = httpx.Response(200, content=body[:-40])  # ends inside a line, as if it were complete
    wire = Wire(half, cut, httpx.Response(200, content=body.removesuffix(b"\n")))
    found = collect(on(flavour, wire), "iter_batch_results", finished(output_file_id="file-out"))
    assert [int(one.custom_id) for one in found] == list(range(20))
    assert wire.send_count == 3


def test_a_line_that_is_no_object_is_yielded_as_an_error(flavour: Flavour, caplog: pytest.LogCaptureFixture) -> None:
    body = lines(item("a")) + b"{broken\n\n[1]\n" + lines(item("b"))
    wire = Wire(httpx.Response(200, content=body))
    found = collect(on(flavour, wire), "iter_batch_results", finished(output_file_id="file-out"))
    assert [one.custom_id for one in found] == ["a", "", "", "b"]
    assert [type(one.error) for one in found[1:3]] == [InternalServerResponseError] * 2
    assert "Line 2 of the results is not a JSON object" in caplog.text


def test_another_body_than_a_file_of_results_is_an_error(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(200, content=b"<html>\n<body>\n"))
    with pytest.raises(APIError, match=r"expected a complete JSON object .*'<html>'") as raised:
        collect(on(flavour, wire, max_retries=0), "iter_batch_results", finished(output_file_id="file-out"))
    assert (raised.value.ambiguous, raised.value.retryable) == (False, True)


def test_a_file_that_was_deleted_is_an_error_with_advice(flavour: Flavour) -> None:
    wire = Wire(failure(404))
    with pytest.raises(NotFoundResponseError, match="The file of the results was deleted, or has expired"):
        collect(on(flavour, wire), "iter_batch_results", finished(output_file_id="file-out"))


def test_memory_does_not_grow_with_the_results(flavour: Flavour) -> None:
    one = json.dumps(item("NAME", "x" * 10_000)).encode()

    class Streamed(Body):
        def __iter__(self) -> Iterator[bytes]:
            return (one.replace(b"NAME", b"row-%d" % n) + b"\n" for n in range(5000))

    results = on(flavour, Wire(httpx.Response(200, stream=Streamed()))).client.iter_batch_results(
        finished(output_file_id="file-out")
    )

    async def count() -> int:
        return sum([len(one.response.output_text) == 10_000 async for one in results])

    tracemalloc.start()
    try:
        total = (
            sum(len(one.response.output_text) == 10_000 for one in results)
            if flavour.sync
            else flavour._runner.run(count())
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 5000
    assert peak < len(one) * 5000 / 20


values = st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.floats(allow_nan=False) | st.text())


@given(
    items=st.lists(values, max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    newline=st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
    before=st.sampled_from([b"", b"\n", b"\xef\xbb\xbf"]),
    ends=st.booleans(),
)
def test_any_split_of_a_file_yields_the_same_results(
    items: list[Any], cuts: list[int], newline: bytes, before: bytes, ends: bool
) -> None:
    body = before + newline.join(json.dumps(one).encode() for one in items) + (newline if ends else b"")
    edges = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    reader = LinesReader(HTTPResponse(httpx.Response(200)), SUMMARY)
    found = [one for start, end in pairwise(edges) for one in reader.feed(body[start:end])]
    found += reader.finish()
    assert found == items
    assert reader.finish() == []


def test_the_list_stops_at_the_first_batch_that_is_too_old(flavour: Flavour) -> None:
    data = [batch(id=name, created_at=at) for name, at in (("c", 30), ("b", 20), ("a", 10))]
    wire = Wire(ok(data=data, has_more=True, last_id="a"))
    found = collect(on(flavour, wire), "list_batches", created_after="1970-01-01T00:00:10Z", created_before=30.0)
    assert [one.id for one in found] == ["b"]
    assert seen(wire) == ["GET /batches?limit=100"]


def test_a_list_without_filters_is_as_short_as_its_limit(flavour: Flavour) -> None:
    wire = Wire(ok(data=[batch(id="b")], has_more=True, last_id="b"), ok(data=[batch(id="a")], has_more=False))
    assert [one.id for one in collect(on(flavour, wire), "list_batches", limit=2)] == ["b", "a"]
    assert seen(wire) == ["GET /batches?limit=2", "GET /batches?limit=1&after=b"]


def test_a_filtered_list_reads_whole_pages(flavour: Flavour) -> None:
    data = [batch(id="b"), batch(id="a", status="completed")]
    wire = Wire(ok(data=data, has_more=True, last_id="a"))
    assert [one.id for one in collect(on(flavour, wire), "list_batches", limit=1, status="completed")] == ["a"]
    assert seen(wire) == ["GET /batches?limit=100"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"status": "done"}, "status must be 'validating', .* got 'done'"),
        ({"created_after": "yesterday"}, "created_after must be a datetime with a time zone.*got 'yesterday'"),
        ({"created_before": "2026-11-01T00:00:00"}, "created_before must be a datetime with a time zone"),
    ],
)
def test_wrong_filters_are_refused_at_once(flavour: Flavour, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestValidationError, match=message):
        on(flavour, Wire()).client.list_batches(**arguments)


def test_the_page_after_an_unknown_batch_is_not_found(flavour: Flavour) -> None:
    with pytest.raises(NotFoundResponseError):
        collect(on(flavour, Wire(failure(404))), "list_batches", after="batch_9")


# --- cancel and delete, at the wire


def test_a_cancellation_has_no_body(flavour: Flavour) -> None:
    wire = Wire(created(status="cancelling"))
    assert on(flavour, wire).get("cancel_batch", "batch/1").status == "cancelling"
    assert seen(wire) == ["POST /batches/batch%2F1/cancel"]
    assert (wire.requests[0].content, "content-type" in wire.requests[0].headers) == (b"", False)


@pytest.mark.parametrize("status", ["cancelling", "cancelled"])
def test_a_cancellation_whose_response_was_lost_is_a_success(flavour: Flavour, status: str) -> None:
    wire = Wire(BROKE, failure(409), created(status=status))
    assert on(flavour, wire).get("cancel_batch", "batch_1").status == status


def test_a_batch_that_finished_before_the_cancellation_is_a_conflict(flavour: Flavour) -> None:
    wire = Wire(BROKE, failure(409), created(status="completed"))
    with pytest.raises(APIError, match="409 Conflict"):
        on(flavour, wire).get("cancel_batch", "batch_1")


def test_a_deletion_whose_response_was_lost_is_reported(flavour: Flavour) -> None:
    done = created(status="completed", output_file_id="file-out")
    wire = Wire(done, failure(404), BROKE, failure(404))
    report = on(flavour, wire).get("delete_batch", "batch_1")
    assert report["deleted_files"] == ["file-out"]
    assert seen(wire) == ["GET /batches/batch_1", "DELETE /files/file-in", *["DELETE /files/file-out"] * 2]


def test_a_deletion_that_is_forbidden_is_an_error(flavour: Flavour) -> None:
    wire = Wire(created(status="completed"), failure(403))
    with pytest.raises(APIError, match="403 Forbidden"):
        on(flavour, wire).get("delete_batch", "batch_1")


def test_an_unknown_batch_has_advice_for_the_server_in_use(flavour: Flavour) -> None:
    with pytest.raises(NotFoundResponseError, match=r"Check the batch's id\. The batch may belong to another key"):
        on(flavour, Wire(failure(404))).get("get_batch", "batch_1")


# --- the model


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_the_end_of_a_batch_is_the_time_of_its_status(status: str) -> None:
    ended = Batch(raw=batch(status=status, **{f"{status}_at": 1_790_000_100}))
    assert ended.finalized_at == datetime.fromtimestamp(1_790_000_100, UTC)
    assert Batch(raw=batch(status="cancelling", cancelling_at=1_790_000_100)).finalized_at is None


def test_a_batch_of_openai_without_model_usage_or_metadata_has_none() -> None:
    raw = batch()
    del raw["model"]
    found = Batch(raw=raw)
    assert (found.model, found.usage.total_tokens, found.metadata, found.errors, found.error_message) == (
        None, None, {}, (), None
    )  # fmt: skip
    assert (found.input_file_id, found.output_file_id, found.error_file_id) == ("file-in", None, None)


@pytest.mark.parametrize(
    ("reported", "errors", "message"),
    [
        ({"error": {"message": "row 7 is wrong"}}, (BatchProblem("row 7 is wrong"),), "row 7 is wrong"),
        ({"error": "wrong"}, (BatchProblem("wrong"),), "wrong"),
        (
            {"errors": {"data": [{"code": "c", "line": 3, "message": None, "param": None}, {"message": "m"}]}},
            (BatchProblem("c", 3, None, "c"), BatchProblem("m")),
            "c (request 3)",
        ),
        ({"errors": {"data": [None, {}, {"line": 1}, [7], "text"]}}, (BatchProblem("text"),), "text"),
        ({"errors": [1], "error": 7}, (), None),
    ],
)
def test_all_reasons_of_a_failure_are_read(
    reported: dict[str, Any], errors: tuple[BatchProblem, ...], message: str | None
) -> None:
    found = Batch(raw={"id": "batch_1", **reported})
    assert (found.errors, found.error_message) == (errors, message)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
objects = st.dictionaries(
    st.sampled_from(["message", "line", "param", "code"]), scalars | st.lists(scalars, max_size=2)
)
json_values = (
    scalars | objects | st.lists(objects, max_size=2) | st.fixed_dictionaries({"data": st.lists(objects | scalars)})
)


@given(st.dictionaries(st.sampled_from(["errors", "error", "metadata", "status", "completed_at"]), json_values))
def test_no_shape_of_a_batch_raises(raw: dict[str, Any]) -> None:
    found = Batch(raw=raw)
    assert all(isinstance(error.message, str) for error in found.errors)
    assert isinstance(found.metadata, dict)
    assert found.finalized_at is None or found.is_finished
