"""The items of an output: reasoning, several function calls, and items that are cut off."""

from __future__ import annotations

import json

import pytest

from .conftest import HELLO, output_text, read_events

NOISE = {"type": "function", "name": "get_noise", "description": "Loudness", "parameters": {"type": "object"}}
CLOCK = {"type": "function", "name": "get_time", "parameters": {"type": "object"}}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [NOISE, CLOCK, WEATHER]


def send(http, api, stream, **fields):
    """Send a request, validate body and events by the documented schema, and return the body."""
    response = http.post("/responses", json=HELLO | fields | {"stream": stream})
    if not stream:
        api.check(response.json(), "OpenResponsesResult")
        return response.json()
    events = read_events(response.text)
    for event in events:
        api.check(event, "StreamEvents")
    body = events[-1]["response"]
    api.check(body, "OpenResponsesResult")
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [item["id"] for item in added] == [item["id"] for item in done]
    assert done == body["output"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return body


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"effort": "low"}, "content"),
        ({"enabled": True}, "content"),
        ({"max_tokens": 100}, "content"),
        ({"summary": "auto"}, "summary"),
        ({"effort": "high", "summary": "concise"}, "summary"),
        ({"effort": "none"}, None),
        ({"enabled": False, "effort": "high"}, None),
        ({"effort": None}, None),
    ],
)
def test_a_reasoning_item_comes_first_if_enabled(http, api, sandbox, settings, field, stream):
    body = send(http, api, stream, reasoning=settings)
    assert output_text({"output": body["output"][-1:]}) == "Rain fell on the old harbour all day."
    used = body["usage"]["output_tokens_details"]["reasoning_tokens"]
    if field is None:
        assert (len(body["output"]), used) == (1, 0)
        return
    reasoning = body["output"][0]
    assert (reasoning["type"], reasoning["status"], body["output"][1]["type"]) == ("reasoning", "completed", "message")
    assert "Rain fell on the old harbour" in reasoning[field][0]["text"]
    assert 0 < used < body["usage"]["output_tokens"]
    assert sandbox.billed[0].cost == body["usage"]["cost"]
    plain = http.post("/responses", json=HELLO).json()["usage"]
    assert body["usage"]["output_tokens"] == plain["output_tokens"] + used


def test_reasoning_can_be_encrypted(http, api):
    body = send(http, api, True, reasoning={"summary": "auto"}, include=["reasoning.encrypted_content"])
    assert body["output"][0]["encrypted_content"]
    history = [{"role": "user", "content": "one"}, *body["output"], {"role": "user", "content": "And two?"}]
    assert output_text(http.post("/responses", json=HELLO | {"input": history}).json()) == "And two?"


@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_can_use_up_the_limit(http, api, stream):
    body = send(http, api, stream, reasoning={"effort": "high"}, max_output_tokens=3)
    assert [(item["type"], item["status"]) for item in body["output"]] == [("reasoning", "incomplete")]
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["usage"]["output_tokens"] == body["usage"]["output_tokens_details"]["reasoning_tokens"] == 3


@pytest.mark.parametrize("stream", [True, False])
def test_reasoning_comes_before_refusals_and_function_calls(http, api, sandbox, stream):
    sandbox.script({"refusal": "No."}, {})
    refused = send(http, api, stream, reasoning={"effort": "low"})
    assert refused["output"][1]["content"] == [{"type": "refusal", "refusal": "No."}]
    called = send(http, api, stream, reasoning={"effort": "low"}, tools=[CLOCK])
    assert [item["type"] for item in called["output"]] == ["reasoning", "function_call"]


def allowed(mode, *names):
    return {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": name} for name in names]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("text", "fields", "called"),
    [
        ("Please use get_time now", {}, ["get_time"]),
        ("First get_weather for Paris, then get_time.", {}, ["get_weather", "get_time"]),
        ("get_weather and get_time", {"parallel_tool_calls": False}, ["get_weather"]),
        ("not forget_timer, but how loud is it? Loudness", {}, ["get_noise"]),
        ("get_weather", {"tool_choice": {"type": "function", "name": "get_time"}}, ["get_time"]),
        ("get_weather", {"tool_choice": allowed("required", "get_time", "get_noise")}, ["get_noise"]),
        ("get_time", {"tool_choice": allowed("auto", "get_time", "get_noise")}, ["get_time"]),
        ("get_time", {"tool_choice": "none"}, []),
    ],
)
def test_the_text_or_tool_choice_decides_which_functions_are_called(http, api, text, fields, called, stream):
    body = send(http, api, stream, input=text, tools=TOOLS, **fields)
    calls = [item for item in body["output"] if item["type"] == "function_call"]
    assert [call["name"] for call in calls] == called
    assert len({call["call_id"] for call in calls}) == len(called)
    assert all(isinstance(json.loads(call["arguments"]), dict) for call in calls)


@pytest.mark.parametrize("stream", [True, False])
def test_arguments_can_be_cut_off(http, api, stream):
    body = send(http, api, stream, input="get_weather in Paris", tools=[WEATHER], max_output_tokens=2)
    (call,) = body["output"]
    assert (body["status"], call["status"], len(call["arguments"])) == ("incomplete", "incomplete", 8)
