"""Both clients on a fake network, in the same tests: requests, retries, responses and errors."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import httpx
import pytest

from airflow_provider_responses import __version__
from airflow_provider_responses.client import AsyncResponsesClient, ResponsesClient
from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    ConfigurationError,
    IncompleteResponseError,
    RefusalError,
    RequestCancelledError,
    RequestValidationError,
    ResponsesError,
    ServiceUnavailableResponseError,
    TooManyRequestsResponseError,
    UnauthorizedResponseError,
)
from airflow_provider_responses.models import ResponsesRequest

from .wire import KEY, REQUEST, Flavour, Wire, config, failure, good, result

# Methods of only one of the clients: `cancel` with its helpers, and parsing in threads.
SYNC_ONLY = {"cancel", "_wait", "_check_cancelled"}
ASYNC_ONLY = {"_read_event", "_read_response"}
LOOPBACK = "http://127.0.0.1:8642/v1"
REFUSED = httpx.ConnectError("refused")
DROPPED = httpx.ReadError("dropped")


def test_both_clients_have_the_same_methods_in_the_same_order() -> None:
    sync = [name for name, value in vars(ResponsesClient).items() if callable(value) and name not in SYNC_ONLY]
    both = [name for name, value in vars(AsyncResponsesClient).items() if callable(value) and name not in ASYNC_ONLY]
    plain = {"__aenter__": "__enter__", "__aexit__": "__exit__", "aclose": "close"}
    assert [plain.get(name, name) for name in both] == sync


# --- requests


def test_the_request_goes_out_as_its_canonical_bytes(flavour: Flavour) -> None:
    wire = Wire(good(), good())
    client = flavour.on(wire)
    client.send({"input": "Grüße", "model": "m", "text": {"verbosity": "low", "a": 2}})
    client.send(ResponsesRequest(model="m", input="Grüße", text={"verbosity": "low", "a": 2}))
    expected = '{"model":"m","input":"Grüße","text":{"verbosity":"low","a":2},"stream":false}'.encode()
    assert [request.content for request in wire.requests] == [expected, expected]
    assert (wire.requests[0].method, str(wire.requests[0].url)) == ("POST", "https://openrouter.ai/api/v1/responses")


def test_every_send_has_the_same_bytes_and_headers(flavour: Flavour) -> None:
    wire = Wire(failure(500), REFUSED, good())
    flavour.on(wire).send()
    assert len({request.content for request in wire.requests}) == 1
    assert len({str(sorted(request.headers.items())) for request in wire.requests}) == 1


def test_headers_are_as_documented(flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(
        wire, app_title="My app", app_url="https://example.org", extra_headers={"X-Team": "data", "X-Other": "kept"}
    ).send(options={"headers": {"x-team": "mine", "User-Agent": "other/1"}, "metadata_level": "enabled"})
    headers = wire.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert headers["accept"] == "application/json"
    assert headers["http-referer"] == "https://example.org"
    assert headers["x-openrouter-title"] == "My app"
    assert headers["x-openrouter-metadata"] == "enabled"
    assert headers.get_list("x-team") == ["mine"]
    assert headers["x-other"] == "kept"
    assert headers.get_list("user-agent") == ["other/1"]


def test_the_user_agent_names_the_package(flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(wire).send()
    assert wire.requests[0].headers.get_list("user-agent") == [f"airflow-provider-responses/{__version__}"]


def test_accept_can_be_overridden(flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(wire).send(options={"accept": "application/vnd.other+json"})
    assert wire.requests[0].headers.get_list("accept") == ["application/vnd.other+json"]


def test_no_header_of_openrouters_own_is_sent_by_default(flavour: Flavour) -> None:
    wire = Wire(good(), good())
    flavour.on(wire, base_url=LOOPBACK).send()
    flavour.on(wire).send()
    for request in wire.requests:
        assert not [name for name in request.headers if name.startswith("x-") or name in {"http-referer", "cookie"}]


def test_a_call_may_go_to_another_server(flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(wire).send({**REQUEST, "store": True}, options={"base_url": f"{LOOPBACK}/"})
    assert str(wire.requests[0].url) == f"{LOOPBACK}/responses"
    assert wire.sent[0]["store"] is True


@pytest.mark.parametrize(
    "options", [{"headers": {"Authorization": "Bearer x"}}, {"headers": {"Host": "x"}}, {"retries": 1}, {"timeout": 0}]
)
def test_wrong_options_are_refused_before_anything_is_sent(flavour: Flavour, options: dict[str, Any]) -> None:
    wire = Wire()
    with pytest.raises(ConfigurationError, match="options"):
        flavour.on(wire).send(options=options)
    assert wire.send_count == 0


def test_cookies_are_not_carried_from_call_to_call(flavour: Flavour) -> None:
    # Clients of a process share connections: a cookie would mix the calls of several accounts.
    wire = Wire(good(headers={"set-cookie": "session=abc; Path=/"}), good())
    client = flavour.on(wire)
    client.send()
    client.send()
    assert "cookie" not in wire.requests[1].headers


@pytest.mark.parametrize(
    ("request_fields", "model"),
    [
        ({"input": "Hi"}, "maker/default"),
        ({"input": "Hi", "model": None}, "maker/default"),
        ({"input": "Hi", "model": "maker/own"}, "maker/own"),
        ({"input": "Hi", "models": ["maker/a", "maker/b"]}, None),
    ],
    ids=str,
)
def test_the_default_model_is_used_only_if_none_is_given(
    flavour: Flavour, request_fields: dict[str, Any], model: str | None
) -> None:
    wire = Wire(good())
    flavour.on(wire, default_model="maker/default").send(request_fields)
    assert wire.sent[0].get("model") == model


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": "Hi"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": "Hi", "background": True}, "background"),
        ({"model": "m", "input": "Hi", "store": True}, "store"),
        ({"model": "m", "input": "Hi", "previous_response_id": "resp_0"}, "previous_response_id"),
        ({"model": "m", "input": "Hi", "max_tool_calls": 31}, "max_tool_calls"),
        ({"model": "m", "input": "Hi", "temprature": 1}, "temprature"),
        ({"model": "m", "input": [{"type": "new", "a": float("nan")}]}, "input.0.a"),
    ],
    ids=str,
)
def test_requests_that_cannot_succeed_are_refused_before_sending(
    flavour: Flavour, fields: dict[str, Any], field: str
) -> None:
    wire = Wire()
    client = flavour.on(wire)
    with pytest.raises(RequestValidationError) as caught:
        client.send(fields)
    assert caught.value.fields == (field,)
    with pytest.raises(RequestValidationError):
        list(client.stream(fields))
    assert wire.send_count == 0


def test_valid_fields_pass_on_openrouter(flavour: Flavour) -> None:
    wire = Wire(good())
    fields = {"store": False, "previous_response_id": None, "max_tool_calls": 30, "background": False}
    flavour.on(wire).send({**REQUEST, **fields})
    assert wire.sent[0] == {**REQUEST, **fields, "stream": False}


def test_towards_other_servers_the_users_fields_are_sent_unchanged(flavour: Flavour) -> None:
    wire = Wire(good())
    fields = {"store": True, "previous_response_id": "resp_0", "max_tool_calls": 99, "provider": {"zdr": True}}
    flavour.on(wire, base_url=LOOPBACK).send({**REQUEST, **fields})
    assert wire.sent[0] == {**REQUEST, **fields, "stream": False}


def test_a_stored_prompt_needs_no_input(flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(wire).send({"model": "m", "prompt": {"id": "p"}})
    assert wire.sent == [{"model": "m", "prompt": {"id": "p"}, "stream": False}]


@pytest.mark.parametrize(
    ("fields", "stream"),
    [
        ({}, False),
        ({"stream": None}, False),
        ({"stream": False}, False),
        ({"stream": True}, True),
        ({"stream": "true"}, True),
    ],
    ids=str,
)
def test_every_request_sets_stream(flavour: Flavour, fields: dict[str, Any], stream: bool) -> None:
    """Some servers stream if `stream` is not set."""
    wire = Wire(failure(500), good(), good())
    client = flavour.on(wire)
    client.send({**REQUEST, **fields})
    list(client.stream({**REQUEST, **fields}))
    assert [sent["stream"] for sent in wire.sent] == [stream, stream, True]
    accepts = {True: "text/event-stream", False: "application/json"}
    assert [request.headers["accept"] for request in wire.requests] == [accepts[stream], accepts[stream], accepts[True]]
    assert wire.requests[0].content == wire.requests[1].content


# --- responses


def test_a_response_has_its_headers_sends_and_seconds(flavour: Flavour) -> None:
    wire = Wire(failure(503), good(headers={"X-Generation-Id": "gen-1", "X-OpenRouter-Cache-Status": "HIT"}))
    response = flavour.on(wire).send()
    assert (response.output_text, response.generation_id, response.cached) == ("Hello", "gen-1", True)
    assert response.sends == 2
    assert [type(error) for error in response.previous] == [ServiceUnavailableResponseError]
    assert response.seconds == pytest.approx(sum(wire.waits))


def test_a_redirect_is_not_followed(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(307, headers={"location": "https://elsewhere.example/v1/responses"}))
    with pytest.raises(APIError, match="307") as caught:
        flavour.on(wire).send()
    assert (caught.value.status_code, caught.value.retryable) == (307, False)
    assert [request.url.host for request in wire.requests] == ["openrouter.ai"]


def test_a_failure_inside_a_200_is_retried_if_its_class_is_retryable(flavour: Flavour) -> None:
    overloaded = good(status="failed", error={"code": "server_error", "message": "m"}, error_type="provider_overloaded")
    wire = Wire(overloaded, good())
    assert flavour.on(wire).send().sends == 2
    wrong = good(status="failed", error={"code": "invalid_prompt", "message": "m"})
    wire = Wire(wrong)
    with pytest.raises(BadRequestResponseError) as caught:
        flavour.on(wire).send()
    assert caught.value.response is not None
    assert caught.value.response.usage.cost == 0.5


@pytest.mark.parametrize(
    ("changes", "cls"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, IncompleteResponseError),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}, RefusalError),
    ],
    ids=["incomplete", "refusal"],
)
def test_a_paid_response_is_not_requested_again(
    flavour: Flavour, changes: dict[str, Any], cls: type[ResponsesError]
) -> None:
    wire = Wire(failure(500), good(headers={"x-generation-id": "gen-1"}, **changes))
    with pytest.raises(cls) as caught:
        flavour.on(wire).send()
    error = caught.value
    assert error.response is not None
    assert (error.response.usage.cost, error.generation_id, error.sends) == (0.5, "gen-1", 2)


def test_numbers_of_the_key_the_generation_and_the_models_are_read(flavour: Flavour) -> None:
    wire = Wire(
        failure(502),
        httpx.Response(200, json={"data": {"limit_remaining": 3.5}}),
        httpx.Response(200, json={"data": {"total_cost": 0.5}}),
        httpx.Response(200, json={"data": [{"id": "maker/small-1"}]}),
    )
    client = flavour.on(wire)
    assert client.get("get_key") == {"limit_remaining": 3.5}
    assert client.get("get_generation", "gen-1&x=/ü") == {"total_cost": 0.5}
    assert client.get("get_models") == [{"id": "maker/small-1"}]
    urls = [str(request.url) for request in wire.requests[1:]]
    base = "https://openrouter.ai/api/v1"
    assert urls == [f"{base}/key", f"{base}/generation?id=gen-1%26x%3D%2F%C3%BC", f"{base}/models"]
    assert {request.method for request in wire.requests} == {"GET"}
    assert {request.content for request in wire.requests} == {b""}
    assert {request.headers["authorization"] for request in wire.requests} == {f"Bearer {KEY}"}


def test_reading_raises_the_same_errors(flavour: Flavour) -> None:
    with pytest.raises(UnauthorizedResponseError, match=r"GET https://openrouter\.ai/api/v1/key"):
        flavour.on(Wire(failure(401))).get("get_key")
    with pytest.raises(APIError, match="expected a complete JSON object"):
        flavour.on(Wire(httpx.Response(200, text="<html>"), httpx.Response(200, text="<html>"))).get("get_models")


# --- retries


# --- errors


def test_errors_name_the_request_but_do_not_quote_it(flavour: Flavour) -> None:
    for response in (failure(400), good(status="incomplete"), httpx.Response(404, text="no")):
        with pytest.raises(
            ResponsesError, match=r"POST https://openrouter.ai/api/v1/responses \(model maker/"
        ) as caught:
            flavour.on(Wire(response)).send()
        assert str(REQUEST["input"]) not in str(caught.value)
        assert "Hello" not in str(caught.value)


def everything(error: BaseException | None) -> str:
    shown = ""
    while error is not None:
        shown += f"{error} {error!r} {error.args} {getattr(error, '__notes__', '')}"
        shown += "".join(everything(before) for before in getattr(error, "previous", ()))
        error = error.__cause__ or error.__context__
    return shown


def test_the_key_is_shown_nowhere(flavour: Flavour, caplog: pytest.LogCaptureFixture) -> None:
    secret = "hidden-value"
    settings = {"extra_headers": {"X-Token": secret}}
    responses: list[Any] = [REFUSED, DROPPED, failure(503), failure(401)]
    client = flavour.on(Wire(*responses), **settings)
    with caplog.at_level(logging.DEBUG), pytest.raises(UnauthorizedResponseError) as caught:
        client.send(options={"headers": {"X-Other": secret}})
    logged = "".join(record.getMessage() + str(vars(record)) for record in caplog.records)
    for shown in (everything(caught.value), logged, repr(client.client), repr(client.client.config)):
        assert KEY not in shown
        assert secret not in shown


def test_a_prepared_call_does_not_show_the_key(flavour: Flavour) -> None:
    # Tracebacks with local variables show such objects.
    call = flavour.on(Wire()).client._post(REQUEST, None)
    assert KEY not in repr(call)
    assert str(REQUEST["input"]) not in repr(call)


def test_a_server_that_echoes_the_key_does_not_get_it_into_messages(
    flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        message = f"wrong: {request.headers['authorization']}"
        return failure(503, message=message, metadata={"raw": message})

    client = flavour.on(Wire(echo, echo), max_retries=1)
    with caplog.at_level(logging.DEBUG), pytest.raises(ServiceUnavailableResponseError) as caught:
        client.send()
    assert KEY not in everything(caught.value)
    assert KEY not in caplog.text


def test_responses_and_errors_can_be_pickled(flavour: Flavour) -> None:
    wire = Wire(failure(503), good(headers={"x-generation-id": "gen-1"}), REFUSED, good(status="incomplete"))
    client = flavour.on(wire)
    response = client.send()
    with pytest.raises(IncompleteResponseError) as caught:
        client.send()
    again = pickle.loads(pickle.dumps(response))  # noqa: S301  its own bytes
    assert (again.raw, again.generation_id, again.sends) == (response.raw, "gen-1", 2)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  its own bytes
    assert (error.response.usage.cost, error.sends, error.__notes__) == (0.5, 2, caught.value.__notes__)


# --- cancelling


def test_after_cancel_nothing_is_sent() -> None:
    wire = Wire()
    client = ResponsesClient(config(), pool=SyncPool(httpx.MockTransport(wire)))
    client.cancel()
    with pytest.raises(RequestCancelledError):
        client.send(REQUEST)
    assert wire.send_count == 0


def test_a_cancel_during_a_wait_ends_it_and_no_send_follows() -> None:
    def sleep(seconds: float) -> None:
        wire.sleep(seconds)
        client.cancel()

    wire = Wire(failure(429, {"retry-after": "30"}))
    pool = SyncPool(httpx.MockTransport(wire))
    client = ResponsesClient(config(), pool=pool, clock=wire.clock, sleep=sleep)
    with pytest.raises(RequestCancelledError, match="No send follows") as caught:
        client.send(REQUEST)
    assert (wire.send_count, len(wire.slept)) == (1, 1)
    assert wire.slept[0] <= 0.5
    assert [type(error) for error in caught.value.previous] == [TooManyRequestsResponseError]


def test_a_cancel_during_a_call_hides_what_breaks_because_of_it() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        client.cancel()
        raise DROPPED

    client = ResponsesClient(config(), pool=SyncPool(httpx.MockTransport(handler)))
    with pytest.raises(RequestCancelledError) as caught:
        client.send(REQUEST)
    assert caught.value.__cause__ is DROPPED
    assert caught.value.ambiguous


def test_clients_close_as_context_managers() -> None:
    pool = SyncPool(httpx.MockTransport(Wire(good())))
    with ResponsesClient(config(), pool=pool) as client:
        assert json.loads(json.dumps(client.send(REQUEST).raw)) == result()
    assert pool.http.is_closed


SECRET = "gateway-token-of-the-tests"


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, html=f"<html>Authorization: Bearer {KEY}</html>"),
        httpx.Response(200, json={"status": "failed", "error": {"message": f"bad {KEY}", "metadata": {"raw": KEY}}}),
        httpx.Response(401, json={"error": {"message": f"bad {KEY} and {SECRET}"}}),
        httpx.Response(401, content=json.dumps({"error": {"message": KEY}}).replace("-", "\\u002d")),
    ],
    ids=["page", "failed", "error", "escaped"],
)
def test_a_secret_in_a_response_is_redacted(flavour: Flavour, response: httpx.Response, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    wire = Wire(*[httpx.Response(response.status_code, headers=response.headers, content=response.content)] * 2)
    client = flavour.on(wire, max_retries=0, max_ambiguous_retries=1, extra_headers={"X-Gateway-Token": SECRET})
    with pytest.raises(APIError) as caught:
        client.send()
    shown = f"{caught.value} {vars(caught.value)} {caplog.text}"
    if caught.value.response is not None:
        shown += repr(caught.value.response.raw)
    assert KEY not in shown
    assert SECRET not in shown


def test_a_mangled_response_is_not_quoted(flavour: Flavour) -> None:
    client = flavour.on(Wire(httpx.Response(200, content=b"The patient John Smith has")), max_ambiguous_retries=0)
    with pytest.raises(APIError, match="expected a complete JSON object with status 200, got 26 bytes") as caught:
        client.send()
    assert "John" not in str(caught.value)
