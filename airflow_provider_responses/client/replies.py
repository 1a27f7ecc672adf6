"""An answer of the server whose head has arrived, as both clients read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import httpx

from airflow_provider_responses.client.framing import EVENT_STREAM

if TYPE_CHECKING:
    import aiohttp


class Reply:
    """
    Status, headers and, once it is read, the body.

    :param http: what httpx received; its body is unread.
    """

    def __init__(self, http: httpx.Response) -> None:
        self._http = http
        self.status = http.status_code
        self.head = _head(http.headers.raw)
        self.body = b""

    @property
    def http(self) -> httpx.Response:
        """The same as httpx's."""
        return self._http

    @property
    def is_success(self) -> bool:
        """Whether the status is a good one."""
        return 200 <= self.status < 300

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is a stream by its content type, which need not be true (see framing.py)."""
        return self.head.get("content-type", "").partition(";")[0].strip().lower() == EVENT_STREAM

    def read(self) -> None:
        """Take the body in."""
        self.body = self.http.read()

    def close(self) -> None:
        """Let go of the connection: for the next call if the body was read to its end."""
        self.http.close()

    async def aread(self) -> None:
        """Like :meth:`read`."""
        self.body = await self.http.aread()

    async def aclose(self) -> None:
        """Like :meth:`close`."""
        await self.http.aclose()


class AiohttpReply(Reply):
    """
    The same without httpx, whose request and response cost half as much as all that aiohttp does.

    :param received: what aiohttp received; its body is unread, and not decompressed.
    """

    def __init__(self, received: aiohttp.ClientResponse) -> None:
        self.received = received
        self.status = received.status
        self.head = _head(received.raw_headers)
        self.body = b""

    @cached_property
    def http(self) -> httpx.Response:
        """The same as httpx's, for streams and compressed bodies."""
        return httpx.Response(self.status, headers=self.received.raw_headers, stream=_Chunks(self.received))

    async def aread(self) -> None:
        """Take the body in."""
        if "content-encoding" in self.head:
            await super().aread()
        else:
            self.body = await self.received.read()

    async def aclose(self) -> None:
        """Let go of the connection: for the next call if the body was read to its end."""
        self.received.release()
        await self.received.wait_for_close()


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, received: aiohttp.ClientResponse) -> None:
        self._received = received

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._received.content.iter_any():
            yield chunk


def _head(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    # A plain dict: httpx's own headers look at all of them for each look-up.
    return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in raw}
