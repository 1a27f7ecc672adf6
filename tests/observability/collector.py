"""A collector on loopback that speaks OTLP over HTTP: a socket, and OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(ThreadingHTTPServer):
    """Decodes what is exported to it; ``hold`` delays its responses until it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.hold = threading.Event()
        self.hold.set()
        self.was_asked = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.was_asked.set()
        self.server.hold.wait()
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += [(scope.scope.name, span) for span in scope.spans]
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.hold.set()
        collector.shutdown()
        collector.server_close()
        thread.join()


def value_of(any_value: Any) -> Any:
    """Return the value of an attribute on the wire."""
    kind = any_value.WhichOneof("value")
    value = getattr(any_value, kind)
    return tuple(map(value_of, value.values)) if kind == "array_value" else value


def attributes_of(message: Any) -> dict[str, Any]:
    return {item.key: value_of(item.value) for item in message.attributes}
