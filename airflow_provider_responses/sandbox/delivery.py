"""An answer that is made, and how it reaches the client or does not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from airflow_provider_responses.sandbox.prices import Bill, bill, count_tokens
from airflow_provider_responses.sandbox.results import result
from airflow_provider_responses.sandbox.routing import routing_metadata
from airflow_provider_responses.sandbox.script import error_status
from airflow_provider_responses.sandbox.stream import StreamResponse
from airflow_provider_responses.sandbox.wire import (
    ClosedConnection,
    HalfResponse,
    json_response,
    send_body,
)

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from airflow_provider_responses.sandbox.answers import Draft
    from airflow_provider_responses.sandbox.calls import Call
    from airflow_provider_responses.sandbox.results import Served
    from airflow_provider_responses.sandbox.state import CacheKey, Outcome, State

WHITE_SPACE: Final = b" "


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that is made, and what becomes of it."""

    call: Call
    served: Served
    draft: Draft
    input_tokens: int
    cache_key: CacheKey | None
    cache_ttl: int
    requested: str

    def bill(self, generated: str) -> Bill:
        """Price the input and what was generated; a failure costs nothing."""
        if self.draft.status == "failed":
            return Bill(self.input_tokens)
        thought = len(self.draft.reasoning)
        reasoning_tokens = count_tokens(generated[:thought])
        tokens = reasoning_tokens + count_tokens(generated[thought:])
        return bill(self.served.model, self.input_tokens, tokens, reasoning_tokens)

    def body(self) -> dict[str, Any]:
        """Give the finished body."""
        body = result(self.served, self.draft, self.bill(self.draft.generated))
        if self.call.wants_metadata:
            status = error_status(self.draft.error_type) if self.draft.status == "failed" else 200
            body["openrouter_metadata"] = routing_metadata(self.requested, self.served.model, status=status)
        return body

    def headers(self) -> dict[str, str]:
        """Give the headers, with what the response cache did."""
        headers = self.call.headers()
        if self.cache_key is not None:
            headers |= {"X-OpenRouter-Cache-Status": "MISS", "X-OpenRouter-Cache-TTL": str(self.cache_ttl)}
        return headers

    async def whole(self) -> Response:
        """Give the answer as one body."""
        if self.call.step.keep_alive:
            return PaddedResponse(self)
        return await self.after(await self.call.delay())

    async def after(self, waited: str) -> Response:
        """Give the answer as one body, now that the wait for it has ended somehow."""
        step = self.call.step
        if waited == "reset":
            self.state.settle(self.call.entry, "broken", delivered=False)
            return ClosedConnection()
        delivered = not await self.call.request.is_disconnected()
        response = json_response(self.body(), headers=self.headers())
        if step.drop:
            self.settle(delivered=False)
            return ClosedConnection()
        if step.truncate or step.cut or step.stall:
            self.settle_broken(self.draft.generated)
            length = len(response.body) - 1 if step.late else len(response.body) // 2
            stall = self.stall if step.stall else None
            return HalfResponse(response, length, ends=bool(step.truncate), stall=stall)
        if step.malformed:
            self.settle_broken(self.draft.generated)
            return Response(_malformed(response.body), headers=self.headers(), media_type=response.media_type)
        self.settle(delivered=delivered)
        return response

    async def stall(self, send: Send, gone: asyncio.Task[None]) -> None:
        """Say nothing more, apart from white space if the step says so."""
        await self.wait(None, lambda: send_body(send, WHITE_SPACE), gone)

    async def wait(
        self, seconds: float | None, beat: Callable[[], Awaitable[None]], gone: asyncio.Task[None] | None = None
    ) -> str:
        """Wait as ``State.pause`` does; ``beat`` now and then shows life, if the step says so."""
        left = math.inf if seconds is None else seconds
        every = self.call.step.keep_alive or math.inf
        ended = "over"
        while left > 0 and ended == "over":
            nap = min(left, every)
            ended = await self.state.pause(None if nap == math.inf else nap, epoch=self.call.epoch, gone=gone)
            left -= nap
            if left > 0 and ended == "over":
                await beat()
        return ended

    def streamed(self) -> Response:
        """Give the answer as a stream."""
        call = self.call
        step = call.step.model_copy(update={"delay": call.latency})
        return StreamResponse(self.served, self.draft, self.body(), headers=self.headers(), step=step, fate=self)

    @property
    def state(self) -> State:
        """What outlives the call."""
        return self.call.state

    def settle(self, *, delivered: bool) -> None:
        """Record a finished answer, bill it, and keep it if that was asked for."""
        failed = self.draft.status == "failed"
        if self.cache_key is not None and self.draft.status == "completed":
            kept = (replace(self.draft), self.served.model)
            self.state.keep(
                self.cache_key,
                kept,
                self.served.generation_id,
                ttl=self.cache_ttl,
                epoch=self.call.epoch,
            )
        self.state.settle(
            self.call.entry,
            "error" if failed else "answered",
            None if failed else self.bill(self.draft.generated),
            status=200,
            delivered=delivered,
        )

    def settle_broken(self, generated: str, *, dropped: bool = False) -> None:
        """Record an answer that ended early, and bill what was generated until then."""
        billed = self.bill(generated) if generated else None
        outcome: Outcome = "dropped" if dropped else "broken"
        self.state.settle(self.call.entry, outcome, billed, status=200, delivered=False)


class PaddedResponse(Response):
    """A body before which white space is sent while it is made."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(None, 200, answer.headers(), media_type="application/json")
        del self.headers["content-length"]
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send white space, and then what there is."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def send_rest(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        waited = await self.answer.wait(self.answer.call.latency, lambda: send_body(send, WHITE_SPACE))
        rest = await self.answer.after(waited)
        await rest(scope, receive, send_rest)


def _malformed(body: bytes | memoryview) -> bytes:
    return bytes(body).replace(b'":', b'"', 1)
