"""OpenAI's routes of batches: the requests come from a file, the results go to one, those that failed to another."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.http.batch_calls import BatchCall, begin_call
from airflow_provider_responses.sandbox.http.batch_outcomes import OutcomeMaker
from airflow_provider_responses.sandbox.http.batch_requests import RequestError
from airflow_provider_responses.sandbox.http.batch_routes import (
    LIST_LIMIT,
    LIST_LIMIT_MAX,
    custom_ids,
    list_object,
    new_batch_id,
    page_after,
    parse_limit,
)
from airflow_provider_responses.sandbox.http.file_routes import file_routes, find_file
from airflow_provider_responses.sandbox.http.http_errors import http_error
from airflow_provider_responses.sandbox.http.openai_batch_validation import find_errors, read_lines
from airflow_provider_responses.sandbox.http.wire import ClosedConnection, json_bytes, json_response
from airflow_provider_responses.sandbox.state.batches import Batch, Submission
from airflow_provider_responses.sandbox.state.files import StoredFile

ENDPOINT: Final = "/v1/responses"
COMPLETION_WINDOW: Final = "24h"
WINDOW_SECONDS: Final = 86_400
MAX_REQUESTS: Final = 50_000
METADATA_MAX: Final = 16
EXPIRED: Final = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


def openai_batch_routes(prefix: str) -> list[Route]:
    """Return the routes of batches and of their files."""
    return [
        *file_routes(prefix),
        Route(f"{prefix}/batches", create_batch, methods=["POST"]),
        Route(f"{prefix}/batches", list_batches),
        Route(f"{prefix}/batches/{{id}}", get_batch),
        Route(f"{prefix}/batches/{{id}}/cancel", cancel_batch, methods=["POST"]),
    ]


async def create_batch(request: Request) -> Response:
    """``POST /batches``."""
    call = await begin_call(request, "create")
    fields = _parse_fields(call.raw)
    file = find_file(call, fields["input_file_id"])
    submission = await asyncio.to_thread(_submission, call, fields, file)
    if not call.is_current:
        return ClosedConnection()
    step = call.step
    batch = call.state.batches.add(
        submission, seconds=step.seconds, ending=step.ending, ending_share=step.ending_share, message=step.message
    )
    return call.respond(json_response(_batch_object(call, batch)))


async def get_batch(request: Request) -> Response:
    """``GET /batches/{id}``."""
    call = await begin_call(request, "get")
    batch = call.batch(request.path_params["id"])
    batch.polls.append(call.state.batches.time())
    return call.respond(json_response(_batch_object(call, batch)))


async def list_batches(request: Request) -> Response:
    """``GET /batches``."""
    call = await begin_call(request, "list")
    limit = parse_limit(request.query_params, LIST_LIMIT, LIST_LIMIT_MAX)
    found = call.state.batches.newest_first(call.key)
    page, has_more = page_after(found, request.query_params.get("after"), limit)
    return call.respond(json_response(list_object([_batch_object(call, batch) for batch in page], has_more=has_more)))


async def cancel_batch(request: Request) -> Response:
    """``POST /batches/{id}/cancel``."""
    call = await begin_call(request, "cancel")
    batch = call.batch(request.path_params["id"])
    if batch.is_terminal:
        raise http_error(409, f"Cannot cancel a batch with status '{batch.status}'.")
    if batch.status != "cancelling":
        call.state.batches.end(batch.submission.id, "cancelled")
    return call.respond(json_response(_batch_object(call, batch)))


# The submission


def _parse_fields(raw: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise http_error(400, f"the body must be a JSON object: {error}") from None
    if not isinstance(fields, dict):
        raise http_error(400, f"the body must be a JSON object, got {type(fields).__name__}")
    endpoint, window, file_id = (fields.get(name) for name in ("endpoint", "completion_window", "input_file_id"))
    metadata = fields.get("metadata")
    problems = {
        f"input_file_id must be the id of a file, got {file_id!r}": not isinstance(file_id, str),
        f"endpoint must be {ENDPOINT} in this sandbox, got {endpoint!r}": endpoint != ENDPOINT,
        f"completion_window must be {COMPLETION_WINDOW!r}, got {window!r}": window != COMPLETION_WINDOW,
        f"metadata must have at most {METADATA_MAX} texts, got {metadata!r}": not _is_metadata(metadata),
    }
    if problem := next((problem for problem, found in problems.items() if found), None):
        raise http_error(400, problem)
    return fields


def _is_metadata(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and len(value) <= METADATA_MAX and all(isinstance(v, str) for v in value.values())


def _submission(call: BatchCall, fields: dict[str, Any], file: StoredFile) -> Submission:
    """Return a submission with its outcomes; the validation fails later, in the batch's own time."""
    store = call.state.batches
    settings, created_at, lines = store.settings, store.time(), read_lines(file.content)
    max_requests = settings.max_requests or MAX_REQUESTS
    errors, requests = find_errors(lines, fields["endpoint"], max_requests=max_requests)
    maker = OutcomeMaker(
        is_openrouter=False,
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
        endpoint=fields["endpoint"],
        model=requests[0].model if requests else "",
        raw=file.content,
        body_sha256=hashlib.sha256(file.content).hexdigest(),
        is_lines=True,
        custom_ids=custom_ids(lines),
        outcomes=maker.outcomes(requests),
        rejection=errors[0]["message"] if errors else None,
        errors=tuple(errors),
        details={"input_file_id": file.id, "metadata": fields.get("metadata")},
    )


def _result(custom_id: str, generation_id: str, body: dict[str, Any] | None, error: RequestError | None) -> bytes:
    """Return a line of a file. A request that was refused has a response too, with the body of the error."""
    suffix = generation_id.removeprefix("gen-")
    if error is not None:
        kind = "server_error" if error.status >= 500 else "invalid_request_error"
        body = {"error": {"message": error.message, "type": kind, "param": None, "code": error.error_type}}
    response = {"status_code": error.status if error else 200, "request_id": f"req_{suffix}", "body": body}
    return json_bytes({"id": f"batch_req_{suffix}", "custom_id": custom_id, "response": response, "error": None})


# The objects


def _batch_object(call: BatchCall, batch: Batch) -> dict[str, Any]:
    """Return a batch; the files with its results exist from its end on."""
    submission, store = batch.submission, call.state.batches
    is_validated = batch.status != "validating" and submission.rejection is None
    times = {
        f"{status}_at": store.entered_at(batch, status)
        for status in ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    }
    created_at = int(submission.created_at)
    return {
        "id": submission.id,
        "object": "batch",
        "endpoint": submission.endpoint,
        "model": submission.model or None,
        "errors": _errors(batch),
        "input_file_id": submission.details["input_file_id"],
        "completion_window": COMPLETION_WINDOW,
        "status": batch.status,
        "output_file_id": _store_results(call, batch, failed=False),
        "error_file_id": _store_results(call, batch, failed=True),
        "created_at": created_at,
        **times,
        "expires_at": created_at + WINDOW_SECONDS,
        "request_counts": batch.counts if is_validated else {"total": 0, "completed": 0, "failed": 0},
        "usage": _usage(batch) if batch.is_terminal else None,
        "metadata": submission.details["metadata"],
    }


def _errors(batch: Batch) -> dict[str, Any] | None:
    if batch.status != "failed":
        return None
    ended = {"code": "batch_failed", "message": batch.error or "The batch failed", "line": None, "param": None}
    return {"object": "list", "data": list(batch.submission.errors) or [ended]}


def _store_results(call: BatchCall, batch: Batch, *, failed: bool) -> str | None:
    """Store the lines of an ended batch, those of the failed requests apart; return the file's id."""
    if not batch.is_terminal:
        return None
    lines = [outcome.result for outcome in batch.done if outcome.failed is failed]
    if failed and batch.status == "expired":
        lines += _expired_lines(batch)
    if not lines:
        return None
    kind = "error" if failed else "output"
    file = StoredFile(
        id=f"file-{kind}-{batch.submission.id.removeprefix('batch_')}",
        key=call.key,
        filename=f"{batch.submission.id}_{kind}.jsonl",
        purpose="batch_output",
        created_at=call.state.batches.entered_at(batch, batch.status) or 0,
        content=b"\n".join(lines) + b"\n",
    )
    call.state.files.add(file)
    return file.id


def _expired_lines(batch: Batch) -> Iterable[bytes]:
    """Return the lines of the requests that had not ended when the batch expired."""
    ended = {outcome.custom_id for outcome in batch.done}
    for number, custom_id in enumerate(batch.submission.custom_ids):
        if custom_id not in ended:
            suffix = f"{batch.submission.id.removeprefix('batch_')}_{number}"
            line = {"id": f"batch_req_{suffix}", "custom_id": custom_id, "response": None, "error": EXPIRED}
            yield json_bytes(line)


def _usage(batch: Batch) -> dict[str, Any]:
    bill = batch.bill
    return {
        "input_tokens": bill.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": bill.output_tokens,
        "output_tokens_details": {"reasoning_tokens": bill.reasoning_tokens},
        "total_tokens": bill.input_tokens + bill.output_tokens,
    }
