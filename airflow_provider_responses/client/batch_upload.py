"""
The body of a batch as it is sent: in pieces, while the requests are read.

The first megabyte is prepared before anything is sent. A smaller batch is so checked as a whole, and can be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from typing import Any, Final

from airflow_provider_responses.client.batch_body import BodyOfBatch
from airflow_provider_responses.models.batch import BatchRequest, PreparedBatchRequest
from airflow_provider_responses.validation import wrong_value

PIECE_BYTES: Final = 64 * 1024
FIRST_BYTES: Final = 1024 * 1024

Item = BatchRequest | PreparedBatchRequest | Mapping[str, Any]
Requests = Iterable[Item] | Callable[[], Iterable[Item]]
AsyncRequests = Requests | AsyncIterable[Item] | Callable[[], AsyncIterable[Item]]


class _Upload:
    """
    The parts of both flavours.

    :param requests: an iterable, or a function that returns one, which can be called again.
    :param make_body: returns an empty body.
    """

    def __init__(self, requests: Any, make_body: Callable[[], BodyOfBatch]) -> None:
        self._requests = requests
        self._make_body = make_body
        self._whole: bytes | None = None
        self._first: bytes | None = None
        self.failure: Exception | None = None  # raised by the requests or by their checks, while the body was sent
        self.began = False

    @property
    def can_repeat(self) -> bool:
        """Whether the same body can be sent again."""
        return self._whole is not None or isinstance(self._requests, Sequence) or not self._is_iterable

    @property
    def _is_iterable(self) -> bool:
        return isinstance(self._requests, (Iterable, AsyncIterable))

    def _open_requests(self) -> Any:
        if self._is_iterable:
            return self._requests
        if not callable(self._requests):
            raise wrong_value("requests", "an iterable or a function that returns one", self._requests, type_only=True)
        return self._requests()


class Upload(_Upload):
    """The body of a blocking submit."""

    def begin(self) -> None:
        """
        Prepare the first megabyte of the body.

        :raises RequestValidationError: naming the request and the field.
        """
        self._pieces = self._read_pieces()
        first = bytearray()
        for piece in self._pieces:
            first += piece
            if len(first) >= FIRST_BYTES:
                break
        else:
            self._whole = bytes(first)
        self._first = bytes(first)

    def open(self, check: Callable[[], None]) -> bytes | Iterable[bytes]:
        """
        Return the body of one send.

        :param check: raises an error to abort the upload.
        """
        if self._whole is not None:
            return self._whole
        if self._first is None:
            self.begin()
        first, self._first = self._first or b"", None
        self.failure = None
        return self._guarded(first, check)

    def close(self) -> None:
        """Close the iterator of the requests."""
        self._pieces.close()

    def _guarded(self, first: bytes, check: Callable[[], None]) -> Iterable[bytes]:
        try:
            self.began = True
            yield first
            for piece in self._pieces:
                check()
                yield piece
        except Exception as error:
            self.failure = error
            raise

    def _read_pieces(self) -> Generator[bytes]:
        body = self._make_body()
        buffer = bytearray(body.begin())
        for item in self._open_requests():
            buffer += body.add(item)
            if len(buffer) >= PIECE_BYTES:
                yield bytes(buffer)
                buffer.clear()
        yield bytes(buffer) + body.end()


class AsyncUpload(_Upload):
    """The body of an async submit."""

    async def begin(self) -> None:
        """Like :meth:`Upload.begin`."""
        self._pieces = self._read_pieces()
        first = bytearray()
        async for piece in self._pieces:
            first += piece
            if len(first) >= FIRST_BYTES:
                break
        else:
            self._whole = bytes(first)
        self._first = bytes(first)

    async def open(self) -> bytes | AsyncIterable[bytes]:
        """Like :meth:`Upload.open`; cancelling the call aborts the upload."""
        if self._whole is not None:
            return self._whole
        if self._first is None:
            await self.begin()
        first, self._first = self._first or b"", None
        self.failure = None
        return self._guarded(first)

    async def aclose(self) -> None:
        """Close the iterator of the requests."""
        with contextlib.suppress(RuntimeError):  # aiohttp has not yet left it
            await self._pieces.aclose()

    async def _guarded(self, first: bytes) -> AsyncIterator[bytes]:
        try:
            self.began = True
            yield first
            async for piece in self._pieces:
                yield piece
        except Exception as error:
            self.failure = error
            raise

    async def _read_pieces(self) -> AsyncGenerator[bytes]:
        body = self._make_body()
        buffer = bytearray(body.begin())
        async with aclosing(_as_async(self._open_requests())) as items:
            async for item in items:
                buffer += body.add(item)
                if len(buffer) >= PIECE_BYTES:
                    yield bytes(buffer)
                    buffer.clear()
                    await asyncio.sleep(0)  # other calls of the event loop continue
        yield bytes(buffer) + body.end()


async def _as_async(items: Any) -> AsyncGenerator[Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
