"""A server on loopback that sends the bytes of a test."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from .wire import result

LIMIT = 10.0  # seconds after which all waits end
DRIP = 3.0  # seconds that a server drips at most


class Connection:
    """One accepted connection."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self._rest = b""

    def read_request(self) -> tuple[str, bytes] | None:
        """Return head and body of the next request, None at the end of the connection."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            if not (more := self.sock.recv(65536)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = sum(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        while len(body) < length:
            body += self.sock.recv(65536)
        self._rest = body[length:]
        self.server.heads.append(head.decode())
        self.server.received.set()
        return head.decode(), body[:length]

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def respond(self, body: Any = None, *headers: str) -> None:
        data = json.dumps(result() if body is None else body)
        lines = ["HTTP/1.1 200 OK", "content-type: application/json", f"content-length: {len(data)}", *headers]
        self.send("\r\n".join(lines) + "\r\n\r\n" + data)

    def drip(self, piece: bytes) -> None:
        """Send a piece repeatedly, until the client closes the connection."""
        for _ in range(int(DRIP / 0.01)):
            if self.server.stopped.wait(0.01):
                return
            self.send(piece)

    def wait_for_end(self) -> None:
        """Wait until the client has closed the connection."""
        while self.sock.recv(65536):
            pass
        self.server.hung_up.set()

    def reset(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def serve_all(connection: Connection) -> None:
    while connection.read_request():
        connection.respond()


class Server:
    """Accepts connections, and runs ``script`` on each."""

    def __init__(self) -> None:
        self.script: Callable[[Connection], None] = serve_all
        self.heads: list[str] = []
        self.received = threading.Event()
        self.hung_up = threading.Event()
        self.stopped = threading.Event()
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _accept(self) -> None:
        while not self.stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            sock.settimeout(LIMIT)
            self._open.append(sock)
            thread = threading.Thread(target=self._run, args=(Connection(self, sock),), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: Connection) -> None:
        # The client may close the connection at any time.
        with contextlib.suppress(OSError), contextlib.closing(connection.sock):
            try:
                self.script(connection)
            except ConnectionError:
                self.hung_up.set()
                raise

    def close(self) -> None:
        self.stopped.set()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)
        self._listener.close()
