"""The body of a request with files: it is encoded while it is sent, and can be sent any number of times. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.file_content import Content
from airflow_provider_responses.models.request import ResponsesRequest


class StreamedBody:
    """
    A body in pieces: bytes of JSON, and contents of files between them.

    :param pieces: in their order.
    """

    def __init__(self, pieces: Sequence[bytes | Content]) -> None:
        self._pieces = pieces
        self.length = sum(len(piece) if isinstance(piece, bytes) else piece.length for piece in pieces)

    def __repr__(self) -> str:
        return f"StreamedBody({self.length} bytes)"

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from piece.chunks()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Read and encode in a thread, so that other calls of the event loop continue."""
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            chunks = piece.chunks()
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield chunk


def body_of(request: ResponsesRequest) -> bytes | StreamedBody:
    """Return the body of a request: its bytes, or a body that is streamed if the request has contents of files."""
    data = request.to_bytes()
    return split_body(data, request.contents) if request.contents else data


def split_body(data: bytes, contents: Mapping[str, Content]) -> StreamedBody:
    """
    Return a body with contents in place of the texts that stand for them.

    :raises RequestValidationError: if a text does not stand exactly once in the body.
    """
    found: list[tuple[int, str]] = []
    for name in contents:
        position = data.find(name.encode())
        if position < 0 or data.find(name.encode(), position + 1) >= 0:
            raise RequestValidationError(
                "a file of the request is not in it exactly once: files must be parts of `input`, and not repeated "
                "by `extra_body`",
                fields=("input",),
            )
        found.append((position, name))
    pieces: list[bytes | Content] = []
    end = 0
    for position, name in sorted(found):
        pieces += (data[end:position], contents[name])
        end = position + len(name)
    return StreamedBody([*pieces, data[end:]])
