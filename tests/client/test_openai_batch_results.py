"""The files of results of a batch of OpenAI's."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.client.batch_results import LinesReader
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.exceptions import (
    APIError,
    InternalServerResponseError,
    NotFoundResponseError,
    PaymentRequiredResponseError,
)
from airflow_provider_responses.models import Batch

from .batch_wire import BROKE, SUMMARY, collect, item
from .openai_batch_wire import (
    batch,
    created,
    finished,
    lines,
    on,
    seen,
)
from .server import Connection, Server
from .wire import Body, Flavour, Wire, failure


def test_a_file_without_a_last_line_break_is_read_to_its_end(flavour: Flavour, server: Server) -> None:
    body = lines(item("a"), item("b")).removesuffix(b"\n")

    def script(connection: Connection) -> None:
        while connection.read_request():
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.send(head.encode() + body)

    server.script = script
    client = flavour.network(base_url=server.url)
    found = collect(client, "iter_batch_results", finished(output_file_id="file-out", error_file_id="file-err"))
    assert [one.custom_id for one in found] == ["a", "b", "a", "b"]
    assert server.connections == 1


def test_the_files_of_results_are_read_one_after_the_other(flavour: Flavour) -> None:
    failed = item("c", response={"status_code": 402, "request_id": "req_1", "body": {"error": {"message": "no"}}})
    wire = Wire(
        created(status="completed", output_file_id="file-out", error_file_id="file/err"),
        httpx.Response(200, content=lines(item("b"), item("a"))),
        httpx.Response(200, content=lines(failed)),
    )
    found = collect(on(flavour, wire), "iter_batch_results", "batch_1")
    assert [one.custom_id for one in found] == ["b", "a", "c"]
    assert isinstance(found[2].error, PaymentRequiredResponseError)
    assert "openrouter" not in str(found[2].error)
    assert seen(wire) == ["GET /batches/batch_1", "GET /files/file-out/content", "GET /files/file%2Ferr/content"]
    assert wire.requests[1].headers["accept"] == "*/*"


def test_a_batch_without_files_has_no_results(flavour: Flavour) -> None:
    assert collect(on(flavour, Wire()), "iter_batch_results", Batch(raw=batch(status="failed"))) == []


def test_a_file_that_breaks_is_read_again_without_repeating_a_result(flavour: Flavour) -> None:
    body = lines(*(item(str(n), "x" * 200) for n in range(20)))
    half = httpx.Response(200, stream=Body(body[: len(body) // 2], BROKE))
    cut = httpx.Response(200, content=body[:-40])  # ends inside a line, as if it were complete
    wire = Wire(half, cut, httpx.Response(200, content=body.removesuffix(b"\n")))
    found = collect(on(flavour, wire), "iter_batch_results", finished(output_file_id="file-out"))
    assert [int(one.custom_id) for one in found] == list(range(20))
    assert wire.send_count == 3


def test_a_line_that_is_no_object_is_yielded_as_an_error(flavour: Flavour, caplog: pytest.LogCaptureFixture) -> None:
    body = lines(item("a")) + b"{broken\n\n[1]\n" + lines(item("b"))
    wire = Wire(httpx.Response(200, content=body))
    found = collect(on(flavour, wire), "iter_batch_results", finished(output_file_id="file-out"))
    assert [one.custom_id for one in found] == ["a", "", "", "b"]
    assert [type(one.error) for one in found[1:3]] == [InternalServerResponseError] * 2
    assert "Line 2 of the results is not a JSON object" in caplog.text


def test_another_body_than_a_file_of_results_is_an_error(flavour: Flavour) -> None:
    wire = Wire(httpx.Response(200, content=b"<html>\n<body>\n"))
    with pytest.raises(APIError, match=r"expected a complete JSON object .*'<html>'") as raised:
        collect(on(flavour, wire, max_retries=0), "iter_batch_results", finished(output_file_id="file-out"))
    assert (raised.value.ambiguous, raised.value.retryable) == (False, True)


def test_a_file_that_was_deleted_is_an_error_with_advice(flavour: Flavour) -> None:
    wire = Wire(failure(404))
    with pytest.raises(NotFoundResponseError, match="The file of the results was deleted, or has expired"):
        collect(on(flavour, wire), "iter_batch_results", finished(output_file_id="file-out"))


def test_memory_does_not_grow_with_the_results(flavour: Flavour) -> None:
    one = json.dumps(item("NAME", "x" * 10_000)).encode()

    class Streamed(Body):
        def __iter__(self) -> Iterator[bytes]:
            return (one.replace(b"NAME", b"row-%d" % n) + b"\n" for n in range(5000))

    results = on(flavour, Wire(httpx.Response(200, stream=Streamed()))).client.iter_batch_results(
        finished(output_file_id="file-out")
    )

    async def count() -> int:
        return sum([len(one.response.output_text) == 10_000 async for one in results])

    tracemalloc.start()
    try:
        total = (
            sum(len(one.response.output_text) == 10_000 for one in results)
            if flavour.sync
            else flavour._runner.run(count())
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total == 5000
    assert peak < len(one) * 5000 / 20


values = st.dictionaries(st.text(max_size=4), st.none() | st.integers() | st.floats(allow_nan=False) | st.text())


@given(
    items=st.lists(values, max_size=5),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    newline=st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
    before=st.sampled_from([b"", b"\n", b"\xef\xbb\xbf"]),
    ends=st.booleans(),
)
def test_any_split_of_a_file_yields_the_same_results(
    items: list[Any], cuts: list[int], newline: bytes, before: bytes, ends: bool
) -> None:
    body = before + newline.join(json.dumps(one).encode() for one in items) + (newline if ends else b"")
    edges = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    reader = LinesReader(HTTPResponse(httpx.Response(200)), SUMMARY)
    found = [one for start, end in pairwise(edges) for one in reader.feed(body[start:end])]
    found += reader.finish()
    assert found == items
    assert reader.finish() == []
