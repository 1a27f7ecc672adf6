"""Rows through an enrichment, the bare client or plain httpx: the processes that ``test_enrich.py`` starts."""

from __future__ import annotations

import asyncio
import csv
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from airflow_provider_responses import runs
from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig
from airflow_provider_responses.enrich.engine import Enrichment, Job, Surroundings
from airflow_provider_responses.enrich.folder import Writer
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.sources import read_file
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.operators.templates import RowTemplate
from tests.benchmarks import upstream

MODEL = "openai/gpt-4o-mini"
PROMPT = "Sentiment of this review, as one word: {{ row.text }}"
CONCURRENCY = 256
TIMEOUT = 600.0


class Label(BaseModel):
    mood: str
    score: int


LABEL = json.dumps({"mood": "good", "score": 5})


def peak() -> int:
    """Give the peak of this process in MiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


def text(number: int) -> str:
    return f"Review {number}: it came in time and does what it says, though the box was dented."


def write_source(path: Path, rows: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "stars", "text"])
        writer.writerows((number, number % 5, text(number)) for number in range(rows))


class InProcess:
    """Stands in for a client whose server takes no time at all."""

    def __init__(self, config: ClientConfig) -> None:
        self._response = Response(raw=upstream.answer(LABEL), headers={})

    async def __aenter__(self) -> InProcess:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    async def send(self, request: Any, *, options: Any = None) -> Response:
        await asyncio.sleep(0)
        return self._response


def enrich(url: str, rows: int) -> dict[str, Any]:
    """Enrich a CSV: read, render, check, send, validate, write, order."""
    import jinja2.sandbox

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "reviews.csv")
        write_source(source, rows)
        template = RowTemplate(PROMPT, jinja2.sandbox.SandboxedEnvironment(), {})
        job = Job(
            chunks=lambda: read_file(source),
            ask=lambda row: {"input": template.render(row), "model": MODEL},
            run=runs.Run(fields={}, output_type=Label, stream=False),
            config=ClientConfig(api_key="none", base_url=url, dialect="openrouter"),
            folder=Path(folder, "out"),
            writer=Writer(owner="bench"),
            limits=Limits(concurrency=CONCURRENCY),
            key="id",
        )
        around = Surroundings(client=InProcess) if url == IN_PROCESS else Surroundings()  # type: ignore[arg-type]
        manifest = Enrichment(job, around).run()
        assert manifest["counts"] == {"ok": rows}, manifest
    return {}


IN_PROCESS = "http://127.0.0.1:1"


async def bounded(rows: int, send: Callable[[int], Awaitable[Any]]) -> None:
    """Send with a fixed number in flight."""
    numbers = iter(range(rows))

    async def worker() -> None:
        for number in numbers:
            await send(number)

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))


async def client(url: str, rows: int) -> dict[str, Any]:
    """Send as many requests with the client alone."""
    async with AsyncResponsesClient(ClientConfig(api_key="none", base_url=url, dialect="openrouter")) as client:
        await bounded(rows, lambda number: client.send({"model": MODEL, "input": text(number)}))
    return {}


async def gather(url: str, rows: int) -> dict[str, Any]:
    """Do as one does by hand: all rows at once, over httpx, without limits, checks or anything kept."""
    import httpx

    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT, trust_env=False) as client:

        async def one(number: int) -> Any:
            answer = await client.post(f"{url}/responses", json={"model": MODEL, "input": text(number)})
            return answer.raise_for_status().json()["output"]

        await asyncio.gather(*(one(number) for number in range(rows)))
    return {}


def main(way: str, url: str, rows: int) -> None:
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    if way == "enrich":
        enrich(url, rows)
    else:
        asyncio.run((client if way == "client" else gather)(url, rows))
    seconds, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print(json.dumps({"rate": rows / seconds, "cpu": cpu / rows * 1000, "peak": peak(), "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
