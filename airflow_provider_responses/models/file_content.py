"""The content of a file inside a request, which is sent without being held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Content(Protocol):
    """The content of a file, as ASCII text."""

    @property
    def length(self) -> int:
        """Number of bytes of the text."""

    def chunks(self) -> Iterator[bytes]:
        """Return an iterator over the text in pieces; each call begins at the start."""

    def digest(self) -> str:
        """Return a digest of the file: hex digits."""
