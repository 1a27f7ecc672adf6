"""A response as a stream of events, which stops when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from starlette.responses import Response

from airflow_provider_responses.sandbox.http.stream_events import COMMENT, LAST_LINE, Event, response_events
from airflow_provider_responses.sandbox.http.wire import (
    ClosedConnection,
    close_connection,
    send_body,
    wait_for_disconnect,
)
from airflow_provider_responses.sandbox.state.script import Step

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from airflow_provider_responses.sandbox.http.response_body import ServedRequest
    from airflow_provider_responses.sandbox.model.generation import Generation
    from airflow_provider_responses.sandbox.state.sandbox_state import PauseEnd

StreamEnd = Literal["over", "closed", "gone"]


class Recorder(Protocol):
    """Waits for a stream, and records how it ends."""

    async def wait(
        self,
        seconds: float | None,
        keep_alive: Callable[[], Awaitable[None]],
        gone: asyncio.Task[None] | None = None,
    ) -> PauseEnd:
        """Wait; await ``keep_alive`` at intervals."""

    def record_end(self, *, delivered: bool) -> None:
        """Record a response that is whole."""

    def record_break(self, text: str, *, dropped: bool = False) -> None:
        """Record a response that ended early, after ``text``."""


class EventStreamResponse(Response):
    """
    All events of one response.

    :param recorder: ``None`` for a cached response, which is sent at once and is recorded before.
    """

    def __init__(
        self,
        served: ServedRequest,
        generation: Generation,
        final: dict[str, Any],
        *,
        headers: Mapping[str, str],
        step: Step | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(None, 200, headers, media_type="text/event-stream")
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-cache"
        self.generation = generation
        self.events = response_events(served, generation, final)
        self.step = step or Step()
        self.recorder = recorder
        self.sent_text = ""
        self.was_broken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        if self.recorder and self.step.drop:
            self.recorder.record_end(delivered=False)
            await ClosedConnection()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send_body(send, COMMENT)
        gone = asyncio.ensure_future(wait_for_disconnect(receive))
        try:
            end = await self._send_events(send, gone)
        finally:
            gone.cancel()
        if end == "closed":
            await close_connection(scope, receive)
        elif end == "over":
            await send_body(send, b"", more=False)

    async def _send_events(self, send: Send, gone: asyncio.Task[None]) -> StreamEnd:
        """Send events until they are over, the connection has to be closed, or the client has gone."""
        if end := await self._wait(self.step.delay, send, gone):
            return end
        for number, event in enumerate(self.events):
            # Lets the event loop notice that the client has gone; sending alone may not.
            await asyncio.sleep(0)
            if gone.done():
                return self._record_break("gone")
            is_broken = self._is_broken(event)
            if is_broken and not self.step.malformed:
                return await self._break_off(send, gone)
            if event.is_last:
                self._record_end()
            self.sent_text += event.text
            await send_body(send, event.encode(number, malformed=is_broken))
            if event.text and (end := await self._wait(self.step.chunk_delay, send, gone)):
                return end
        await send_body(send, LAST_LINE)
        return "over"

    def _is_broken(self, event: Event) -> bool:
        """Whether the step breaks the stream at this event: the one half way, or the last one."""
        if self.was_broken or not (self.step.truncate or self.step.cut or self.step.stall or self.step.malformed):
            return False
        is_half_way = not self.step.late and len(self.sent_text) >= self.generation.midpoint
        self.was_broken = event.is_last or is_half_way
        return self.was_broken

    async def _break_off(self, send: Send, gone: asyncio.Task[None]) -> StreamEnd:
        end = self._record_break("over" if self.step.truncate else "closed")
        if self.step.stall and self.recorder:
            await self.recorder.wait(None, lambda: send_body(send, COMMENT), gone)
        return end

    def _record_end(self) -> None:
        """Record the end before the last event is sent: a client that has the event finds it in the ledger."""
        if self.recorder is None:
            return
        if self.was_broken:
            self.recorder.record_break(self.generation.text)
        else:
            self.recorder.record_end(delivered=True)

    async def _wait(self, seconds: float | None, send: Send, gone: asyncio.Task[None]) -> StreamEnd | None:
        if not seconds or self.recorder is None:
            return None
        end = await self.recorder.wait(seconds, lambda: send_body(send, COMMENT), gone)
        return None if end == "over" else self._record_break("gone" if end == "gone" else "closed")

    def _record_break(self, end: StreamEnd) -> StreamEnd:
        if self.recorder:
            self.recorder.record_break(self.sent_text, dropped=end == "gone")
        return end
