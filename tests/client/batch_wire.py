"""Batches and their requests, as they are on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.models import Batch, BatchRequest

from .wire import Handle, result

MODEL = "maker/small-1"
BATCHES = "https://openrouter.ai/api/v1/batches"
REFUSED = httpx.ConnectError("refused")
BROKE = httpx.ReadError("broke")
SUMMARY = RequestSummary(label="GET /batches/b", is_openrouter=True, batch="read")


def batch(**changes: Any) -> dict[str, Any]:
    return {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/responses",
        "model": MODEL,
        "completion_window": "24h",
        "status": "validating",
        "created_at": 1_790_000_000,
        "finalized_at": None,
        "expires_at": None,
        "provider": None,
        "request_counts": {"total": 2, "completed": 0, "failed": 0},
        "usage": None,
        "results": None,
        "error": None,
    } | changes


def accepted(**changes: Any) -> httpx.Response:
    return httpx.Response(202, json=batch(**changes))


def item(custom_id: str = "a", text: str = "Hello", **changes: Any) -> dict[str, Any]:
    received = {"status_code": 200, "request_id": "gen-1", "body": result(text)}
    return {"id": f"r-{custom_id}", "custom_id": custom_id, "response": received, "error": None} | changes


def requests(*names: str, **fields: Any) -> list[BatchRequest]:
    return [BatchRequest(custom_id=name, request={"input": f"Hello {name}", **fields}) for name in names or "ab"]


def large(n: int, size: int = 10_000) -> Iterator[BatchRequest]:
    for i in range(n):
        yield BatchRequest(custom_id=f"row-{i}", request={"input": "x" * size})


def collect(client: Handle, name: str, *args: Any, **kwargs: Any) -> list[Any]:
    found = getattr(client.client, name)(*args, **kwargs)
    if hasattr(found, "__aiter__"):

        async def drain() -> list[Any]:
            return [one async for one in found]

        drained: list[Any] = client._runner.run(drain())
        return drained
    return list(found)


def create(client: Handle, given: Any = None, **kwargs: Any) -> Batch:
    made: Batch = client._run("create_batch", requests() if given is None else given, **({"model": MODEL} | kwargs))
    return made


def page(*names: str, has_more: bool = False) -> httpx.Response:
    data = [batch(id=name) for name in names]
    ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return httpx.Response(200, json={"object": "list", "data": data, "has_more": has_more, **ends})
