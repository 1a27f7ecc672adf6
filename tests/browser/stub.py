"""A server on loopback with the bundle and canned JSON: below a prefix, as behind a proxy."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

STATIC = Path(__file__).resolve().parents[2] / "airflow_provider_responses" / "plugins" / "static"
PREFIX = "/a/proxy"
# The strictest policy that the pages can have.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
TYPES = {".js": "text/javascript", ".html": "text/html; charset=utf-8"}

Query = dict[str, list[str]]
Handler = Callable[[Query], "tuple[int, Any]"]


class Stub:
    """
    The server.

    ``spend`` and ``task`` return status and body for a query; a body that is text is sent as HTML. ``requests`` are
    the queries that came, and ``others`` the paths that nobody serves.
    """

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}{PREFIX}"
        self.clear()

    def clear(self) -> None:
        """Forget what came, and serve nothing until a test says what."""
        self.spend: Handler = lambda _: (500, {"detail": "not set"})
        self.task: Handler = lambda _: (500, {"detail": "not set"})
        self.requests: list[tuple[str, Query]] = []
        self.others: list[str] = []

    def respond(self, target: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        url = urlsplit(target)
        path = url.path.removeprefix(PREFIX)
        if path in {"/responses/spend", "/responses/task"}:
            return 200, TYPES[".html"], (STATIC / "index.html").read_bytes()
        if path.startswith("/responses/static/"):
            file = STATIC / path.removeprefix("/responses/static/")
            return 200, TYPES[file.suffix], file.read_bytes()
        name = path.removeprefix("/responses/api/")
        if name in {"spend", "task"} and path.startswith("/responses/api/"):
            query = parse_qs(url.query, keep_blank_values=True)
            self.requests.append((name, query))
            status, body = (self.spend if name == "spend" else self.task)(query)
            if isinstance(body, str):
                return status, TYPES[".html"], body.encode()
            return status, "application/json", json.dumps(body).encode()
        self.others.append(target)
        return 404, "text/plain", b"nothing here"


@contextlib.contextmanager
def stub() -> Iterator[Stub]:
    """Run the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    made = Stub(server.server_port)

    class Requests(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = made.respond(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", POLICY)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the page was left
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            return

    server.RequestHandlerClass = Requests
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
