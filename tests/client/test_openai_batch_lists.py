"""OpenAI's batches: lists, cancellations and deletions."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_responses.exceptions import (
    APIError,
    NotFoundResponseError,
    RequestValidationError,
)

from .batch_wire import BROKE, collect
from .openai_batch_wire import (
    batch,
    created,
    ok,
    on,
    seen,
)
from .wire import Flavour, Wire, failure


def test_the_list_stops_at_the_first_batch_that_is_too_old(flavour: Flavour) -> None:
    data = [batch(id=name, created_at=at) for name, at in (("c", 30), ("b", 20), ("a", 10))]
    wire = Wire(ok(data=data, has_more=True, last_id="a"))
    found = collect(on(flavour, wire), "list_batches", created_after="1970-01-01T00:00:10Z", created_before=30.0)
    assert [one.id for one in found] == ["b"]
    assert seen(wire) == ["GET /batches?limit=100"]


def test_a_list_without_filters_is_as_short_as_its_limit(flavour: Flavour) -> None:
    wire = Wire(ok(data=[batch(id="b")], has_more=True, last_id="b"), ok(data=[batch(id="a")], has_more=False))
    assert [one.id for one in collect(on(flavour, wire), "list_batches", limit=2)] == ["b", "a"]
    assert seen(wire) == ["GET /batches?limit=2", "GET /batches?limit=1&after=b"]


def test_a_filtered_list_reads_whole_pages(flavour: Flavour) -> None:
    data = [batch(id="b"), batch(id="a", status="completed")]
    wire = Wire(ok(data=data, has_more=True, last_id="a"))
    assert [one.id for one in collect(on(flavour, wire), "list_batches", limit=1, status="completed")] == ["a"]
    assert seen(wire) == ["GET /batches?limit=100"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"status": "done"}, "status must be 'validating', .* got 'done'"),
        ({"created_after": "yesterday"}, "created_after must be a datetime with a time zone.*got 'yesterday'"),
        ({"created_before": "2026-11-01T00:00:00"}, "created_before must be a datetime with a time zone"),
    ],
)
def test_wrong_filters_are_refused_at_once(flavour: Flavour, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestValidationError, match=message):
        on(flavour, Wire()).client.list_batches(**arguments)


def test_the_page_after_an_unknown_batch_is_not_found(flavour: Flavour) -> None:
    with pytest.raises(NotFoundResponseError):
        collect(on(flavour, Wire(failure(404))), "list_batches", after="batch_9")


def test_a_cancellation_has_no_body(flavour: Flavour) -> None:
    wire = Wire(created(status="cancelling"))
    assert on(flavour, wire).get("cancel_batch", "batch/1").status == "cancelling"
    assert seen(wire) == ["POST /batches/batch%2F1/cancel"]
    assert (wire.requests[0].content, "content-type" in wire.requests[0].headers) == (b"", False)


@pytest.mark.parametrize("status", ["cancelling", "cancelled"])
def test_a_cancellation_whose_response_was_lost_is_a_success(flavour: Flavour, status: str) -> None:
    wire = Wire(BROKE, failure(409), created(status=status))
    assert on(flavour, wire).get("cancel_batch", "batch_1").status == status


def test_a_batch_that_finished_before_the_cancellation_is_a_conflict(flavour: Flavour) -> None:
    wire = Wire(BROKE, failure(409), created(status="completed"))
    with pytest.raises(APIError, match="409 Conflict"):
        on(flavour, wire).get("cancel_batch", "batch_1")


def test_a_deletion_whose_response_was_lost_is_reported(flavour: Flavour) -> None:
    done = created(status="completed", output_file_id="file-out")
    wire = Wire(done, failure(404), BROKE, failure(404))
    report = on(flavour, wire).get("delete_batch", "batch_1")
    assert report["deleted_files"] == ["file-out"]
    assert seen(wire) == ["GET /batches/batch_1", "DELETE /files/file-in", *["DELETE /files/file-out"] * 2]


def test_a_deletion_that_is_forbidden_is_an_error(flavour: Flavour) -> None:
    wire = Wire(created(status="completed"), failure(403))
    with pytest.raises(APIError, match="403 Forbidden"):
        on(flavour, wire).get("delete_batch", "batch_1")


def test_an_unknown_batch_has_advice_for_the_server_in_use(flavour: Flavour) -> None:
    with pytest.raises(NotFoundResponseError, match=r"Check the batch's id\. The batch may belong to another key"):
        on(flavour, Wire(failure(404))).get("get_batch", "batch_1")
