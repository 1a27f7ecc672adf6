"""The files of a server with OpenAI's batch API. Safe to use from any thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file; ``created_at`` is in seconds since 1970."""

    id: str
    key: str
    filename: str
    purpose: str
    created_at: int
    content: bytes


class FileStore:
    """All files, oldest first."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._files: dict[str, StoredFile] = {}

    def add(self, file: StoredFile) -> None:
        """Add a file, unless there is one with its id."""
        with self._lock:
            self._files.setdefault(file.id, file)

    def find(self, file_id: str, key: str) -> StoredFile | None:
        """Return a file of a key."""
        with self._lock:
            file = self._files.get(file_id)
        return file if file is not None and file.key == key else None

    def newest_first(self, key: str) -> list[StoredFile]:
        """Return the files of a key."""
        with self._lock:
            return [file for file in reversed(self._files.values()) if file.key == key]

    def remove(self, file_id: str) -> None:
        """Remove a file."""
        with self._lock:
            self._files.pop(file_id, None)

    def clear(self) -> None:
        """Remove all files."""
        with self._lock:
            self._files = {}
