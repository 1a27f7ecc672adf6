"""A reverse proxy on loopback that fails, delays or changes requests by a rule."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class Request:
    """A request; ``key`` is the path without the bucket."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, unquoted."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def puts(self, name: str) -> bool:
        """Whether it writes an object whose path holds this."""
        return self.method in {"PUT", "POST"} and name in self.path


@dataclass(frozen=True)
class Response:
    """A response; without a status the connection is closed instead."""

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def error(status: int, code: str, message: str = "made up") -> Response:
    """Return an error as S3 has it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(status, {"Content-Type": "application/xml"}, body.encode())


Rule = Callable[[Request, Callable[[], Response]], Response]


class Proxy:
    """
    See the module.

    :param upstream: the address that it passes requests on to.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.requests: list[Request] = []
        self.rule: Rule = lambda _, forward: forward()

    def respond(self, request: Request) -> Response:
        """Return the response of the rule to a request."""
        self.requests.append(request)
        return self.rule(request, lambda: self._forward(request))

    def _forward(self, request: Request) -> Response:
        connection = http.client.HTTPConnection(self.upstream.hostname or "", self.upstream.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in {"connection", "expect", "transfer-encoding", "content-length"}:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            response = connection.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            if request.method == "HEAD" and (length := response.getheader("Content-Length")):
                headers["Content-Length"] = length
            return Response(response.status, headers, response.read())


@contextlib.contextmanager
def in_front_of(upstream: str) -> Iterator[tuple[str, Proxy]]:
    """Run one; yield its address, and itself."""
    proxy = Proxy(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

        def handle_any(self) -> None:
            headers = dict(self.headers.items())
            body = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._sized()
            response = proxy.respond(Request(self.command, self.path, headers, body))
            if response.status is None:
                self.close_connection = True
                return
            self.send_response_only(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in response.headers:
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client did not wait
                self.wfile.write(b"" if self.command == "HEAD" else response.body)

        def _sized(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _chunks(self) -> bytes:
            found = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = handle_any  # noqa: N815  http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
