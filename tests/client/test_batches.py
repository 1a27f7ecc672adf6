"""Reading, listing and deleting batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from airflow_provider_responses.exceptions import (
    APIError,
    ConfigurationError,
    NotFoundResponseError,
    PaymentRequiredResponseError,
    RequestValidationError,
)

from .batch_wire import BATCHES, BROKE, batch, collect, item, page
from .wire import Flavour, Wire, failure


def test_a_batch_is_read_by_its_id(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(200, json=batch(id="batch/1", status="in_progress")))
    found = flavour.on(wire).get("get_batch", "batch/1")
    assert (found.id, found.status) == ("batch/1", "in_progress")
    assert (wire.requests[0].method, str(wire.requests[0].url)) == ("GET", f"{BATCHES}/batch%2F1")


def test_a_batch_is_read_without_its_results(flavour: Flavour) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.25}
    raw = batch(
        status="failed", results=[item("a"), {"id": "x"}, [1]], usage=usage, error={"message": "row 7 is wrong"}
    )
    found = flavour.on(Wire(httpx.Response(200, json=raw))).get("get_batch", "batch_1")
    assert found.raw == {**raw, "results": None}
    assert (found.is_finished, found.usage.cost, found.error_message) == (True, 0.25, "row 7 is wrong")


def test_reads_of_a_batch_are_retried(flavour: Flavour) -> None:
    wire = Wire(BROKE, failure(500), failure(429), httpx.Response(200, json=batch()))
    assert flavour.on(wire).get("get_batch", "batch_1").id == "batch_1"


@pytest.mark.parametrize(
    ("method", "status", "cls", "advice"),
    [
        ("get_batch", 402, PaymentRequiredResponseError, "The account owes the price of the batch"),
        ("get_batch", 404, NotFoundResponseError, "belongs to another key"),
        ("get_batch", 410, APIError, "410 Gone: reported.*The batch has expired: the server holds results for 30 days"),
        ("delete_batch", 404, NotFoundResponseError, "belongs to another key"),
        ("delete_batch", 409, APIError, "409 Conflict: reported.*can be deleted after it has finished"),
        ("delete_batch", 410, APIError, "there is nothing to delete"),
    ],
)
def test_errors_of_one_batch_have_their_advice(
    flavour: Flavour, method: str, status: int, cls: type[APIError], advice: str
) -> None:
    wire = Wire(failure(status))
    with pytest.raises(cls, match=advice) as raised:
        flavour.on(wire).get(method, "batch_1")
    assert (raised.value.status_code, raised.value.ambiguous, wire.send_count) == (status, False, 1)


@pytest.mark.parametrize("body", [b"", b"null", b"<html>", b"{}", b'{"id": "batch_1", "sta'])
def test_a_body_that_is_no_batch_is_an_error(flavour: Flavour, body: bytes) -> None:
    wire = Wire(httpx.Response(200, content=body))
    with pytest.raises(APIError, match="expected a complete JSON object with status 200"):
        flavour.on(wire, max_retries=0).get("get_batch", "batch_1")


@pytest.mark.parametrize("name", ["get_batch", "iter_batch_results", "cancel_batch", "delete_batch"])
def test_an_empty_id_is_refused(flavour: Flavour, name: str) -> None:
    wire = Wire()
    with pytest.raises(RequestValidationError, match="batch_id must be text that is not empty, got ''"):
        flavour.on(wire)._run(name, "")
    assert wire.send_count == 0


def test_a_batch_is_deleted_and_the_report_returned(flavour: Flavour) -> None:
    report = {"id": "batch_1", "object": "batch", "deletion": {"openrouter": "deleted"}}
    wire = Wire(httpx.Response(200, json=report))
    assert flavour.on(wire).get("delete_batch", "batch_1") == report
    assert (wire.requests[0].method, str(wire.requests[0].url)) == ("DELETE", f"{BATCHES}/batch_1")
    from openrouter.components import BatchDeletedObject

    assert BatchDeletedObject.model_validate(report).id == "batch_1"


def test_a_deletion_whose_response_was_lost_is_a_success(flavour: Flavour) -> None:
    wire = Wire(BROKE, failure(404))
    assert flavour.on(wire).get("delete_batch", "batch_1")["id"] == "batch_1"


def test_a_batch_of_openrouter_cannot_be_cancelled(flavour: Flavour) -> None:
    wire = Wire()
    with pytest.raises(ConfigurationError, match="batch batch_1 runs on, and is billed"):
        flavour.on(wire).get("cancel_batch", "batch_1")
    assert wire.send_count == 0


# --- the list


def test_the_list_is_read_page_by_page(flavour: Flavour) -> None:
    wire = Wire(page("c", "b", has_more=True), page("a"))
    found = collect(flavour.on(wire), "list_batches")
    assert [one.id for one in found] == ["c", "b", "a"]
    assert [request.url.query.decode() for request in wire.requests] == ["limit=100", "limit=100&after=b"]


def test_pages_are_fetched_as_needed(flavour: Flavour) -> None:
    wire = Wire(page("c", "b", has_more=True))
    client = flavour.on(wire)
    batches = client.client.list_batches()
    assert wire.send_count == 0
    first = next(batches) if flavour.sync else client._runner.run(anext(batches))
    assert (first.id, wire.send_count) == ("c", 1)


def test_the_list_ends_at_its_limit(flavour: Flavour) -> None:
    wire = Wire(page("c", "b", "a", has_more=True))
    assert [one.id for one in collect(flavour.on(wire), "list_batches", limit=2)] == ["c", "b"]
    assert wire.requests[0].url.params["limit"] == "2"


@pytest.mark.parametrize("names", [("a",), ()], ids=["same page", "empty page"])
def test_a_list_without_end_ends(flavour: Flavour, names: tuple[str, ...]) -> None:
    wire = Wire(page("a", has_more=True), page(*names, has_more=True))
    assert {one.id for one in collect(flavour.on(wire), "list_batches")} == {"a"}


def test_filters_are_sent(flavour: Flavour) -> None:
    wire = Wire(page())
    collect(
        flavour.on(wire),
        "list_batches",
        after="batch_9",
        status=["completed", "failed"],
        created_after=datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=1))),
        created_before=1_790_000_000,
    )
    assert wire.requests[0].url.params.multi_items() == [
        ("limit", "100"),
        ("after", "batch_9"),
        ("status", "completed"),
        ("status", "failed"),
        ("created_after", "2026-11-01T11:00:00Z"),
        ("created_before", datetime.fromtimestamp(1_790_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit must be a whole number >= 1, got 0"),
        ({"status": "finalizing"}, "status must be 'validating', 'in_progress', .* got 'finalizing'"),
        ({"created_after": datetime(2026, 11, 1)}, "created_after must be a datetime with a time zone"),
        ({"created_before": True}, "created_before must be a datetime with a time zone"),
        ({"after": 7}, "after must be str, got 7"),
    ],
)
def test_wrong_filters_are_refused_at_once(flavour: Flavour, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestValidationError, match=message):
        flavour.on(Wire()).client.list_batches(**arguments)
