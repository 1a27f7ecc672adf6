"""OpenAI's batches from their submit to their deletion, in the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import openai
import pytest

from airflow_provider_responses.exceptions import (
    APIError,
    InternalServerResponseError,
)
from tests.sandbox.batches import SECONDS, BatchApi, batch_sandbox

from .batch_wire import collect, requests
from .openai_batch_wire import (
    create,
    prepared,
)
from .wire import Flavour, Handle


@pytest.fixture(scope="module")
def module_api() -> Iterator[BatchApi]:
    with batch_sandbox(dialect="open") as api:
        yield api


@pytest.fixture
def api(module_api: BatchApi) -> BatchApi:
    module_api.sandbox.reset()
    return module_api


@pytest.fixture
def client(flavour: Flavour, api: BatchApi) -> Handle:
    return flavour.network(base_url=api.sandbox.base_url, api_key="sandbox-key")


@pytest.fixture
def sdk(api: BatchApi) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=api.sandbox.base_url, api_key="sandbox-key", max_retries=0) as made:
        yield made


def test_a_batch_is_submitted_polled_and_read(client: Handle, api: BatchApi, sdk: openai.OpenAI) -> None:
    api.sandbox.script_batches({"responses": [{"status": 500}]})
    made = create(client, requests("a", "b", "c"), metadata={"job": "nightly"})
    assert (made.status, made.is_finished, made.finalized_at) == ("validating", False, None)
    assert sdk.batches.retrieve(made.id).metadata == made.metadata == {"job": "nightly"}
    assert sdk.files.retrieve(made.input_file_id or "").filename == "batch.jsonl"
    with pytest.raises(APIError, match="the batch has no results yet: its status is 'validating'"):
        collect(client, "iter_batch_results", made)
    api.clock.now += SECONDS
    done = client.get("get_batch", made.id)
    assert (done.status, done.counts, done.usage.cost) == ("completed", (3, 2, 1), None)
    assert done.usage.total_tokens == sdk.batches.retrieve(made.id).usage.total_tokens  # type: ignore[union-attr]
    assert done.created_at < done.finalized_at < done.expires_at
    for named in (done, made.id):
        found = {one.custom_id: one for one in collect(client, "iter_batch_results", named)}
        assert sorted(found) == ["a", "b", "c"]
        assert type(found["a"].error) is InternalServerResponseError
        assert str(found["a"].error).endswith(f"Request: 'a' in batch {made.id}")
        assert [(found[name].error, found[name].status_code) for name in "bc"] == [(None, 200)] * 2
        assert found["b"].response.output_text
    assert api.sandbox.batches[0].billed


def test_a_download_that_breaks_is_read_again(client: Handle, api: BatchApi) -> None:
    made = create(client, requests(*map(str, range(20))))
    api.clock.now += SECONDS
    api.sandbox.script_batches({"call": "content", "cut": True}, {"call": "content", "status": 503})
    found = collect(client, "iter_batch_results", made.id)
    assert sorted(int(one.custom_id) for one in found) == list(range(20))


def test_an_expired_batch_has_a_result_for_each_request(client: Handle, api: BatchApi) -> None:
    api.sandbox.script_batches({"ending": "expired"})
    made = create(client, requests(*"abcd"))
    api.clock.now += SECONDS
    found = collect(client, "iter_batch_results", made.id)
    assert sorted(one.custom_id for one in found) == list("abcd")
    failed = [one.error for one in found if one.error]
    assert [error.retryable for error in failed] == [True, True]
    assert "could not be executed before the completion window expired" in str(failed[0])


def test_a_batch_that_fails_its_validation_names_the_requests(client: Handle, api: BatchApi) -> None:
    given = [prepared("a"), prepared("b", b'{"input":"x"}'), prepared("c", b"[]")]
    made = create(client, given)
    api.clock.now += SECONDS
    done = client.get("get_batch", made.id)
    assert (done.status, done.finalized_at > done.created_at) == ("failed", True)
    assert [(error.line, error.param, error.code) for error in done.errors] == [
        (2, "body.model", "missing_required_parameter"),
        (3, "body", "missing_required_parameter"),
    ]
    assert done.error_message == "body.model must be the name of a model (request 2, field body.model)"
    assert collect(client, "iter_batch_results", done) == []


def test_a_batch_is_cancelled(client: Handle, api: BatchApi) -> None:
    made = create(client, requests(*"abcd"))
    api.clock.now += SECONDS / 2
    assert client.get("cancel_batch", made.id).status == "cancelling"
    api.clock.now += SECONDS
    assert client.get("get_batch", made.id).status == "cancelled"
    assert len(collect(client, "iter_batch_results", made.id)) == 2
    with pytest.raises(APIError, match=r"409 Conflict: .*The batch has finished: read its results") as raised:
        client.get("cancel_batch", made.id)
    assert not raised.value.retryable


def test_the_files_of_a_batch_are_deleted(client: Handle, api: BatchApi, sdk: openai.OpenAI) -> None:
    api.sandbox.script_batches({"responses": [{"status": 500}]})
    made = create(client)
    with pytest.raises(APIError, match="the batch has not finished: its status is 'validating'") as raised:
        client.get("delete_batch", made.id)
    assert raised.value.status_code == 409
    api.clock.now += SECONDS
    done = client.get("get_batch", made.id)
    files = [done.input_file_id, done.output_file_id, done.error_file_id]
    sdk.files.delete(done.input_file_id)
    report = client.get("delete_batch", made.id)
    assert report == {"id": made.id, "object": "batch", "deleted_files": files[1:]}


def test_the_list_is_filtered_by_the_client(client: Handle, api: BatchApi) -> None:
    start = api.sandbox.state.batches.time()
    ids = []
    for _ in range(4):
        ids.append(create(client).id)
        api.clock.now += SECONDS
    create(client)
    listed = collect(client, "list_batches")
    assert [one.id for one in listed[1:]] == ids[::-1]
    assert [one.id for one in collect(client, "list_batches", limit=2, status="completed")] == [ids[3], ids[2]]
    assert [one.id for one in collect(client, "list_batches", status=["validating"])] == [listed[0].id]
    until, since = start + 2.5 * SECONDS, start + 0.5 * SECONDS
    found = collect(client, "list_batches", created_after=since, created_before=datetime.fromtimestamp(until, UTC))
    assert [one.id for one in found] == [ids[2], ids[1]]
    assert [one.id for one in collect(client, "list_batches", after=ids[1])] == [ids[0]]
