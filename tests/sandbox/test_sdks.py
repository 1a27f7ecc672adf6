from __future__ import annotations

import json

import openai
import pytest
from openrouter import OpenRouter, errors

from .conftest import HELLO

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
FORMAT = {"format": {"type": "json_schema", "name": "row", "schema": SCHEMA}}


@pytest.fixture
def openai_sdk(sandbox):
    with openai.OpenAI(base_url=sandbox.base_url, api_key="sandbox-key", max_retries=0) as client:
        yield client


@pytest.fixture
def openrouter_sdk(sandbox):
    with OpenRouter(server_url=sandbox.base_url, api_key="sandbox-key") as client:
        yield client


def test_openai_reads_a_response(openai_sdk):
    response = openai_sdk.responses.create(**HELLO)
    assert response.output_text == "Rain fell on the old harbour all day."
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_openai_reads_a_stream(openai_sdk):
    events = list(openai_sdk.responses.create(**HELLO, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text == "Rain fell on the old harbour all day."


def test_openai_stream_helper_accumulates(openai_sdk):
    with openai_sdk.responses.stream(**HELLO) as stream:
        assert stream.get_final_response().output_text == "Rain fell on the old harbour all day."


def test_openai_structured_output_and_tools(openai_sdk):
    response = openai_sdk.responses.create(**HELLO, text=FORMAT)
    assert json.loads(response.output_text) == {"title": "Rain fell on the old harbour"}
    tool = {"type": "function", "name": "look_up", "parameters": SCHEMA, "strict": True}
    called = openai_sdk.responses.create(**HELLO, tools=[tool])
    assert called.output[0].name == "look_up"


def test_openai_errors_and_models(openai_sdk, sandbox):
    sandbox.script({"status": 429, "retry_after": 7})
    with pytest.raises(openai.RateLimitError) as caught:
        openai_sdk.responses.create(**HELLO)
    assert caught.value.response.headers["retry-after"] == "7"
    assert "openai/gpt-4o-mini" in [model.id for model in openai_sdk.models.list()]


def test_openrouter_reads_a_response(openrouter_sdk):
    response = openrouter_sdk.beta.responses.send(**HELLO, text=FORMAT)
    assert json.loads(response.output[0].content[0].text) == {"title": "Rain fell on the old harbour"}
    assert response.usage.cost > 0


def test_openrouter_reads_a_stream(openrouter_sdk):
    with openrouter_sdk.beta.responses.send(**HELLO, stream=True) as stream:
        events = list(stream)
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == "Rain fell on the old harbour all day."


def test_openrouter_errors(openrouter_sdk):
    with pytest.raises(errors.NotFoundResponseError):
        openrouter_sdk.beta.responses.send(**HELLO | {"model": "missing/model"})
    with pytest.raises(errors.ForbiddenResponseError):
        openrouter_sdk.beta.responses.send(**HELLO | {"model": "sandbox/guardrail-blocked"})
