"""OpenRouter's routes of batches."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.http.batch_calls import BatchCall, begin_call
from airflow_provider_responses.sandbox.http.batch_outcomes import OutcomeMaker
from airflow_provider_responses.sandbox.http.batch_requests import RequestError
from airflow_provider_responses.sandbox.http.batch_submission import (
    COMPLETION_WINDOW,
    BatchSubmission,
    parse_submission,
)
from airflow_provider_responses.sandbox.http.batch_validation import find_rejection
from airflow_provider_responses.sandbox.http.http_errors import http_error
from airflow_provider_responses.sandbox.http.wire import ClosedConnection, json_bytes, json_response
from airflow_provider_responses.sandbox.state.batches import Batch, Submission
from airflow_provider_responses.sandbox.state.ledger import hash_body
from airflow_provider_responses.sandbox.state.prices import provider_of

MAX_REQUESTS: Final = 5_000
LIST_LIMIT: Final = 20
LIST_LIMIT_MAX: Final = 100
PAGE_SIZE_MAX: Final = 1_000
HOURS: Final = 3_600
# The service stores no other statuses: a batch that is finalizing or cancelling is listed as in progress.
LISTED: Final = ("validating", "in_progress", "completed", "failed", "expired", "cancelled")
RESULTS_PLACE: Final = b'"results":[]'


def batch_routes(prefix: str) -> list[Route]:
    """Return the routes."""
    return [
        Route(f"{prefix}/batches", create_batch, methods=["POST"]),
        Route(f"{prefix}/batches", list_batches),
        Route(f"{prefix}/batches/{{id}}", get_batch, methods=["GET"]),
        Route(f"{prefix}/batches/{{id}}", delete_batch, methods=["DELETE"]),
        Route(f"{prefix}/batches/{{id}}/results", get_results),
    ]


async def create_batch(request: Request) -> Response:
    """``POST /batches``."""
    call = await begin_call(request, "create")
    if call.state.is_spent(call.key):
        raise http_error(402)
    submitted = parse_submission(call.raw)
    submission = await asyncio.to_thread(_submission, call, submitted)
    if not call.is_current:
        return ClosedConnection()
    step = call.step
    batch = call.state.batches.add(
        submission, seconds=step.seconds, ending=step.ending, ending_share=step.ending_share, message=step.message
    )
    return call.respond(json_response(_batch_object(call, batch), 202))


async def get_batch(request: Request) -> Response:
    """``GET /batches/{id}``."""
    call = await begin_call(request, "get")
    batch = call.batch(request.path_params["id"])
    batch.polls.append(call.state.batches.time())
    _check_results_exist(call, batch)
    if batch.is_terminal and call.state.is_spent(call.key):
        error = {"code": 402, "message": "The batch has ended, and the account owes for it"}
        return call.respond(json_response(_batch_object(call, batch) | {"results": None, "error": error}, 402))
    body = json_bytes(_batch_object(call, batch))
    if batch.is_terminal:
        body = _with_results(body, batch)
    return call.respond(Response(body, media_type="application/json"))


async def get_results(request: Request) -> Response:
    """``GET /batches/{id}/results``."""
    call = await begin_call(request, "results")
    settings = call.state.batches.settings
    if not settings.pages:
        raise http_error(404)
    batch = call.batch(request.path_params["id"])
    _check_results_exist(call, batch)
    if not batch.is_terminal:
        raise http_error(409, f"The batch {batch.submission.id} has not ended: it is {batch.status}")
    if call.state.is_spent(call.key):
        raise http_error(402)
    limit = parse_limit(request.query_params, settings.page_size, PAGE_SIZE_MAX)
    start = _cursor_position(request.query_params.get("cursor"), batch)
    page, rest = batch.done[start : start + limit], len(batch.done) - start - limit
    following = _cursor(batch, start + limit) if rest > 0 else None
    body = json_bytes({"object": "list", "data": [], "has_more": rest > 0, "next_cursor": following})
    results = b",".join(outcome.result for outcome in page)
    body = body.replace(b'"data":[]', b'"data":[' + results + b"]", 1)
    return call.respond(Response(body, media_type="application/json"))


async def list_batches(request: Request) -> Response:
    """``GET /batches``."""
    call = await begin_call(request, "list")
    query = request.query_params
    limit = parse_limit(query, LIST_LIMIT, LIST_LIMIT_MAX)
    found = _filtered(call.state.batches.newest_first(call.key), query)
    page, has_more = page_after(found, query.get("after"), limit)
    listed = [_batch_object(call, batch) | {"status": _listed_status(batch), "results": None} for batch in page]
    return call.respond(json_response(list_object(listed, has_more=has_more)))


async def delete_batch(request: Request) -> Response:
    """``DELETE /batches/{id}``."""
    call = await begin_call(request, "delete")
    batch = call.batch(request.path_params["id"])
    if not batch.is_terminal:
        raise http_error(409, f"The batch {batch.submission.id} has not ended: it is {batch.status}")
    batch.deleted = True
    deletion: dict[str, Any] = {"openrouter": "deleted"}
    if provider := _provider(batch):
        deletion["upstream"] = {"provider": provider, "status": "deleted"}
    return call.respond(json_response({"id": batch.submission.id, "object": "batch", "deletion": deletion}))


# The submission


def _submission(call: BatchCall, submitted: BatchSubmission) -> Submission:
    """Return a submission with its outcomes; the validation fails later, in the batch's own time."""
    store = call.state.batches
    settings, created_at = store.settings, store.time()
    max_requests = settings.max_requests or MAX_REQUESTS
    rejection, requests = find_rejection(submitted.requests, submitted.model, max_requests=max_requests)
    maker = OutcomeMaker(
        is_openrouter=True,
        step=call.step,
        failing=settings.failing if call.step.failing is None else call.step.failing,
        draw=f"{settings.seed}:{store.count}",
        created_at=int(created_at),
        make_result=_result,
    )
    return Submission(
        id=new_batch_id(),
        key=call.key,
        created_at=created_at,
        endpoint=submitted.endpoint,
        model=submitted.model,
        raw=call.raw,
        body_sha256=hash_body(call.raw)[0],
        custom_ids=custom_ids(submitted.requests),
        outcomes=() if rejection else maker.outcomes(requests),
        rejection=rejection,
        details={"callback_url": submitted.callback_url, "provider": submitted.provider},
    )


def new_batch_id() -> str:
    """Return a new, unique id of a batch."""
    return f"batch_{uuid.uuid4().hex[:24]}"


def custom_ids(requests: Sequence[Any]) -> tuple[str, ...]:
    """Return the ``custom_id`` of each request, also of those that are not valid."""
    return tuple(str(request.get("custom_id")) if isinstance(request, dict) else "" for request in requests)


def _result(custom_id: str, generation_id: str, body: dict[str, Any] | None, error: RequestError | None) -> bytes:
    suffix = generation_id.removeprefix("gen-")
    response = None if body is None else {"status_code": 200, "request_id": generation_id, "body": body}
    return json_bytes(
        {"id": f"batch_req_{suffix}", "custom_id": custom_id, "response": response, "error": _error_object(error)}
    )


def _error_object(error: RequestError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {"message": error.message, "param": None, "type": kind, "error_type": error.error_type}


# The objects


def _batch_object(call: BatchCall, batch: Batch) -> dict[str, Any]:
    """Return a batch; ``results`` is an empty list if it has ended, and null before."""
    submission, store = batch.submission, call.state.batches
    is_terminal, error = batch.is_terminal, batch.error
    hours = 96 if submission.model.startswith("google/") else 24
    return {
        "id": submission.id,
        "object": "batch",
        "endpoint": submission.endpoint,
        "model": submission.model,
        "completion_window": COMPLETION_WINDOW,
        "status": batch.status,
        "created_at": int(submission.created_at),
        "finalized_at": store.entered_at(batch, batch.status) if is_terminal else None,
        "expires_at": int(submission.created_at) + hours * HOURS if _provider(batch) else None,
        "provider": _provider(batch),
        "request_counts": batch.counts,
        "usage": _usage(batch) if is_terminal else None,
        "results": [] if is_terminal else None,
        "error": {"message": error or f"The batch is {batch.status}"} if _is_unsuccessful(batch) else None,
    }


def _is_unsuccessful(batch: Batch) -> bool:
    return batch.is_terminal and batch.status != "completed"


def _provider(batch: Batch) -> str | None:
    """Return the provider, which is assigned once the requests are valid."""
    is_assigned = batch.status != "validating" and batch.submission.rejection is None
    return provider_of(batch.submission.model) if is_assigned else None


def _usage(batch: Batch) -> dict[str, Any] | None:
    bill = batch.bill
    if not batch.is_billed:
        return None
    return {
        "prompt_tokens": bill.input_tokens,
        "completion_tokens": bill.output_tokens,
        "total_tokens": bill.input_tokens + bill.output_tokens,
        "cost": bill.cost,
        "is_byok": False,
    }


def _with_results(body: bytes, batch: Batch) -> bytes:
    results = b",".join(outcome.result for outcome in batch.done)
    return body.replace(RESULTS_PLACE, RESULTS_PLACE[:-1] + results + b"]", 1)


def _check_results_exist(call: BatchCall, batch: Batch) -> None:
    if call.state.batches.has_expired_results(batch):
        raise http_error(410, f"The results of the batch {batch.submission.id} have expired")


# Lists and pages


def _listed_status(batch: Batch) -> str:
    return batch.status if batch.status in LISTED else "in_progress"


def _filtered(batches: Sequence[Batch], query: QueryParams) -> list[Batch]:
    statuses = query.getlist("status")
    if wrong := next((status for status in statuses if status not in LISTED), None):
        raise http_error(400, f"status must be one of {', '.join(LISTED)}, got {wrong!r}")
    after, before = (_timestamp(query, name) for name in ("created_after", "created_before"))
    return [
        batch
        for batch in batches
        if (not statuses or _listed_status(batch) in statuses)
        and (after is None or batch.submission.created_at > after)
        and (before is None or batch.submission.created_at < before)
    ]


def _timestamp(query: QueryParams, name: str) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise http_error(400, f"{name} must be a date or a time such as 2026-08-20T00:00:00Z, got {text!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse_limit(query: QueryParams, default: int, most: int) -> int:
    """
    Return the ``limit`` of a list.

    :raises HttpError: 400 if it is not 1 to ``most``.
    """
    text = query.get("limit", str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise http_error(400, f"limit must be 1 to {most}, got {text!r}")
    return int(text)


def page_after(batches: Sequence[Batch], after: str | None, limit: int) -> tuple[Sequence[Batch], bool]:
    """
    Return the page of a list that follows a batch, and whether more follow.

    :raises HttpError: 400 if the list has no such batch.
    """
    ids = [batch.submission.id for batch in batches]
    if after is not None and after not in ids:
        raise http_error(400, f"after must be the id of a batch in the list, got {after!r}")
    start = 0 if after is None else ids.index(after) + 1
    return batches[start : start + limit], len(batches) > start + limit


def list_object(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return one page of a list."""
    first_id, last_id = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": has_more}


def _cursor(batch: Batch, position: int) -> str:
    return base64.urlsafe_b64encode(f"v1:{batch.submission.id}:{position}".encode()).decode()


def _cursor_position(cursor: str | None, batch: Batch) -> int:
    if cursor is None:
        return 0
    try:
        version, batch_id, position = base64.urlsafe_b64decode(cursor).decode().split(":")
        if version == "v1" and batch_id == batch.submission.id:
            return int(position)
    except (ValueError, binascii.Error):
        pass
    raise http_error(400, "cursor must be the next_cursor of a page of this batch")
