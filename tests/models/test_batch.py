"""No shape of a batch or of its results raises, and they have the fields of the official SDK."""

from __future__ import annotations

import functools
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import Batch, BatchRequest, BatchResult, Response
from airflow_provider_responses.models.batch import FINISHED_STATUSES, LISTED_STATUSES

USAGE = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50, "cost": 0.0125, "is_byok": False}
BATCH: dict[str, Any] = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/responses",
    "model": "maker/small-1",
    "completion_window": "24h",
    "status": "completed",
    "created_at": 1_790_000_000,
    "finalized_at": 1_790_000_600,
    "expires_at": None,
    "provider": "Maker",
    "request_counts": {"total": 3, "completed": 2, "failed": 1},
    "usage": USAGE,
    "results": None,
    "error": None,
}
PROPERTIES = [name for name, value in vars(Batch).items() if isinstance(value, (property, functools.cached_property))]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_a_batch_has_the_parts_that_a_poll_needs() -> None:
    batch = Batch(raw=BATCH)
    assert (batch.id, batch.status, batch.is_finished) == ("batch_1", "completed", True)
    assert (batch.model, batch.endpoint, batch.provider) == ("maker/small-1", "/v1/responses", "Maker")
    assert batch.counts == (3, 2, 1)
    assert (batch.counts.total, batch.counts.completed, batch.counts.failed) == (3, 2, 1)
    assert (batch.usage.cost, batch.usage.input_tokens, batch.usage.output_tokens) == (0.0125, 30, 20)
    assert batch.created_at == datetime.fromtimestamp(1_790_000_000, UTC)
    assert batch.finalized_at == datetime.fromtimestamp(1_790_000_600, UTC)
    assert batch.expires_at is None
    assert batch.error_message is None
    assert batch.raw is BATCH


def test_unknown_values_are_none_and_not_0() -> None:
    batch = Batch(raw={"id": "b", "usage": None, "request_counts": {"total": 3}})
    assert batch.counts == (3, None, None)
    assert batch.usage.cost is None
    assert Batch(raw={}).counts == (None, None, None)
    assert Batch(raw={}).id == ""


def test_the_reason_of_a_failed_batch_is_its_error_message() -> None:
    assert Batch(raw={"error": {"message": "row 7 is wrong"}}).error_message == "row 7 is wrong"
    assert Batch(raw={"error": "row 7 is wrong"}).error_message == "row 7 is wrong"
    assert Batch(raw={"error": {}}).error_message is None


@pytest.mark.parametrize("status", sorted(FINISHED_STATUSES))
def test_final_statuses_are_finished(status: str) -> None:
    assert Batch(raw={"status": status}).is_finished


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling", "paused", "", None, 7])
def test_other_statuses_are_not_finished_known_or_not(status: Any) -> None:
    assert not Batch(raw={"status": status}).is_finished


@given(st.sampled_from(sorted(BATCH)), json_values)
def test_no_shape_of_a_batch_raises(name: str, value: Any) -> None:
    batch = Batch(raw={**BATCH, name: value})
    for attribute in PROPERTIES:
        getattr(batch, attribute)
    assert repr(batch)


@given(st.dictionaries(st.sampled_from(["id", "custom_id", "response", "error"]), json_values))
def test_no_shape_of_a_result_raises(raw: dict[str, Any]) -> None:
    result = BatchResult(raw=raw)
    assert isinstance(result.custom_id, str)
    assert result.status_code is None or isinstance(result.status_code, int)


def test_a_repr_holds_neither_prompt_nor_output() -> None:
    assert "secret" not in repr(Batch(raw={**BATCH, "error": {"message": "the secret plan"}}))
    assert "secret" not in repr(BatchRequest(custom_id="a", request={"input": "the secret plan"}))
    raw = {"custom_id": "a", "response": {"status_code": 200, "body": {"output_text": "the secret plan"}}}
    assert "secret" not in repr(BatchResult(raw=raw, response=Response(raw=raw["response"]["body"])))  # type: ignore[index]


def test_a_batch_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Batch(raw=BATCH))) == Batch(raw=BATCH)  # noqa: S301  its own bytes


# --- requests


def test_a_request_is_read_from_the_form_of_the_api() -> None:
    body = {"input": "Hello"}
    parsed = BatchRequest.parse({"custom_id": "row-1", "body": body})
    assert parsed == BatchRequest(custom_id="row-1", request=body)
    assert BatchRequest.parse(parsed) is parsed


@pytest.mark.parametrize(
    ("item", "field", "message"),
    [
        ("Hello", "an item of requests", "must be a BatchRequest or a dict of custom_id and body, got str"),
        ({"custom_id": "a"}, "body", "body is missing"),
        ({"body": {}}, "custom_id", "custom_id is missing"),
        ({"custom_id": "", "body": {}}, "custom_id", "custom_id must be text that is not empty, got ''"),
        ({"custom_id": 7, "body": {}}, "custom_id", "custom_id must be text that is not empty, got 7"),
        ({"custom_id": "a", "body": {}, "method": "POST"}, "requests.method", "requests.method is unknown"),
    ],
)
def test_a_wrong_item_is_refused_naming_the_field(item: Any, field: str, message: str) -> None:
    with pytest.raises(RequestValidationError, match=message) as raised:
        BatchRequest.parse(item)
    assert raised.value.fields == (field,)


# --- the official SDK


def test_the_sdk_reads_the_batch_that_these_tests_use() -> None:
    from openrouter.components import BatchListItem, BatchObject

    assert BatchObject.model_validate(BATCH).request_counts.total == 3
    assert BatchListItem.model_validate(BATCH).id == "batch_1"


def test_a_batch_has_a_property_for_each_field_of_the_sdk() -> None:
    from openrouter.components import BatchObject

    elsewhere = {"completion_window", "object"}  # constants
    renamed = {"request_counts": "counts", "error": "error_message", "results": "raw"}
    names = {renamed.get(name, name) for name in BatchObject.model_fields} - elsewhere
    assert [name for name in sorted(names) if not hasattr(Batch(raw=BATCH), name)] == []


def test_the_statuses_are_those_of_the_sdk() -> None:
    from typing import get_args

    from openrouter.components import BatchListStatus
    from openrouter.components.batchobject import BatchObjectStatus

    listed, known = (set(get_args(get_args(union)[0])) for union in (BatchListStatus, BatchObjectStatus))
    assert set(LISTED_STATUSES) == listed
    assert known - {"validating", "in_progress", "finalizing", "cancelling"} == FINISHED_STATUSES
