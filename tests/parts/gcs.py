"""Google Cloud Storage: gcp-storage-emulator, which ignores the condition of a create."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.parts.services import free_port, serving


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """Run it; yield its address."""
    port = free_port()
    program = str(Path(sys.executable).with_name("gcp-storage-emulator"))
    command = [program, "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory", "--quiet"]
    with serving("gcs", command, port):
        yield f"http://127.0.0.1:{port}"


def filesystem(address: str, **given: Any) -> Any:
    """Return gcsfs on it."""
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # else it asks Google for the bucket's type
    import gcsfs

    return gcsfs.GCSFileSystem(endpoint_url=address, token="anon", project="tests", skip_instance_cache=True, **given)
