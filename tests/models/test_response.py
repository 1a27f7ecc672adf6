"""No shape of a response raises: it is paid for."""

from __future__ import annotations

import copy
import functools
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.models import Response, Usage

PROPERTIES = sorted(
    name for name, value in vars(Response).items() if isinstance(value, (property, functools.cached_property))
)

RESULT: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "maker/small-1",
    "instructions": "the secret plan",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {
                    "type": "output_text",
                    "text": "Hello, ",
                    "annotations": [
                        {"type": "url_citation", "url": "https://example.org", "title": "t"},
                        {"type": "file_citation", "file_id": "f", "filename": "f.txt", "index": 0},
                    ],
                },
                {"type": "output_text", "text": "world", "annotations": []},
            ],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "image_generation_call", "id": "ig_1", "result": "aGk="},
    ],
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 2},
        "cost": 0.25,
        "is_byok": False,
    },
    "error": None,
    "incomplete_details": None,
    "openrouter_metadata": {"attempt": 1},
}

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["message", "output_text", "refusal", "image_generation_call", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [path for key, item in items for path in paths(item, (*at, key))]


PATHS = paths(RESULT)


def mutated(path: tuple[Any, ...], value: Any, *, drop: bool = False) -> dict[str, Any]:
    raw = copy.deepcopy(RESULT)
    parent: Any = raw
    for key in path[:-1]:
        parent = parent[key]
    if drop:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return raw


def read_everything(response: Response) -> None:
    for name in PROPERTIES:
        getattr(response, name)
    repr(response)
    response.to_input()


@given(st.sampled_from(PATHS), anything)
def test_no_property_raises_for_any_value_in_any_place(path: tuple[Any, ...], value: Any) -> None:
    raw = mutated(path, value)
    response = Response(raw=raw)
    kept = repr(raw)
    read_everything(response)
    assert response.raw is raw
    assert repr(raw) == kept


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_no_property_raises_for_missing_or_null_values(path: tuple[Any, ...]) -> None:
    read_everything(Response(raw=mutated(path, None)))
    read_everything(Response(raw=mutated(path, None, drop=True)))


@given(st.dictionaries(st.sampled_from([*RESULT, "output_text", "error_type"]) | st.text(max_size=5), anything))
def test_no_property_raises_for_any_object(raw: dict[str, Any]) -> None:
    read_everything(Response(raw=raw))


def test_a_cost_beyond_all_floats_is_no_error() -> None:
    usage = Response(raw={"usage": {"cost": 10**400}}).usage
    assert usage.cost is None or math.isinf(usage.cost)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_a_cost_that_is_not_a_number_is_unknown(text: str) -> None:
    # XCom and the metadata database hold JSON, which has neither of them.
    assert Usage.from_raw({"cost": json.loads(text)}).cost is None


def test_the_properties_of_a_response_are_read() -> None:
    response = Response(raw=RESULT)
    assert (response.id, response.status, response.model) == ("resp_1", "completed", "maker/small-1")
    assert response.output_text == "Hello, world"
    assert response.refusal is None
    assert [call["call_id"] for call in response.function_calls] == ["c"]
    assert [note["url"] for note in response.citations] == ["https://example.org"]
    assert response.images == ["aGk="]
    assert response.openrouter_metadata == {"attempt": 1}
    assert response.usage == Usage(
        input_tokens=10,
        output_tokens=5,
        total_tokens=15,
        cached_tokens=4,
        reasoning_tokens=2,
        cost=0.25,
        is_byok=False,
        raw=RESULT["usage"],
    )


@pytest.mark.parametrize("usage", [None, {}, {"cost": None}, {"cost": "free"}, {"cost": True}, [], "usage", 0])
def test_unknown_cost_is_none_and_not_zero(usage: Any) -> None:
    assert Response(raw={"usage": usage}).usage.cost is None
    assert Response(raw={}).usage.cost is None


def test_a_cost_of_zero_is_zero() -> None:
    assert Usage.from_raw({"cost": 0}).cost == 0.0


def test_booleans_are_neither_numbers_nor_text() -> None:
    usage = Usage.from_raw({"input_tokens": True, "cost": False, "is_byok": 1})
    assert (usage.input_tokens, usage.cost, usage.is_byok) == (None, None, None)


def test_a_refusal_differs_from_an_output() -> None:
    content = [{"type": "refusal", "refusal": "I won't."}]
    response = Response(raw={"output": [{"type": "message", "content": content}]})
    assert response.refusal == "I won't."
    assert response.output_text == ""


def test_the_output_text_of_servers_without_items_is_read() -> None:
    assert Response(raw={"output_text": "Hello"}).output_text == "Hello"
    assert Response(raw={**RESULT, "output_text": "other"}).output_text == "Hello, world"


def test_to_input_returns_the_items_with_id_and_status() -> None:
    items = Response(raw=RESULT).to_input()
    *others, image = RESULT["output"]
    assert items == [*others, {**image, "status": "completed"}]
    message = items[1]
    assert (message["id"], message["status"]) == ("msg_1", "completed")
    message["status"] = "changed"
    assert RESULT["output"][1]["status"] == "completed"


def test_repr_shows_neither_prompt_nor_output() -> None:
    response = Response(raw=RESULT, headers={"x-secret": "hidden"}, previous=(ValueError("hidden"),))
    for secret in ("Hello", "world", "secret plan", "hidden"):
        assert secret not in repr(response)
        assert secret not in repr(response.usage)
    assert "resp_1" in repr(response)


def test_error_type_is_read_beside_and_inside_the_error() -> None:
    assert Response(raw={"error_type": "timeout"}).error_type == "timeout"
    assert Response(raw={"error": {"error_type": "timeout"}}).error_type == "timeout"
    assert Response(raw={"error": "text"}).error_type is None


def test_incomplete_reason_is_read() -> None:
    assert Response(raw={"incomplete_details": {"reason": "max_output_tokens"}}).incomplete_reason == (
        "max_output_tokens"
    )
    assert Response(raw={"incomplete_details": 5}).incomplete_reason is None


def test_incomplete_details_may_be_a_text() -> None:
    response = Response(raw={"status": "completed", "incomplete_details": "max_output_tokens"})
    assert (response.status, response.incomplete_reason) == ("incomplete", "max_output_tokens")
    for empty in ("", "none", "NULL"):
        response = Response(raw={"status": "completed", "incomplete_details": empty})
        assert (response.status, response.incomplete_details) == ("completed", None)


def test_generation_and_cache_are_read_from_the_headers() -> None:
    headers = {
        "x-generation-id": "gen-2",
        "x-openrouter-cache-status": "hit",
        "x-openrouter-cache-source-id": "gen-1",
    }
    response = Response(raw={}, headers=headers, previous=(ValueError(), ValueError()))
    assert (response.generation_id, response.cached, response.cache_source_id) == ("gen-2", True, "gen-1")
    assert response.sends == 3
    assert not Response(raw={}).cached


def test_a_response_can_be_pickled() -> None:
    response = Response(raw=RESULT, headers={"x-generation-id": "gen-1"})
    assert pickle.loads(pickle.dumps(response)) == response  # noqa: S301  its own bytes
