"""
Distinguishes JSON from a stream by the first bytes of a body, and splits a stream into its events. No I/O.

Content types are not reliable: some streams have none or ``application/json``, and some JSON is labelled as a stream.
httpx-sse parses the events.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Final

import httpx
from httpx_sse import EventSource, ServerSentEvent

from airflow_provider_responses.client.bodies import parse_json

DONE: Final = "[DONE]"
EVENT_STREAM: Final = "text/event-stream"
BLANK: Final = b" \t\r\n\xef\xbb\xbf"  # a byte order mark may come first as well
FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_STREAM: Final = re.compile(rb"[ \t\r\n\xef\xbb\xbf]*(?:data|event|id|retry)?:")
# Completes the last event of a body that does not end with a blank line.
_LAST_LINES: Final = b"\n\n"


def is_stream(body: bytes) -> bool:
    """Whether a whole body is a stream of events, whatever its content type."""
    return _STREAM.match(body) is not None


class Beginning:
    """
    The first bytes of a body, until they show whether it is a stream or JSON.

    :param labelled: whether its content type is that of a stream, which counts if the bytes do not decide.
    """

    def __init__(self, *, labelled: bool) -> None:
        self.is_json = False
        self._labelled = labelled
        self._pieces: list[bytes] = []

    @property
    def data(self) -> bytes:
        """The bytes so far, without blanks at the beginning."""
        return b"".join(self._pieces).lstrip(BLANK)

    def add(self, piece: bytes) -> bool:
        """Add bytes; return whether all bytes so far decide."""
        if not self._pieces and not piece.strip(BLANK):  # servers send blanks to keep connections alive
            return False
        self._pieces.append(piece)
        data = self.data
        if any(name.startswith(data) for name in FIELDS) and data not in FIELDS:
            return False
        if not any(data.startswith(name) for name in FIELDS):
            self.is_json = data.startswith(b"{") or not self._labelled
        return True


def events(begin: bytes, rest: Iterator[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the events of a body, also a last one without a blank line after it."""
    for event in EventSource(_as_stream(_Pieces(begin, rest))).iter_sse():
        if "\n" in event.data:
            yield from _split(event)
        else:
            yield event


async def aevents(begin: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[ServerSentEvent, None]:
    """Like :func:`events`."""
    async with aclosing(EventSource(_as_stream(_AsyncPieces(begin, rest))).aiter_sse()) as source:
        async for event in source:
            if "\n" in event.data:
                for one in _split(event):
                    yield one
            else:
                yield event


def _split(event: ServerSentEvent) -> list[ServerSentEvent]:
    """Return the events that were parsed as one, since the server sent no blank lines between them."""
    if isinstance(parse_json(event.data), dict):  # one object over several lines
        return [event]
    lines = [line for line in event.data.split("\n") if line.strip()]
    if not lines or not all(line.strip() == DONE or isinstance(parse_json(line), dict) for line in lines):
        return [event]
    return [ServerSentEvent(data=line) for line in lines[:-1]] + [ServerSentEvent(event.event, lines[-1])]


def _as_stream(pieces: httpx.SyncByteStream | httpx.AsyncByteStream) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": EVENT_STREAM}, stream=pieces)


class _Pieces(httpx.SyncByteStream):
    def __init__(self, begin: bytes, rest: Iterator[bytes]) -> None:
        self._begin, self._rest = begin, rest

    def __iter__(self) -> Iterator[bytes]:
        yield self._begin
        yield from self._rest
        yield _LAST_LINES


class _AsyncPieces(httpx.AsyncByteStream):
    def __init__(self, begin: bytes, rest: AsyncIterator[bytes]) -> None:
        self._begin, self._rest = begin, rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._begin
        async for piece in self._rest:
            yield piece
        yield _LAST_LINES
