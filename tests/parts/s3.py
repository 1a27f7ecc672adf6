"""S3: moto, which has conditional writes, and s3rver, which overwrites files without a condition."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from tests.parts.services import free_port, npm, serving

S3RVER = "s3rver@3.7.1"
KEYS = {"moto": "made-up", "s3rver": "S3RVER"}  # the only ones that s3rver takes


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """Run moto; yield its address."""
    port = free_port()
    with serving("moto", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def s3rver() -> Iterator[str]:
    """Run s3rver; yield its address."""
    port = free_port()
    with serving("s3rver", [*npm(S3RVER, "s3rver"), "-d", "data", "-a", "127.0.0.1", "-p", str(port)], port) as folder:
        (folder / "data").mkdir(exist_ok=True)
        yield f"http://127.0.0.1:{port}"


def filesystem(address: str, kind: str, *, attempts: int = 1, **given: Any) -> Any:
    """Return s3fs on it; the tests wait for botocore's ``attempts``."""
    import s3fs

    config = {"retries": {"max_attempts": attempts, "mode": "standard"}, "connect_timeout": 5, "read_timeout": 15}
    keys = {"key": KEYS[kind], "secret": KEYS[kind]}
    return s3fs.S3FileSystem(endpoint_url=address, skip_instance_cache=True, config_kwargs=config, **{**keys, **given})
