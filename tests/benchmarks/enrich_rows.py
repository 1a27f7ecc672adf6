"""Rows through an enrichment, the bare client or plain httpx: the processes that ``test_enrich.py`` starts."""

from __future__ import annotations

import asyncio
import csv
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig
from airflow_provider_responses.client.base_client import BaseClient
from airflow_provider_responses.client.call import Call
from airflow_provider_responses.enrich.engine import Enrichment
from airflow_provider_responses.enrich.job import Environment, Job
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.enrich.sources import read_file
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.operators.templates import RowTemplate
from airflow_provider_responses.task.request import TaskRequest
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
    """Return the peak memory of this process in MiB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))


def text(number: int) -> str:
    return f"Review {number}: it came in time and does what it says, though the box was dented."


def write_source(path: Path, rows: int) -> None:
    """Write reviews in the format of the path's suffix."""
    reviews = ({"id": number, "stars": number % 5, "text": text(number)} for number in range(rows))
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(reviews)), path)
    elif path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(review) + "\n" for review in reviews)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "stars", "text"])
            writer.writeheader()
            writer.writerows(reviews)


class InProcess:
    """Stands in for a client whose server takes no time at all."""

    def __init__(self, config: ClientConfig) -> None:
        self._calls = BaseClient(config, clock=time.monotonic, random=random.random)
        self._response = Response(raw=upstream.response_body(LABEL), headers={})

    async def __aenter__(self) -> InProcess:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    def prepare(self, request: Any, options: Any = None) -> Call:
        return self._calls.prepare(request, options)

    async def send_call(self, call: Call) -> Response:
        await asyncio.sleep(0)
        return self._response


IN_PROCESS = "http://127.0.0.1:1"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The choices of an enrichment."""

    source: str = "csv"
    output_format: str = "jsonl"
    typed: bool = True
    template: bool = True
    key: str | None = "id"
    runs: int = 1  # all but the first resume


# Choices of users, each compared with the first.
CHOICES = {
    "CSV, template, pydantic model, key, JSONL": Choices(),
    "source: JSONL": Choices(source="jsonl"),
    "source: Parquet": Choices(source="parquet"),
    "input: a function": Choices(template=False),
    "no output_type: text": Choices(typed=False),
    "no key": Choices(key=None),
    "output_format: Parquet": Choices(output_format="parquet"),
    "once more, with no row left to send": Choices(runs=2),
}


def enrich(url: str, rows: int, choices: Choices) -> tuple[float, float]:
    """Enrich a table; return the start of its last attempt, and the CPU seconds."""
    import jinja2.sandbox

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"reviews.{choices.source}")
        write_source(source, rows)
        template = RowTemplate(PROMPT, jinja2.sandbox.SandboxedEnvironment(), {})
        render = template.render if choices.template else (lambda row: f"Sentiment of this review: {row['text']}")
        environment = Environment(client=InProcess) if url == IN_PROCESS else Environment()  # type: ignore[arg-type]
        for number in range(choices.runs):
            began = time.monotonic(), used()
            job = Job(
                read_chunks=lambda: read_file(source),
                row_fields=lambda row: {"input": render(row), "model": MODEL},
                request=TaskRequest(fields={}, output_type=Label if choices.typed else None, stream=False),
                config=ClientConfig(api_key="none", base_url=url, dialect="openrouter"),
                output_path=Path(folder, "out"),
                writer=Writer(owner="bench", try_number=number + 1),
                limits=Limits(concurrency=CONCURRENCY),
                key=choices.key,
                output_format=choices.output_format,
            )
            manifest = Enrichment(job, environment).run()
            assert manifest["counts"] == {"ok": rows}, manifest
            assert manifest["requests_sent"] == (0 if number else rows), manifest
    return began


async def bounded(rows: int, send: Callable[[int], Awaitable[Any]]) -> None:
    """Send with a fixed number in flight."""
    numbers = iter(range(rows))

    async def worker() -> None:
        for number in numbers:
            await send(number)

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))


async def client(url: str, rows: int) -> dict[str, Any]:
    """Send the same number of requests with the client alone."""
    async with AsyncResponsesClient(ClientConfig(api_key="none", base_url=url, dialect="openrouter")) as client:
        await bounded(rows, lambda number: client.send({"model": MODEL, "input": text(number)}))
    return {}


async def aiohttp(url: str, rows: int) -> dict[str, Any]:
    """Send requests and read JSON, and do nothing else."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session:

        async def one(number: int) -> Any:
            body = {"model": MODEL, "input": text(number)}
            async with session.post(f"{url}/responses", json=body) as response:
                return (await response.json())["output"]

        await bounded(rows, one)
    return {}


async def gather(url: str, rows: int) -> dict[str, Any]:
    """Send all rows at once over httpx, as by hand: without limits, checks or saved responses."""
    import httpx

    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT, trust_env=False) as client:

        async def one(number: int) -> Any:
            response = await client.post(f"{url}/responses", json={"model": MODEL, "input": text(number)})
            return response.raise_for_status().json()["output"]

        await asyncio.gather(*(one(number) for number in range(rows)))
    return {}


def used() -> float:
    """Return the seconds of CPU that this process has used."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime


def main(way: str, url: str, rows: int) -> None:
    began, before = time.monotonic(), used()
    if way in CHOICES:
        began, before = enrich(url, rows, CHOICES[way])
    else:
        asyncio.run({"client": client, "aiohttp": aiohttp, "gather": gather}[way](url, rows))
    seconds, cpu = time.monotonic() - began, used() - before
    print(json.dumps({"rate": rows / seconds, "cpu": cpu / rows * 1000, "peak": peak(), "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
