"""An answer as a stream of events, which stops when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from airflow_provider_responses.sandbox.events import COMMENT, LAST_LINE, Event, events
from airflow_provider_responses.sandbox.script import Step
from airflow_provider_responses.sandbox.wire import ClosedConnection, close_connection, send_body, until_gone

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from airflow_provider_responses.sandbox.answers import Draft
    from airflow_provider_responses.sandbox.results import Served


class Fate(Protocol):
    """What becomes of an answer when its stream ends."""

    async def wait(
        self, seconds: float | None, beat: Callable[[], Awaitable[None]], gone: asyncio.Task[None] | None = None
    ) -> str:
        """Wait; ``beat`` shows life now and then."""

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
    ) -> None:
        super().__init__(None, 200, headers, media_type="text/event-stream")
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-cache"
        self.draft = draft
        self.events = events(call, draft, final)
        self.step = step or Step()
        self.fate = fate
        self.generated = ""
        self.was_broken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        if self.fate and self.step.drop:
            self.fate.settle(delivered=False)
            await ClosedConnection()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send_body(send, COMMENT)
        gone = asyncio.ensure_future(until_gone(receive))
        try:
            ended = await self._send_events(send, gone)
        finally:
            gone.cancel()
        if ended == "closed":
            await close_connection(scope, receive)
        elif ended == "over":
            await send_body(send, b"", more=False)

    async def _send_events(self, send: Send, gone: asyncio.Task[None]) -> str:
        """Send events until they are over, the connection has to be ``closed``, or the client is ``gone``."""
        if ended := await self._wait(self.step.delay, send, gone):
            return ended
        for number, event in enumerate(self.events):
            # Lets the loop see that the client has gone; sending alone need not.
            await asyncio.sleep(0)
            if gone.done():
                return self._stopped("gone")
            is_broken = self._is_broken(event)
            if is_broken and not self.step.malformed:
                return await self._break_off(send, gone)
            if event.is_last:
                self._settle()
            self.generated += event.generated
            await send_body(send, event.encode(number, malformed=is_broken))
            if event.generated and (ended := await self._wait(self.step.chunk_delay, send, gone)):
                return ended
        await send_body(send, LAST_LINE)
        return "over"

    def _is_broken(self, event: Event) -> bool:
        """Whether this is the event at which the step breaks the stream: half way, or the last one."""
        if self.was_broken or not (self.step.truncate or self.step.cut or self.step.stall or self.step.malformed):
            return False
        half_way = not self.step.late and len(self.generated) >= self.draft.half_way
        self.was_broken = event.is_last or half_way
        return self.was_broken

    async def _break_off(self, send: Send, gone: asyncio.Task[None]) -> str:
        ended = self._stopped("over" if self.step.truncate else "closed")
        if self.step.stall and self.fate:
            await self.fate.wait(None, lambda: send_body(send, COMMENT), gone)
        return ended

    def _settle(self) -> None:
        """Record how the stream ends, before it does: who has the whole answer finds it in the ledger."""
        if self.fate is None:
            return
        if self.was_broken:
            self.fate.settle_broken(self.draft.generated)
        else:
            self.fate.settle(delivered=True)

    async def _wait(self, seconds: float | None, send: Send, gone: asyncio.Task[None]) -> str:
        if not seconds or self.fate is None:
            return ""
        ended = await self.fate.wait(seconds, lambda: send_body(send, COMMENT), gone)
        return "" if ended == "over" else self._stopped("gone" if ended == "gone" else "closed")

    def _stopped(self, ended: str) -> str:
        if self.fate:
            self.fate.settle_broken(self.generated, dropped=ended == "gone")
        return ended
