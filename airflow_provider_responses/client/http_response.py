"""An HTTP response whose head has arrived, for both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from logging import getLogger
from typing import TYPE_CHECKING

import httpx

from airflow_provider_responses.client.framing import EVENT_STREAM
from airflow_provider_responses.client.network_errors import async_network_errors

if TYPE_CHECKING:
    import aiohttp

log = getLogger(__name__)


class HTTPResponse:
    """
    Status, headers and, once it is read, the body.

    :param wrapped: the response as httpx received it; its body is unread.
    """

    def __init__(self, wrapped: httpx.Response) -> None:
        self._wrapped = wrapped
        self.status = wrapped.status_code
        self.headers = _to_dict(wrapped.headers.raw)
        self.body = b""

    @property
    def wrapped(self) -> httpx.Response:
        """The same response as httpx's class."""
        return self._wrapped

    @property
    def is_success(self) -> bool:
        """Whether the status is 2XX."""
        return 200 <= self.status < 300

    @property
    def is_event_stream(self) -> bool:
        """Whether the content type is that of a stream; the body may be another one (see framing.py)."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() == EVENT_STREAM

    def read(self) -> None:
        """Read the body."""
        self.body = self.wrapped.read()

    def read_error_body(self) -> None:
        """Read the body of an error until it ends or breaks: the status shows the failure without it."""
        try:
            for piece in self.wrapped.iter_bytes():
                self.body += piece
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as error:
            self._log_broken_body(error)

    def close(self) -> None:
        """Release the connection, for the next call if the body was read to its end."""
        self.wrapped.close()

    async def aread(self) -> None:
        """Like :meth:`read`."""
        self.body = await self.wrapped.aread()

    async def aread_error_body(self) -> None:
        """Like :meth:`read_error_body`."""
        try:
            async for piece in self.wrapped.aiter_bytes():
                self.body += piece
        except (httpx.TimeoutException, TimeoutError):
            raise
        except async_network_errors() as error:
            self._log_broken_body(error)

    async def aclose(self) -> None:
        """Like :meth:`close`."""
        await self.wrapped.aclose()

    def _log_broken_body(self, error: Exception) -> None:
        log.debug("The body of a response with status %d broke off: %s", self.status, type(error).__name__)


class AiohttpResponse(HTTPResponse):
    """
    The same without httpx's objects, whose cost is half that of all of aiohttp's work.

    :param received: the response as aiohttp received it; its body is unread, and not decompressed.
    """

    def __init__(self, received: aiohttp.ClientResponse) -> None:
        self.received = received
        self.status = received.status
        self.headers = _to_dict(received.raw_headers)
        self.body = b""

    @cached_property
    def wrapped(self) -> httpx.Response:
        """The same response as httpx's class, for streams and compressed bodies."""
        return httpx.Response(self.status, headers=self.received.raw_headers, stream=_Chunks(self.received))

    async def aread(self) -> None:
        """Read the body."""
        if "content-encoding" in self.headers:
            await super().aread()
        else:
            self.body = await self.received.read()

    async def aclose(self) -> None:
        """Release the connection, for the next call if the body was read to its end."""
        self.received.release()
        await self.received.wait_for_close()


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, received: aiohttp.ClientResponse) -> None:
        self._received = received

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._received.content.iter_any():
            yield chunk


def _to_dict(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    # A plain dict: each look-up in httpx's headers searches all of them.
    return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in raw}
