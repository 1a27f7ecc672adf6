"""An answer as a stream of events, which stops when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from airflow_provider_responses.sandbox.events import FIRST_LINE, LAST_LINE, Event, events
from airflow_provider_responses.sandbox.script import Step
from airflow_provider_responses.sandbox.wire import ClosedConnection, close_connection, until_gone

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from airflow_provider_responses.sandbox.answers import Draft
    from airflow_provider_responses.sandbox.results import Served
    from airflow_provider_responses.sandbox.state import State


class Fate(Protocol):
    """What becomes of an answer when its stream ends."""

    @property
    def state(self) -> State:
        """What outlives the call."""

    def settle(self, *, delivered: bool) -> None:
        """Record a finished answer."""

    def settle_broken(self, generated: str, *, dropped: bool = False) -> None:
        """Record an answer that ended early."""


class StreamResponse(Response):
    """
    All events of one answer.

    :param fate: told how the stream ends; ``None`` for a kept answer, which comes at once and is recorded already.
    """

    def __init__(
        self,
        call: Served,
        draft: Draft,
        final: dict[str, Any],
        *,
        headers: Mapping[str, str],
        step: Step | None = None,
        fate: Fate | None = None,
        epoch: int = 0,
    ) -> None:
        super().__init__(None, 200, headers, media_type="text/event-stream")
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-cache"
        self.draft = draft
        self.events = events(call, draft, final)
        self.step = step or Step()
        self.fate = fate
        self.epoch = epoch
        self.generated = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        if self.fate and self.step.drop:
            self.fate.settle(delivered=False)
            await ClosedConnection()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _send(send, FIRST_LINE)
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            ended = await self._send_events(send, gone)
        finally:
            gone.cancel()
        if ended == "closed":
            await close_connection(scope, receive)
        elif ended == "over":
            await _send(send, b"", more=False)

    async def _send_events(self, send: Send, gone: asyncio.Task[None]) -> str:
        """Send events until they are over, the connection has to be ``closed``, or the client is ``gone``."""
        if ended := await self._pause(self.step.delay, gone):
            return ended
        for number, event in enumerate(self.events):
            # Lets the loop see that the client has gone; sending alone need not.
            await asyncio.sleep(0)
            if gone.done():
                return self._stopped("gone")
            if self._is_half_way():
                return self._stopped("closed" if self.step.cut else "over")
            if self.fate and _is_last(event):
                # Before it is sent: who has the whole answer finds it in the ledger.
                self.fate.settle(delivered=True)
            self.generated += event.generated
            await _send(send, event.encode(number))
            if event.generated and (ended := await self._pause(self.step.chunk_delay, gone)):
                return ended
        await _send(send, LAST_LINE)
        return "over"

    def _is_half_way(self) -> bool:
        if not (self.step.truncate or self.step.cut):
            return False
        return len(self.generated) >= max(1, len(self.draft.content) // 2)

    async def _pause(self, seconds: float | None, gone: asyncio.Task[None]) -> str:
        if not seconds or self.fate is None:
            return ""
        ended = await self.fate.state.pause(seconds, epoch=self.epoch, gone=gone)
        return "" if ended == "over" else self._stopped("gone" if ended == "gone" else "closed")

    def _stopped(self, ended: str) -> str:
        if self.fate:
            self.fate.settle_broken(self.generated, dropped=ended == "gone")
        return ended


def _is_last(event: Event) -> bool:
    return event.data["type"] in {"response.completed", "response.incomplete", "response.failed"}


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
