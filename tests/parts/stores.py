"""All tested object stores in one form: started, and opened as Airflow opens them, here or in another process."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.parts import azure, gcs, s3
from tests.parts.services import opened


@dataclass(frozen=True)
class Kind:
    """
    A kind of store.

    :param scheme: of its URLs.
    :param running: runs it, and yields its address.
    :param filesystem: opens it.
    :param exclusive: whether it refuses the second create.
    """

    scheme: str
    running: Callable[[], AbstractContextManager[str]]
    filesystem: Callable[..., Any]
    exclusive: bool


KINDS = {
    "moto": Kind("s3", s3.moto, partial(s3.filesystem, kind="moto"), exclusive=True),
    "s3rver": Kind("s3", s3.s3rver, partial(s3.filesystem, kind="s3rver"), exclusive=False),
    "azurite": Kind("abfs", azure.azurite, azure.filesystem, exclusive=True),
    "gcs": Kind("gs", gcs.emulator, gcs.filesystem, exclusive=False),
}


@dataclass(frozen=True)
class Bucket:
    """A bucket, empty at first."""

    kind: str
    address: str
    name: str

    @classmethod
    def made(cls, kind: str, address: str) -> Bucket:
        """Make one."""
        made = cls(kind, address, f"bucket-{secrets.token_hex(4)}")
        made.filesystem().mkdir(made.name)
        return made

    @property
    def exclusive(self) -> bool:
        """Whether the store refuses a second create."""
        return KINDS[self.kind].exclusive

    def filesystem(self, address: str | None = None, **given: Any) -> Any:
        """Open the store, by another address (a proxy's) if one is given."""
        return KINDS[self.kind].filesystem(address or self.address, **given)

    def path(self, address: str | None = None, **given: Any) -> Any:
        """Return the bucket as a path of Airflow's, on a filesystem of its own."""
        fs = self.filesystem(address, **given)
        return opened(f"{KINDS[self.kind].scheme}://{self.name}", fs, conn_id=f"to_{self.name}")

    def quick_path(self, key: str) -> QuickPath:
        """Return a path in it for a process that has to start soon: importing Airflow takes seconds."""
        scheme = KINDS[self.kind].scheme
        return QuickPath(self.filesystem(), f"{self.name}/{key}", scheme, f"to_{self.name}")


@dataclass(frozen=True)
class QuickPath:
    """The parts of Airflow's ``ObjectStoragePath`` that are used."""

    fs: Any
    path: str
    protocol: str
    conn_id: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.conn_id}@{self.path}"
