"""moto's S3, which knows ``If-None-Match``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from tests.parts.services import free_port, serving


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run it; yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serving("moto", command, port):
        yield f"http://127.0.0.1:{port}"
