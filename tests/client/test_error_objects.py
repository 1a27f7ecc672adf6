"""Errors in place of an event or a response, in layers, in two events, or truncated."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from airflow_provider_responses import exceptions
from airflow_provider_responses.client import server_errors
from airflow_provider_responses.exceptions import APIError, BadRequestResponseError

from .error_rows import OPEN, SECRET
from .server import Connection, Server
from .shapes import created, end
from .wire import REQUEST, Body, Flavour, Wire, deltas, ended, good, sse, streamed

STREAMED = {**REQUEST, "stream": True}
REPORTS: list[tuple[dict[str, Any], int, str]] = [
    ({"type": "about:blank", "title": "Gone away", "status": 404, "detail": "no such model"}, 404, "no such model"),
    ({"type": "https://x.example/errors/limit", "title": "Slow down", "status": 429}, 429, "Slow down"),
    ({"object": "error", "type": "BadRequestError", "code": 400, "message": "no grammar"}, 400, "no grammar"),
    ({"object": "error", "code": 404, "message": "no model"}, 404, "no model"),
    ({"type": "invalid_request_error", "message": "no such field"}, 400, "no such field"),
    ({"code": 401, "message": "bad key"}, 401, "bad key"),
    ({"detail": {"code": "model_not_found", "message": "no model"}}, 404, "no model"),
]


@pytest.mark.parametrize(("body", "status", "words"), REPORTS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("method", ["an event", "a body", "a body that should stream"])
def test_an_error_in_place_of_a_response_or_an_event_is_raised(
    flavour: Flavour, body: dict[str, Any], status: int, words: str, method: str
) -> None:
    response = streamed(sse(body)) if method == "an event" else httpx.Response(200, json=body)
    with pytest.raises(APIError, match=words) as caught:
        flavour.on(Wire(response), max_retries=0).send(REQUEST if method == "a body" else STREAMED)
    assert type(caught.value) is exceptions.error_class_for_status(status)[0]
    assert (caught.value.status_code, caught.value.ambiguous) == (status, False)


def test_a_detail_without_a_code_has_the_servers_words(flavour: Flavour) -> None:
    body = {"detail": "it does not work"}
    with pytest.raises(APIError, match="it does not work") as caught:
        flavour.on(Wire(httpx.Response(200, json=body))).send()
    assert (caught.value.retryable, caught.value.sends) == (False, 1)
    with pytest.raises(APIError, match="it does not work") as caught:
        flavour.on(Wire(streamed(sse(body))), max_retries=0).send(STREAMED)
    assert (caught.value.status_code, caught.value.ambiguous) == (500, False)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "keepalive", "message": "still here"},
        {"type": "warning", "code": 429, "message": "the upstream is slow"},
        {"type": "tokens", "message": "3 tokens"},
        {"message": "ok"},
        {"code": 0, "message": "success"},
        {"status": "in_progress", "message": "queued"},
        {"type": "response.unknown", "code": 404, "message": "not found"},
        {"detail": None},
    ],
    ids=str,
)
def test_a_sign_of_life_is_no_error(flavour: Flavour, event: dict[str, Any]) -> None:
    data = sse(event, *deltas("Hel|lo"), event, ended())
    assert flavour.on(Wire(streamed(data))).send(STREAMED).output_text == "Hello"


def test_json_that_is_something_else_is_not_quoted(flavour: Flavour) -> None:
    for body in ({"message": SECRET}, {"choices": [], "detail": SECRET, "code": 400}, {"x": SECRET}):
        with pytest.raises(APIError, match="not a response") as caught:
            flavour.on(Wire(httpx.Response(200, json=body))).send()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"type": "error", "status": 401, "error": {"message": "reported"}}, 401),
        ({"type": "error", "code": "invalid_api_key", "error": {"message": "reported"}}, 401),
        ({"type": "error", "code": "invalid_api_key", "error": {"message": "reported", "code": "server_error"}}, 401),
        ({"type": "error", "code": "server_error", "error": {"message": "reported", "code": "model_not_found"}}, 404),
        ({"type": "error", "code": 429, "error": "reported"}, 429),
        ({"type": "error", "message": "reported", "error": {"code": "context_length_exceeded"}}, 400),
        ({"type": "response.failed", "status": 402, "error": {"message": "reported"}}, 402),
        ({"type": "error", "error": {"message": "reported"}}, 500),
    ],
    ids=str,
)
def test_all_layers_of_an_error_event_are_read(flavour: Flavour, event: dict[str, Any], status: int) -> None:
    with pytest.raises(APIError, match="reported") as caught:
        flavour.on(Wire(streamed(sse(event))), max_retries=0).send(STREAMED)
    assert caught.value.status_code == status


@pytest.mark.parametrize(
    ("first", "last", "status", "words"),
    [
        ("server_error", {"code": "context_length_exceeded", "message": "too long"}, 400, "too long"),
        ("server_error", {"code": "context_length_exceeded", "message": None}, 400, "broke"),
        ("context_length_exceeded", {"code": "server_error", "message": "boom"}, 400, "broke"),
        ("context_length_exceeded", None, 400, "broke"),
        ("rate_limit_exceeded", {"code": "rate_limit_exceeded", "message": "later"}, 429, "broke"),
        ("new_name", {"code": "insufficient_quota", "message": "no money"}, 402, "no money"),
        (None, {"code": "new_name", "message": "new"}, 500, "new"),
    ],
)
def test_of_an_error_and_the_failed_response_after_it_the_more_particular_counts(
    flavour: Flavour, first: str | None, last: Any, status: int, words: str
) -> None:
    data = sse(
        created(),
        {"type": "error", "code": first, "message": "it broke"},
        end(kind="failed", error=last, usage=None, id="resp_7"),
    )
    with pytest.raises(APIError, match=words) as caught:
        flavour.on(Wire(streamed(data)), max_retries=0).send(STREAMED)
    assert caught.value.status_code == status
    assert caught.value.response is not None
    assert caught.value.response.id == "resp_7"


@pytest.mark.parametrize(
    "pieces",
    [
        [b'{"error": {"message": "no such gra', httpx.RemoteProtocolError("cut off")],
        [b'{"error": {"message": "no such gra', httpx.DecodingError("bad gzip")],
        [httpx.ReadError("dropped")],
    ],
    ids=["cut off", "not to be decoded", "nothing of it"],
)
@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["plain", "streamed"])
def test_a_status_counts_although_its_body_breaks_off(
    flavour: Flavour, pieces: list[Any], request_: dict[str, Any]
) -> None:
    wire = Wire(httpx.Response(400, stream=Body(*pieces)))
    with pytest.raises(BadRequestResponseError) as caught:
        flavour.on(wire).send(request_)
    assert (caught.value.ambiguous, wire.send_count) == (False, 1)
    assert ("no such gra" in str(caught.value)) is (len(pieces) > 1)


def test_a_status_counts_although_its_body_breaks_off_on_a_real_connection(flavour: Flavour, server: Server) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send('HTTP/1.1 400 Bad Request\r\ncontent-length: 900\r\n\r\n{"error": {"message": "no grammar"}}')

    server.script = script
    with pytest.raises(BadRequestResponseError, match="no grammar"):
        flavour.network(base_url=server.url).send()


def test_a_busy_server_whose_body_breaks_off_gets_a_retry(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(503, stream=Body(b"{", httpx.ReadError("dropped"))), good())
    assert flavour.on(wire, max_ambiguous_retries=0).send().sends == 2


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ({"message": "Conversation with id 'conv_1' not found."}, "does not have the conversation"),
        ({"message": "not found", "param": "conversation"}, "does not have the conversation"),
        ({"message": "Prompt with id 'pmpt_1' not found."}, "does not have the prompt"),
        ({"message": "No such file: file-abc"}, "does not have the file"),
        ({"message": "Vector store vs_1 not found"}, "does not have the vector store"),
        ({"message": "The model file is gone", "param": "model"}, "Check the model's name"),
        ({"message": "no file of the model"}, "Check the model's name"),
        ({"message": "no file", "code": "model_not_found"}, "Check the model's name"),
        ({"message": "not found"}, "Check the model's name"),
    ],
    ids=str,
)
def test_a_404_advises_on_the_missing_object(error: dict[str, Any], advice: str) -> None:
    body = httpx.Response(404, json={"error": error}).content
    assert advice in str(server_errors.error_from_response(404, {}, body, request=OPEN))
