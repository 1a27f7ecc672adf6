"""The file and the call that submit a batch of OpenAI's, and the requests that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import BatchCreateParams
from pydantic import TypeAdapter

from airflow_provider_responses.client.base_client import batch_protocol_of
from airflow_provider_responses.client.openai_batch_body import OpenAIBatchBody, OpenAIBatchHead
from airflow_provider_responses.exceptions import (
    RequestValidationError,
)
from airflow_provider_responses.models import BatchRequest

from .batch_wire import requests
from .openai_batch_wire import (
    BASE,
    MODEL,
    create,
    created,
    file_of,
    on,
    prepared,
    seen,
    uploaded,
)
from .wire import Flavour, Wire, config

DATA_URL = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,AA"}


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
