from __future__ import annotations

import httpx
import pytest

from airflow_provider_responses.sandbox.http.http_errors import DOCUMENTED
from airflow_provider_responses.sandbox.state.script import AVAILABILITY_STATUS, ERROR_TYPES

from .conftest import HELLO, output_text, read_events, send_and_wait, wait_for

COMPONENTS = {
    400: "BadRequestResponse",
    401: "UnauthorizedResponse",
    402: "PaymentRequiredResponse",
    403: "ForbiddenResponse",
    404: "NotFoundResponse",
    408: "RequestTimeoutResponse",
    413: "PayloadTooLargeResponse",
    422: "UnprocessableEntityResponse",
    429: "TooManyRequestsResponse",
    500: "InternalServerResponse",
    502: "BadGatewayResponse",
    503: "ServiceUnavailableResponse",
    524: "EdgeNetworkTimeoutResponse",
    529: "ProviderOverloadedResponse",
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("status", [*DOCUMENTED, 409, 418, 425, 504, 599])
@pytest.mark.parametrize("by", ["script", "model"])
def test_every_status_on_demand(http, sandbox, api, status, by, stream):
    request = HELLO | {"stream": stream}
    if by == "script":
        sandbox.script({"status": status})
    else:
        request["model"] = f"sandbox/error-{status}"
    response = http.post("/responses", json=request)
    assert response.status_code == status
    api.check(response.json(), COMPONENTS.get(status, "InternalServerResponse"))
    assert response.json()["error"]["code"] == status
    assert ("retry-after" in response.headers) == (status in {429, 503})
    assert ("x-ratelimit-remaining" in response.headers) == (status == 429)
    assert "x-generation-id" in response.headers
    (entry,) = sandbox.ledger
    assert (entry.outcome, entry.status, entry.billed) == ("error", status, False)


@pytest.mark.parametrize("kind", ["guardrail-blocked", "insufficient-permissions", "moderation"])
@pytest.mark.parametrize("by", ["script", "model"])
def test_every_kind_of_403(http, sandbox, api, kind, by):
    request = HELLO | ({"model": f"sandbox/{kind}"} if by == "model" else {})
    if by == "script":
        sandbox.script({"status": 403, "kind": kind})
    response = http.post("/responses", json=request, headers={"X-OpenRouter-Metadata": "enabled"})
    assert response.status_code == 403
    body = response.json()
    api.check(body, "ForbiddenResponse")
    api.check(body["openrouter_metadata"], "OpenRouterMetadata")
    found = body["error"].get("metadata") or {}
    expected = {
        "guardrail-blocked": {"patterns"},
        "insufficient-permissions": set(),
        "moderation": {"reasons", "flagged_input", "provider_name", "model_slug"},
    }
    assert set(found) == expected[kind]
    assert ("pipeline" in body["openrouter_metadata"]) == (kind == "guardrail-blocked")


def test_an_error_has_the_fields_of_its_step(http, sandbox):
    sandbox.script(
        {
            "status": 503,
            "message": "later",
            "retry_after": 2.5,
            "metadata": {"previous_errors": []},
            "availability": {"code": "capacity_exhausted", "retryable": True},
            "error_type": "provider_overloaded",
        }
    )
    response = http.post("/responses", json=HELLO)
    assert response.headers["retry-after"] == "2.5"
    assert response.json()["error"] == {
        "code": 503,
        "message": "later",
        "metadata": {"previous_errors": []},
        "availability": {"code": "capacity_exhausted", "retryable": True},
        "error_type": "provider_overloaded",
    }


@pytest.mark.parametrize("by", ["script", "model"])
@pytest.mark.parametrize("code", AVAILABILITY_STATUS)
def test_availability_by_its_code(http, sandbox, api, code, by):
    request = HELLO | ({"model": f"sandbox/availability-{code}"} if by == "model" else {})
    if by == "script":
        sandbox.script({"availability": code})
    response = http.post("/responses", json=request)
    assert response.status_code == AVAILABILITY_STATUS[code]
    api.check(response.json(), COMPONENTS[response.status_code])
    found = response.json()["error"]["availability"]
    assert (found["code"], found["requested_models"]) == (code, [request["model"]])
    assert found["retryable"] == (response.status_code == 503)
    assert ("retry_after" in found) == found["retryable"] != ("fallback_models" in found)


def test_availability_beside_a_status(http, sandbox):
    sandbox.script({"status": 529, "availability": "capacity_exhausted", "retry_after": 7})
    response = http.post("/responses", json=HELLO)
    assert (response.status_code, response.headers["retry-after"]) == (529, "7")
    assert response.json()["error"]["availability"]["retry_after"] == 7


METADATA = {"X-OpenRouter-Metadata": "enabled"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("step", "model", "status"),
    [
        ({}, "openai/gpt-4o", 200),
        ({"incomplete": "content_filter"}, "openai/gpt-4o", 200),
        ({"failed": "provider_overloaded"}, "openai/gpt-4o", 503),
        ({"failed": "invalid_prompt"}, "openai/gpt-4o", 400),
        ({"status": 429}, "openai/gpt-4o", 429),
        ({"availability": "no_endpoints"}, "openai/gpt-4o", 404),
        ({}, "missing/model", None),
    ],
)
def test_routing_metadata_on_results_and_errors(http, sandbox, api, step, model, status, stream):
    sandbox.script(step, step)
    request = HELLO | {"model": model, "stream": stream}
    response = http.post("/responses", json=request, headers=METADATA)
    is_stream = response.headers["content-type"].startswith("text/event-stream")
    body = read_events(response.text)[-1]["response"] if is_stream else response.json()
    found = body["openrouter_metadata"]
    api.check(found, "OpenRouterMetadata")
    assert found["requested"] == model
    assert [attempt["status"] for attempt in found["attempts"]] == ([status] if status else [])
    assert found["endpoints"]["total"] == (1 if status else 0)
    assert "openrouter_metadata" not in http.post("/responses", json=request).text


@pytest.mark.parametrize(("given", "sent"), [(None, None), (0, "0"), (3, "3")])
def test_retry_after_is_settable(http, sandbox, given, sent):
    sandbox.script({"status": 429, "retry_after": given})
    assert http.post("/responses", json=HELLO).headers.get("retry-after") == sent


@pytest.mark.parametrize("error_type", ERROR_TYPES)
@pytest.mark.parametrize("stream", [True, False])
def test_a_200_can_hold_a_failed_response(http, sandbox, api, error_type, stream):
    sandbox.script({"failed": error_type})
    response = http.post("/responses", json=HELLO | {"stream": stream})
    assert response.status_code == 200
    body = _final(response, api, "response.failed") if stream else response.json()
    api.check(body, "OpenResponsesResult")
    assert (body["status"], body["error_type"]) == ("failed", error_type)
    assert body["error"]["message"]
    assert (sandbox.ledger[0].outcome, sandbox.billed) == ("error", [])
    by_model = http.post("/responses", json=HELLO | {"model": f"sandbox/failed-{error_type}"}).json()
    assert by_model["error_type"] == error_type


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
@pytest.mark.parametrize("stream", [True, False])
def test_incomplete_responses(http, sandbox, api, reason, stream):
    sandbox.script({"incomplete": reason})
    response = http.post("/responses", json=HELLO | {"stream": stream})
    body = _final(response, api, "response.incomplete") if stream else response.json()
    api.check(body, "OpenResponsesResult")
    assert body["status"] == "incomplete"
    assert body["incomplete_details"]["reason"] == reason
    assert output_text(body) == "Rain fell on the o"
    assert sandbox.billed[0].cost == body["usage"]["cost"] > 0
    assert http.post("/responses", json=HELLO | {"model": "sandbox/incomplete"}).json()["status"] == "incomplete"


@pytest.mark.parametrize("stream", [True, False])
def test_refusals(http, sandbox, api, stream):
    sandbox.script({"refusal": "I will not do that."})
    response = http.post("/responses", json=HELLO | {"stream": stream})
    body = _final(response, api, "response.completed") if stream else response.json()
    api.check(body, "OpenResponsesResult")
    assert body["output"][0]["content"] == [{"type": "refusal", "refusal": "I will not do that."}]
    if stream:
        events = read_events(response.text)
        deltas = [event["delta"] for event in events if event["type"] == "response.refusal.delta"]
        assert "".join(deltas) == "I will not do that."
    by_model = http.post("/responses", json=HELLO | {"model": "sandbox/refusal"}).json()
    assert by_model["output"][0]["content"][0]["type"] == "refusal"


def _final(response, api, kind):
    events = read_events(response.text)
    for event in events:
        api.check(event, "StreamEvents")
    assert events[-1]["type"] == kind
    return events[-1]["response"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("by", ["script", "model"])
def test_drop_closes_the_connection_without_response_and_bill(http, sandbox, stream, by):
    request = HELLO | {"stream": stream}
    if by == "script":
        sandbox.script({"drop": True})
    else:
        request["model"] = "sandbox/drop"
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/responses", json=request)
    assert (sandbox.ledger[0].outcome, sandbox.billed) == ("broken", [])
    assert http.post("/responses", json=HELLO).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_drop_after_bills_and_caches_the_response(http, sandbox, stream):
    request, cached = HELLO | {"stream": stream}, {"X-OpenRouter-Cache": "true"}
    sandbox.script({"drop": "after"})
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/responses", json=request, headers=cached)
    assert [(entry.outcome, entry.delivered) for entry in sandbox.billed] == [("generated", False)]
    response = http.post("/responses", json=request, headers=cached)
    assert response.headers["x-openrouter-cache-status"] == "HIT"
    assert len(sandbox.billed) == 1


def test_truncate_ends_a_stream_cleanly_half_way(http, sandbox):
    sandbox.script({"truncate": True})
    response = http.post("/responses", json=HELLO | {"stream": True}, headers={"X-OpenRouter-Cache": "true"})
    types = [event["type"] for event in read_events(response.text)]
    assert types[-1] == "response.output_text.delta"
    assert "[DONE]" not in response.text
    (entry,) = sandbox.ledger
    assert (entry.outcome, entry.billed, entry.delivered) == ("broken", True, False)
    again = http.post("/responses", json=HELLO | {"stream": True}, headers={"X-OpenRouter-Cache": "true"})
    assert again.headers["x-openrouter-cache-status"] == "MISS"


def test_cut_closes_the_connection_in_mid_stream(http, sandbox):
    sandbox.script({"cut": True})
    got = []
    with http.stream("POST", "/responses", json=HELLO | {"stream": True}) as response:
        with pytest.raises(httpx.RemoteProtocolError):
            got.extend(response.iter_text())
        assert response.status_code == 200
    assert sandbox.ledger[0].outcome == "broken"


def test_truncate_and_cut_send_half_a_body(http, sandbox):
    sandbox.script({"truncate": True}, {"cut": True})
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        http.post("/responses", json=HELLO).json()
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/responses", json=HELLO)
    assert [entry.outcome for entry in sandbox.billed] == ["broken"] * 2


@pytest.mark.parametrize("by", ["script", "model"])
def test_hang_sends_nothing_until_the_client_leaves(sandbox, by):
    request = HELLO | ({"model": "sandbox/hang"} if by == "model" else {})
    if by == "script":
        sandbox.script({"hang": True})
    send_and_wait(sandbox, request).close()
    entry = wait_for(sandbox, lambda entry: entry.outcome != "running")
    assert (entry.outcome, entry.billed) == ("dropped", False)


def test_text_sets_the_output(http, sandbox):
    sandbox.script({"text": "Forty-two"})
    assert output_text(http.post("/responses", json=HELLO).json()) == "Forty-two"


def test_a_model_may_ignore_the_format_that_a_request_asks_for(http, sandbox):
    text = {"format": {"type": "json_schema", "name": "mood", "schema": {"type": "object"}}}
    valid, invalid = (
        output_text(http.post("/responses", json=HELLO | {"model": model, "text": text}).json())
        for model in ("openai/gpt-4o-mini", "sandbox/invalid")
    )
    assert (valid, invalid) == ("{}", "I am not sure.")


CHARGE = {"type": "function", "name": "charge", "parameters": {"type": "object", "properties": {}}, "strict": None}


@pytest.mark.parametrize("stream", [True, False])
def test_calls_are_those_of_the_step(http, sandbox, api, stream):
    sandbox.script({"calls": [{"name": "charge", "arguments": {"order": 7}}, {"name": "other", "arguments": "{"}]})
    response = http.post("/responses", json=HELLO | {"tools": [CHARGE], "stream": stream})
    body = _final(response, api, "response.completed") if stream else response.json()
    api.check(body, "OpenResponsesResult")
    assert [(item["name"], item["arguments"]) for item in body["output"]] == [
        ("charge", '{"order": 7}'),
        ("other", "{"),
    ]


@pytest.mark.parametrize("by", ["script", "model"])
def test_functions_are_called_until_the_input_holds_that_number_of_results(http, sandbox, by):
    request = HELLO | {"tools": [CHARGE], "input": [{"role": "user", "content": "charge it"}]}
    if by == "script":
        sandbox.script({"calls": 2, "times": 3})
    else:
        request["model"] = "sandbox/calls-2"
    kinds = []
    for number in range(3):
        (item,) = http.post("/responses", json=request).json()["output"]
        kinds.append(item["type"])
        request["input"] = [*request["input"], item]
        if number < 2:
            result = {"type": "function_call_output", "call_id": item["call_id"], "output": "done"}
            request["input"] = [*request["input"], result]
    assert kinds == ["function_call", "function_call", "message"]


def test_steps_are_used_in_order_and_as_often_as_their_times(http, sandbox):
    steps = [{"status": 429, "times": 2}, {}, {"text": "last"}]
    response = http.post(f"{sandbox.url}/_sandbox/script", json=steps)
    assert response.json() == {"steps": 4}
    sandbox.script({"status": 500})
    got = [http.post("/responses", json=HELLO) for _ in range(6)]
    assert [one.status_code for one in got] == [429, 429, 200, 200, 500, 200]
    assert output_text(got[3].json()) == "last"


def test_a_call_without_a_key_uses_no_step(sandbox, http):
    sandbox.script({"status": 500})
    assert httpx.post(f"{sandbox.base_url}/responses", json=HELLO).status_code == 401
    assert http.post("/responses", json=HELLO).status_code == 500


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ({"colour": "red"}, "colour: is not a field of a step"),
        ({"status": 200}, "status"),
        ({"status": "429"}, "status"),
        ({"failed": "sometimes"}, "failed"),
        ({"status": 429, "drop": True}, "one way"),
        ({"status": 429, "kind": "moderation"}, "403"),
        ({"delay": -1}, "delay"),
        ({"times": 0}, "times"),
        ({"stall": True, "cut": True}, "one way"),
        ({"status": 429, "error_event": "error"}, "one way"),
        ({"availability": "no_endpoints", "drop": True}, "one way"),
        ({"availability": "out"}, "availability"),
        ({"error_event": "failed"}, "error_event"),
        ({"keep_alive": 0}, "keep_alive"),
        ({"split": 0}, "split"),
        ({"calls": [{"arguments": {}}]}, "calls"),
        ("drop", "step 0"),
    ],
)
def test_invalid_steps_are_refused(http, sandbox, step, named):
    response = http.post(f"{sandbox.url}/_sandbox/script", json=[step])
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]
    with pytest.raises(ValueError, match=named):
        sandbox.script(step)
    assert http.post("/responses", json=HELLO).status_code == 200


@pytest.mark.parametrize("raw", [b"3", b"{"])
def test_a_script_that_is_not_a_list_is_refused(http, sandbox, raw):
    assert http.post(f"{sandbox.url}/_sandbox/script", content=raw).status_code == 400


def test_a_random_429_is_a_providers_and_not_a_limit_of_the_key(http, sandbox, api):
    sandbox.faults = {"seed": 1, "rates": {"429": 1.0}}
    response = http.post("/responses", json=HELLO)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert not [name for name in response.headers if name.startswith("x-ratelimit")]
    assert response.json()["error"]["metadata"] == {"provider_name": "Sandbox"}
