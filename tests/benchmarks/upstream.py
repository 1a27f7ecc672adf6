"""A server fast enough not to count: fixed responses from a process of its own, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

DELTAS = 200
USAGE = {"input_tokens": 10, "output_tokens": 200, "total_tokens": 210, "cost": 0.001}


def response_body(text: str) -> dict[str, object]:
    """Return a response of the usual shape."""
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    unset = ("error", "incomplete_details", "temperature", "top_p", "instructions", "metadata", "max_output_tokens")
    known = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "openai/gpt-4o-mini",
    }
    return dict.fromkeys(unset) | known | {"output": [item], "usage": USAGE, "tools": [], "tool_choice": "auto"}


def completion(text: str) -> dict[str, object]:
    """The same from ``/chat/completions``, for libraries that send there."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    known = {"id": "chatcmpl_1", "object": "chat.completion", "created": 1, "model": "openai/gpt-4o-mini"}
    usage = {"prompt_tokens": 10, "completion_tokens": 200, "total_tokens": 210}
    return known | {"choices": [choice], "usage": usage}


def stream() -> bytes:
    """The events of a stream of 200 deltas."""
    words = [f"word{number} " for number in range(DELTAS)]
    done = response_body("".join(words))
    item = done["output"][0]  # type: ignore[index]
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.created", "response": {**done, "status": "in_progress", "output": [], "usage": None}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        *({"type": "response.output_text.delta", "delta": word, "logprobs": [], **where} for word in words),
        {"type": "response.output_text.done", "text": "".join(words), "logprobs": [], **where},
        {"type": "response.completed", "response": done},
    ]
    lines = [f"data: {json.dumps({**event, 'sequence_number': n})}\n\n" for n, event in enumerate(events)]
    return ("".join(lines) + "data: [DONE]\n\n").encode()


def http(body: bytes, content_type: str) -> bytes:
    """A response as it is on the wire."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nx-generation-id: gen-1"
    return head.encode() + b"\r\n\r\n" + body


class Upstream(asyncio.Protocol):
    """Responds to every whole request after the delay in its path, in seconds: ``/1.0/responses``."""

    plain = chat = b""
    streamed = http(stream(), "text/event-stream")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lower = head.lower()
            length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
            delay = float(head.split(b" ", 2)[1].split(b"/")[1])
            content = self.streamed if b'"stream":true' in body.replace(b" ", b"") else self.plain
            if head.split(b" ", 2)[1].endswith(b"/chat/completions"):
                content = self.chat
            if delay:
                asyncio.get_running_loop().call_later(delay, self.transport.write, content)  # type: ignore[attr-defined]
            else:
                self.transport.write(content)  # type: ignore[attr-defined]


async def serve(text: str) -> None:
    """Serve until the process is stopped."""
    Upstream.plain = http(json.dumps(response_body(text)).encode(), "application/json")
    Upstream.chat = http(json.dumps(completion(text)).encode(), "application/json")
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running(text: str = "Hello there, this is a response.") -> Iterator[str]:
    """Run the server, whose responses have this text, in a process of its own; yield its address without a path."""
    with subprocess.Popen([sys.executable, __file__, text], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1]))
