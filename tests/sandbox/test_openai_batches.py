"""OpenAI's batch API, through the official SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from .batches import SECONDS, BatchApi, batch_sandbox
from .conftest import output_text

MODEL = "gpt-5-mini"


@pytest.fixture(scope="module")
def module_api() -> Iterator[BatchApi]:
    with batch_sandbox(dialect="open") as api:
        yield api


@pytest.fixture
def batch_api(module_api: BatchApi) -> BatchApi:
    module_api.sandbox.reset()
    return module_api


@pytest.fixture
def sdk(batch_api: BatchApi) -> Iterator[openai.OpenAI]:
    base_url = batch_api.sandbox.base_url
    with openai.OpenAI(base_url=base_url, api_key="sandbox-key", max_retries=0) as client:
        yield client


def line(number: int = 0, **fields: Any) -> dict[str, Any]:
    body = {"model": MODEL, "input": f"Summarize row {number}: rain fell."}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/responses", "body": body, **fields}


def upload(sdk: openai.OpenAI, lines: list[Any], name: str = "requests.jsonl") -> Any:
    content = "".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in lines)
    return sdk.files.create(file=(name, content.encode()), purpose="batch")


def submit(sdk: openai.OpenAI, lines: list[Any], **fields: Any) -> Any:
    return sdk.batches.create(
        input_file_id=upload(sdk, lines).id, endpoint="/v1/responses", completion_window="24h", **fields
    )


def read(sdk: openai.OpenAI, file_id: str) -> dict[str, dict[str, Any]]:
    lines = [json.loads(text) for text in sdk.files.content(file_id).text.splitlines()]
    return {result["custom_id"]: result for result in lines}


def assert_known(model: Any) -> None:
    """Assert that the SDK knows every field of a file or batch, and of its parts."""
    assert model.model_extra in (None, {})
    for name in type(model).model_fields:
        value = getattr(model, name)
        if hasattr(value, "model_extra"):
            assert_known(value)


def test_a_file_is_uploaded_listed_read_and_deleted(sdk, batch_api):
    content = '{"custom_id": "ä\\r\\n--x"}\r\n\n--boundary\r\n'.encode()
    file = sdk.files.create(file=("requests.jsonl", content), purpose="batch")
    assert_known(file)
    assert (file.object, file.bytes, file.filename, file.purpose) == (
        "file", len(content), "requests.jsonl", "batch"
    )  # fmt: skip
    assert sdk.files.content(file.id).read() == content
    assert sdk.files.retrieve(file.id) == file
    assert [listed.id for listed in sdk.files.list()] == [file.id]
    with openai.OpenAI(base_url=batch_api.sandbox.base_url, api_key="another-key") as other:
        assert list(other.files.list()) == []
        with pytest.raises(openai.NotFoundError):
            other.files.content(file.id)
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        sdk.files.retrieve(file.id)


def test_a_batch_is_created_polled_and_downloaded(sdk, batch_api):
    batch = submit(sdk, [line(number) for number in range(4)], metadata={"job": "nightly"})
    assert_known(batch)
    assert (batch.status, batch.request_counts.total, batch.output_file_id) == ("validating", 0, None)
    seen = [batch.status]
    for _ in range(10):
        batch_api.clock.now += SECONDS / 10
        seen.append(sdk.batches.retrieve(batch.id).status)
    assert seen == ["validating", *["in_progress"] * 8, "finalizing", "completed"]
    batch = sdk.batches.retrieve(batch.id)
    assert_known(batch)
    assert batch.metadata == {"job": "nightly"}
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 4, "failed": 0}
    assert batch.error_file_id is None
    assert batch.created_at < batch.in_progress_at < batch.finalizing_at < batch.completed_at
    results = read(sdk, batch.output_file_id)
    assert set(results) == {f"row-{number}" for number in range(4)}
    for result in results.values():
        assert result["response"]["status_code"] == 200
        assert result["error"] is None
        assert "cost" not in result["response"]["body"]["usage"]
    live = sdk.responses.create(**line(2)["body"])
    assert output_text(results["row-2"]["response"]["body"]) == live.output_text
    assert batch.usage.total_tokens == sum(
        result["response"]["body"]["usage"]["total_tokens"] for result in results.values()
    )
    (entry,) = batch_api.sandbox.batches
    assert (entry.billed, entry.cost, entry.completed) == (True, 0.0, 4)
    assert batch_api.sandbox.batch_requests(batch.id) == [line(number) for number in range(4)]


def test_requests_that_fail_are_in_the_error_file(sdk, batch_api):
    batch_api.sandbox.script_batches({"responses": [{"status": 500}]})
    refused = line(2)
    refused["body"]["temperature"] = "warm"
    batch = submit(sdk, [line(0), line(1), refused])
    batch_api.clock.now += SECONDS
    batch = sdk.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert batch.request_counts.model_dump() == {"total": 3, "completed": 1, "failed": 2}
    assert set(read(sdk, batch.output_file_id)) == {"row-1"}
    errors = read(sdk, batch.error_file_id)
    assert {name: result["response"]["status_code"] for name, result in errors.items()} == {"row-0": 500, "row-2": 400}
    assert errors["row-2"]["error"] is None
    assert errors["row-2"]["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert "temperature" in errors["row-2"]["response"]["body"]["error"]["message"]


def test_a_batch_in_which_all_requests_fail_has_no_output_file(sdk, batch_api):
    batch_api.sandbox.batch_settings = {"failing": 1}
    batch = submit(sdk, [line(0)])
    batch_api.clock.now += SECONDS
    batch = sdk.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert set(read(sdk, batch.error_file_id)) == {"row-0"}
    assert not batch_api.sandbox.batches[0].billed


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([line(0), "{"], "invalid_json_line", 2),
        ([line(0), line(0)], "duplicate_custom_id", 2),
        ([line(0, custom_id=None)], "missing_required_parameter", 1),
        ([line(0, method="GET")], "invalid_method", 1),
        ([line(0, url="/v1/chat/completions")], "url_mismatch", 1),
        ([line(0, body=[])], "missing_required_parameter", 1),
        ([line(0, body={"input": "Hello"})], "missing_required_parameter", 1),
        ([line(0), line(1, body={"model": "gpt-5", "input": "Hello"})], "model_mismatch", 2),
        ([line(0, body={"model": "missing/model", "input": "Hello"})], "model_not_found", 1),
        ([""], "empty_file", None),
    ],
)
def test_a_wrong_line_fails_the_whole_batch_after_it_was_accepted(sdk, batch_api, lines, code, number):
    batch = submit(sdk, lines)
    assert (batch.status, batch.errors) == ("validating", None)
    batch_api.clock.now += SECONDS
    batch = sdk.batches.retrieve(batch.id)
    assert_known(batch)
    assert batch.status == "failed"
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, number)]
    assert batch.failed_at > batch.created_at
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


def test_every_wrong_line_is_listed(sdk, batch_api):
    batch = submit(sdk, [line(0), "x", line(0)])
    batch_api.clock.now += SECONDS
    assert [error.line for error in sdk.batches.retrieve(batch.id).errors.data] == [2, 3]


def test_more_requests_than_allowed_fail_the_batch(sdk, batch_api):
    batch_api.sandbox.batch_settings = {"max_requests": 1}
    batch = submit(sdk, [line(0), line(1)])
    batch_api.clock.now += SECONDS
    (error,) = sdk.batches.retrieve(batch.id).errors.data
    assert (error.code, error.message) == ("too_many_tasks", "The file has 2 requests: at most 1 are allowed")


def test_a_cancelled_batch_has_the_results_that_it_reached(sdk, batch_api):
    batch = submit(sdk, [line(number) for number in range(4)])
    batch_api.clock.now += SECONDS / 2
    cancelling = sdk.batches.cancel(batch.id)
    assert_known(cancelling)
    assert cancelling.status == "cancelling"
    assert sdk.batches.cancel(batch.id).status == "cancelling"
    batch_api.clock.now += SECONDS
    batch = sdk.batches.retrieve(batch.id)
    assert (batch.status, len(read(sdk, batch.output_file_id)), batch.error_file_id) == ("cancelled", 2, None)
    assert batch.cancelling_at < batch.cancelled_at
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
        sdk.batches.cancel(batch.id)


def test_the_requests_of_an_expired_batch_are_in_one_file_or_the_other(sdk, batch_api):
    batch_api.sandbox.script_batches({"ending": "expired"})
    batch = submit(sdk, [line(number) for number in range(4)])
    batch_api.clock.now += SECONDS
    batch = sdk.batches.retrieve(batch.id)
    assert (batch.status, batch.expired_at is not None) == ("expired", True)
    output, errors = read(sdk, batch.output_file_id), read(sdk, batch.error_file_id)
    assert (len(output), len(errors)) == (2, 2)
    assert set(output) | set(errors) == {f"row-{number}" for number in range(4)}
    assert {(result["error"]["code"], result["response"]) for result in errors.values()} == {("batch_expired", None)}


def test_a_batch_that_is_failed_on_demand_has_an_error(sdk, batch_api):
    batch = submit(sdk, [line(0)])
    batch_api.sandbox.end_batch(batch.id, "failed", "The provider gave up")
    (error,) = sdk.batches.retrieve(batch.id).errors.data
    assert (error.code, error.message) == ("batch_failed", "The provider gave up")


def test_batches_are_listed_newest_first_in_pages(sdk):
    ids = [submit(sdk, [line(0)]).id for _ in range(3)]
    page = sdk.batches.list(limit=2)
    assert [batch.id for batch in page.data] == ids[:0:-1]
    assert [batch.id for batch in sdk.batches.list(limit=2)] == ids[::-1]


def test_batches_of_another_key_do_not_exist(sdk, batch_api):
    batch = submit(sdk, [line(0)])
    with openai.OpenAI(base_url=batch_api.sandbox.base_url, api_key="another-key", max_retries=0) as other:
        for call in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                call(batch.id)
        with pytest.raises(openai.NotFoundError):
            other.batches.create(input_file_id=batch.input_file_id, endpoint="/v1/responses", completion_window="24h")
        assert list(other.batches.list()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_file_id": None}, "input_file_id must be the id of a file, got None"),
        ({"endpoint": "/v1/embeddings"}, "endpoint must be /v1/responses in this sandbox, got '/v1/embeddings'"),
        ({"completion_window": "1h"}, "completion_window must be '24h', got '1h'"),
        ({"metadata": {"n": 1}}, "metadata must have at most 16 texts"),
    ],
)
def test_a_wrong_field_is_refused_at_once(batch_api, sdk, fields, message):
    valid = {
        "input_file_id": upload(sdk, [line(0)]).id, "endpoint": "/v1/responses", "completion_window": "24h"
    }  # fmt: skip
    response = batch_api.http.post("/batches", json=valid | fields)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


def test_a_body_that_is_no_json_object_is_refused(batch_api):
    for body in (b"{", b"[]"):
        response = batch_api.http.post("/batches", content=body)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith("the body must be a JSON object")


def test_a_file_that_no_batch_can_use_is_refused(sdk, batch_api):
    with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
        upload(sdk, [line(0)], name="requests.json")
    with pytest.raises(openai.BadRequestError, match="purpose must be batch"):
        sdk.files.create(file=("a.jsonl", b"{}"), purpose="user_data")
    batch_api.sandbox.batch_settings = {"max_bytes": 100}
    with pytest.raises(openai.APIStatusError) as caught:
        upload(sdk, [line(0)])
    assert caught.value.status_code == 413


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b"{}", "the content type must be multipart/form-data with a boundary"),
        ("multipart/form-data", b"", "the content type must be multipart/form-data with a boundary"),
        ("multipart/form-data; boundary=b", b"--b\r\n", "the form has no end"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: y\r\n\r\n1\r\n--b--\r\n", "a part of the form has no name"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n',
            "file must be a file",
        ),
    ],
)
def test_an_upload_that_is_no_form_with_a_file_is_refused(batch_api, content_type, body, message):
    response = batch_api.http.post("/files", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(message)


def test_steps_reach_uploads_downloads_and_cancellations(sdk, batch_api):
    batch_api.sandbox.script_batches(
        {"call": "upload", "status": 503}, {"call": "content", "cut": True}, {"call": "cancel", "drop": "after"}
    )
    with pytest.raises(openai.InternalServerError):
        upload(sdk, [line(0)])
    batch = submit(sdk, [line(0)])
    with pytest.raises(httpx.RemoteProtocolError):
        batch_api.http.get(f"/files/{batch.input_file_id}/content")
    with pytest.raises(openai.APIConnectionError):
        sdk.batches.cancel(batch.id)
    assert sdk.batches.retrieve(batch.id).status == "cancelling"


def test_each_dialect_has_its_own_batches(sandbox, http, batch_api):
    assert http.post("/files", content=b"").status_code == 404
    assert http.post("/batches/batch_1/cancel").status_code == 404
    assert batch_api.http.delete("/batches/batch_1").status_code == 405
    assert batch_api.http.get("/batches/batch_1/results").status_code == 404
