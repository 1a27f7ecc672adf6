"""A request with a large file, and a table of images on an S3: the processes that ``test_files.py`` starts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.upstream import http, response_body

PDF_BYTES = 20_000_000
IMAGE_BYTES = 200_000
ROUNDS = 7
MODEL = "openai/gpt-4o-mini"


class Sink(asyncio.Protocol):
    """
    Reads bodies without keeping them, and responds; a 429 follows above a number of requests a second.

    :param rate: requests a second, with as many at once; 0 for no limit.
    """

    rate = 0.0
    tokens = 0.0
    refilled = 0.0
    served: list[float] = []  # noqa: RUF012  the times of all
    body = http(json.dumps(response_body("fine")).encode(), "application/json")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.head = b""
        self.left = 0

    def data_received(self, data: bytes) -> None:
        while data:
            if not self.left:
                self.head += data
                head, found, data = self.head.partition(b"\r\n\r\n")
                if not found:
                    return
                self.head = b""
                self.left = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                self.is_stats = head.startswith(b"GET")
                if self.is_stats:
                    span = {"served": len(self.served), "seconds": self.served[-1] - self.served[0]}
                    self.transport.write(http(json.dumps(span).encode(), "application/json"))
                    continue
            taken = min(self.left, len(data))
            self.left -= taken
            data = data[taken:]
            if not self.left:
                self.transport.write(self.respond())

    def respond(self) -> bytes:
        now = time.monotonic()
        if self.rate:
            Sink.tokens = min(self.rate, Sink.tokens + (now - Sink.refilled) * self.rate)
            Sink.refilled = now
            if Sink.tokens < 1:
                return b"HTTP/1.1 429 Too Many\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}"
            Sink.tokens -= 1
        self.served.append(now)
        return self.body


async def serve(rate: float) -> None:
    """Serve until the process is stopped."""
    Sink.rate, Sink.refilled = rate, time.monotonic()
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running(rate: float = 0.0) -> Iterator[str]:
    """Run the server in a process of its own; yield its address."""
    command = [sys.executable, "-m", "tests.benchmarks.file_rows", "serve", str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()


def memory(name: str) -> int:
    """Return a figure of this process's memory, in bytes: ``VmRSS``, or ``VmHWM`` for the peak."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))


def measure(call: Callable[[], Any]) -> tuple[float, int]:
    """Return the seconds of CPU of a call, and the bytes by which the memory rose at its peak."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, began = memory("VmRSS"), time.process_time()
    call()
    return time.process_time() - began, memory("VmHWM") - before


def one_file(url: str, *names: str) -> dict[str, float]:
    """
    Send a PDF by a task, by hand, or in turn by both.

    :param names: ``task``, ``hand``. Memory is measured of one alone: the other leaves room that is free.
    """
    os.environ["AIRFLOW_CONN_RESPONSES_DEFAULT"] = json.dumps(
        {"conn_type": "responses", "host": url, "password": "none", "extra": {"dialect": "open"}}
    )
    import httpx

    from airflow_provider_responses.content import InputFile
    from airflow_provider_responses.operators.responses import ResponsesOperator
    from tests.airflow_fakes import context

    with contextlib.suppress(ImportError):
        from airflow.sdk.bases.operator import ExecutorSafeguard

        ExecutorSafeguard.test_mode = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pdf")
        path.write_bytes(b"%PDF-1.7\n" + os.urandom(PDF_BYTES - 9))
        parts = [{"type": "input_text", "text": "What is it?"}, InputFile.from_path(path)]
        task = ResponsesOperator(task_id="ask", model=MODEL, input=[{"role": "user", "content": parts}], stream=False)
        with httpx.Client(timeout=60, trust_env=False) as client:

            def by_hand() -> None:
                data = base64.b64encode(path.read_bytes()).decode()
                part = {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}
                body = {"model": MODEL, "input": [{"role": "user", "content": [parts[0], part]}]}
                client.post(f"{url}/responses", json=body).raise_for_status()

            ways: dict[str, Callable[[], Any]] = {"task": lambda: task.execute(context()), "hand": by_hand}
            found: dict[str, list[tuple[float, int]]] = {name: [] for name in names}
            if "task" in names:  # connections and imports, with a small file
                small = Path(folder, "small.pdf")
                small.write_bytes(b"%PDF-1.7\n")
                part = InputFile.from_path(small)
                warm = ResponsesOperator(
                    task_id="warm", model=MODEL, input=[{"role": "user", "content": [part]}], stream=False
                )
                warm.execute(context())
            client.post(f"{url}/responses", json={"model": MODEL})
            for _ in range(ROUNDS):
                for name in names:
                    found[name].append(measure(ways[name]))
    figures = {f"{name}_cpu": min(cpu for cpu, _ in rounds) for name, rounds in found.items()}
    return figures | {f"{name}_bytes": max(size for _, size in rounds) for name, rounds in found.items()}


def rows_of_images(url: str, s3: str, count: int) -> dict[str, float]:
    """Enrich a table of images on an S3."""
    from airflow_provider_responses.client import ClientConfig
    from airflow_provider_responses.content.parts import part_by_content
    from airflow_provider_responses.content.reader import FileReader
    from airflow_provider_responses.content.row_files import RowFiles
    from airflow_provider_responses.enrich.engine import Enrichment
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.output_store import Writer
    from airflow_provider_responses.task.request import TaskRequest
    from tests.parts.s3 import filesystem
    from tests.parts.services import opened

    fs = filesystem(s3, "moto", attempts=3)

    def fields(row: dict[str, Any]) -> dict[str, Any]:
        parts = [{"type": "input_text", "text": "What is it?"}, part_by_content(row["path"])]
        return {"model": MODEL, "input": [{"role": "user", "content": parts}]}

    reader = FileReader(lambda path: opened(path, fs), root="s3://images/in")
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            read_chunks=lambda: iter([[{"path": f"{n}.png"} for n in range(count)]]),
            row_fields=fields,
            request=TaskRequest(fields={}, stream=False),
            config=ClientConfig(api_key="none", base_url=url, dialect="openrouter"),
            output_path=Path(folder, "out"),
            writer=Writer(owner="bench", try_number=1),
            files=RowFiles(reader),
        )
        began = time.monotonic()
        manifest = Enrichment(job).run()
    assert manifest["counts"] == {"ok": count}, manifest["counts"]
    return {"seconds": time.monotonic() - began, "peak": memory("VmHWM") / 2**20, "requests": manifest["requests_sent"]}


def main(way: str, *arguments: str) -> None:
    if way == "serve":
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(float(arguments[0])))
    elif way == "file":
        print(json.dumps(one_file(*arguments)))
    else:
        print(json.dumps(rows_of_images(arguments[0], arguments[1], int(arguments[2]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
