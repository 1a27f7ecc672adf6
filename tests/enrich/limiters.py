"""Simulated services that refuse some requests, and the throttle against one of them. The time is a number."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.throttle import Throttle

LATENCY, REFUSAL = 0.5, 0.005  # seconds
RETRY_AFTER = 1.0
OK, BUSY, FAILED = "ok", "busy", "failed"


class Simulated(Protocol):
    def say(self, now: float, model: str) -> str: ...

    def again(self) -> Self: ...


class Bucket:
    """A rate per second, with bursts."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self.left, self.at = burst, 0.0

    def say(self, now: float, _: str) -> str:
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return BUSY
        self.left -= 1
        return OK

    def again(self) -> Bucket:
        return Bucket(self.rate, self.burst)


class SlidingWindow:
    """A number of requests in any second."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.log: list[float] = []

    def say(self, now: float, _: str) -> str:
        while self.log and self.log[0] <= now - 1:
            self.log.pop(0)
        if len(self.log) >= self.rate:
            return BUSY
        self.log.append(now)
        return OK

    def again(self) -> SlidingWindow:
        return SlidingWindow(self.rate)


class FixedWindow:
    """A number of requests in each second of the clock."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.counts: Counter[int] = Counter()

    def say(self, now: float, _: str) -> str:
        self.counts[int(now)] += 1
        return OK if self.counts[int(now)] <= self.rate else BUSY

    def again(self) -> FixedWindow:
        return FixedWindow(self.rate)


class Random:
    """
    Refuses and fails at random.

    :param models: those that it does so for; by default all.
    """

    def __init__(self, *, refused: float = 0.0, failed: float = 0.0, models: Collection[str] = ()) -> None:
        self.refused, self.failed, self.models = refused, failed, models
        self.chance = random.Random(1)  # noqa: S311  the same each time

    def say(self, _: float, model: str) -> str:
        if self.models and model not in self.models:
            return OK
        draw = self.chance.random()
        return BUSY if draw < self.refused else FAILED if draw < self.refused + self.failed else OK

    def again(self) -> Random:
        return Random(refused=self.refused, failed=self.failed, models=self.models)


@dataclass
class Found:
    """The figures of a simulation."""

    throttle: Throttle
    rows: int
    sends: int = 0
    seconds: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    last: dict[str, float] = field(default_factory=dict)  # by model, the time of its last response

    @property
    def rate(self) -> float:
        return self.rows / self.seconds

    def rate_of(self, model: str) -> float:
        return self.done[model] / self.last[model]


def simulate(service: Simulated, rows: int, *, concurrency: int, models: Sequence[str] = ("",)) -> Found:
    """Send rows as the sender does, to the models in turn; refusals come at once."""
    found = Found(Throttle(Limits(concurrency=concurrency)), rows)
    throttle, chance, ties = found.throttle, random.Random(2), itertools.count()  # noqa: S311
    waiting: dict[str, list[str]] = {model: [model] * (rows // len(models)) for model in models}
    events: list[tuple[float, int, str, Any]] = []  # time, tie-breaker, event, and the ticket or the model
    now = 0.0
    while found.done.total() < rows:
        progress = True
        while progress and not throttle.delay(now):
            progress = False
            for model in models:
                if waiting[model] and throttle.has_room(now) and throttle.may_send(now, model):
                    waiting[model].pop()
                    found.sends += 1
                    said = service.say(now, model)
                    taken = REFUSAL if said != OK else LATENCY * chance.uniform(0.9, 1.1)
                    ticket = throttle.note_send(now, 40, model)
                    heapq.heappush(events, (now + taken, next(ties), said, (ticket, model)))
                    progress = True
        change = throttle.next_change(now)
        if not events or change < events[0][0]:
            now = change
            continue
        now, _, said, (ticket, model) = heapq.heappop(events)
        if ticket is None:
            waiting[model].append(model)
            continue
        throttle.note_end(ticket, now)
        wait = RETRY_AFTER
        if said == OK:
            throttle.note_response(ticket, now, None)
            found.done[model] += 1
            found.last[model] = found.seconds = now
            continue
        if said == FAILED:
            throttle.note_failure(ticket, now)
            wait = chance.uniform(0, 0.5)
        elif throttle.note_busy(ticket, now, RETRY_AFTER):
            throttle.hold(now + RETRY_AFTER, model)
        heapq.heappush(events, (now + wait, next(ties), "", (None, model)))
    return found
