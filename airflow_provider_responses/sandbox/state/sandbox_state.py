"""The state of one sandbox: ledger, response cache, batches, scripts, settings, and the calls that wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.sandbox.model.generation import Generation
from airflow_provider_responses.sandbox.model.tokens import count_input_tokens
from airflow_provider_responses.sandbox.state.batch_script import BatchCall, BatchSettings, BatchStep
from airflow_provider_responses.sandbox.state.batches import BatchEntry, BatchStore
from airflow_provider_responses.sandbox.state.files import FileStore
from airflow_provider_responses.sandbox.state.key_info import key_info, parse_key_fields
from airflow_provider_responses.sandbox.state.ledger import Ledger, LedgerEntry, Outcome
from airflow_provider_responses.sandbox.state.prices import Bill
from airflow_provider_responses.sandbox.state.random_faults import Faults, FaultSampler
from airflow_provider_responses.sandbox.state.rate_limits import ExceededLimit, RateLimiter, RateLimits
from airflow_provider_responses.sandbox.state.response_cache import CacheKey, ResponseCache
from airflow_provider_responses.sandbox.state.script import Step
from airflow_provider_responses.validation import check_number

PauseEnd = Literal["over", "reset", "gone"]


class SandboxState:
    """
    Everything that outlives a call. Safe to use from any thread.

    Each call belongs to the epoch in which it arrived. A reset begins a new epoch: calls of an earlier one are closed,
    and their responses are not cached.

    :param clock: returns seconds, for the response cache and the rate limits.
    """

    def __init__(
        self,
        *,
        dialect: Dialect = "openrouter",
        latency: float = 0.0,
        limits: RateLimits | None = None,
        faults: Faults | None = None,
        batches: BatchSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.RLock()
        self.dialect = dialect
        self.latency = latency
        self.clock = clock
        self.ledger = Ledger(self._lock)
        self.cache = ResponseCache(clock, self._lock)
        self.rate_limiter = RateLimiter(limits or RateLimits())
        self.fault_sampler = FaultSampler(faults or Faults())
        self._clock_offset = time.time() - clock()
        self.batches = BatchStore(batches or BatchSettings(), clock, self._lock, self._clock_offset)
        self.files = FileStore(self._lock)
        self._initial_settings = (
            latency,
            self.rate_limiter.limits,
            self.fault_sampler.faults,
            self.batches.settings,
        )
        self._steps: deque[Step] = deque()
        self._batch_steps: deque[BatchStep] = deque()
        self._key_fields: dict[str, Any] = {}
        self.epoch = 0
        self.closed = False
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    # Calls

    def open_entry(self, raw: bytes, headers: Iterable[tuple[str, str]]) -> tuple[LedgerEntry, int]:
        """Record a call that has just arrived; return its ledger entry and its epoch."""
        with self._lock:
            return self.ledger.open_entry(raw, headers), self.epoch

    def close_entry(self, entry: LedgerEntry, outcome: Outcome, bill: Bill | None = None, **fields: Any) -> None:
        """Record how a call ended; without a bill, it was not billed."""
        if bill is not None and self.dialect == "open":
            bill = replace(bill, input_cost=0.0, output_cost=0.0)
        with self._lock:
            self.ledger.close_entry(entry, outcome, bill, **fields)
            if bill is not None:
                self.rate_limiter.add(entry.key or "", bill.output_tokens, now=self.clock())

    def cache_generation(
        self, key: CacheKey, generation: Generation, *, model: str, generation_id: str, ttl: int, epoch: int
    ) -> None:
        """Cache a completed generation for ``ttl`` seconds, unless a reset came after its call."""
        with self._lock:
            if epoch == self.epoch:
                self.cache.put(key, generation, model=model, generation_id=generation_id, ttl=ttl)

    def admit(self, entry: LedgerEntry) -> ExceededLimit | None:
        """Count a call against its key's rate limits; the limit that it exceeds resets in seconds since 1970."""
        tokens = count_input_tokens(entry.body) if isinstance(entry.body, dict) else 0
        exceeded = self.rate_limiter.admit(entry.key or "", tokens, now=self.clock())
        return replace(exceeded, resets_at=exceeded.resets_at + self._clock_offset) if exceeded else None

    # Script

    def add_steps(self, steps: Iterable[Step]) -> int:
        """Append steps to the script; return the number of steps that are left."""
        with self._lock:
            self._steps.extend(steps)
            return len(self._steps)

    def next_step(self, body_sha256: str = "") -> Step:
        """Return the next step of the script, or else a random fault, or else an empty step."""
        with self._lock:
            if self._steps:
                return self._steps.popleft()
        return self.fault_sampler.next(body_sha256) or Step()

    def add_batch_steps(self, steps: Iterable[BatchStep]) -> int:
        """Append steps to the script of batches; return the number of steps that are left."""
        with self._lock:
            self._batch_steps.extend(steps)
            return len(self._batch_steps)

    def next_batch_step(self, call: BatchCall) -> BatchStep:
        """Return the next step for a kind of call, or else an empty step."""
        with self._lock:
            step = next((step for step in self._batch_steps if step.call == call), None)
            if step is None:
                return BatchStep(call=call)
            self._batch_steps.remove(step)
            return step

    # Settings

    def set_latency(self, seconds: Any) -> None:
        """
        Set the seconds before every response.

        :raises ValueError: if they are not a number >= 0.
        """
        self.latency = float(check_number("latency", seconds, at_least=0, unit="seconds", error=ValueError))

    def set_limits(self, limits: Any) -> None:
        """
        Set the rate limits and restart the count of every key; one that is not named is no limit.

        :raises ValueError: naming the wrong field.
        """
        self.rate_limiter.set(RateLimits.parse(limits))

    def limits(self) -> dict[str, int | None]:
        """Return the rate limits."""
        return asdict(self.rate_limiter.limits)

    def set_faults(self, faults: Any) -> None:
        """
        Set the random faults and restart their draws.

        :raises ValueError: naming the wrong field.
        """
        self.fault_sampler.set(Faults.parse(faults))

    def faults(self) -> dict[str, Any]:
        """Return seed and rates of the random faults."""
        return asdict(self.fault_sampler.faults)

    def set_batch_settings(self, changes: Any) -> None:
        """
        Change settings of the batches; those that are not named stay.

        :raises ValueError: naming the wrong setting.
        """
        self.batches.set(self.batches.settings.changed(changes))

    def batch_settings(self) -> dict[str, Any]:
        """Return the settings of the batches."""
        return asdict(self.batches.settings)

    def set_key(self, fields: Mapping[str, Any]) -> None:
        """
        Set fields of ``GET /key``; all others get their defaults.

        :raises ValueError: naming a field that a key does not have.
        """
        parsed = parse_key_fields(fields)
        with self._lock:
            self._key_fields = parsed

    def key(self, key_hash: str | None = None) -> dict[str, Any]:
        """Return the data of ``GET /key``; without a hash, for the usage of all keys."""
        entries: list[LedgerEntry | BatchEntry] = [*self.ledger.copy(), *self.batches.entries()]
        spent = sum(entry.cost for entry in entries if entry.billed and key_hash in {None, entry.key})
        with self._lock:
            fields = dict(self._key_fields)
        return key_info(fields, spent)

    def is_spent(self, key_hash: str) -> bool:
        """Whether the limit of a key is used up."""
        with self._lock:
            if not self._key_fields:
                return False
        remaining = self.key(key_hash)["limit_remaining"]
        return remaining is not None and remaining <= 0

    # Waiting

    def reset(self) -> None:
        """Empty ledger, cache, batches and scripts, restore the initial settings, and close the calls that wait."""
        self.latency, limits, faults, batches = self._initial_settings
        self.rate_limiter.set(limits)
        self.fault_sampler.set(faults)
        with self._lock:
            self.batches.clear()
            self.files.clear()
            self.batches.set(batches)
            self.ledger.clear()
            self.cache.clear()
            self._key_fields = {}
            self._steps.clear()
            self._batch_steps.clear()
            self._begin_epoch()

    def open(self) -> None:
        """Let calls wait."""
        with self._lock:
            self.closed = False
            self._begin_epoch()

    def close(self) -> None:
        """Close the calls that wait, and let no call wait; the records stay."""
        with self._lock:
            self.closed = True
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.epoch += 1
        for loop, event in self._waiters:
            loop.call_soon_threadsafe(event.set)

    async def pause(self, seconds: float | None, *, epoch: int, gone: asyncio.Task[None] | None = None) -> PauseEnd:
        """Wait until the time is over (``None``: never), until a reset, or until the client has gone."""
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
