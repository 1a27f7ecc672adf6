"""A simulated service, and the sender against it in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any, NamedTuple

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.budget import Budget
from airflow_provider_responses.enrich.index import PendingRequest
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.enrich.row_outcome import RowOutcome
from airflow_provider_responses.enrich.row_steps import RowSteps
from airflow_provider_responses.enrich.sender import ResendTurn, Sender
from airflow_provider_responses.exceptions import (
    APIError,
    ResponsesError,
    TransportError,
    error_class_for_status,
)
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich import virtual_time

CONFIG = ClientConfig(api_key="sk-test")


def response(
    cost: float | None = 0.001, *, tokens: int = 100, status: str = "completed", cached: bool = False
) -> Response:
    raw = {"id": "resp", "status": status, "model": "m", "usage": {"total_tokens": tokens, "cost": cost}}
    return Response(raw=raw, headers={"x-openrouter-cache-status": "HIT"} if cached else {})


def refused(response_: Response) -> Response:
    parts = [{"type": "refusal", "refusal": "no"}]
    response_.raw["output"] = [{"type": "message", "role": "assistant", "content": parts}]
    return response_


def status_error(status: int, **details: Any) -> APIError:
    kind, retryable = error_class_for_status(status)
    return kind(f"status {status}", status_code=status, retryable=retryable, **details)


def refused_connection() -> TransportError:
    return TransportError("connection refused", kind="connect")


def dropped() -> TransportError:
    return TransportError("the server hung up", kind="read", ambiguous=True)


class Silence(Enum):
    """The response of a server that hangs."""

    FOREVER = auto()


FOREVER = Silence.FOREVER
Said = Outcome | ResponsesError | Silence | None


class Send(NamedTuple):
    """A send: the row, the number of its sends so far (from 1), and the time."""

    number: int
    nth: int
    now: float


@dataclass
class Service:
    """
    Responds after a while.

    :param say: returns the reaction to a request: None for a plain response, an error to raise, ``FOREVER`` to hang.
    :param latency: seconds, or a function that draws them.
    :param refusal: seconds that an error takes; by default the same.
    """

    say: Callable[[Send], Said] = lambda _: None
    latency: float | Callable[[], float] = 0.5
    refusal: float | None = None
    sends: list[tuple[float, int]] = field(default_factory=list)  # time and row
    sends_of: Counter[int] = field(default_factory=Counter)
    responded: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    most: int = 0
    quiet_until: dict[int, float] = field(default_factory=dict)  # by row: the end of its `Retry-After`
    too_early: list[float] = field(default_factory=list)

    async def send(self, pending: PendingRequest, _: ResendTurn) -> Outcome:
        now, number = asyncio.get_running_loop().time(), pending.first_row
        if now < self.quiet_until.get(number, 0.0) - 1e-6:
            self.too_early.append(now)
        self.sends.append((now, number))
        self.sends_of[number] += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        said = self.say(Send(number, self.sends_of[number], now))
        taken = self.latency() if callable(self.latency) else self.latency
        if isinstance(said, ResponsesError) and self.refusal is not None:
            taken = self.refusal
        try:
            await (asyncio.Event().wait() if said is FOREVER else asyncio.sleep(taken))
        finally:
            self.in_flight -= 1
        if isinstance(said, ResponsesError):
            if said.retry_after is not None:
                self.quiet_until[number] = asyncio.get_running_loop().time() + said.retry_after
            raise said
        self.responded[number] += 1
        return said if isinstance(said, Outcome) else Outcome(response=response(), value=f"response {number}")

    def sent_between(self, start: float, end: float) -> int:
        return sum(start < at < end for at, _ in self.sends)


class EmptyBacklog:
    """Of a store to which everything is written at once."""

    def is_full(self) -> bool:
        return False

    async def wait_for_room(self) -> None: ...


@dataclass
class Ended:
    """The end of a run of the sender."""

    stopped: BaseException | None
    sender: Sender
    outcomes: list[RowOutcome]
    seconds: float

    @property
    def statuses(self) -> dict[str, int]:
        return dict(Counter(outcome.status for outcome in self.outcomes))

    def of(self, number: int) -> RowOutcome:
        [outcome] = [outcome for outcome in self.outcomes if outcome.request.first_row == number]
        return outcome


def run(
    service: Service,
    rows: int,
    *,
    config: ClientConfig = CONFIG,
    spent: float = 0.0,
    on_outcome: Callable[[RowOutcome], None] | None = None,
    meanwhile: Callable[[Sender], Any] | None = None,
    models: Sequence[str] = (),
    initial_window: float | None = None,
    **limits: Any,
) -> Ended:
    """Send a number of rows in virtual time, to the models in turn."""
    outcomes: list[RowOutcome] = []
    fields = [json.dumps({"model": model, "input": "hello"}) for model in models] or ["{}" + " " * 38]
    left = [PendingRequest(number, b"%d" % number, 1, fields[number % len(fields)]) for number in range(rows)][::-1]

    async def main() -> Ended:
        loop, chance = asyncio.get_running_loop(), random.Random(1)  # noqa: S311  the same each time
        allowed, progress = Limits(**limits), Progress()
        steps = RowSteps(SimpleNamespace(escalate=(), judge=None, request=TaskRequest(fields={})))
        sender = Sender(
            send=service.send,
            read=lambda most: [left.pop() for _ in range(min(most, len(left)))],
            steps=steps,
            on_outcome=on_outcome or outcomes.append,
            limits=allowed,
            config=config,
            budget=Budget(allowed, progress, spent=spent),
            progress=progress,
            backlog=EmptyBacklog(),
            clock=loop.time,
            sleep=asyncio.sleep,
            draw=chance.random,
            initial_window=initial_window,
        )
        other = asyncio.ensure_future(meanwhile(sender)) if meanwhile else None
        stopped = await sender.run()
        if other is not None:
            await other
        assert service.in_flight == sender.progress.in_flight == 0
        return Ended(stopped, sender, outcomes, loop.time())

    return virtual_time.run(main())
