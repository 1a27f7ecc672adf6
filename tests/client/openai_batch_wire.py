"""OpenAI's batches and files, as they are on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from openai.types import Batch as SDKBatch

from airflow_provider_responses.models import Batch
from airflow_provider_responses.models.batch import PreparedBatchRequest
from airflow_provider_responses.sandbox.http.multipart import parse_form

from .batch_wire import requests
from .wire import Flavour, Handle, Wire, failure

MODEL = "gpt-5-mini"


BASE = "https://api.openai.com/v1"


def batch(**changes: Any) -> dict[str, Any]:
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
    made = {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/responses",
        "model": MODEL,
        "errors": None,
        "input_file_id": "file-in",
        "completion_window": "24h",
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": 1_790_000_000,
        **{f"{name}_at": None for name in times},
        "expires_at": 1_790_086_400,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": None,
    } | changes
    assert SDKBatch.model_validate(made).model_extra == {}
    return made


def ok(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


def uploaded() -> httpx.Response:
    return ok(id="file-in", object="file", purpose="batch")


def created(**changes: Any) -> httpx.Response:
    return ok(**batch(**changes))


def finished(**changes: Any) -> Batch:
    return Batch(raw=batch(status="completed", **changes))


def with_status(status: int, content: bytes | None = None) -> Callable[[httpx.Request], httpx.Response]:
    """Return a scripted response for a parameter: both flavours use it, each needs its own."""
    return lambda _: failure(status) if content is None else httpx.Response(status, content=content)


def lines(*items: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in items)


def create(client: Handle, given: Any = None, **kwargs: Any) -> Batch:
    made: Batch = client._run("create_batch", requests() if given is None else given, **({"model": MODEL} | kwargs))
    return made


def on(flavour: Flavour, wire: Wire, **changes: Any) -> Handle:
    return flavour.on(wire, base_url=BASE, **changes)


def seen(wire: Wire) -> list[str]:
    return [f"{request.method} {str(request.url).removeprefix(BASE)}" for request in wire.requests]


def file_of(request: httpx.Request) -> list[dict[str, Any]]:
    content = parse_form(request.headers["content-type"], request.content)["file"].content
    return [json.loads(line) for line in content.splitlines()]


def prepared(custom_id: str, body: bytes = b'{"model":"gpt-5-mini","input":"Hi"}', model: str = MODEL) -> Any:
    return PreparedBatchRequest(custom_id, body, model)
