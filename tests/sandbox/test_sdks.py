from __future__ import annotations

import json
import time

import openai
import pytest
from openrouter import OpenRouter, components, errors

from .batches import requests, submission
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


@pytest.fixture
def fast_batches(sandbox):
    sandbox.batch_settings = {"seconds": 0.05}
    return sandbox


def until_ended(read, timeout=30):
    """Return the batch that ``read`` returns once it has ended."""
    until = time.monotonic() + timeout
    while (batch := read()).status in {"validating", "in_progress", "finalizing", "cancelling"}:
        assert time.monotonic() < until, batch
        time.sleep(0.01)
    return batch


def assert_known(model):
    """Assert that the SDK's model has no field that it does not know, in a batch and its parts."""
    assert model.model_extra in (None, {})
    for name in type(model).model_fields:
        value = getattr(model, name)
        for item in value if isinstance(value, list) else [value]:
            if hasattr(item, "model_extra") and name in {"results", "data", "request_counts", "usage", "error"}:
                assert_known(item)


@pytest.fixture
def submit(http, fast_batches):
    """
    Return a function that submits a batch, and returns it as the SDK's model.

    The SDK itself writes ``completion_window`` after ``requests``, which the service refuses.
    """

    def submit(*arguments, **fields):
        response = http.post("/batches", json=submission(*arguments, **fields))
        assert response.status_code == 202
        return components.BatchObject.model_validate(response.json())

    return submit


def test_openrouter_polls_and_deletes_a_batch(openrouter_sdk, submit):
    batch = submit(3, callback_url="https://example.com/hook")
    assert batch.status == "validating"
    assert_known(batch)
    batch = until_ended(lambda: openrouter_sdk.batch.get_batches(id=batch.id))
    assert_known(batch)
    assert batch.status == "completed"
    assert batch.request_counts.completed == 3
    assert {result.custom_id for result in batch.results} == {"row-0", "row-1", "row-2"}
    texts = [result.response.body.output[0].content[0].text for result in batch.results]
    assert all(texts)
    costs = [result.response.body.usage.cost for result in batch.results]
    assert batch.usage.cost == pytest.approx(sum(costs))
    deleted = openrouter_sdk.batch.delete(id=batch.id)
    assert (deleted.id, deleted.deletion.upstream.status) == (batch.id, "deleted")


def test_openrouter_reads_failed_requests_and_failed_batches(openrouter_sdk, fast_batches, submit):
    fast_batches.script_batches({"responses": [{"status": 429, "message": "Slow down"}]})
    bad = {"custom_id": "bad", "body": {"input": "Hello", "stream": True}}
    ids = [submit(1).id, submit(requests=[*requests(1), bad]).id]
    partial, failed = (until_ended(lambda id_=id_: openrouter_sdk.batch.get_batches(id=id_)) for id_ in ids)
    error = partial.results[0].error
    assert (error.message, error.error_type, partial.results[0].response) == ("Slow down", "rate_limit_exceeded", None)
    assert (failed.status, failed.error.message) == ("failed", "Request 'bad': stream must not be true in a batch")
    assert failed.results == []
    assert_known(partial)
    assert_known(failed)


def test_openrouter_lists_batches_in_pages(openrouter_sdk, submit):
    ids = [submit(1).id for _ in range(3)]
    until_ended(lambda: openrouter_sdk.batch.get_batches(id=ids[-1]))
    page = openrouter_sdk.batch.list(limit=2, status=["completed"], created_after="2026-01-01T00:00:00Z")
    assert_known(page.result)
    assert [batch.id for batch in page.result.data] == [ids[2], ids[1]]
    assert [batch.id for batch in page.next().result.data] == [ids[0]]


def test_openrouter_reads_the_errors_of_batches(openrouter_sdk, fast_batches, submit):
    batch_id = submit(1).id
    until_ended(lambda: openrouter_sdk.batch.get_batches(id=batch_id))
    with pytest.raises(errors.BatchErrorResponse) as unknown:
        openrouter_sdk.batch.get_batches(id="batch_unknown")
    assert (unknown.value.status_code, unknown.value.data.error.code) == (404, 404)
    fast_batches.key = {"limit": 1, "limit_remaining": 0}
    with pytest.raises(errors.BatchPaymentRequiredResponseError) as owed:
        openrouter_sdk.batch.get_batches(id=batch_id)
    assert (owed.value.data.id, owed.value.data.error.code) == (batch_id, 402)
    fast_batches.key = {}
    fast_batches.expire_batch_results(batch_id)
    with pytest.raises(errors.BatchErrorResponse) as expired:
        openrouter_sdk.batch.get_batches(id=batch_id)
    assert expired.value.status_code == 410
    with pytest.raises(errors.BatchErrorResponse) as refused:
        openrouter_sdk.batch.create_batches(**submission(1))
    assert refused.value.data.error.message == (
        "completion_window must come before requests: the body is read as a stream"
    )
