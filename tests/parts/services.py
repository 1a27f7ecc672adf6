"""Starting a service on loopback, waiting until it accepts connections, and stopping it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.processes import Service, free_port, stop

STARTS_WITHIN = 60.0  # seconds
CACHE = Path(__file__).parents[2] / ".cache" / "parts"  # what npm installs; `make clean` removes it


@contextlib.contextmanager
def serving(
    name: str,
    command: Sequence[str],
    port: int,
    *,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """
    Run a server until the block ends; yield its folder. Its command and output are in the error if it fails.

    :param files: that are in its folder when it starts: name → content.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"parts-{name}-"))
    for file, content in (files or {}).items():
        (folder / file).write_text(content)
    service = Service(name, command, env=os.environ | (env or {}), folder=folder, log=folder / "log.txt")
    try:
        limit = time.monotonic() + STARTS_WITHIN
        while not _accepts(port):
            service.check()
            if time.monotonic() > limit:
                raise TimeoutError(f"{name} does not accept connections: {(folder / 'log.txt').read_text()[-2000:]}")
            time.sleep(0.05)
        yield folder
    finally:
        stop([service])
        shutil.rmtree(folder, ignore_errors=True)


def npm(package: str, program: str) -> list[str]:
    """Return the command of a program of an npm package, which is installed into the clone's cache if it is absent."""
    name, _, version = package.rpartition("@")
    folder = CACHE / f"{name}-{version}"
    path = folder / "node_modules" / ".bin" / program
    if not path.exists():
        if shutil.which("npm") is None:
            raise RuntimeError(f"npm was not found, which {name} needs; on Debian: apt-get install npm")
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), package]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return [str(path)]


def opened(url: str, fs: Any, conn_id: str | None = None) -> Any:
    """Return a path of Airflow's on a filesystem, as a connection would open it."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath
    from airflow.sdk.io import attach

    attach(url.partition("://")[0], conn_id).fs = fs
    return ObjectStoragePath(url, conn_id=conn_id)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


__all__ = ["free_port", "npm", "opened", "serving"]
