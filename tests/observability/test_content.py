"""Content of spans has the form of the conventions, and no response of a server stops its span or the export."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.observability.genai_content import request_content, response_content
from airflow_provider_responses.observability.metrics import request_metrics
from airflow_provider_responses.observability.spans import Tracing, start_request_span

TEXT = {"type": "text", "content": "hi"}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "parts": [TEXT]}),
        (
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "hi"}]},
            {"role": "developer", "parts": [TEXT]},
        ),
        (
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}],
            },
            {"role": "user", "parts": [{"type": "input_image"}]},
        ),
        (
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": "{}"}]},
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": "42"},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "42"}]},
        ),
    ],
)
def test_each_item_of_the_input_is_a_message(item, message):
    request = ResponsesRequest(model="m", input=[item])
    assert json.loads(request_content(request)["gen_ai.input.messages"]) == [message]


def test_the_output_is_one_message_with_reasoning_text_and_calls():
    raw = {
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "think"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
            {"type": "web_search_call", "id": "w"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        ],
    }
    assert json.loads(response_content(Response(raw=raw))["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "think"},
                TEXT,
                {"type": "web_search_call"},
                {"type": "tool_call", "id": "c", "name": "f", "arguments": "{}"},
            ],
            "finish_reason": "tool_call",
        }
    ]


def exported(response, error=None):
    """Return a response's span as it is exported."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    request = ResponsesRequest.parse({"model": "m\ud800", "input": "hi\ud800", "top_k": 10**30}, dialect="open")
    tracing = Tracing(tracer=provider.get_tracer("test"), content=True)
    with start_request_span(tracing, request, base_url="https://x.ai/v1", is_openrouter=False) as span:
        span.set_outcome(response, error, None)
    message = encode_spans(exporter.get_finished_spans())
    return message.resource_spans[0].scope_spans[0].spans[0]


def test_half_a_character_does_not_stop_the_export():
    raw = {"id": "r\ud800", "model": "\udfff", "status": "odd\ud800", "output_text": "hi \ud83d"}
    span = exported(Response(raw=raw), ResponsesError("broken \ud800"))
    assert span.name == "chat m?"
    assert span.status.message.startswith("broken ?")
    found = {item.key: item.value.string_value for item in span.attributes}
    assert (found["gen_ai.response.id"], found["gen_ai.response.model"]) == ("r?", "?")
    assert json.loads(found["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "hi ?"}]
    assert "gen_ai.request.top_k" not in found


texts = st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
kinds = st.sampled_from(["message", "reasoning", "function_call", "function_call_output", "web_search_call"])
items = st.fixed_dictionaries(
    {}, optional={"type": kinds | values, "content": values, "summary": values, "output": values, "call_id": values}
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "id": values,
        "model": values,
        "status": values,
        "output": st.lists(items, max_size=3) | values,
        "output_text": values,
        "usage": st.fixed_dictionaries({}, optional={"input_tokens": values, "cost": values}) | values,
        "incomplete_details": values,
    },
)


@given(bodies)
def test_a_body_of_any_shape_is_exported(raw):
    assert exported(Response(raw=raw)).name == "chat m?"


@given(
    st.none() | st.integers(),
    st.none() | st.floats(allow_nan=False) | st.integers(-(10**30), 10**30).map(float),
    st.booleans(),
)
def test_counters_get_positive_whole_numbers_only(tokens, cost, cached):
    usage = {
        "sends": [{"cause": None, "ambiguous": False, "wait": None}],
        "status": "completed",
        "model": None,
        "cached": cached,
        "input_tokens": tokens,
        "output_tokens": tokens,
        "cost_this_attempt": cost,
    }
    found = {metric.name: metric.value for metric in request_metrics(usage, error=None, seconds=None, tags={})}
    assert all(type(value) is int and 0 < value <= 2**53 for value in found.values())
    assert ("responses.unpriced" in found) is (cost is None)
    is_counted = cost is not None and abs(cost) < 2**53 / 1e6 and round(cost * 1e6) > 0
    assert ("responses.cost_microdollars" in found) is is_counted
