"""The ledger: one entry for each ``POST /responses``."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from airflow_provider_responses.sandbox.state.prices import Bill

Outcome = Literal["running", "generated", "cached", "error", "dropped", "broken"]
SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "x-api-key", "cookie"})


@dataclass(kw_only=True)
class LedgerEntry:
    """One ``POST /responses``; ``cost`` is in US dollars, ``seconds`` is the duration of the call."""

    time: float
    generation_id: str
    key: str | None = None
    model: str | None = None
    stream: bool = False
    metadata: dict[str, str] | None = None
    status: int | None = None
    outcome: Outcome = "running"
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    billed: bool = False
    cache: Literal["HIT", "MISS"] | None = None
    cache_source_id: str | None = None
    delivered: bool | None = None
    seconds: float | None = None
    body_sha256: str = ""
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class Ledger:
    """All entries, oldest first. Safe to use from any thread."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self.entries: list[LedgerEntry] = []

    def open_entry(self, raw: bytes, headers: Iterable[tuple[str, str]]) -> LedgerEntry:
        """Add the entry of a call that has just arrived."""
        sha256, body = hash_body(raw)
        entry = LedgerEntry(
            time=time.time(),
            generation_id=new_generation_id(),
            body_sha256=sha256,
            body=body,
            headers={name: value for name, value in headers if name.lower() not in SECRET_HEADERS},
        )
        with self._lock:
            self.entries.append(entry)
        return entry

    def close_entry(self, entry: LedgerEntry, outcome: Outcome, bill: Bill | None, **fields: Any) -> None:
        """Record how a call ended; without a bill, it was not billed."""
        with self._lock:
            entry.outcome = outcome
            entry.seconds = max(0.0, time.time() - entry.time)
            if bill is not None:
                entry.billed = True
                entry.input_tokens, entry.output_tokens = bill.input_tokens, bill.output_tokens
                entry.cost = bill.cost
            for name, value in fields.items():
                setattr(entry, name, value)

    def copy(self) -> list[LedgerEntry]:
        """Return a copy of each entry, oldest first."""
        with self._lock:
            return [replace(entry) for entry in self.entries]

    def find(self, generation_id: str) -> LedgerEntry | None:
        """Return a copy of the entry with this generation id."""
        with self._lock:
            found = next((entry for entry in self.entries if entry.generation_id == generation_id), None)
            return replace(found) if found else None

    def report(self) -> dict[str, Any]:
        """Return the entries and the totals of those that were billed, as JSON."""
        entries = self.copy()
        billed = [entry for entry in entries if entry.billed]
        return {
            "entries": [asdict(entry) for entry in entries],
            "billed": {
                "calls": len(billed),
                "cost": round(sum(entry.cost for entry in billed), 12),
                "input_tokens": sum(entry.input_tokens for entry in billed),
                "output_tokens": sum(entry.output_tokens for entry in billed),
            },
        }

    def clear(self) -> None:
        """Start an empty list of entries."""
        with self._lock:
            self.entries = []


def new_generation_id() -> str:
    """Return a new, unique generation id."""
    return f"gen-{int(time.time())}-{uuid.uuid4().hex[:20]}"


def hash_key(key: str) -> str:
    """Return a short hash of a key; the key itself is not stored."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def hash_body(raw: bytes) -> tuple[str, Any]:
    """Return the hash of a body, with normalized white space and the given property order, and the parsed body."""
    try:
        body = json.loads(raw)
        raw = json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        body = raw.decode(errors="replace")
    return hashlib.sha256(raw).hexdigest(), body
