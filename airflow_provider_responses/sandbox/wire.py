"""Answers as bytes: JSON, a stream, half of either, or a closed connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

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
    """The first half of a body; ``closes`` announces the whole, and then closes the connection."""

    def __init__(self, whole: Response, *, closes: bool) -> None:
        half = bytes(whole.body[: len(whole.body) // 2])
        super().__init__(half, whole.status_code, media_type=whole.media_type)
        self.closes = closes
        length = len(whole.body) if closes else len(half)
        self.raw_headers = [pair for pair in whole.raw_headers if pair[0] != b"content-length"]
        self.raw_headers.append((b"content-length", str(length).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": self.closes})
        if self.closes:
            await close_connection(scope, receive)


async def close_connection(scope: Scope, receive: Receive) -> None:
    """Close the connection and wait until it is; what was sent before still arrives."""
    scope["extensions"][CLOSE]()
    await until_gone(receive)


async def until_gone(receive: Receive) -> None:
    """Wait until the client has gone."""
    left = False
    while not left:
        left = (await receive())["type"] == "http.disconnect"
