"""The content of a file as it was read once: small ones in memory, others in a temporary file without a name."""

from __future__ import annotations

import base64
import os
import tempfile
import weakref
from collections.abc import Iterator
from hashlib import blake2b
from typing import IO, Final

IN_MEMORY: Final = 1024 * 1024  # bytes of the largest content that is held in memory
PIECE: Final = 3 * 256 * 1024  # bytes that are read at once; a multiple of three, as base64 needs


class Snapshot:
    """
    The content of a file. It can be read any number of times, and from several threads.

    :param content: bytes, or an open file, which is closed with this object.
    """

    def __init__(self, content: bytes | IO[bytes]) -> None:
        self._content, self._digest = content, ""
        if isinstance(content, bytes):
            self.size = len(content)
        else:
            self.size = os.fstat(content.fileno()).st_size
            weakref.finalize(self, content.close)

    def head(self, size: int) -> bytes:
        """Return the first bytes."""
        return self._read(0, size)

    def pieces(self) -> Iterator[bytes]:
        """Return an iterator over the bytes."""
        position = 0
        while piece := self._read(position, PIECE):
            yield piece
            position += len(piece)

    def read(self) -> bytes:
        """Return all bytes."""
        return self._content if isinstance(self._content, bytes) else b"".join(self.pieces())

    def digest(self) -> str:
        """Return the digest of the bytes: 32 hex digits."""
        if not self._digest:
            digest = blake2b(digest_size=16)
            for piece in self.pieces():
                digest.update(piece)
            self._digest = digest.hexdigest()
        return self._digest

    def _read(self, position: int, size: int) -> bytes:
        if isinstance(self._content, bytes):
            return self._content[position : position + size]
        return os.pread(self._content.fileno(), size, position)


class Base64Content:
    """A snapshot as base64, encoded in pieces."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @property
    def length(self) -> int:
        """Number of bytes of the text."""
        return -(-self._snapshot.size // 3) * 4

    def chunks(self) -> Iterator[bytes]:
        """Return an iterator over the text in pieces."""
        return map(base64.b64encode, self._snapshot.pieces())

    def digest(self) -> str:
        """Return the digest of the file, before it is base64."""
        return self._snapshot.digest()


class Recorder:
    """
    Collects the pieces of a content.

    :param in_memory: whether it is small enough for memory.
    """

    def __init__(self, *, in_memory: bool) -> None:
        self._file: IO[bytes] | None = None
        if not in_memory:
            self._file = tempfile.TemporaryFile(prefix="responses-file-")  # noqa: SIM115  the snapshot closes it
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Add a piece."""
        self.size += len(piece)
        if self._file is None:
            self._pieces.append(piece)
        else:
            self._file.write(piece)

    def finish(self) -> Snapshot:
        """Return the snapshot."""
        if self._file is None:
            return Snapshot(b"".join(self._pieces))
        self._file.flush()
        return Snapshot(self._file)

    def discard(self) -> None:
        """Drop the pieces."""
        if self._file is not None:
            self._file.close()
