"""HTTP responses as bytes: JSON, the first part of a body, a body in pieces, or a closed connection."""

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
    """Serialize as JSON; half a surrogate pair, which JSON can hold and UTF-8 cannot, is replaced."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response."""
    return Response(json_bytes(content), status, headers, media_type="application/json")


class ClosedConnection(Response):
    """No response: the connection is closed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  the protocol's
        """Close the connection."""
        await close_connection(scope, receive)


class TruncatedResponse(Response):
    """
    The first part of a body.

    :param length: bytes of that part.
    :param ends_cleanly: announce the length of the part. Otherwise the length of the whole body is announced, and the
        connection is closed after the part.
    :param stall: is awaited between the part and the closing of the connection.
    """

    def __init__(
        self,
        response: Response,
        length: int,
        *,
        ends_cleanly: bool,
        stall: Callable[[Send, asyncio.Task[None]], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(bytes(response.body[:length]), response.status_code, media_type=response.media_type)
        self.ends_cleanly = ends_cleanly
        self.stall = stall
        announced = length if ends_cleanly else len(response.body)
        self.raw_headers = [pair for pair in response.raw_headers if pair[0] != b"content-length"]
        self.raw_headers.append((b"content-length", str(announced).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the part."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send_body(send, bytes(self.body), more=not self.ends_cleanly)
        if self.ends_cleanly:
            return
        if self.stall:
            gone = asyncio.ensure_future(wait_for_disconnect(receive))
            try:
                await self.stall(send, gone)
            finally:
                gone.cancel()
        await close_connection(scope, receive)


class SplitResponse(Response):
    """A response whose body is sent in pieces of ``size`` bytes, also in mid-character."""

    def __init__(self, response: Response, size: int) -> None:
        super().__init__(None, response.status_code)
        self.response = response
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

        await self.response(scope, receive, send_pieces)


async def send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send a piece of a body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def close_connection(scope: Scope, receive: Receive) -> None:
    """Close the connection and wait until it is closed; bytes that were sent before still arrive."""
    scope["extensions"][CLOSE]()
    await wait_for_disconnect(receive)


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client has disconnected."""
    disconnected = False
    while not disconnected:
        disconnected = (await receive())["type"] == "http.disconnect"
