"""Every response of a server is valid as the next input."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models import Response, ResponsesRequest

from .shapes import ARGUMENTS, CALL, REASONING, TEXT, Shape, body, message, part, refusal
from .test_shapes import OPEN, SHAPES, serve
from .wire import REQUEST, Flavour, Wire, good

ANNOTATION = {"type": "url_citation", "url": "u"}
NEXT = {"role": "user", "content": "And then?"}
DIALECTS = {"openrouter": {}, "open": {"base_url": OPEN}}


def response_of(flavour: Flavour, shape: Shape) -> Response | None:
    _, handler = serve(shape)
    handle = flavour.on(handler, base_url=OPEN, max_retries=0, max_ambiguous_retries=0)
    try:
        return handle.send({**REQUEST, "stream": True})
    except ResponsesError as error:
        return error.response


def check_sent_again(flavour: Flavour, history: list[dict[str, Any]]) -> None:
    for settings in DIALECTS.values():
        wire = Wire(good())
        flavour.on(wire, **settings).send({**REQUEST, "input": [*history, NEXT]})
        assert wire.sent[0]["input"] == [*history, NEXT]
    for item in history:
        if item["type"] == "message" and item["role"] == "assistant":
            assert item["id"]
            assert item["status"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_response_can_be_sent_again(shape: Shape) -> None:
    flavour = Flavour(sync=True)
    response = response_of(flavour, shape)
    if response is not None:
        history = response.to_input()
        assert len(history) <= max(len(response.output), bool(response.output_text))
        if response.output_text:
            again = Response(raw={"output": history, "status": "completed"})
            assert again.output_text == response.output_text
        assert history == response.to_input(), "made ids stay the same"
        assert ResponsesRequest(input=[*history, NEXT]).input == [*history, NEXT]
        check_sent_again(flavour, history)
    flavour.close()


def sent_back(*items: Any, name: str | None = "resp_1") -> list[dict[str, Any]]:
    return Response(raw=body(*items, id=name)).to_input()


@pytest.mark.parametrize(
    "item",
    [
        message(),
        message(phase="final_answer"),
        message(phase="unknown", status="unknown"),
        message(content=[part(logprobs=[], annotations=[])]),
        REASONING,
        REASONING | {"format": "unknown", "encrypted_content": "x", "content": None},
        CALL | {"arguments": ARGUMENTS},
        refusal(),
        {"type": "item_unknown", "id": "x", "a": [1, {"b": None}]},
    ],
    ids=str,
)
def test_a_whole_response_passes_unchanged(item: dict[str, Any]) -> None:
    assert sent_back(item) == [item]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"role": "assistant", "content": [part()]}, {"type": "message", "status": "completed", "content": [part()]}),
        (message(None, None, content="text"), {"content": "text", "status": "completed"}),
        (message(None, None, content=None), {"content": []}),
        (
            message(None, None, content=[{"type": "text", "text": "t"}]),
            {"content": [{"type": "output_text", "text": "t"}]},
        ),
        (message(None, None, content=["t"]), {"content": [{"type": "output_text", "text": "t"}]}),
        (message(None, None, content=[part(text=None)]), {"content": [part("")]}),
        (message(None, None, role="model"), {"role": "assistant"}),
        (message(None, None, content=[{"refusal": "No."}]), {"content": [{"refusal": "No.", "type": "refusal"}]}),
        ({"type": "reasoning"}, {"summary": []}),
        ({"type": "reasoning", "summary": "Hm."}, {"summary": [{"type": "summary_text", "text": "Hm."}]}),
        ({"type": "reasoning", "content": "Hm."}, {"content": [{"type": "reasoning_text", "text": "Hm."}]}),
        (
            {"type": "reasoning", "content": [{"type": "text", "text": "Hm."}]},
            {"content": [{"type": "reasoning_text", "text": "Hm."}]},
        ),
        (
            message(content=[{"type": "reasoning_text", "text": "Hm."}, part(annotations={})]),
            {"content": [part(annotations=[])]},
        ),
        (message(content=[part(annotations=["x", {"type": "x"}])]), {"content": [part(annotations=[{"type": "x"}])]}),
        ({"type": "function_call", "id": "fc_1", "name": "f"}, {"call_id": "fc_1", "arguments": "{}"}),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}}, {"arguments": '{"a": 1}'}),
        ({"type": "web_search_call", "id": "ws_1"}, {"status": "completed"}),
        ({"type": "image_generation_call", "result": "aGk="}, {"status": "completed", "result": "aGk="}),
        ({"type": "file_search_call", "id": 7}, {"queries": [], "status": "completed"}),
        ({"type": "openrouter:web_fetch", "url": "https://example.org"}, {"status": "completed"}),
        ({"type": "web_search_call", "id": "ws", "action": "rain"}, {"status": "completed"}),
        (
            {"type": "web_search_call", "id": "ws", "action": {"type": "search", "query": None, "sources": 5}},
            {"action": {"type": "search", "query": ""}},
        ),
        ({"type": "code_interpreter_call", "id": "ci", "outputs": "text"}, {"outputs": []}),
        (
            {"type": "code_interpreter_call", "id": "ci", "outputs": [{"type": "logs", "logs": 7}, {"url": "u"}]},
            {"outputs": [{"type": "logs", "logs": "7"}]},
        ),
        ({"type": "file_search_call", "id": "fs", "queries": "rain"}, {"queries": ["rain"]}),
        ({"type": "mcp_call", "id": "mcp", "name": "f", "output": {"a": "ß"}}, {"output": '{"a": "ß"}'}),
        (
            {"type": "mcp_list_tools", "id": "l", "tools": [{"name": "f"}]},
            {"tools": [{"name": "f", "input_schema": {}}]},
        ),
        (
            message(
                content=[part(logprobs={}, annotations=[{"type": "url_citation", "url": "u", "start_index": "a"}])]
            ),
            {"content": [part(annotations=[ANNOTATION])]},
        ),
        (
            message(content=[part(logprobs=[{"token": "a", "logprob": None}, {"token": "b", "logprob": -1}])]),
            {"content": [part(logprobs=[{"token": "b", "logprob": -1}])]},
        ),
        (
            message(content=[part(annotations=[{"type": "url_citation", "url": None}])]),
            {"content": [part(annotations=[{"type": "url_citation", "url": ""}])]},
        ),
        ({"type": "reasoning", "id": "rs", "signature": {"a": 1}}, {"signature": '{"a": 1}'}),
        ({"type": "local_shell_call", "id": "l"}, {"action": {"type": "exec", "command": [], "env": {}}}),
        ({"type": "apply_patch_call", "id": "a"}, {"call_id": "a"}),
        ({"type": "tool_search_call", "id": "t"}, {"call_id": "t", "execution": "server"}),
        ({"type": "compaction", "id": "c"}, {"encrypted_content": ""}),
        (
            {"type": "shell_call_output", "id": "s", "output": [{"stdout": "a", "stderr": ""}, "b"]},
            {"output": []},  # its end is unknown, and not filled in
        ),
        (message(role="user"), {"content": [{"type": "input_text", "text": TEXT}]}),
        (message(content=[part("half \ud83d")]), {"content": [part("half \ufffd")]}),
        (TEXT, {"type": "message", "role": "assistant", "content": [part(annotations=[])]}),
    ],
    ids=str,
)
def test_missing_fields_are_filled_in(item: Any, expected: dict[str, Any]) -> None:
    (sent,) = sent_back(item)
    assert {name: sent[name] for name in expected} == expected
    assert sent.get("id") or sent.get("call_id") or sent["type"].startswith("openrouter:")
    flavour = Flavour(sync=True)
    check_sent_again(flavour, [sent])
    flavour.close()


def test_generated_ids_depend_on_the_response_the_place_and_the_item() -> None:
    bare = message(name=None)
    one, two = sent_back(bare, bare)
    assert one["id"] != two["id"]
    assert sent_back(bare, bare) == [one, two]
    assert one["id"] not in {item["id"] for item in sent_back(bare, bare, name="resp_2")}
    assert sent_back(message("other", None))[0]["id"] != one["id"]


def test_an_item_that_occurs_twice_is_sent_back_once() -> None:
    assert sent_back(message(), CALL, message()) == [message(), {**CALL, "arguments": "{}"}]


def test_values_that_json_cannot_hold_are_null() -> None:
    raw = json.loads('{"type": "unknown", "id": "x", "score": NaN, "scores": [1.5, Infinity]}')
    (sent,) = sent_back(raw)
    assert (sent["score"], sent["scores"]) == (None, [1.5, None])


@pytest.mark.parametrize("item", [None, 7, {}, {"a": 1}, {"type": 7}, {"type": None, "a": 1}, ""], ids=repr)
def test_values_that_are_no_items_are_not_sent_back(item: Any) -> None:
    assert sent_back(item, message()) == [message()]


def test_the_response_itself_stays_as_it_is() -> None:
    raw = body(message(None, None, content="text"), REASONING)
    kept = json.dumps(raw)
    history = Response(raw=raw).to_input()
    history[0]["content"] = "changed"
    history[1]["summary"].append("changed")
    assert json.dumps(raw) == kept


def test_a_conversation_over_the_wire(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(200, json=body(message(content="Hi", name=None))), good())
    client = flavour.on(wire)
    first = client.send()
    client.send({**REQUEST, "input": [{"role": "user", "content": "x"}, *first.to_input(), NEXT]})
    assert [item.get("content") for item in wire.sent[1]["input"]] == ["x", "Hi", "And then?"]
