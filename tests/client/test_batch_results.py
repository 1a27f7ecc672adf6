"""The results of a batch: pages or the batch object, as a stream that no chunking changes."""

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

from airflow_provider_responses.client.batch_results import BatchReader, ResultsReader, read_result
from airflow_provider_responses.client.http_response import HTTPResponse
from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    IncompleteResponseError,
    InternalServerResponseError,
    NotFoundResponseError,
    PaymentRequiredResponseError,
    RefusalError,
    TooManyRequestsResponseError,
)
from airflow_provider_responses.models import Batch, BatchResult

from .batch_wire import BATCHES, BROKE, MODEL, SUMMARY, batch, collect, item, page
from .wire import Body, Flavour, Wire, failure, result


def results_page(*items: Any, cursor: str | None = None) -> httpx.Response:
    body = {"object": "list", "data": list(items), "has_more": cursor is not None, "next_cursor": cursor}
    return httpx.Response(200, json=body)


def inline(*items: Any, pieces: int = 1, **changes: Any) -> httpx.Response:
    body = json.dumps(batch(**{"status": "completed", "results": list(items), **changes})).encode()
    size = -(-len(body) // pieces)
    return httpx.Response(200, stream=Body(*(body[i : i + size] for i in range(0, len(body), size))))


def test_results_are_read_page_by_page(flavour: Flavour) -> None:
    wire = Wire(results_page(item("b"), item("a"), cursor="c/1"), BROKE, results_page(item("c")))
    found = collect(flavour.on(wire), "iter_batch_results", Batch(raw=batch(status="completed")))
    assert [one.custom_id for one in found] == ["b", "a", "c"]
    assert [str(request.url).removeprefix(BATCHES) for request in wire.requests] == [
        "/batch_1/results?limit=250",
        *["/batch_1/results?limit=250&cursor=c%2F1"] * 2,
    ]


@pytest.mark.parametrize("status", [404, 405, 200])
def test_results_are_read_from_the_batch_where_the_server_has_no_pages(flavour: Flavour, status: int) -> None:
    no_pages = httpx.Response(200, json=batch()) if status == 200 else failure(status)
    wire = Wire(no_pages, inline(item(), item("b")))
    found = collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert [one.custom_id for one in found] == ["a", "b"]
    assert str(wire.requests[1].url) == f"{BATCHES}/batch_1"


@pytest.mark.parametrize("status", [402, 409, 410])
def test_errors_of_the_pages_are_raised(flavour: Flavour, status: int) -> None:
    wire = Wire(failure(status))
    with pytest.raises(APIError) as raised:
        collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert (raised.value.status_code, wire.send_count) == (status, 1)


def test_a_batch_that_is_unknown_has_no_results(flavour: Flavour) -> None:
    with pytest.raises(NotFoundResponseError, match="belongs to another key"):
        collect(flavour.on(Wire(failure(404), failure(404))), "iter_batch_results", "batch_1")


def test_a_later_page_of_another_shape_is_an_error_and_no_end(flavour: Flavour) -> None:
    wire = Wire(results_page(item("a"), cursor="c"), httpx.Response(200, json={"next_cursor": None}))
    with pytest.raises(APIError, match="expected a page of results"):
        collect(flavour.on(wire), "iter_batch_results", "batch_1")


def test_results_of_a_batch_in_progress_are_an_error(flavour: Flavour) -> None:
    early = httpx.Response(200, json=batch(status="in_progress"))
    wire = Wire(failure(404), early, httpx.Response(200, json=batch(status="in_progress")))
    with pytest.raises(APIError, match=r"the batch has no results yet: its status is 'in_progress'"):
        collect(flavour.on(wire), "iter_batch_results", "batch_1")


def test_a_failed_batch_without_results_yields_none(flavour: Flavour) -> None:
    failed = {"status": "failed", "results": None}
    wire = Wire(failure(404), httpx.Response(200, json=batch(**failed)), httpx.Response(200, json=batch(**failed)))
    assert collect(flavour.on(wire), "iter_batch_results", "batch_1") == []


def test_a_download_that_breaks_is_resumed_without_repeating_a_result(flavour: Flavour) -> None:
    items = [item(str(n), "x" * 200) for n in range(20)]
    body = json.dumps(batch(status="completed", results=items)).encode()
    half = httpx.Response(200, stream=Body(body[: len(body) // 2], BROKE))
    wire = Wire(failure(404), half, inline(*reversed(items), pieces=7))
    found = collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert sorted(int(one.custom_id) for one in found) == list(range(20))
    assert wire.send_count == 3


def test_a_body_that_ends_early_is_read_again_and_then_an_error(flavour: Flavour) -> None:
    body = json.dumps(batch(status="completed", results=[item("a"), item("b")])).encode()
    wire = Wire(failure(404), *(httpx.Response(200, content=body[:-40]) for _ in range(2)))
    client = flavour.on(wire, max_retries=1)
    with pytest.raises(APIError, match="expected a complete JSON object"):
        collect(client, "iter_batch_results", "batch_1")
    assert wire.send_count == 3


def test_the_callers_work_does_not_count_as_waiting(flavour: Flavour) -> None:
    wire = Wire(failure(404), inline(*(item(str(n)) for n in range(6)), pieces=12))
    client = flavour.on(wire, timeout=5)
    found = client.client.iter_batch_results("batch_1")
    names = []
    while one := (next(found, None) if flavour.sync else client._runner.run(anext(found, None))):  # type: ignore[arg-type]
        names.append(one.custom_id)
        wire.now += 4
    assert names == [str(n) for n in range(6)]


def test_repeated_and_nameless_results_are_yielded_for_the_caller_to_judge(flavour: Flavour) -> None:
    wire = Wire(failure(404), inline(item("a"), item("a"), {"id": "x"}, "nonsense", None))
    found = collect(flavour.on(wire), "iter_batch_results", "batch_1")
    assert [one.custom_id for one in found] == ["a", "a", "", "", ""]
    assert [type(one.error) for one in found[2:]] == [InternalServerResponseError] * 3


def test_memory_does_not_grow_with_the_results(flavour: Flavour) -> None:
    one = json.dumps(item("NAME", "x" * 10_000)).encode()
    total = [0]

    def pieces() -> Iterator[bytes]:
        yield b'{"id":"batch_1","object":"batch","status":"completed","results":['
        for n in range(5000):
            piece = (b"," if n else b"") + one.replace(b"NAME", b"row-%d" % n)
            total[0] += len(piece)
            yield piece
        yield b'],"error":null}'

    class Streamed(Body):
        def __iter__(self) -> Iterator[bytes]:
            return pieces()

    wire = Wire(failure(404), httpx.Response(200, stream=Streamed()))
    client = flavour.on(wire)
    tracemalloc.start()
    try:
        found = client.client.iter_batch_results("batch_1")
        if flavour.sync:
            count = sum(len(one.response.output_text) == 10_000 for one in found)
        else:

            async def drain() -> int:
                return sum([len(one.response.output_text) == 10_000 async for one in found])

            count = client._runner.run(drain())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert total[0] > 50_000_000
    assert peak < total[0] / 20


# --- one result


def test_a_result_holds_the_response_that_send_returns() -> None:
    one = read_result(item("a", "Hello"), "batch_1")
    assert (one.custom_id, one.status_code, one.error) == ("a", 200, None)
    assert one.response is not None
    assert (one.response.output_text, one.response.usage.cost) == ("Hello", 0.5)
    assert one.response.generation_id == "gen-1"


@pytest.mark.parametrize(
    ("error", "cls", "retryable"),
    [
        ({"message": "slow down", "type": "rate_limit_error", "param": None, "error_type": "rate_limit_exceeded"},
         TooManyRequestsResponseError, True),
        ({"message": "too long", "type": "invalid_request_error", "param": "input",
          "error_type": "context_length_exceeded"}, BadRequestResponseError, False),
        ({"message": "out of time", "type": "batch_expired", "param": None}, InternalServerResponseError, True),
        ({"message": "broke", "type": "server_error", "param": None}, InternalServerResponseError, True),
    ],
)  # fmt: skip
def test_a_failed_request_has_the_error_of_send(error: dict[str, Any], cls: type[APIError], retryable: bool) -> None:
    one = read_result(item("row-7", response=None, error=error), "batch_1")
    assert type(one.error) is cls
    assert (one.response, one.status_code, one.error.retryable) == (None, None, retryable)
    assert error["message"] in str(one.error)
    assert str(one.error).endswith("Request: 'row-7' in batch batch_1")
    assert ("Send this request again" in str(one.error)) is retryable


def test_a_status_of_a_failure_decides_its_error() -> None:
    body = {"error": {"code": 402, "message": "no credits"}}
    received = {"status_code": 402, "request_id": None, "body": body}
    one = read_result(item("a", response=received), "batch_1")
    assert isinstance(one.error, PaymentRequiredResponseError)
    assert (one.response, one.status_code) == (None, 402)


def test_truncated_and_refused_responses_have_the_errors_of_send() -> None:
    cut = result(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    no = result()
    no["output"][0]["content"] = [{"type": "refusal", "refusal": "I will not"}]
    failed = result(status="failed", output=[], error={"code": "server_error", "message": "broke"})
    found = [
        read_result(item("a", response={"status_code": 200, "request_id": None, "body": body}), "batch_1")
        for body in (cut, no, failed)
    ]
    assert [type(one.error) for one in found] == [IncompleteResponseError, RefusalError, InternalServerResponseError]
    for one in found:
        assert one.response is not None
        assert one.error is not None
        assert one.error.response is one.response


def test_bodies_of_other_endpoints_are_not_checked_as_a_response() -> None:
    body = {"object": "list", "data": [{"embedding": [0.5]}], "model": MODEL}
    one = read_result(item("a", response={"status_code": 200, "request_id": None, "body": body}), "batch_1")
    assert (one.error, one.response.raw if one.response else None) == (None, body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["id", "custom_id", "response", "error"]), json_values) | json_values)
def test_no_shape_of_a_result_raises(raw: Any) -> None:
    one = read_result(raw, "batch_1")
    assert isinstance(one, BatchResult)
    assert one.response is not None or one.error is not None


def http() -> HTTPResponse:
    return HTTPResponse(httpx.Response(200))


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(body) + 1) for cut in cuts} | {0, len(body)})
    return [body[start:end] for start, end in pairwise(ends)]


finite = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    items=st.lists(finite | st.dictionaries(st.just("results"), st.lists(finite, max_size=2)), max_size=4),
    fields=st.dictionaries(st.text("abr", max_size=3), finite, max_size=3),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
    before=st.sampled_from([b"", b" \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \r\n"]),
    ascii_only=st.booleans(),
)
def test_any_split_of_a_body_yields_the_same_batch_and_results(
    items: list[Any], fields: dict[str, Any], cuts: list[int], before: bytes, ascii_only: bool
) -> None:
    raw = {"id": "batch_1", **fields, "results": items, "error": {"results": [1]}}
    body = before + json.dumps(raw, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if not ascii_only:
        body.decode()
    reader, results = BatchReader(http(), SUMMARY), ResultsReader(http(), SUMMARY)
    found: list[Any] = []
    for piece in split(body, cuts):
        reader.feed(piece)
        found += results.feed(piece)
    results.finish()
    assert found == items
    assert repr(found) == repr(json.loads(json.dumps(items)))  # also the types of numbers
    assert reader.finish().raw == {**raw, "results": None}


@given(st.binary(max_size=40).filter(lambda body: not body.strip().startswith(b"{")))
def test_a_body_that_is_no_object_is_an_error_and_nothing_else(body: bytes) -> None:
    for make in (BatchReader, ResultsReader):
        with pytest.raises(APIError, match="expected a complete JSON object"):
            read_whole(make(http(), SUMMARY), body)


def read_whole(reader: Any, body: bytes) -> None:
    reader.feed(body)
    reader.finish()
    if isinstance(reader, ResultsReader):
        read_whole(BatchReader(http(), SUMMARY), body)  # a number or a list holds no results either


def test_the_sdk_reads_the_results_that_these_tests_use() -> None:
    from openrouter.components import BatchListResponse, BatchObject

    names = (
        "completed_at",
        "frequency_penalty",
        "instructions",
        "metadata",
        "presence_penalty",
        "temperature",
        "top_p",
    )
    others = {"created_at": 1, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    body = result() | dict.fromkeys(names) | others
    error = {"message": "no", "type": "server_error", "param": None, "error_type": "server"}
    failed = item("b", response=None, error=error)
    raw = batch(
        status="completed", results=[item("a", response={"status_code": 200, "request_id": None, "body": body}), failed]
    )
    parsed = BatchObject.model_validate(raw)
    assert parsed.results is not None
    assert [one.custom_id for one in parsed.results] == ["a", "b"]
    assert BatchListResponse.model_validate(json.loads(page("a").content)).data[0].id == "a"


def test_the_clients_have_a_method_for_each_operation_of_the_sdk() -> None:
    from openrouter.batch import Batch as Operations

    from airflow_provider_responses.client import ResponsesClient

    names = {
        "create_batches": "create_batch",
        "get_batches": "get_batch",
        "list": "list_batches",
        "delete": "delete_batch",
    }
    operations = {name for name in vars(Operations) if not name.startswith("_") and not name.endswith("_async")}
    assert operations <= set(names)
    assert [name for name in names.values() if not callable(getattr(ResponsesClient, name))] == []
