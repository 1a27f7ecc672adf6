"""Requests as OpenRouter and other servers get them: dialects, `extra_body`, complete histories."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.content import InputFile, InputImage
from airflow_provider_responses.content.parts import part_by_content
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import Response, ResponsesRequest
from airflow_provider_responses.task.request import TaskRequest

from .wire import Flavour, Wire, config, deltas, ended, good, result, sse, streamed

ELSEWHERE = "http://127.0.0.1:8642/v1"
OTHERS = {"base_url": ELSEWHERE}
BASE = {"model": "m", "input": "Hi"}

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
FOR_OTHERS: dict[str, dict[str, Any]] = {
    "conversation by id": {**BASE, "conversation": "conv_1"},
    "conversation": {**BASE, "conversation": {"id": "conv_1"}},
    "conversation alone": {"model": "m", "conversation": "conv_1"},
    "stream options": {**BASE, "stream_options": {"include_obfuscation": False}},
    "context management": {**BASE, "context_management": [{"type": "compaction", "compact_threshold": 1000}]},
    "prompt cache retention": {**BASE, "prompt_cache_retention": "24h"},
    "moderation": {**BASE, "moderation": {"model": "omni"}},
    "background options": {**BASE, "background_options": {}},
    "access programs": {**BASE, "access_programs": {}},
    "image": {**BASE, "image": {}},
    "include": {**BASE, "include": ["message.output_text.logprobs", "unknown"]},
    "service tier": {**BASE, "service_tier": "standard"},
    "truncation": {**BASE, "truncation": "middle"},
    "image without detail": {"model": "m", "input": [{"role": "user", "content": [IMAGE]}]},
    "prompt without model": {"prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}}},
    "previous response without input": {"model": "m", "previous_response_id": "resp_1"},
    "store": {**BASE, "store": True},
    "17 pairs": {**BASE, "metadata": {f"key {place}": "x" for place in range(17)}},
    "long pairs": {**BASE, "metadata": {"k" * 65: "v" * 513, "a[0]": "x"}},
    "a long user": {**BASE, "user": "u" * 300},
    "tool rounds": {**BASE, "max_tool_calls": 31},
    "a function without parameters": {**BASE, "tools": [{"type": "function", "name": "f"}]},
    "a tool's own settings": {**BASE, "tools": [{"type": "web_search", "search_context_size": "huge"}]},
    "a role of its own": {"model": "m", "input": [{"role": "tool", "content": "x"}]},
    "text parts": {"model": "m", "input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]},
    "format": {**BASE, "text": {"format": {"type": "grammar", "definition": "x"}}},
    "effort": {**BASE, "reasoning": {"effort": "unknown"}},
    "stops": {**BASE, "stop": ["a", "b", "c", "d", "e"]},
}


@pytest.mark.parametrize("fields", FOR_OTHERS.values(), ids=FOR_OTHERS)
def test_fields_of_other_servers_are_sent_to_them(fields: dict[str, Any], flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(wire, **OTHERS).send(fields)
    assert {name: wire.sent[0][name] for name in fields} == fields
    assert wire.sent[0].keys() - fields.keys() <= {"stream"}


@pytest.mark.parametrize("fields", FOR_OTHERS.values(), ids=FOR_OTHERS)
def test_those_fields_are_refused_for_openrouter(fields: dict[str, Any], flavour: Flavour) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError):
        flavour.on(wire).send(fields)
    assert wire.send_count == 0


@pytest.mark.parametrize("fields", FOR_OTHERS.values(), ids=FOR_OTHERS)
def test_those_fields_go_to_openrouter_by_extra_body(fields: dict[str, Any], flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(wire).send({**BASE, "extra_body": fields})
    assert {name: wire.sent[0][name] for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({**BASE, "temprature": 1}, "temprature"),
        ({**BASE, "temperature": "warm"}, "temperature"),
        ({**BASE, "conversation": 5}, "conversation"),
        ({**BASE, "metadata": {"a": 5}}, "metadata.a"),
        ({"model": "m", "input": [{"role": 5}]}, "input.0.role"),
        ({"model": "m", "input": [{"type": 5}]}, "input.0.type"),
        ({**BASE, "tools": [{"type": "function", "name": 5}]}, "tools.0.name"),
        ({**BASE, "include": [5]}, "include.0"),
        ({**BASE, "background": True}, "background"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": ""}, "input"),
        ({"input": "Hi"}, "model"),
    ],
)
def test_wrong_fields_are_refused_for_other_servers_too(fields: dict[str, Any], path: str, flavour: Flavour) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError) as caught:
        flavour.on(wire, **OTHERS).send(fields)
    assert caught.value.fields == (path,)
    assert wire.send_count == 0


def test_the_default_model_does_not_replace_that_of_a_stored_prompt(flavour: Flavour) -> None:
    wire = Wire(good(), good())
    prompt = {"prompt": {"id": "pmpt_1"}}
    flavour.on(wire, default_model="mine", **OTHERS).send(prompt)
    flavour.on(wire, default_model="mine").send(prompt)
    assert ["model" in body for body in wire.sent] == [False, True]


def test_a_model_made_for_other_servers_is_checked_again_for_openrouter(flavour: Flavour) -> None:
    request = ResponsesRequest.parse({**BASE, "service_tier": "standard"}, dialect="open")
    wire = Wire(good())
    flavour.on(wire, **OTHERS).send(request)
    with pytest.raises(RequestValidationError, match="service_tier"):
        flavour.on(wire).send(request)
    assert [body["service_tier"] for body in wire.sent] == ["standard"]


# --- extra_body


def test_fields_in_extra_body_count_as_given(flavour: Flavour) -> None:
    wire = Wire(good())
    extra = {"model": "other", "input": "Ho", "background": True, "store": True, "previous_response_id": "r"}
    flavour.on(wire).send({"extra_body": extra})
    assert {name: wire.sent[0][name] for name in extra} == extra


@pytest.mark.parametrize("where", [{}, OTHERS])
def test_a_request_that_was_prepared_is_not_refused_when_it_is_sent(where: dict[str, Any], flavour: Flavour) -> None:
    wire = Wire(good())
    extra = {**dict.fromkeys(("store", "background"), True), "previous_response_id": "r", "max_tool_calls": 99}
    fields = {**BASE, "extra_body": {**extra, "service_tier": "unknown", "new": 1}}
    request, _ = TaskRequest(fields=fields, idempotency_key="0" * 32, stream=False).prepare(
        config(**where), RequestOptions()
    )
    flavour.on(wire, **where).send(request)
    assert {name: wire.sent[0][name] for name in fields["extra_body"]} == fields["extra_body"]


def test_errors_name_the_model_that_extra_body_set(flavour: Flavour) -> None:
    with pytest.raises(Exception, match=r"\(model other\)"):
        flavour.on(Wire(httpx.Response(400))).send({**BASE, "extra_body": {"model": "other"}})


@pytest.mark.parametrize("extra", [{"model": 5}, {"models": 5}, {"input": 5}, {"max_output_tokens": "many"}])
def test_values_of_any_type_are_sent_and_break_nothing(extra: dict[str, Any], flavour: Flavour) -> None:
    wire = Wire(good(), httpx.Response(400))
    client = flavour.on(wire)
    assert client.send({**BASE, "extra_body": extra}).output_text == "Hello"
    with pytest.raises(Exception, match="400"):
        client.send({**BASE, "extra_body": extra})
    assert [{**body, **extra} for body in wire.sent] == wire.sent


def events() -> httpx.Response:
    return streamed(sse(*deltas("Hel|lo"), ended()))


def test_stream_in_extra_body_chooses_how_the_response_is_read(flavour: Flavour) -> None:
    wire = Wire(events(), good())
    client = flavour.on(wire)
    assert client.send({**BASE, "extra_body": {"stream": True}}).output_text == "Hello"
    assert client.send({**BASE, "stream": True, "extra_body": {"stream": False}}).output_text == "Hello"
    assert [body["stream"] for body in wire.sent] == [True, False]


def test_a_request_with_stream_is_streamed(flavour: Flavour) -> None:
    wire = Wire(events())
    kinds = [event.type for event in flavour.on(wire).stream({**BASE, "extra_body": {"stream": False}})]
    assert kinds[-1] == "response.completed"
    assert wire.sent[0]["stream"] is True


@pytest.mark.parametrize("value", ["perhaps", 1, {}])
def test_a_stream_that_is_neither_true_nor_false_is_refused(value: Any, flavour: Flavour) -> None:
    with pytest.raises(RequestValidationError, match=r"extra_body\.stream must be true or false"):
        flavour.on(Wire()).send({**BASE, "extra_body": {"stream": value}})


def with_key(metadata: Any = None, extra: Any = None) -> dict[str, Any]:
    fields = {**BASE, **({} if metadata is None else {"metadata": metadata}), "extra_body": {"metadata": extra}}
    request, _ = TaskRequest(fields=fields, idempotency_key="0" * 32).prepare(config(), RequestOptions())
    again, _ = TaskRequest(fields=fields, idempotency_key="0" * 32).prepare(config(), RequestOptions())
    assert request.to_bytes() == again.to_bytes()
    found: dict[str, Any] = json.loads(request.to_bytes())["metadata"]
    return found


@pytest.mark.parametrize(
    ("metadata", "extra", "expected"),
    [
        (None, {"a": "1"}, {"a": "1"}),
        ({"a": "1", "b": "2"}, {"b": "3", "c" * 99: "4"}, {"a": "1", "b": "3", "c" * 99: "4"}),
        ({"a": "1"}, None, {}),
    ],
)
def test_the_idempotency_key_survives_metadata_in_extra_body(metadata: Any, extra: Any, expected: Any) -> None:
    assert with_key(metadata, extra) == {**expected, "airflow": "0" * 32}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"airflow": "mine"}, "metadata.airflow: this key is reserved"),
        ("no pairs", "extra_body.metadata must be a dict of texts"),
        ({"a": 5}, "extra_body.metadata must be a dict of texts"),
    ],
)
def test_metadata_without_room_for_the_idempotency_key_is_refused(extra: Any, message: str) -> None:
    with pytest.raises(RequestValidationError, match=message):
        with_key(extra=extra)


# --- history

SAID = {"type": "output_text", "text": "Rome."}
MADE = [
    {"role": "user", "content": "Where?"},
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Italy"}], "format": "unknown"},
    {"role": "assistant", "content": [SAID], "phase": "unknown"},
    {"type": "message", "role": "assistant", "id": None, "status": "unknown", "content": [SAID]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "unknown"},
    {"type": "openrouter:bash", "status": "unknown", "exitCode": None},
    {"type": "openrouter:unknown", "anything": [1]},
    {"role": "assistant", "content": "In words of mine"},
]


def test_fields_that_openrouter_needs_in_a_history_are_filled_in_alike_each_time(flavour: Flavour) -> None:
    wire = Wire(good(), good())
    client = flavour.on(wire)
    for _ in range(2):
        client.send({"model": "m", "input": MADE})
    first, second = (request.content for request in wire.requests)
    assert first == second
    items = wire.sent[0]["input"]
    ids = [items[place].pop("id") for place in (1, 2, 3)]
    assert len(set(ids)) == 3
    assert all(isinstance(text, str) and text[:3] in {"rs_", "msg"} for text in ids)
    assert items[1] == {**MADE[1], "summary": []}
    assert items[2] == {**MADE[2], "type": "message", "status": "completed"}
    assert items[3] == {name: value for name, value in MADE[3].items() if name != "id"}
    assert [items[place] for place in (0, 4, 5, 6, 7)] == [MADE[place] for place in (0, 4, 5, 6, 7)]


def test_other_servers_get_a_history_unchanged(flavour: Flavour) -> None:
    wire = Wire(good())
    flavour.on(wire, **OTHERS).send({"model": "m", "input": MADE})
    assert wire.sent[0]["input"] == MADE


@pytest.mark.parametrize("where", [{}, OTHERS])
def test_a_response_is_the_next_requests_history(where: dict[str, Any], flavour: Flavour) -> None:
    wire = Wire(good())
    items = Response(raw=result()).to_input()
    flavour.on(wire, **where).send({"model": "m", "input": [*items, {"role": "user", "content": "And?"}]})
    assert wire.sent[0]["input"][:-1] == items


UNREAD = [
    (InputFile.from_path("/data/a.pdf"), "input.0.content.1.path"),
    (InputFile.from_path("https://example.com/a.pdf"), "input.0.content.1.path"),
    (InputImage.from_bytes(b"\x89PNG"), "input.0.content.1.bytes"),
    (part_by_content("a.pdf"), "input.0.content.1.path"),
]


@pytest.mark.parametrize("connection", [{}, OTHERS], ids=["openrouter", "others"])
@pytest.mark.parametrize(("part", "place"), UNREAD, ids=range(len(UNREAD)))
def test_a_file_that_nothing_has_read_is_refused_unsent(
    part: dict[str, Any], place: str, connection: dict[str, Any], flavour: Flavour
) -> None:
    content = [{"type": "input_text", "text": "x"}, part]
    wire = Wire(good())
    with pytest.raises(RequestValidationError) as caught:
        flavour.on(wire, **connection).send({"model": "m", "input": [{"role": "user", "content": content}]})
    assert str(caught.value).startswith(f"{place} is a file that nothing has read: only operators and decorated")
    assert caught.value.fields == (place,)
    assert not wire.requests
