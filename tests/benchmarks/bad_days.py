"""
A table on a bad day: the processes that ``test_bad_days.py`` starts.

A server of half a second a response, which refuses and fails as the day in its path says, and a table sent to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks import upstream
from tests.benchmarks.upstream import http, response_body

LATENCY, RETRY_AFTER = 0.5, 1.0  # seconds
CONCURRENCY = 256
MODELS = ("fine/model", "refused/model")


@dataclass
class Day:
    """
    What is wrong with a service.

    :param refused: the share of requests that get a 429.
    :param waits: whether those say ``Retry-After: 1``.
    :param failed: the share that get a 500.
    :param model: the only one that this goes for; None for all.
    :param limit: requests a second, beyond which there are 429s with ``Retry-After: 1``.
    :param models: that the table's rows have, one after the other.
    """

    refused: float = 0.0
    waits: bool = True
    failed: float = 0.0
    model: str | None = None
    limit: float | None = None
    models: tuple[str, ...] = MODELS[:1]
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311  the same each time
    left: float = 0.0
    at: float = 0.0
    seen: dict[str, list[float]] = field(default_factory=dict)  # by model: the first request, the last response, count

    def status(self, model: str) -> int:
        now = time.monotonic()
        self.seen.setdefault(model, [now, now, 0])
        if self.limit is not None:
            self.left = min(self.limit, self.left + (now - self.at) * self.limit)
            self.at = now
            if self.left < 1:
                return 429
            self.left -= 1
            return 200
        if self.model not in (None, model):
            return 200
        draw = self.chance.random()
        return 429 if draw < self.refused else 500 if draw < self.refused + self.failed else 200


DAYS = {
    "good": Day(),
    "5 % of 429s, 5 % of 500s": Day(refused=0.05, failed=0.05),
    "1 % of 429s": Day(refused=0.01),
    "1 % of 429s, without Retry-After": Day(refused=0.01, waits=False),
    "100 a second": Day(limit=100.0),
    "two models": Day(models=MODELS),
    "30 % of 429s from one of two models": Day(refused=0.3, model=MODELS[1], models=MODELS),
}


class Server(upstream.Upstream):
    """Its paths: ``/3/responses`` for the day with that number, ``/3/figures`` for its figures."""

    success = http(json.dumps(response_body("good")).encode(), "application/json")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if not found or len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            _, number, what = head.split(b" ", 2)[1].decode().split("/")
            day = list(DAYS.values())[int(number)]
            if what == "figures":
                self.transport.write(http(json.dumps(day.seen).encode(), "application/json"))  # type: ignore[attr-defined]
            else:
                self._respond(day, json.loads(body)["model"])

    def _respond(self, day: Day, model: str) -> None:
        status = day.status(model)
        if status == 200:
            asyncio.get_running_loop().call_later(LATENCY, self._give, day, model)
            return
        waits = b"retry-after: 1\r\n" if status == 429 and day.waits else b""
        body = b'{"error": {"message": "not now"}}'
        head = b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, waits, len(body)) + body)  # type: ignore[attr-defined]

    def _give(self, day: Day, model: str) -> None:
        seen = day.seen[model]
        seen[1:] = [time.monotonic(), seen[2] + 1]
        self.transport.write(self.success)  # type: ignore[attr-defined]


async def serve() -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run the server in a process of its own; gives its address without a path."""
    command = [sys.executable, "-m", "tests.benchmarks.bad_days", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def figures(address: str, day: str) -> dict[str, float]:
    """Return rows a second by model, as the server saw them."""
    import httpx

    url = f"{address}/{list(DAYS).index(day)}/figures"
    seen: dict[str, list[float]] = httpx.get(url, trust_env=False).json()
    return {model: count / (last - first) for model, (first, last, count) in seen.items()}


def enrich(address: str, day: str, rows: int) -> dict[str, Any]:
    """Enrich a table, and return its manifest."""
    from airflow_provider_responses.client import ClientConfig
    from airflow_provider_responses.enrich.engine import Enrichment
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.enrich.output_store import Writer
    from airflow_provider_responses.enrich.sources import read_rows
    from airflow_provider_responses.task.request import TaskRequest

    models = DAYS[day].models
    table = [{"id": number, "text": f"Review {number}"} for number in range(rows)]
    url = f"{address}/{list(DAYS).index(day)}"
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            read_chunks=lambda: read_rows(table),
            row_fields=lambda row: {"input": f"Mood of {row['text']}", "model": models[row["id"] % len(models)]},
            request=TaskRequest(fields={}, stream=False),
            config=ClientConfig(api_key="none", base_url=url, dialect="openrouter"),
            output_path=Path(folder, "out"),
            writer=Writer(owner="bench"),
            limits=Limits(concurrency=CONCURRENCY),
            key="id",
        )
        return Enrichment(job).run()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
    else:
        print(json.dumps(enrich(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
