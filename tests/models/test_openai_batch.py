"""The model of a batch of OpenAI's, and the reasons of a failure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.models import Batch
from airflow_provider_responses.models.batch import BatchProblem
from tests.client.openai_batch_wire import batch


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_the_end_of_a_batch_is_the_time_of_its_status(status: str) -> None:
    ended = Batch(raw=batch(status=status, **{f"{status}_at": 1_790_000_100}))
    assert ended.finalized_at == datetime.fromtimestamp(1_790_000_100, UTC)
    assert Batch(raw=batch(status="cancelling", cancelling_at=1_790_000_100)).finalized_at is None


def test_a_batch_of_openai_without_model_usage_or_metadata_has_none() -> None:
    raw = batch()
    del raw["model"]
    found = Batch(raw=raw)
    assert (found.model, found.usage.total_tokens, found.metadata, found.errors, found.error_message) == (
        None, None, {}, (), None
    )  # fmt: skip
    assert (found.input_file_id, found.output_file_id, found.error_file_id) == ("file-in", None, None)


@pytest.mark.parametrize(
    ("reported", "errors", "message"),
    [
        ({"error": {"message": "row 7 is wrong"}}, (BatchProblem("row 7 is wrong"),), "row 7 is wrong"),
        ({"error": "wrong"}, (BatchProblem("wrong"),), "wrong"),
        (
            {"errors": {"data": [{"code": "c", "line": 3, "message": None, "param": None}, {"message": "m"}]}},
            (BatchProblem("c", 3, None, "c"), BatchProblem("m")),
            "c (request 3)",
        ),
        ({"errors": {"data": [None, {}, {"line": 1}, [7], "text"]}}, (BatchProblem("text"),), "text"),
        ({"errors": [1], "error": 7}, (), None),
    ],
)
def test_all_reasons_of_a_failure_are_read(
    reported: dict[str, Any], errors: tuple[BatchProblem, ...], message: str | None
) -> None:
    found = Batch(raw={"id": "batch_1", **reported})
    assert (found.errors, found.error_message) == (errors, message)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


objects = st.dictionaries(
    st.sampled_from(["message", "line", "param", "code"]), scalars | st.lists(scalars, max_size=2)
)


json_values = (
    scalars | objects | st.lists(objects, max_size=2) | st.fixed_dictionaries({"data": st.lists(objects | scalars)})
)


@given(st.dictionaries(st.sampled_from(["errors", "error", "metadata", "status", "completed_at"]), json_values))
def test_no_shape_of_a_batch_raises(raw: dict[str, Any]) -> None:
    found = Batch(raw=raw)
    assert all(isinstance(error.message, str) for error in found.errors)
    assert isinstance(found.metadata, dict)
    assert found.finalized_at is None or found.is_finished
