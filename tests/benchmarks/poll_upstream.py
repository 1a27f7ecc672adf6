"""A server of batches fast enough not to count, which records its polls: a process of its own, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.benchmarks.upstream import http

FIRST = "batch-1"  # of the trigger that only warms up; it has ended at once
polls: dict[str, list[float]] = defaultdict(list)


class BatchUpstream(asyncio.Protocol):
    """Responds to ``GET /v1/batches/{id}``: a batch runs for some seconds; and to ``GET /polls`` with their figures."""

    seconds = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            body = figures() if path == "/polls" else batch(path.rpartition("/")[2])
            self.transport.write(http(json.dumps(body).encode(), "application/json"))  # type: ignore[attr-defined]


def batch(batch_id: str) -> dict[str, object]:
    """Return a batch; it began when the first of them was polled."""
    polls[batch_id].append(time.monotonic())
    began = min((times[0] for name, times in polls.items() if name != FIRST), default=time.monotonic())
    ended = batch_id == FIRST or time.monotonic() - began > BatchUpstream.seconds
    counts = {"total": 5000, "completed": 5000 if ended else 100, "failed": 0}
    status = "completed" if ended else "in_progress"
    return {"id": batch_id, "object": "batch", "status": status, "request_counts": counts, "results": None}


def figures() -> dict[str, float]:
    """Return the numbers of polls, and the shortest time between two of one batch."""
    counted = {name: times for name, times in polls.items() if name != FIRST}
    gaps = [later - earlier for times in counted.values() for earlier, later in pairwise(times)]
    return {
        "batches": len(counted),
        "polls": sum(map(len, counted.values())),
        "least_gap": min(gaps, default=0.0),
    }


async def serve(seconds: float) -> None:
    """Serve until the process is stopped."""
    BatchUpstream.seconds = seconds
    server = await asyncio.get_running_loop().create_server(BatchUpstream, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running(seconds: float) -> Iterator[str]:
    """Run the server, whose batches run for some seconds, in a process of its own; yield its address."""
    command = [sys.executable, "-m", "tests.benchmarks.poll_upstream", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(float(sys.argv[1])))
