"""Azure Blob Storage: azurite."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

from tests.parts.services import free_port, npm, serving

AZURITE = "azurite@3.35.0"
ACCOUNT = "tests"
KEY = base64.b64encode(b"made-up").decode()


@contextlib.contextmanager
def azurite() -> Iterator[str]:
    """Run azurite; yield its address."""
    port = free_port()
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    command = [*npm(AZURITE, "azurite-blob"), *options, "--silent", "--disableTelemetry"]
    with serving("azurite", command, port, env={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}):
        yield f"http://127.0.0.1:{port}"


def filesystem(address: str, **given: Any) -> Any:
    """Return adlfs on it."""
    import adlfs

    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={address}/{ACCOUNT};"
    return adlfs.AzureBlobFileSystem(connection_string=text, skip_instance_cache=True, **given)
