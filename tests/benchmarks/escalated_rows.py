"""
A table with a larger model and with a judge: the processes that ``test_escalation.py`` starts.

A server of half a second a response, whose small model is unsure about each fifth row, and a table that is sent to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from tests.benchmarks import upstream
from tests.benchmarks.upstream import http, response_body

SMALL, LARGE, JUDGE = "openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
LATENCY = 0.5  # seconds
CONCURRENCY = 256
UNSURE_EACH = 5
UNSURE, SURE = 1, 5
_NUMBER: Final = re.compile(rb"Review (\d+)")


class Label(BaseModel):
    """The same text is a valid output of the table's models and of the judge."""

    reason: str
    score: int


def is_unsure(value: Any) -> bool:
    return bool(value["score"] == UNSURE)


def text(number: int) -> str:
    return f"Review {number}: it came in time and does what it says, though the box was dented."


def _body(model: str, score: int) -> bytes:
    label = json.dumps({"reason": "It came in time.", "score": score})
    return http(json.dumps(response_body(label) | {"model": model}).encode(), "application/json")


BODIES: Final = {(model, score): _body(model, score) for model in (SMALL, LARGE, JUDGE) for score in (UNSURE, SURE)}


class Server(upstream.Upstream):
    """Responds to each request by its model and its row."""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if not found or len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            model = json.loads(body)["model"]
            number = int(_NUMBER.search(body)[1])  # type: ignore[index]
            score = UNSURE if model == SMALL and number % UNSURE_EACH == 0 else SURE
            asyncio.get_running_loop().call_later(LATENCY, self.transport.write, BODIES[model, score])  # type: ignore[attr-defined]


async def serve() -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run the server in a process of its own; yield its address."""
    command = [sys.executable, "-m", "tests.benchmarks.escalated_rows", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def used() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def enrich(url: str, kind: str, rows: int) -> dict[str, Any]:
    """
    Enrich a table, and return the manifest.

    :param kind: ``plain``, ``escalate`` or ``judge``.
    """
    from airflow_provider_responses.client import ClientConfig
    from airflow_provider_responses.enrich.engine import Enrichment
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.enrich.limits import Limits
    from airflow_provider_responses.enrich.output_store import Writer
    from airflow_provider_responses.enrich.sources import read_rows
    from airflow_provider_responses.task.escalation import Escalation
    from airflow_provider_responses.task.request import TaskRequest

    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            read_chunks=lambda: read_rows({"id": number, "text": text(number)} for number in range(rows)),
            row_fields=lambda row: {"input": f"Score this: {row['text']}", "model": SMALL},
            request=TaskRequest(fields={}, output_type=Label, stream=False),
            config=ClientConfig(api_key="none", base_url=url, dialect="openrouter"),
            output_path=Path(folder, "out"),
            writer=Writer(owner="bench"),
            limits=Limits(concurrency=CONCURRENCY),
            key="id",
            escalate=(Escalation(model=LARGE, when=is_unsure),) if kind == "escalate" else (),
            judge=Judge(model=JUDGE, rubric="From 1 (bad) to 5 (good).") if kind == "judge" else None,
        )
        return Enrichment(job).run()


def main(url: str, kind: str, rows: int) -> None:
    """Enrich a table, and print its figures."""
    before = used()
    manifest = enrich(url, kind, rows)
    assert manifest["counts"] == {"ok": rows}, manifest["counts"]
    sent, seconds = manifest["requests_sent"], manifest["seconds"]
    cpu = (used() - before) / sent * 1000
    print(json.dumps({"sent": sent, "rate": sent / seconds, "rows_rate": rows / seconds, "cpu": cpu}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve())
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
