"""A server of batches that does not count: a process of its own, which reads the ids of requests and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.upstream import response_body

ID = re.compile(rb'"custom_id":"([^"]+)"')
CHUNK = 256 * 1024
PAGE = 250
COST = 0.0005


def result(custom_id: str, text: str) -> bytes:
    """Return the result of a request of the usual shape."""
    response = {"status_code": 200, "request_id": f"gen-{custom_id}", "body": response_body(text)}
    response["body"] |= {"id": f"resp-{custom_id}"}  # type: ignore[operator]
    return json.dumps({"id": f"res-{custom_id}", "custom_id": custom_id, "response": response, "error": None}).encode()


def batch_object(batch_id: str, total: int) -> dict[str, Any]:
    counts = {"total": total, "completed": total, "failed": 0}
    known = {"id": batch_id, "object": "batch", "endpoint": "/v1/responses", "status": "completed"}
    return known | {"created_at": 1, "model": "openai/gpt-4o-mini", "request_counts": counts, "error": None}


class BatchServer:
    """
    Completes every batch at once.

    :param has_pages: whether results are served in pages; otherwise inside the batch.
    """

    def __init__(self, text: str, *, has_pages: bool) -> None:
        self.text, self.has_pages = text, has_pages
        self.batches: dict[str, list[str]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b" ", 2)
                if method == b"POST":
                    await self.create(head, reader, writer)
                else:
                    self.read(path.decode(), writer)
                await writer.drain()

    async def create(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ids: list[str] = []
        rest = b""
        async for piece in body_of(head, reader):
            data = rest + piece
            found = list(ID.finditer(data))
            ids += (match[1].decode() for match in found)
            rest = data[max(found[-1].end() if found else 0, len(data) - 200) :]
        batch_id = f"batch_{len(self.batches)}"
        self.batches[batch_id] = ids
        send(writer, json.dumps(batch_object(batch_id, len(ids)) | {"status": "validating"}).encode(), status=202)

    def read(self, target: str, writer: asyncio.StreamWriter) -> None:
        path, _, query = target.partition("?")
        batch_id, _, what = path.partition("/batches/")[2].partition("/")
        ids = self.batches[batch_id]
        if what == "results":
            if not self.has_pages:
                send(writer, b"{}", status=404)
                return
            at = int(query.partition("cursor=")[2] or 0)
            page = ids[at : at + PAGE]
            more = at + PAGE < len(ids)
            tail = json.dumps({"has_more": more, "next_cursor": str(at + PAGE) if more else None})[1:]
            send(writer, b'{"data":[' + b",".join(result(it, self.text) for it in page) + b"]," + tail.encode())
            return
        begin = json.dumps(batch_object(batch_id, len(ids)))[:-1].encode() + b',"results":['
        send(writer, begin + b",".join(result(it, self.text) for it in ids) + b"]}")


def send(writer: asyncio.StreamWriter, body: bytes, *, status: int = 200) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def body_of(head: bytes, reader: asyncio.StreamReader) -> Any:
    """Yield the pieces of a body, by its length or in chunks."""
    if (found := re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)) is not None:
        left = int(found[1])
        while left:
            piece = await reader.read(min(left, CHUNK))
            left -= len(piece)
            yield piece
        return
    while size := int((await reader.readline()).strip(), 16):
        yield await reader.readexactly(size)
        await reader.readline()
    await reader.readline()


@contextlib.contextmanager
def running(text: str, *, has_pages: bool) -> Iterator[str]:
    """Run the server in a process, and yield its base URL."""
    command = [sys.executable, "-m", "tests.benchmarks.batch_upstream", text, str(int(has_pages))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def main(text: str, has_pages: str) -> None:
    served = BatchServer(text, has_pages=bool(int(has_pages)))
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, limit=4 * CHUNK)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
