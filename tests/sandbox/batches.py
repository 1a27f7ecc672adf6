"""What the tests of batches share: a sandbox whose clock the test moves, and submissions to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from airflow_provider_responses.sandbox import Sandbox

from .conftest import HEADERS

MODEL = "openai/gpt-4o-mini"
SECONDS = 100.0


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class BatchApi:
    """Calls about batches, to a sandbox in which a batch takes 100 seconds of the test's clock."""

    def __init__(self, sandbox: Sandbox, http: httpx.Client, clock: Clock) -> None:
        self.sandbox = sandbox
        self.http = http
        self.clock = clock

    def submit(self, count: int = 4, **fields: Any) -> dict[str, Any]:
        """Submit a batch and return it."""
        response = self.http.post("/batches", json=submission(count, **fields))
        assert response.status_code == 202, response.text
        return response.json()

    def get(self, batch_id: str) -> dict[str, Any]:
        response = self.http.get(f"/batches/{batch_id}")
        assert response.status_code == 200, response.text
        return response.json()

    def run(self, count: int = 4, **fields: Any) -> dict[str, Any]:
        """Submit a batch and return it as it is when it has ended."""
        batch = self.submit(count, **fields)
        self.clock.now += SECONDS
        return self.get(batch["id"])


@contextmanager
def batch_sandbox(**arguments: Any) -> Iterator[BatchApi]:
    clock = Clock()
    with (
        Sandbox(batch_seconds=SECONDS, clock=clock, **arguments) as sandbox,
        httpx.Client(base_url=sandbox.base_url, headers=HEADERS, timeout=30) as http,
    ):
        yield BatchApi(sandbox, http, clock)


def requests(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"row-{n}", "body": {"input": f"Summarize row {n}: rain fell."}} for n in range(count)]


def submission(count: int = 4, **fields: Any) -> dict[str, Any]:
    """Return a submission; ``requests`` comes last, whatever the fields are."""
    listed = fields.pop("requests", requests(count))
    return {"endpoint": "/v1/responses", "model": MODEL, **fields, "requests": listed}
