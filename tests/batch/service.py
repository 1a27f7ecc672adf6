"""A service of batches in this process: a transport of the client, without a socket and without a second of waiting."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import httpx

from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.client.sync_pool import SyncPool

PRICE: Final = 0.001  # US dollars of a response
URL: Final = "http://127.0.0.1:9/api/v1"  # where nothing listens


@dataclass
class ServedBatch:
    """
    A batch of the service.

    :param results: by the order of the requests; a request without one is not served.
    """

    id: str
    model: str
    created: float
    requests: list[dict[str, Any]] = field(repr=False)
    status: str = "in_progress"
    results: list[dict[str, Any]] = field(default_factory=list, repr=False)
    message: str | None = None
    is_gone: bool = False

    @property
    def is_ended(self) -> bool:
        return self.status not in {"validating", "in_progress", "finalizing"}

    @property
    def texts(self) -> list[str]:
        """The inputs of its requests."""
        return [prompt_of(request) for request in self.requests]

    @property
    def paid(self) -> list[str]:
        """The inputs of the requests with a response, which are paid."""
        by_id = {request["custom_id"]: prompt_of(request) for request in self.requests}
        found = {it["custom_id"] for it in self.results if (it["response"] or {}).get("status_code") == 200}
        return [text for custom_id, text in by_id.items() if custom_id in found]

    def to_json(self, *, results: bool) -> dict[str, Any]:
        counts = {"total": len(self.requests), "completed": len(self.results), "failed": 0}
        shown = {"id": self.id, "object": "batch", "model": self.model, "status": self.status, "request_counts": counts}
        shown |= {"created_at": int(self.created), "error": self.message and {"message": self.message}}
        return {**shown, "results": self.results if results and self.is_ended else None}


class BatchService:
    """
    See the module.

    :param now: the time of the service, in seconds since the epoch.
    :param cross: runs the effect of a call, named by its method and kind; a test may raise before or after it.
    """

    def __init__(
        self, now: Callable[[], float], cross: Callable[[str, Callable[[], Any]], Any] = lambda _, effect: effect()
    ) -> None:
        self.now, self.cross = now, cross
        self.batches: dict[str, ServedBatch] = {}
        self.polls: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    def client(self, config: ClientConfig) -> ResponsesClient:
        """Return a client of the service, which does not wait before a retry."""
        pool = SyncPool(httpx.MockTransport(self._respond))
        return ResponsesClient(config, pool=pool, sleep=lambda _: None)

    def add(self, requests: list[dict[str, Any]], model: str) -> ServedBatch:
        """Add a batch, of this task or of another one."""
        made = ServedBatch(f"batch_{next(self._numbers)}", model, self.now(), requests)
        self.batches[made.id] = made
        return made

    def end(
        self, batch: ServedBatch, status: str = "completed", results: Iterator[dict[str, Any]] | None = None
    ) -> None:
        """End a batch, by default with a response to each request."""
        batch.status = status
        batch.results = list(map(succeed, batch.requests) if results is None else results)

    @property
    def paid(self) -> Counter[str]:
        """The number of paid responses by input."""
        return Counter(text for batch in self.batches.values() if batch.is_ended for text in batch.paid)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        body = request.read()
        kind = "submit" if request.method == "POST" else "list" if path == "/batches" else "read"
        return self.cross(f"{request.method} {kind}", lambda: self._serve(request, path, body))

    def _serve(self, request: httpx.Request, path: str, body: bytes) -> httpx.Response:
        match [request.method, *path.strip("/").split("/")]:
            case ["POST", "batches"]:
                given = json.loads(body)
                return httpx.Response(202, json=self.add(given["requests"], given["model"]).to_json(results=False))
            case ["GET", "batches"]:
                return self._list(dict(request.url.params))
            case ["GET", "batches", batch_id, *rest]:
                return self._read(batch_id, is_page=bool(rest))
            case ["GET", "models"]:
                return httpx.Response(200, json={"data": []})
        return _error(404, f"no such path: {path}")

    def _list(self, query: dict[str, str]) -> httpx.Response:
        after, before = (
            datetime.fromisoformat(query[name]).timestamp() if name in query else None
            for name in ("created_after", "created_before")
        )
        shown = [
            batch.to_json(results=False)
            for batch in reversed(self.batches.values())
            if (after is None or batch.created >= after) and (before is None or batch.created <= before)
        ]
        return httpx.Response(200, json={"data": shown, "has_more": False})

    def _read(self, batch_id: str, *, is_page: bool) -> httpx.Response:
        batch = self.batches.get(batch_id)
        if batch is None or batch.is_gone:
            return _error(404 if batch is None else 410, "no such batch")
        self.polls[batch_id] += 1
        if not is_page:
            return httpx.Response(200, json=batch.to_json(results=True))
        if not batch.is_ended:
            return _error(409, "the batch has not ended")
        return httpx.Response(200, json={"data": batch.results, "next_cursor": None, "has_more": False})


def prompt_of(request: dict[str, Any]) -> str:
    """Return the prompt of a row; the reasons of invalid outputs may follow it."""
    given = request["body"]["input"]
    return given if isinstance(given, str) else given[0]["content"]


def succeed(request: dict[str, Any], text: str | None = None) -> dict[str, Any]:
    """Return the result of a request: by default its own input, as the mood."""
    given = prompt_of(request)
    content = [{"type": "output_text", "text": text or json.dumps({"mood": given}), "annotations": []}]
    body = {
        "id": f"resp_{request['custom_id']}",
        "object": "response",
        "status": "completed",
        "model": request["body"].get("model"),
        "output": [{"type": "message", "role": "assistant", "content": content}],
        "usage": {"cost": PRICE, "total_tokens": 10},
    }
    response = {"status_code": 200, "request_id": f"gen-{request['custom_id']}", "body": body}
    return {"id": "result", "custom_id": request["custom_id"], "response": response, "error": None}


def fail(request: dict[str, Any], status: int) -> dict[str, Any]:
    """Return the result of a request that failed."""
    error = {"message": "it failed", "type": "error"}
    return {"id": "result", "custom_id": request["custom_id"], "response": None, "error": error} | (
        {} if status >= 500 else {"response": {"status_code": status, "body": {"error": {"message": "it failed"}}}}
    )


def _error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": status, "message": message}})
