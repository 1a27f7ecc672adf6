"""Answers as bytes: JSON, a stream, half of either, or a closed connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

CLOSE: Final = "sandbox.close"


def json_bytes(content: Any) -> bytes:
    """Serialize; half a surrogate pair, which JSON can hold and UTF-8 cannot, is replaced."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Give a JSON answer."""
    return Response(json_bytes(content), status, headers, media_type="application/json")


class ClosedConnection(Response):
    """No answer: the connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  the protocol's
        """Close the connection."""
        await close_connection(scope, receive)


class HalfResponse(Response):
    """
    The first part of a body.

    :param length: how much of it, in bytes.
    :param ends: end cleanly; else the whole length is announced, and the connection closed after this part.
    :param stall: what happens between this part and that.
    """

    def __init__(
        self,
        whole: Response,
        length: int,
        *,
        ends: bool,
        stall: Callable[[Send, asyncio.Task[None]], Awaitable[None]] | None = None,
    ) -> None:
        half = bytes(whole.body[:length])
        super().__init__(half, whole.status_code, media_type=whole.media_type)
        self.ends = ends
        self.stall = stall
        announced = length if ends else len(whole.body)
        self.raw_headers = [pair for pair in whole.raw_headers if pair[0] != b"content-length"]
        self.raw_headers.append((b"content-length", str(announced).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send_body(send, bytes(self.body), more=not self.ends)
        if self.ends:
            return
        if self.stall:
            gone = asyncio.ensure_future(until_gone(receive))
            try:
                await self.stall(send, gone)
            finally:
                gone.cancel()
        await close_connection(scope, receive)


class InPieces(Response):
    """A response whose body is sent in pieces of so many bytes, wherever that cuts it."""

    def __init__(self, whole: Response, size: int) -> None:
        super().__init__(None, whole.status_code)
        self.whole = whole
        self.size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces."""

        async def send_pieces(message: Message) -> None:
            body = message.get("body", b"")
            while len(body) > self.size:
                await send({**message, "body": body[: self.size], "more_body": True})
                body = body[self.size :]
                await asyncio.sleep(0)
            await send({**message, "body": body} if "body" in message else message)

        await self.whole(scope, receive, send_pieces)


async def send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send a piece of a body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def close_connection(scope: Scope, receive: Receive) -> None:
    """Close the connection and wait until it is; what was sent before still arrives."""
    scope["extensions"][CLOSE]()
    await until_gone(receive)


async def until_gone(receive: Receive) -> None:
    """Wait until the client has gone."""
    left = False
    while not left:
        left = (await receive())["type"] == "http.disconnect"
