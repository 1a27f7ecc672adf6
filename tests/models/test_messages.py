"""The choice of the output among the messages of a response, in every shape of a message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.models import Response, ResponseMessage

CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


def message_of(text: str, name: str | None = None, **changes: Any) -> dict[str, Any]:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return item | ({} if name is None else {"id": name}) | changes


def response(*output: Any, **raw: Any) -> Response:
    return Response(raw={"status": "completed", "output": list(output), **raw})


@pytest.mark.parametrize(
    ("output", "text", "texts"),
    [
        ([message_of("a")], "a", ["a"]),
        ([message_of("a"), message_of("b")], "a\n\nb", ["b", "a"]),
        ([message_of("a", phase="commentary"), message_of("b", phase="final_answer")], "b", ["b", "a"]),
        ([message_of("b", phase="final_answer"), message_of("a", phase="commentary")], "b", ["b", "a"]),
        ([message_of("a", phase="final_answer"), message_of("b", phase="final_answer")], "a\n\nb", ["b", "a"]),
        ([message_of("b", phase="final_answer"), CALL, message_of("a")], "b", ["b", "a"]),
        ([message_of("a", phase="commentary"), message_of("b")], "b", ["b", "a"]),
        ([message_of("a", phase="commentary")], "a", ["a"]),
        ([message_of("a", phase="commentary"), message_of("", phase="final_answer")], "a", ["a"]),
        ([message_of("a"), SEARCH, message_of("b"), message_of("c")], "b\n\nc", ["c", "b", "a"]),
        ([message_of("a"), CALL], "a", ["a"]),
        ([message_of("a"), SEARCH, message_of("b"), CALL], "b", ["b", "a"]),
        ([message_of("a"), {"type": "openrouter:web_search", "status": "completed"}, message_of("b")], "b", ["b", "a"]),
        ([message_of("a"), {"type": "unknown_item"}, message_of("b")], "b", ["b", "a"]),
        ([message_of("a"), REASONING, message_of("b")], "a\n\nb", ["b", "a"]),
        ([message_of("a"), CALL, message_of("")], "a", ["a"]),
        ([message_of("a", "m"), message_of("a", "m")], "a", ["a"]),
        ([message_of("a", "m", status="in_progress"), message_of("ab", "m")], "ab", ["ab"]),
        ([message_of("a", "m"), message_of("b", "m")], "a\n\nb", ["b", "a"]),
        ([message_of("a", "m"), message_of("b", "m"), message_of("a", "m")], "a\n\nb", ["b", "a"]),
        ([message_of("ab", "m"), message_of("a", "m")], "ab", ["ab"]),
        ([message_of("a", "m"), message_of("a", "n")], "a\n\na", ["a"]),
        ([message_of("a"), message_of("a")], "a\n\na", ["a"]),
        ([message_of("a", phase="unknown")], "a", ["a"]),
        ([], "", [""]),
        ([CALL], "", [""]),
    ],
)
def test_the_output_is_the_final_answer_or_the_messages_after_the_last_tool_call(
    output: list[Any], text: str, texts: list[str]
) -> None:
    made = response(*output)
    assert made.output_text == text
    assert made.output_texts == texts


@pytest.mark.parametrize(
    "item",
    [
        message_of("a b"),
        {"role": "assistant", "content": "a b"},
        {"type": "message", "content": "a b"},
        {"type": None, "content": [{"text": "a b"}]},
        {"type": "message", "content": [{"type": "text", "text": "a b"}]},
        {"type": "message", "content": ["a", " b"]},
        {"type": "message", "content": {"type": "output_text", "text": "a b"}},
        {"type": "message", "content": [{"type": "unknown", "text": "a b"}]},
        {"type": "message", "content": [{"type": "reasoning_text", "text": "Hm."}, {"type": "text", "text": "a b"}]},
        {"type": "output_text", "text": "a b"},
        {"type": "text", "text": "a b"},
        "a b",
    ],
    ids=str,
)
def test_every_form_of_a_text_is_read(item: Any) -> None:
    assert response(item).output_text == "a b"
    assert Response(raw={"status": "completed", "output": item}).output_text == "a b"


def test_messages_has_all_messages() -> None:
    refused = {"type": "message", "id": "m3", "content": [{"type": "refusal", "refusal": "No."}]}
    made = response(
        message_of("a", "m1", phase="commentary"), SEARCH, message_of("b", "m2", status="in_progress"), refused
    )
    assert made.messages == [
        ResponseMessage(id="m1", role="assistant", phase="commentary", text="a"),
        ResponseMessage(id="m2", role="assistant", status="in_progress", text="b"),
        ResponseMessage(id="m3", refusal="No."),
    ]
    assert made.refusal == "No."
    assert "'a'" not in repr(made.messages)
    assert "No." not in repr(made.messages)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "refusal", "refusal": "No."},
        {"type": "refusal", "text": "No."},
        {"refusal": "No."},
    ],
    ids=str,
)
def test_every_form_of_a_refusal_is_read(part: dict[str, Any]) -> None:
    made = response({"type": "message", "content": [part]})
    assert (made.refusal, made.output_text) == ("No.", "")


def test_two_messages_under_one_id_are_both_sent_back() -> None:
    history = response(
        message_of("a", "m"), CALL, message_of("b", "m"), message_of("a", "m"), message_of("b", "m")
    ).to_input()
    assert [item["type"] for item in history] == ["message", "function_call", "message"]
    assert [item["content"][0]["text"] for item in history if item["type"] == "message"] == ["a", "b"]
    assert len({item["id"] for item in history}) == 3


def test_a_refusal_beside_the_content_is_read() -> None:
    made = response({"role": "assistant", "content": None, "refusal": "No."})
    assert (made.refusal, made.output_text) == ("No.", "")
    assert response(message_of("a", refusal=None)).refusal is None
    both = message_of("", refusal="No.", content=[{"type": "refusal", "refusal": "No."}])
    assert response(both).refusal == "No."


def test_citations_of_a_message_that_is_sent_twice_count_once() -> None:
    note = {"type": "url_citation", "url": "https://example.org"}
    item = message_of("a", "m", content=[{"type": "output_text", "text": "a", "annotations": [note]}])
    assert response(item, item).citations == [note]


words = st.text("ab ", max_size=4)
phases = st.sampled_from([None, "commentary", "final_answer", "other"])
items = st.lists(
    st.builds(
        lambda text, phase, name: message_of(text, name, phase=phase), words, phases, st.sampled_from([None, "m", "n"])
    )
    | st.sampled_from([CALL, SEARCH, REASONING, {"type": "unknown_item"}]),
    max_size=6,
)


@given(items)
def test_an_empty_message_never_replaces_one_with_text(output: list[Any]) -> None:
    made = response(*output)
    assert bool(made.output_text) == any(message.text for message in made.messages)
    assert made.output_texts
    assert all(made.output_texts) or made.output_texts == [""]
    assert made.output_texts[0] in made.output_text
    assert {text for message in made.messages if (text := message.text).strip()} <= set(made.output_texts)


# --- usage


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 3, "output_tokens": 2}, (3, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2)),
        ({"prompt_tokens": 3.0, "completion_tokens": 2.0, "input_tokens": None}, (3, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 2, "input_tokens": 0, "output_tokens": 0}, (3, 2)),
        ({"input_tokens": 3.4, "output_tokens": 2.0}, (3, 2)),
        ({"input_tokens": 0, "output_tokens": 2}, (0, 2)),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, (None, None)),
        ({"input_tokens": 0.0, "output_tokens": 0.0}, (None, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None)),
        ({"input_tokens": float("nan"), "output_tokens": float("inf")}, (None, None)),
        ({"input_tokens": "3", "output_tokens": True}, (None, None)),
        ({"input_tokens": 10**400, "output_tokens": -(10**400)}, (None, None)),
    ],
    ids=str,
)
def test_tokens_are_read_under_every_name(usage: dict[str, Any], tokens: tuple[int | None, int | None]) -> None:
    read = response(usage=usage).usage
    assert (read.input_tokens, read.output_tokens) == tokens
    assert all(value is None or type(value) is int for value in (read.input_tokens, read.output_tokens))
    assert not (tokens == (None, None) and read.total_tokens == 0)


def test_details_of_chat_completions_are_read() -> None:
    usage = {
        "prompt_tokens_details": {"cached_tokens": 4.0},
        "completion_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 9.0,
    }
    read = response(usage=usage).usage
    assert (read.cached_tokens, read.reasoning_tokens, read.total_tokens) == (4, 2, 9)


def test_zero_tokens_are_unknown_unless_the_response_is_cached() -> None:
    zero = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost": 0}
    fresh = Response(raw={"usage": zero}).usage
    cached = Response(raw={"usage": zero}, headers={"x-openrouter-cache-status": "HIT"}).usage
    assert (fresh.input_tokens, fresh.total_tokens, fresh.cost) == (None, None, 0.0)
    assert (cached.input_tokens, cached.total_tokens, cached.cost) == (0, 0, 0.0)


@pytest.mark.parametrize(
    ("text", "cost"),
    [("0.25", 0.25), ("1e-05", 1e-05), ("0.0", 0.0), ("None", None), ("", None), ("nan", None), ("soon", None)],
)
def test_the_price_in_litellms_header_is_read(text: str, cost: float | None) -> None:
    headers = {"x-litellm-response-cost": text, "x-litellm-response-cost-original": "0.75"}
    assert Response(raw={}, headers=headers).usage.cost == cost
    assert Response(raw={"usage": {"cost": 0.5}}, headers=headers).usage.cost == 0.5
    del headers["x-litellm-response-cost"]
    assert Response(raw={}, headers=headers).usage.cost is None


# --- status and error


@pytest.mark.parametrize(
    "error", [{}, "", {"code": None, "message": None}, {"message": ""}, {"code": 0}, None], ids=repr
)
def test_an_empty_error_is_no_error(error: Any) -> None:
    assert response(error=error).error is None


@pytest.mark.parametrize("error", ["no", {"message": "no"}, {"code": "x", "message": None}, {"type": "server_error"}])
def test_an_error_with_content_is_returned(error: Any) -> None:
    assert response(error=error).error is not None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "completed"),
        ({"incomplete_details": {"reason": "length"}}, "incomplete"),
        ({"incomplete_details": {"reason": "x"}, "status": None}, "incomplete"),
        ({"incomplete_details": {"reason": None}}, "completed"),
        ({"incomplete_details": {}}, "completed"),
        ({"output": [message_of("a", status="incomplete")]}, "incomplete"),
        ({"output": [CALL | {"status": "incomplete"}]}, "incomplete"),
        ({"output": [REASONING | {"status": "incomplete"}, message_of("a")]}, "completed"),
        ({"output": [REASONING, REASONING]}, "incomplete"),
        ({"output": [REASONING, CALL]}, "completed"),
        ({"output": [REASONING], "output_text": "a"}, "completed"),
        ({"output": [message_of("a", status="in_progress")]}, "completed"),
        ({"status": "failed", "incomplete_details": {"reason": "x"}}, "failed"),
        ({"status": None}, None),
    ],
    ids=str,
)
def test_a_truncated_response_that_is_called_completed_is_incomplete(
    changes: dict[str, Any], status: str | None
) -> None:
    assert Response(raw={"status": "completed", "output": [message_of("a")], **changes}).status == status
