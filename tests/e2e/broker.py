"""A Redis of the tests' own: the queue between the scheduler and Celery's workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.processes import Service, found_or_installed, free_port, stop, wait_for_port


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run a server on a port of its own on loopback, without files; give its address."""
    program = found_or_installed(_program, "redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="airflow-e2e-redis-") as name:
        folder = Path(name)
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", name]
        env = {"PATH": os.environ["PATH"]}
        service = Service("Redis", [str(program), *options], env=env, folder=folder, log=folder / "redis.log")
        try:
            wait_for_port(port, service)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            stop([service])


def _program() -> Path | None:
    found = shutil.which("redis-server")
    return Path(found) if found else None
