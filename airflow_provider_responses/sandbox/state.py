"""What the sandbox remembers: ledger, response cache, script, settings and key. Safe to use from any thread."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.sandbox.chance import Chance, Faults
from airflow_provider_responses.sandbox.limits import Excess, Limits, Meter
from airflow_provider_responses.sandbox.prices import Bill, count_input_tokens
from airflow_provider_responses.sandbox.script import Step

Outcome = Literal["running", "answered", "cached", "error", "dropped", "broken"]
CacheKey = tuple[str, str, str, bool, str]
SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "x-api-key", "cookie"})
KEY_DEFAULTS: Final[dict[str, Any]] = {
    "label": "sandbox",
    "limit": None,
    "limit_reset": None,
    "byok_usage": 0.0,
    "byok_usage_daily": 0.0,
    "byok_usage_weekly": 0.0,
    "byok_usage_monthly": 0.0,
    "is_free_tier": False,
    "is_management_key": False,
    "is_provisioning_key": False,
    "include_byok_in_limit": False,
    "creator_user_id": None,
    "expires_at": None,
    "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
}
KEY_COMPUTED: Final = ("limit_remaining", "usage", "usage_daily", "usage_weekly", "usage_monthly")


@dataclass(kw_only=True)
class LedgerEntry:
    """One ``POST /responses``; ``cost`` is in US dollars, ``seconds`` is how long the call took."""

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


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A completed answer in the response cache."""

    content: Any
    generation_id: str
    kept_at: float
    ttl: int


def new_generation_id() -> str:
    """Give a generation id that was never given before."""
    return f"gen-{int(time.time())}-{uuid.uuid4().hex[:20]}"


def hash_key(key: str) -> str:
    """Give the short hash under which a key is known; the key itself is never kept."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def body_sha256(raw: bytes) -> tuple[str, Any]:
    """Hash a body with its white space normalised and its property order kept; give what it holds as well."""
    try:
        body = json.loads(raw)
        raw = json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        body = raw.decode(errors="replace")
    return hashlib.sha256(raw).hexdigest(), body


class State:
    """
    Everything that outlives a call.

    ``clock`` gives seconds; it decides when a kept answer expires and when a rate limit has room again.
    """

    def __init__(
        self,
        *,
        dialect: Dialect = "openrouter",
        latency: float = 0.0,
        limits: Limits | None = None,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dialect = dialect
        self.latency = latency
        self.meter = Meter(limits or Limits())
        self.chance = Chance(faults or Faults())
        self.clock = clock
        self._at_start = (latency, self.meter.limits, self.chance.faults)
        self._epoch_offset = time.time() - clock()
        self.epoch = 0
        self.closed = False
        self._lock = threading.Lock()
        self._entries: list[LedgerEntry] = []
        self._kept: dict[CacheKey, Kept] = {}
        self._steps: deque[Step] = deque()
        self._key: dict[str, Any] = {}
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    # Ledger

    def open_entry(self, raw: bytes, headers: Iterable[tuple[str, str]]) -> tuple[LedgerEntry, int]:
        """Record a call that has just arrived; give its entry and the epoch that it belongs to."""
        sha256, body = body_sha256(raw)
        entry = LedgerEntry(
            time=time.time(),
            generation_id=new_generation_id(),
            body_sha256=sha256,
            body=body,
            headers={name: value for name, value in headers if name.lower() not in SECRET_HEADERS},
        )
        with self._lock:
            self._entries.append(entry)
            return entry, self.epoch

    def settle(self, entry: LedgerEntry, outcome: Outcome, bill: Bill | None = None, **fields: Any) -> None:
        """Record how a call ended; ``bill`` is what it cost, ``None`` when it was not billed."""
        with self._lock:
            entry.outcome = outcome
            entry.seconds = max(0.0, time.time() - entry.time)
            if bill is not None:
                entry.billed = True
                entry.input_tokens, entry.output_tokens = bill.input_tokens, bill.output_tokens
                entry.cost = 0.0 if self.dialect == "open" else bill.cost
                self.meter.add(entry.key or "", bill.output_tokens, now=self.clock())
            for name, value in fields.items():
                setattr(entry, name, value)

    @property
    def ledger(self) -> list[LedgerEntry]:
        """A copy of all entries, oldest first."""
        with self._lock:
            return [replace(entry) for entry in self._entries]

    def find(self, generation_id: str) -> LedgerEntry | None:
        """Find a generation by its id."""
        with self._lock:
            found = next((entry for entry in self._entries if entry.generation_id == generation_id), None)
            return replace(found) if found else None

    def report(self) -> dict[str, Any]:
        """Give the ledger as JSON, with the totals of what was billed."""
        entries = self.ledger
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

    # Response cache

    def keep(self, key: CacheKey, content: Any, generation_id: str, *, ttl: int, epoch: int) -> None:
        """Keep a completed answer, unless everything was reset since its call arrived."""
        with self._lock:
            if epoch == self.epoch:
                self._kept[key] = Kept(content=content, generation_id=generation_id, kept_at=self.clock(), ttl=ttl)

    def kept(self, key: CacheKey, *, clear: bool = False) -> tuple[Kept, int] | None:
        """Give a kept answer that has not expired and its age in seconds; ``clear`` forgets it instead."""
        with self._lock:
            if clear:
                self._kept.pop(key, None)
            found = self._kept.get(key)
            if found is None:
                return None
            age = self.clock() - found.kept_at
            if age >= found.ttl:
                del self._kept[key]
                return None
            return found, int(age)

    # Script

    def script(self, steps: Iterable[Step]) -> int:
        """Append steps; give how many wait."""
        with self._lock:
            self._steps.extend(steps)
            return len(self._steps)

    def next_step(self, body_sha256: str = "") -> Step:
        """Take the next step; without one, what chance deals out, which is mostly an ordinary answer."""
        with self._lock:
            if self._steps:
                return self._steps.popleft()
        return self.chance.next(body_sha256) or Step()

    # Settings

    def set_latency(self, seconds: Any) -> None:
        """
        Set the seconds before every answer.

        :raises ValueError: when they are no number from 0.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
            raise ValueError(f"latency: must be a number of seconds from 0, not {seconds!r}")
        self.latency = float(seconds)

    def set_limits(self, given: Any) -> None:
        """
        Set rate limits; what is not named has none, and all keys begin anew.

        :raises ValueError: naming what is wrong.
        """
        self.meter.set(Limits.parse(given))

    def limits(self) -> dict[str, int | None]:
        """Give the rate limits as they are set."""
        return asdict(self.meter.limits)

    def set_faults(self, given: Any) -> None:
        """
        Set the faults by chance, which begin anew.

        :raises ValueError: naming what is wrong.
        """
        self.chance.set(Faults.parse(given))

    def faults(self) -> dict[str, Any]:
        """Give the faults by chance as they are set."""
        return asdict(self.chance.faults)

    def admit(self, entry: LedgerEntry) -> Excess | None:
        """Count a call against its key's limits; when it is too much, say so, with the time since 1970."""
        tokens = count_input_tokens(entry.body) if isinstance(entry.body, dict) else 0
        excess = self.meter.admit(entry.key or "", tokens, now=self.clock())
        return replace(excess, resets_at=excess.resets_at + self._epoch_offset) if excess else None

    # Key

    def set_key(self, fields: Mapping[str, Any]) -> None:
        """
        Set fields of ``GET /key``; all others are as at the start.

        :raises ValueError: naming a field that a key does not have.
        """
        unknown = sorted(set(fields) - {*KEY_DEFAULTS, *KEY_COMPUTED})
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is no field of a key; there are {', '.join([*KEY_DEFAULTS, *KEY_COMPUTED])}"
            )
        with self._lock:
            self._key = dict(fields)

    def key(self, key_hash: str | None = None) -> dict[str, Any]:
        """Give the data of ``GET /key``: what was set, and what the ledger says that this key has used."""
        used = sum(entry.cost for entry in self.ledger if entry.billed and key_hash in {None, entry.key})
        with self._lock:
            chosen = dict(self._key)
        data = KEY_DEFAULTS | chosen
        usage = round(float(chosen.get("usage", used)), 12)
        left = None if data["limit"] is None else round(max(0.0, data["limit"] - usage), 12)
        computed = dict.fromkeys(KEY_COMPUTED, usage) | {"limit_remaining": left}
        return data | computed | chosen

    def is_spent(self, key_hash: str) -> bool:
        """Whether a key has nothing left to spend."""
        with self._lock:
            if not self._key:
                return False
        left = self.key(key_hash)["limit_remaining"]
        return left is not None and left <= 0

    # Waiting

    def reset(self) -> None:
        """Forget everything, set everything as it was at the start, and let go of the calls that wait."""
        self.latency, limits, faults = self._at_start
        self.meter.set(limits)
        self.chance.set(faults)
        with self._lock:
            self._entries, self._kept, self._key = [], {}, {}
            self._steps.clear()
            self._release()

    def close(self, *, closed: bool = True) -> None:
        """Let go of the calls that wait, and of those to come; what was recorded stays."""
        with self._lock:
            self.closed = closed
            self._release()

    def _release(self) -> None:
        self.epoch += 1
        for loop, event in self._waiters:
            loop.call_soon_threadsafe(event.set)

    async def pause(
        self, seconds: float | None, *, epoch: int, gone: asyncio.Task[None] | None = None
    ) -> Literal["over", "reset", "gone"]:
        """Wait (``None``: without end) until the time is over, the sandbox is reset, or the client has gone."""
        released = asyncio.Event()
        waiter = (asyncio.get_running_loop(), released)
        with self._lock:
            if self.closed or epoch != self.epoch:
                return "reset"
            self._waiters.add(waiter)
        watch = asyncio.ensure_future(released.wait())
        try:
            await asyncio.wait({watch, gone} if gone else {watch}, timeout=seconds, return_when="FIRST_COMPLETED")
        finally:
            watch.cancel()
            with self._lock:
                self._waiters.discard(waiter)
        if released.is_set():
            return "reset"
        return "gone" if gone and gone.done() else "over"
