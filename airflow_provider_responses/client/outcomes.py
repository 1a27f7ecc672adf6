"""
What comes of an async call: a response, or one of this package's errors.

Large bodies and events are parsed in a thread, so that the other calls of an event loop go on.
"""

from __future__ import annotations

import asyncio
from logging import getLogger
from typing import Final

import httpx
from httpx_sse import ServerSentEvent

from airflow_provider_responses.client import transport
from airflow_provider_responses.client.calls import Call, whole
from airflow_provider_responses.client.replies import Reply
from airflow_provider_responses.client.sse import StreamReader
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.events import StreamEvent
from airflow_provider_responses.models.response import Response

log = getLogger(__name__)

LARGE: Final = 1024 * 1024  # bytes of a body, characters of an event; an image is that large


async def read_whole(reply: Reply, call: Call) -> Response:
    """Read a response whose body has arrived."""
    return await asyncio.to_thread(whole, reply, call) if len(reply.body) > LARGE else whole(reply, call)


def read_reason(reply: Reply) -> None:
    """Take in the body of an error as far as it comes: the status has arrived, and says what failed."""
    try:
        for piece in reply.http.iter_bytes():
            reply.body += piece
    except httpx.TimeoutException:
        raise
    except httpx.HTTPError as error:
        log.debug("The body of a status %d broke off: %s", reply.status, type(error).__name__)


async def aread_reason(reply: Reply) -> None:
    """Like :func:`read_reason`."""
    try:
        async for piece in reply.http.aiter_bytes():
            reply.body += piece
    except (httpx.TimeoutException, TimeoutError):
        raise
    except transport.network_errors() as error:
        log.debug("The body of a status %d broke off: %s", reply.status, type(error).__name__)


async def read_event(reader: StreamReader, sse: ServerSentEvent) -> StreamEvent | None:
    """Read one event of a stream."""
    if len(sse.data) > LARGE:
        return await asyncio.to_thread(reader.read, sse.data, sse.event)
    return reader.read(sse.data, sse.event)


def failures() -> tuple[type[Exception], ...]:
    """Return what an async call raises."""
    return ResponsesError, TimeoutError, *transport.network_errors()


def to_failure(error: Exception, call: Call) -> ResponsesError:
    """Return an exception as this package's error."""
    if isinstance(error, ResponsesError):
        return error
    if isinstance(error, transport.network_errors()):  # before the deadline's: some of aiohttp's are TimeoutErrors too
        return transport.to_transport_error(error, what=call.what)
    return call.deadline_error()
