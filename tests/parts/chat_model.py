"""A model behind the servers: ``POST /chat/completions`` on loopback, whose replies a test decides."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@dataclass(frozen=True)
class Reply:
    """
    A reply of the model.

    :param text: of the message.
    :param calls: names and arguments of functions.
    :param refused: the message of an error of status 400 in its place.
    """

    text: str | None = None
    calls: tuple[tuple[str, Any], ...] = ()
    refused: str | None = None

    def message(self, numbers: Iterator[int]) -> Body:
        """Return the message, with ids of its own for the calls."""
        calls = [
            {
                "id": f"call_{next(numbers)}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for name, arguments in self.calls
        ]
        return {"role": "assistant", "content": self.text, **({"tool_calls": calls} if calls else {})}

    @property
    def finish_reason(self) -> str:
        """Return the reason for which the message has ended."""
        return "tool_calls" if self.calls else "stop"


class RefusedError(Exception):
    """The model refuses a request."""


@dataclass
class ChatModel:
    """
    See the module.

    :param respond: returns the reply to a request's body.
    :param bodies: of all requests, in the order of their arrival.
    """

    respond: Callable[[Body], Reply] = lambda _: Reply("Hello")
    bodies: list[Body] = field(default_factory=list)
    base_url: str = ""
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def script(self, *replies: Reply) -> None:
        """Set the replies to the next requests; it refuses all others."""
        left = iter(replies)
        self.respond = lambda _: next(left, Reply(refused="one request too many"))

    def reset(self) -> None:
        """Forget all requests and replies."""
        self.bodies.clear()
        self.respond = lambda _: Reply("Hello")

    def completion(self, body: Body) -> Body:
        """
        Return the response to a request, unstreamed.

        :raises RefusedError: if it is an error.
        """
        self.bodies.append(body)
        reply = self.respond(body)
        if reply.refused is not None:
            raise RefusedError(reply.refused)
        choice = {"index": 0, "message": reply.message(self._numbers), "finish_reason": reply.finish_reason}
        return {
            "id": f"chatcmpl-{next(self._numbers)}",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [choice],
            "usage": USAGE,
        }


def chunks(completion: Body) -> Iterator[Body]:
    """Yield a response as a stream: each text and each call in two pieces."""
    common = {**completion, "object": "chat.completion.chunk"}
    (choice,) = completion["choices"]
    message = choice["message"]

    def chunk(delta: Body, reason: str | None = None) -> Body:
        return {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}

    yield chunk({"role": "assistant", "content": ""})
    for piece in _halves(message["content"] or ""):
        yield chunk({"content": piece})
    for index, call in enumerate(message.get("tool_calls", ())):
        first, second = _halves(call["function"]["arguments"])
        started = {**call, "index": index, "function": {**call["function"], "arguments": first}}
        yield chunk({"tool_calls": [started]})
        yield chunk({"tool_calls": [{"index": index, "function": {"arguments": second}}]})
    yield chunk({}, choice["finish_reason"])
    yield {**common, "choices": [], "usage": completion["usage"]}


def _halves(text: str) -> list[str]:
    half = len(text) // 2
    return [text[:half], text[half:]] if text else []


@contextlib.contextmanager
def running() -> Iterator[ChatModel]:
    """Run one on a port of its own."""
    model = ChatModel()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                completion = model.completion(body)
            except RefusedError as error:
                refused = {"message": str(error), "type": "invalid_request_error", "param": None, "code": None}
                self._send(400, "application/json", json.dumps({"error": refused}).encode())
                return
            if body.get("stream"):
                lines = [*map(json.dumps, chunks(completion)), "[DONE]"]
                data = "".join(f"data: {line}\n\n" for line in lines).encode()
                self._send(200, "text/event-stream", data)
            else:
                self._send(200, "application/json", json.dumps(completion).encode())

        def _send(self, status: int, kind: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    model.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
