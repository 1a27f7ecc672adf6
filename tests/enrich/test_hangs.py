"""A real server that is shut down: it closes its port, and leaves requests in flight open without a response."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.limits import Limits
from tests.enrich.jobs import enrich, result, table

ROWS, IN_FLIGHT = 600, 32


@dataclass
class Server:
    """
    Serves on loopback, a thread for each connection.

    :param port: 0 for any.
    :param most: number of requests that get a response. Then the server closes its port, and responds no more.
    """

    port: int = 0
    most: float = float("inf")
    asked: Counter[str] = field(default_factory=Counter)
    first_at: float | None = None
    unanswered: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listening.getsockname()[1]
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the port is closed
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for body in _requests(connection):
                asked = json.loads(body)["input"]
                with self._lock:
                    self.first_at = self.first_at or time.monotonic()
                    is_answered = self.asked.total() < self.most
                    self.asked[asked] += is_answered
                    self.unanswered += not is_answered
                if is_answered:
                    connection.sendall(_response(asked))
                else:
                    self.close_port()

    def close_port(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def stop(self) -> None:
        self.close_port()
        for connection in self._open:
            connection.close()


def _requests(connection: socket.socket) -> Iterator[bytes]:
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += connection.recv(65536)
        data = body[length:]
        yield body[:length]


def _response(asked: str) -> bytes:
    part = {"type": "output_text", "text": json.dumps({"mood": asked}), "annotations": []}
    item = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 5, "output_tokens": 5, "total_tokens": 10}
    response = {"id": f"resp_{asked}", "object": "response", "status": "completed", "model": "m", "output": [item]}
    body = json.dumps({**response, "usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


class When(logging.Handler):
    """Does something once, when a line is logged."""

    def __init__(self, text: str, what: Callable[[], None]) -> None:
        super().__init__()
        self._text, self._what = text, what
        self.done = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._text in record.getMessage() and not self.done:
            self.done = True
            self._what()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        server.stop()


def test_a_new_server_on_the_same_port_gets_the_requests_of_one_that_hangs(tmp_path, servers):
    old = Server(most=ROWS / 3)
    servers.append(old)
    starts = When("The service is down", lambda: servers.append(Server(port=old.port)))
    logger = logging.getLogger("airflow_provider_responses.enrich.sender")
    logger.addHandler(starts)
    url = f"http://127.0.0.1:{old.port}/v1"
    try:
        manifest = enrich(
            SimpleNamespace(base_url=url),
            tmp_path,
            table(ROWS),
            config=ClientConfig(api_key="none", base_url=url, dialect="open"),
            limits=Limits(concurrency=IN_FLIGHT),
        )
    finally:
        logger.removeHandler(starts)
    _, new = servers
    assert manifest["counts"] == {"ok": ROWS}
    assert [row["mood"] for row in result(tmp_path)] == [f"Mood of hello {number}" for number in range(ROWS)]
    assert old.unanswered == IN_FLIGHT, "all that was in flight hangs"
    assert new.first_at is not None
    assert new.first_at - new.began < 10
    assert set((old.asked + new.asked).values()) == {1}
    assert manifest["responses_without_price"] >= IN_FLIGHT, "what hangs may have been billed"
