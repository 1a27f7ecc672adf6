"""The delivery of a generation to the client: as JSON or as a stream, in full or broken by the step."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from airflow_provider_responses.sandbox.http.event_stream import EventStreamResponse
from airflow_provider_responses.sandbox.http.response_body import response_body
from airflow_provider_responses.sandbox.http.routing import routing_metadata
from airflow_provider_responses.sandbox.http.wire import (
    ClosedConnection,
    TruncatedResponse,
    json_response,
    send_body,
)
from airflow_provider_responses.sandbox.model.tokens import count_tokens
from airflow_provider_responses.sandbox.state.prices import Bill, make_bill
from airflow_provider_responses.sandbox.state.script import error_status

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from airflow_provider_responses.sandbox.http.call_handler import CallHandler
    from airflow_provider_responses.sandbox.http.response_body import ServedRequest
    from airflow_provider_responses.sandbox.model.generation import Generation
    from airflow_provider_responses.sandbox.state.ledger import Outcome
    from airflow_provider_responses.sandbox.state.response_cache import CacheKey
    from airflow_provider_responses.sandbox.state.sandbox_state import PauseEnd, SandboxState

WHITE_SPACE: Final = b" "


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One generation on its way to the client, and the records of how it arrived."""

    call: CallHandler
    served: ServedRequest
    generation: Generation
    input_tokens: int
    cache_key: CacheKey | None
    cache_ttl: int
    requested: str

    def bill(self, text: str) -> Bill:
        """Return the bill for the input and for the generated ``text``; a failed generation is free."""
        return bill_generation(self.served.model, self.generation, self.input_tokens, text)

    def body(self) -> dict[str, Any]:
        """Return the body of the whole response."""
        body = response_body(self.served, self.generation, self.bill(self.generation.text))
        if self.call.wants_metadata:
            failure = self.generation.failure
            status = error_status(failure.error_type) if failure else 200
            body["openrouter_metadata"] = routing_metadata(self.requested, self.served.model, status=status)
        return body

    def headers(self) -> dict[str, str]:
        """Return the response's headers, with those of the response cache."""
        headers = self.call.headers()
        if self.cache_key is not None:
            headers |= {"X-OpenRouter-Cache-Status": "MISS", "X-OpenRouter-Cache-TTL": str(self.cache_ttl)}
        return headers

    async def json(self) -> Response:
        """Return the response as one JSON body."""
        if self.call.step.keep_alive:
            return PaddedResponse(self)
        return await self.json_after(await self.call.delay())

    async def json_after(self, pause_end: PauseEnd) -> Response:
        """Return the response as one JSON body, now that the wait for it has ended."""
        step = self.call.step
        if pause_end == "reset":
            self.state.close_entry(self.call.entry, "broken", delivered=False)
            return ClosedConnection()
        delivered = not await self.call.request.is_disconnected()
        response = json_response(self.body(), headers=self.headers())
        if step.drop:
            self.record_end(delivered=False)
            return ClosedConnection()
        if step.truncate or step.cut or step.stall:
            self.record_break(self.generation.text)
            length = len(response.body) - 1 if step.late else len(response.body) // 2
            stall = self.stall if step.stall else None
            return TruncatedResponse(response, length, ends_cleanly=bool(step.truncate), stall=stall)
        if step.malformed:
            self.record_break(self.generation.text)
            return Response(_malformed(response.body), headers=self.headers(), media_type=response.media_type)
        self.record_end(delivered=delivered)
        return response

    async def stall(self, send: Send, gone: asyncio.Task[None]) -> None:
        """Send nothing until the client has gone, apart from white space if the step has ``keep_alive``."""
        await self.wait(None, lambda: send_body(send, WHITE_SPACE), gone)

    async def wait(
        self,
        seconds: float | None,
        keep_alive: Callable[[], Awaitable[None]],
        gone: asyncio.Task[None] | None = None,
    ) -> PauseEnd:
        """Wait as ``SandboxState.pause`` does; await ``keep_alive`` as often as the step requires."""
        left = math.inf if seconds is None else seconds
        interval = self.call.step.keep_alive or math.inf
        end: PauseEnd = "over"
        while left > 0 and end == "over":
            nap = min(left, interval)
            end = await self.state.pause(None if nap == math.inf else nap, epoch=self.call.epoch, gone=gone)
            left -= nap
            if left > 0 and end == "over":
                await keep_alive()
        return end

    def event_stream(self) -> Response:
        """Return the response as a stream of events."""
        call = self.call
        step = call.step.model_copy(update={"delay": call.latency})
        return EventStreamResponse(
            self.served, self.generation, self.body(), headers=self.headers(), step=step, recorder=self
        )

    @property
    def state(self) -> SandboxState:
        """The sandbox's state."""
        return self.call.state

    def record_end(self, *, delivered: bool) -> None:
        """Record a response that is whole, bill it, and cache it if the request has enabled that."""
        if self.cache_key is not None and self.generation.status == "completed":
            self.state.cache_generation(
                self.cache_key,
                self.generation,
                model=self.served.model,
                generation_id=self.served.generation_id,
                ttl=self.cache_ttl,
                epoch=self.call.epoch,
            )
        failed = self.generation.status == "failed"
        self.state.close_entry(
            self.call.entry,
            "error" if failed else "generated",
            None if failed else self.bill(self.generation.text),
            status=200,
            delivered=delivered,
        )

    def record_break(self, text: str, *, dropped: bool = False) -> None:
        """Record a response that ended early, and bill the ``text`` that was generated until then."""
        bill = self.bill(text) if text else None
        outcome: Outcome = "dropped" if dropped else "broken"
        self.state.close_entry(self.call.entry, outcome, bill, status=200, delivered=False)


def bill_generation(model: str, generation: Generation, input_tokens: int, text: str) -> Bill:
    """Return the bill for the input and for the ``text`` of a generation; a failed one is free."""
    if generation.status == "failed":
        return Bill(input_tokens)
    reasoning = len(generation.reasoning)
    reasoning_tokens = count_tokens(text[:reasoning])
    output_tokens = reasoning_tokens + count_tokens(text[reasoning:])
    return make_bill(model, input_tokens, output_tokens, reasoning_tokens)


class PaddedResponse(Response):
    """A JSON body after white space, which is sent while the client waits."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(None, 200, delivery.headers(), media_type="application/json")
        del self.headers["content-length"]
        self.delivery = delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send white space, and then the body."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def send_rest(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        pause_end = await self.delivery.wait(self.delivery.call.latency, lambda: send_body(send, WHITE_SPACE))
        response = await self.delivery.json_after(pause_end)
        await response(scope, receive, send_rest)


def _malformed(body: bytes | memoryview) -> bytes:
    return bytes(body).replace(b'":', b'"', 1)
