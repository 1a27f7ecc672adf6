"""OpenAI's routes of files, as far as batches need them."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_responses.sandbox.http.batch_calls import BatchCall, begin_call
from airflow_provider_responses.sandbox.http.http_errors import http_error
from airflow_provider_responses.sandbox.http.multipart import parse_form
from airflow_provider_responses.sandbox.http.wire import ClosedConnection, json_response
from airflow_provider_responses.sandbox.state.files import StoredFile


def file_routes(prefix: str) -> list[Route]:
    """Return the routes."""
    return [
        Route(f"{prefix}/files", upload_file, methods=["POST"]),
        Route(f"{prefix}/files", list_files),
        Route(f"{prefix}/files/{{id}}", get_file, methods=["GET"]),
        Route(f"{prefix}/files/{{id}}", delete_file, methods=["DELETE"]),
        Route(f"{prefix}/files/{{id}}/content", get_content),
    ]


async def upload_file(request: Request) -> Response:
    """``POST /files``."""
    call = await begin_call(request, "upload")
    try:
        form = parse_form(request.headers.get("content-type", ""), call.raw)
    except ValueError as error:
        raise http_error(400, str(error)) from None
    if "purpose" not in form or form["purpose"].content != b"batch":
        raise http_error(400, "purpose must be batch: the sandbox has no other files", param="purpose")
    if "file" not in form or form["file"].filename is None:
        raise http_error(400, "file must be a file", param="file")
    if not form["file"].filename.endswith(".jsonl"):
        raise http_error(400, "Invalid file format for Batch API. Must be .jsonl", param="file")
    if not call.is_current:
        return ClosedConnection()
    file = StoredFile(
        id=f"file-{uuid.uuid4().hex[:22]}",
        key=call.key,
        filename=form["file"].filename,
        purpose="batch",
        created_at=int(call.state.batches.time()),
        content=form["file"].content,
    )
    call.state.files.add(file)
    return call.respond(json_response(_file_object(file)))


async def list_files(request: Request) -> Response:
    """``GET /files``."""
    call = await begin_call(request, "list")
    data = [_file_object(file) for file in call.state.files.newest_first(call.key)]
    first_id, last_id = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    page = {"object": "list", "data": data, "first_id": first_id, "last_id": last_id, "has_more": False}
    return call.respond(json_response(page))


async def get_file(request: Request) -> Response:
    """``GET /files/{id}``."""
    call = await begin_call(request, "get")
    return call.respond(json_response(_file_object(find_file(call, request.path_params["id"]))))


async def get_content(request: Request) -> Response:
    """``GET /files/{id}/content``."""
    call = await begin_call(request, "content")
    file = find_file(call, request.path_params["id"])
    return call.respond(Response(file.content, media_type="application/octet-stream"))


async def delete_file(request: Request) -> Response:
    """``DELETE /files/{id}``."""
    call = await begin_call(request, "delete")
    file = find_file(call, request.path_params["id"])
    call.state.files.remove(file.id)
    return call.respond(json_response({"id": file.id, "object": "file", "deleted": True}))


def find_file(call: BatchCall, file_id: Any) -> StoredFile:
    """
    Return a file of the call's key.

    :raises HttpError: 404 if it has no such file.
    """
    file = call.state.files.find(file_id, call.key) if isinstance(file_id, str) else None
    if file is None:
        raise http_error(404, f"No such File object: {file_id}", param="id")
    return file


def _file_object(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.content),
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": None,
        "status_details": None,
    }
