from __future__ import annotations

import hashlib
import json

import httpx
import pytest

from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.sandbox.state.prices import PRICES

from .conftest import HEADERS, HELLO, output_text, read_events

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK = {"type": "function", "name": "get_time", "parameters": {"type": "object"}}


def test_the_output_is_a_sentence_of_the_input(http):
    response = http.post("/responses", json=HELLO)
    body = response.json()
    assert response.status_code == 200
    assert body["status"] == "completed"
    assert body["model"] == HELLO["model"]
    assert output_text(body) == "Rain fell on the old harbour all day."
    assert response.headers["x-generation-id"].startswith("gen-")


def test_same_request_brings_the_same_text_and_another_generation(http):
    first, second = (http.post("/responses", json=HELLO) for _ in range(2))
    assert output_text(first.json()) == output_text(second.json())
    assert first.headers["x-generation-id"] != second.headers["x-generation-id"]


def test_every_request_field_is_echoed_as_documented(http, api):
    request = HELLO | {
        "instructions": "Be brief.",
        "metadata": {"airflow": "ab12"},
        "temperature": 0.5,
        "top_p": 1,
        "max_output_tokens": 500,
        "max_tool_calls": 3,
        "parallel_tool_calls": False,
        "tools": [WEATHER, {"type": "openrouter:web_search"}, {"type": "web_search"}],
        "tool_choice": "none",
        "service_tier": "flex",
        "reasoning": {"effort": "low", "summary": None},
        "truncation": "auto",
        "user": "somebody",
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "prompt": {"id": "pmpt_1"},
        "presence_penalty": 0.1,
        "frequency_penalty": 0,
        "store": False,
        "safety_identifier": "x",
        "prompt_cache_key": "y",
    }
    body = http.post("/responses", json=request).json()
    api.check(body, "OpenResponsesResult")
    changed = {"tools", "model", "input"}
    assert {name: body[name] for name in request if name not in changed} == {
        name: value for name, value in request.items() if name not in changed
    }
    assert [tool["type"] for tool in body["tools"]] == ["function", "web_search"]


def test_usage_and_cost_follow_the_price_table(http):
    usage = http.post("/responses", json={"model": "openai/gpt-4o", "input": "x" * 400}).json()["usage"]
    price = PRICES["openai/gpt-4o"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (100, 101)
    assert usage["total_tokens"] == 201
    assert usage["cost"] == pytest.approx(100 * price.input + 101 * price.output)
    details = usage["cost_details"]
    assert details["upstream_inference_input_cost"] == pytest.approx(100 * price.input)
    assert usage["is_byok"] is False


def test_free_models_have_no_cost(http, sandbox):
    usage = http.post("/responses", json=HELLO | {"model": "vendor/name:free"}).json()["usage"]
    assert usage["cost"] == 0
    assert usage["input_tokens"] > 0
    assert len(sandbox.billed) == 1


def test_stream_has_the_documented_order(http, api):
    response = http.post("/responses", json=HELLO | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.splitlines()[0] == ": OPENROUTER PROCESSING"
    assert response.text.endswith("data: [DONE]\n\n")
    events = read_events(response.text)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 8,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert "".join(event.get("delta", "") for event in events) == output_text(events[-1]["response"])
    for event in events:
        api.check(event, "StreamEvents")


def test_a_stream_ends_with_the_response_of_the_same_call_without_streaming(http):
    whole = http.post("/responses", json=HELLO).json()
    streamed = read_events(http.post("/responses", json=HELLO | {"stream": True}).text)[-1]["response"]
    assert output_text(streamed) == output_text(whole)
    assert streamed["usage"] == whole["usage"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_function_is_called_until_it_has_returned(http, api, stream):
    request = {
        "model": "openai/gpt-4o",
        "input": "What is the weather in Paris?",
        "tools": [CLOCK, WEATHER],
        "stream": stream,
    }
    response = http.post("/responses", json=request)
    body = read_events(response.text)[-1]["response"] if stream else response.json()
    api.check(body, "OpenResponsesResult")
    (call,) = body["output"]
    assert (call["type"], call["name"]) == ("function_call", "get_weather")
    assert isinstance(json.loads(call["arguments"])["city"], str)
    if stream:
        events = read_events(response.text)
        for event in events:
            api.check(event, "StreamEvents")
        deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
        assert "".join(deltas) == call["arguments"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny all day."}
    history = [{"role": "user", "content": request["input"]}, call, result]
    again = http.post("/responses", json=request | {"input": history, "stream": False}).json()
    assert output_text(again) == "Sunny all day."


@pytest.mark.parametrize(
    ("choice", "called"),
    [("none", None), ("required", "get_weather"), ({"type": "function", "name": "get_time"}, "get_time")],
)
def test_tool_choice_is_obeyed(http, choice, called):
    body = http.post("/responses", json=HELLO | {"tools": [WEATHER, CLOCK], "tool_choice": choice}).json()
    assert [item.get("name") for item in body["output"]] == [called]


def test_json_schema_requests_get_an_instance(http):
    schema = {
        "type": "object",
        "properties": {"sentiment": {"enum": ["positive", "negative"]}, "summary": {"type": "string"}},
        "required": ["sentiment", "summary"],
        "additionalProperties": False,
    }
    output_format = {"format": {"type": "json_schema", "name": "row", "schema": schema, "strict": True}}
    request = {"model": "openai/gpt-4o", "input": "Classify: A negative week for the shop.", "text": output_format}
    body = http.post("/responses", json=request).json()
    assert json.loads(output_text(body)) == {
        "sentiment": "negative",
        "summary": "A negative week for the shop.",
    }


def test_json_object_requests_get_an_object(http):
    body = http.post("/responses", json=HELLO | {"text": {"format": {"type": "json_object"}}}).json()
    assert json.loads(output_text(body)) == {"output": "Rain fell on the old harbour all day."}


def test_max_output_tokens_cuts_the_output_off(http, api, sandbox):
    body = http.post("/responses", json=HELLO | {"max_output_tokens": 2}).json()
    api.check(body, "OpenResponsesResult")
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert output_text(body) == "Rain fel"
    assert sandbox.billed[0].output_tokens == 2


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([{"role": "user", "content": "one"}, {"role": "user", "content": "two"}], "Two."),
        ([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi there"}]}], "Hi there."),
        ([{"role": "system", "content": "only this"}], "The request holds no text."),
        ("half a pair: \ud83d", "?."),
        ("word " * 40, "Word " + "word " * 22 + "word…"),
    ],
)
def test_the_output_is_made_from_the_last_message_of_the_user(http, given, text):
    raw = json.dumps({"model": "a/b", "input": given}).encode()
    body = http.post("/responses", content=raw).json()
    assert output_text(body) == text


def test_the_output_is_made_from_the_variables_of_a_prompt_template(http):
    request = {"model": "a/b", "prompt": {"id": "pmpt_1", "variables": {"what": "Harbour news"}}}
    assert output_text(http.post("/responses", json=request).json()) == "Harbour news."


def test_routing_metadata_is_returned_if_enabled(http, api):
    request = {"models": ["missing/one", "openai/gpt-4o"], "input": "hi"}
    body = http.post("/responses", json=request, headers={"X-OpenRouter-Metadata": "enabled"}).json()
    api.check(body, "OpenResponsesResult")
    assert body["model"] == "openai/gpt-4o"
    assert body["openrouter_metadata"]["requested"] == "missing/one"
    assert body["openrouter_metadata"]["strategy"] == "fallback"
    assert "openrouter_metadata" not in http.post("/responses", json=request).json()


def test_a_model_with_a_retryable_error_is_skipped(http):
    body = http.post("/responses", json={"model": "sandbox/error-503", "models": ["a/b"], "input": "hi"}).json()
    assert body["model"] == "a/b"
    refused = http.post("/responses", json={"model": "sandbox/error-400", "models": ["a/b"], "input": "hi"})
    assert refused.status_code == 400


def test_a_router_returns_the_name_of_the_model_that_served(http):
    assert http.post("/responses", json=HELLO | {"model": "openrouter/auto"}).json()["model"] in PRICES


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"model": "a/b", "input": "hi", "store": True}, "store"),
        ({"model": "a/b", "input": "hi", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "hi"}, "model"),
        ({"model": "a/b"}, "input"),
        ({"model": "a/b", "input": "hi", "temperature": "hot"}, "temperature"),
        ({"model": "a/b", "input": "hi", "metadata": {f"k{n}": "v" for n in range(17)}}, "metadata"),
        ({"model": "a/b", "input": "hi", "text": {"format": {"type": "xml"}}}, "text.format"),
        ({"model": "a/b", "input": "hi", "text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"model": "a/b", "input": "hi", "extra_body": {}}, "extra_body"),
        (
            {
                "model": "a/b",
                "input": "hi",
                "text": {"format": {"type": "json_schema", "name": "x", "schema": {"properties": 3, "type": "object"}}},
            },
            "no output",
        ),
        ([], "JSON object"),
    ],
)
def test_invalid_requests_are_refused(http, api, sandbox, body, named):
    response = http.post("/responses", json=body)
    assert response.status_code == 400
    api.check(response.json(), "BadRequestResponse")
    assert named in response.json()["error"]["message"]
    assert "x-generation-id" in response.headers
    assert (sandbox.ledger[0].outcome, sandbox.ledger[0].status, sandbox.billed) == ("error", 400, [])


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 5000])
def test_a_body_that_is_not_json_is_refused(http, raw):
    assert http.post("/responses", content=raw).status_code == 400


@pytest.mark.parametrize("model", ["missing/thing", "plain", "sandbox/nothing", "sandbox/failed-sometimes", "/x", "x/"])
def test_unknown_models_are_not_found(http, api, model):
    response = http.post("/responses", json=HELLO | {"model": model})
    assert response.status_code == 404
    api.check(response.json(), "NotFoundResponse")
    availability = response.json()["error"]["availability"]
    assert availability["code"] == "model_not_found"
    assert availability["retryable"] is False
    assert availability["requested_models"] == [model]
    assert availability["fallback_models"]


@pytest.mark.parametrize("authorization", [None, "Bearer", "Basic abc", "Bearer my-wrong-key", "Bearer INVALID"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/responses"), ("GET", "/key"), ("GET", "/generation")])
def test_a_key_is_needed(sandbox, api, authorization, method, path):
    headers = {"Authorization": authorization} if authorization else {}
    response = httpx.request(method, sandbox.base_url + path, headers=headers)
    assert response.status_code == 401
    api.check(response.json(), "UnauthorizedResponse")


def test_unknown_paths_and_methods_get_an_error_body(http):
    assert http.get("/nothing").json()["error"]["code"] == 404
    assert http.get("/responses").json()["error"]["code"] == 405


def test_models_are_listed(sandbox):
    response = httpx.get(f"{sandbox.base_url}/models")
    assert {model["id"] for model in response.json()["data"]} == {*PRICES, *(f"{name}:batch" for name in PRICES)}
    assert float(response.json()["data"][0]["pricing"]["prompt"]) > 0


def test_a_generation_has_its_cost(http, api):
    response = http.post("/responses", json=HELLO)
    generation_id = response.headers["x-generation-id"]
    found = http.get("/generation", params={"id": generation_id})
    api.check_get(found.json(), "/generation")
    data = found.json()["data"]
    assert data["total_cost"] == response.json()["usage"]["cost"]
    assert data["tokens_prompt"] == response.json()["usage"]["input_tokens"]
    assert data["model"] == HELLO["model"]


def test_a_generation_is_visible_to_its_own_key_only(http):
    generation_id = http.post("/responses", json=HELLO).headers["x-generation-id"]
    other = {"Authorization": "Bearer other-key"}
    assert http.get("/generation", params={"id": generation_id}, headers=other).status_code == 404
    assert http.get("/generation", params={"id": "gen-none"}).status_code == 404
    assert http.get("/generation").status_code == 400


def test_the_key_has_its_usage(http, api, sandbox):
    sandbox.key = {"limit": 10, "limit_reset": "monthly", "label": "mine"}
    cost = http.post("/responses", json=HELLO).json()["usage"]["cost"]
    response = http.get("/key").json()
    api.check_get(response, "/key")
    assert response["data"]["label"] == "mine"
    assert response["data"]["usage"] == pytest.approx(cost)
    assert response["data"]["limit_remaining"] == pytest.approx(10 - cost)
    assert sandbox.key["limit"] == 10


def test_a_spent_key_gets_a_402(http, api, sandbox):
    response = http.put(f"{sandbox.url}/_sandbox/key", json={"limit": 5, "limit_remaining": 0})
    assert response.json()["data"]["limit_remaining"] == 0
    assert http.get("/key").json()["data"]["limit_remaining"] == 0
    refused = http.post("/responses", json=HELLO)
    assert refused.status_code == 402
    api.check(refused.json(), "PaymentRequiredResponse")
    sandbox.reset()
    assert http.post("/responses", json=HELLO).status_code == 200


@pytest.mark.parametrize("fields", [{"colour": "red"}, [1], "x"])
def test_a_key_has_known_fields_only(http, sandbox, fields):
    assert http.put(f"{sandbox.url}/_sandbox/key", json=fields).status_code == 400


def test_ledger_records_the_call_without_its_key(http, sandbox):
    request = HELLO | {"metadata": {"airflow": "ab12"}}
    raw = json.dumps(request, indent=2).encode()
    response = http.post("/responses", content=raw, headers={"X-Api-Key": "sandbox-key"})
    report = http.get(f"{sandbox.url}/_sandbox/ledger")
    (entry,) = report.json()["entries"]
    compact = json.dumps(request, separators=(",", ":")).encode()
    assert entry["generation_id"] == response.headers["x-generation-id"]
    assert entry["body"] == request
    assert entry["metadata"] == request["metadata"]
    assert entry["body_sha256"] == hashlib.sha256(compact).hexdigest()
    assert (entry["outcome"], entry["status"], entry["billed"], entry["stream"]) == ("generated", 200, True, False)
    assert entry["cost"] == response.json()["usage"]["cost"] == report.json()["billed"]["cost"]
    assert report.json()["billed"]["calls"] == 1
    assert "sandbox-key" not in report.text


def test_reset_empties_ledger_and_script(http, sandbox):
    sandbox.script({"status": 500})
    http.post("/responses", json=HELLO)
    sandbox.script({"status": 500})
    http.delete(f"{sandbox.url}/_sandbox/ledger")
    assert sandbox.ledger == []
    assert http.post("/responses", json=HELLO).status_code == 200
    assert len(sandbox.ledger) == 1


def test_the_open_dialect_has_no_feature_of_openrouter():
    with Sandbox(dialect="open") as sandbox, httpx.Client(base_url=sandbox.base_url, headers=HEADERS) as http:
        request = {"model": "llama3", "input": "hi", "store": True}
        enabled = {"X-OpenRouter-Cache": "true", "X-OpenRouter-Metadata": "enabled"}
        for _ in range(2):
            response = http.post("/responses", json=request, headers=enabled)
            assert response.status_code == 200
            assert "openrouter_metadata" not in response.json()
            assert set(response.json()["usage"]) == {
                "input_tokens",
                "input_tokens_details",
                "output_tokens",
                "output_tokens_details",
                "total_tokens",
            }
            assert not [name for name in response.headers if "openrouter" in name or "generation" in name]
        assert [http.get(path).status_code for path in ("/key", "/generation", "/models")] == [404, 404, 200]
        assert sandbox.connection["extra"] == {"dialect": "open"}
        assert [(entry.billed, entry.cost) for entry in sandbox.ledger] == [(True, 0.0)] * 2
