"""
Random bodies and streams: a call ends with a response or an error of this package, and no streamed text is lost.

Each test runs for FUZZ_SECONDS (2 by default, 30 in `make fuzz`), each time with other examples.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_responses.client import ClientConfig, ResponsesClient
from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models import Response
from airflow_provider_responses.task.attempt import log_line
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.request import TaskRequest
from tests.usage import check_xcom

KEY = "key-of-the-fuzz-tests"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
EVENTS = [
    "response.created",
    "response.output_text.delta",
    "response.completed",
    "response.done",
    "response.failed",
    "response.incomplete",
    "error",
    "response.error",
    "response.output_item.done",
    "response.output_item.added",
    "response.output_text.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.content_part.delta",
    "response.output_text.annotation.added",
    "response.refusal.delta",
    "response.refusal.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.reasoning_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.unknown",
]
KEYS = [
    "id",
    "status",
    "model",
    "output",
    "usage",
    "error",
    "error_type",
    "incomplete_details",
    "type",
    "content",
    "text",
    "refusal",
    "annotations",
    "response",
    "delta",
    "item",
    "code",
    "message",
    "cost",
    "input_tokens",
    "metadata",
    "availability",
    "retryable",
    "retry_after",
    "previous_errors",
    "raw",
    "reason",
    "input_tokens_details",
    "result",
    "item_id",
    "output_index",
    "content_index",
    "part",
    "annotation",
    "arguments",
    "summary",
    "phase",
]
WORDS = ["completed", "failed", "incomplete", "queued", "message", "output_text", "refusal", "url_citation", "server"]
LINES = [b": comment\n\n", b"data: [DONE]\n\n", b"event: x\r\n", b"data:", b"\r\n\r\n", b"\xef\xbb\xbf", b"\n"]

leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(WORDS)
anything = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(KEYS), anything, max_size=8)
events = st.builds(lambda kind, body: body | {"type": kind}, st.sampled_from(EVENTS), objects)
lines = (
    events.map(lambda event: f"data: {json.dumps(event)}\n\n".encode())
    | st.binary(max_size=40)
    | st.sampled_from(
        [b": comment\n\n", b"data: [DONE]\n\n", b"event: x\r\n", b"data:", b"\r\n\r\n", b"\xef\xbb\xbf", b"\n"]
    )
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": st.sampled_from(["0", "-1", "nan", "1e400", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"]),
        "x-generation-id": st.just("gen-1"),
        "x-openrouter-cache-status": st.sampled_from(["HIT", "MISS", "?"]),
    },
)
endless = settings(
    max_examples=100, deadline=None, derandomize=False, database=None, suppress_health_check=list(HealthCheck)
)


def repeat_until_time_is_over(check: Callable[[], None]) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        check()


class Pieces(httpx.SyncByteStream):
    def __init__(self, data: bytes, size: int) -> None:
        self.pieces = [data[at : at + size] for at in range(0, len(data), size)]

    def __iter__(self) -> Any:
        return iter(self.pieces)


def outcome(status: int, head: dict[str, str], body: httpx.SyncByteStream, *, stream: bool, streaming: bool) -> None:
    """Send one request; the only outcomes are a response and a typed error."""
    pool = SyncPool(httpx.MockTransport(lambda _: httpx.Response(status, headers=head, stream=body)))
    config = ClientConfig(api_key=KEY, max_retries=0, max_ambiguous_retries=0)
    with ResponsesClient(config, pool=pool) as client:
        request = {"model": "a/b", "input": "x", "stream": stream}
        try:
            if streaming:
                list(client.stream(request))
            else:
                check_response(client.send(request))
        except ResponsesError as error:
            check_message(str(error))
            if error.response is not None:
                check_response(error.response)


def check_message(text: str) -> None:
    assert text
    assert KEY not in text
    assert len(text) < 8000


def check_response(response: Response) -> None:
    for name in dir(Response):
        if not name.startswith("_"):
            value = getattr(response, name)
            if name == "to_input":
                value()
    ledger = CostLedger()
    outcome = TaskRequest(fields={}, result="response").read(response)
    usage = ledger.usage(replace(outcome, generations=dict.fromkeys(ledger.unpriced_generations(response))))
    check_xcom("usage", usage)
    json.dumps(outcome.value, allow_nan=False)
    assert log_line(response, usage)


def test_a_random_stream_is_a_response_or_a_typed_error() -> None:
    @endless
    @given(st.lists(lines, max_size=8).map(b"".join), st.integers(1, 64), headers, st.booleans())
    def check(data: bytes, size: int, head: dict[str, str], streaming: bool) -> None:
        outcome(200, head | {"content-type": "text/event-stream"}, Pieces(data, size), stream=True, streaming=streaming)

    repeat_until_time_is_over(check)


names = st.none() | st.sampled_from(["m", "n", "", 7])
places = st.none() | st.sampled_from([0, 1, 10**9, -1, "0", 0.5])
where = st.fixed_dictionaries(
    {}, optional={"item_id": names, "output_index": places, "content_index": places, "sequence_number": places}
)
texts = st.text("ab \U0001f642", max_size=4)
parts = st.builds(
    lambda kind, text: {"type": kind, "text": text}, st.sampled_from(["output_text", "text", None]), texts
)
contents = st.lists(parts, max_size=2) | texts | st.none()
message_items = st.builds(
    lambda content, more: {"type": "message", "role": "assistant", "content": content, **more},
    contents,
    st.fixed_dictionaries({}, optional={"id": names, "status": st.sampled_from(["completed", "in_progress"])}),
)
calls = st.builds(
    lambda name, text: {"type": "function_call", "id": name, "call_id": name, "name": "f", "arguments": text},
    names,
    texts,
)
reasonings = st.builds(lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}, texts)
outputs = st.lists(message_items | calls | reasonings, max_size=3) | st.none() | texts
bodies = st.builds(
    lambda output, more: {"output": output, **more},
    outputs,
    st.fixed_dictionaries({}, optional={"id": names, "status": st.sampled_from([None, "completed", "in_progress"])}),
)


def event(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda place, values: {"type": f"response.{kind}", **place, **values}, where, st.fixed_dictionaries(fields)
    )


def texts_of(content: Any) -> list[str]:
    parts = content if isinstance(content, list) else [content]
    return [part if isinstance(part, str) else part.get("text", "") for part in parts if part]


carriers = st.one_of(
    event("output_text.delta", delta=texts),
    event("output_text.delta", delta=texts),
    event("output_text.done", text=texts),
    event("content_part.added", part=parts),
    event("content_part.done", part=parts),
    event("output_item.added", item=message_items | calls | reasonings),
    event("output_item.done", item=message_items | calls | reasonings),
    event("reasoning_text.delta", delta=texts),
    event("function_call_arguments.delta", delta=texts),
    event("function_call_arguments.done", arguments=texts),
    event("created", response=bodies),
)


def test_no_streamed_text_is_lost() -> None:
    """Random streams of events with content and a last event."""

    @endless
    @given(st.lists(carriers, max_size=8), bodies, st.booleans())
    def check(sent: list[dict[str, Any]], last: dict[str, Any], streaming: bool) -> None:
        data = "".join(
            f"data: {json.dumps(event)}\n\n" for event in [*sent, {"type": "response.completed", "response": last}]
        )
        pool = SyncPool(
            httpx.MockTransport(
                lambda _: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=data.encode())
            )
        )
        config = ClientConfig(api_key=KEY, max_retries=0, max_ambiguous_retries=0)
        with ResponsesClient(config, pool=pool) as client:
            request = {"model": "a/b", "input": "x", "stream": True}
            try:
                response = [*client.stream(request)][-1].response if streaming else client.send(request)
            except ResponsesError as error:
                check_message(str(error))
                return
        assert response is not None
        deltas = [event["delta"] for event in sent if event["type"] == "response.output_text.delta" and event["delta"]]
        full = [str(event.get("text", "")) for event in sent if event["type"] == "response.output_text.done"]
        items = [event["item"] for event in sent if "item" in event and event["item"]["type"] == "message"]
        inside = [text for event in sent if "part" in event for text in texts_of([event["part"]])]
        inside += [text for item in items for text in texts_of(item["content"])]
        # White space alone is not text: some servers send it for an empty message.
        assert response.output_text or not "".join((*deltas, *full, *inside, *texts_of(last["output"]))).strip()
        check_response(response)

    repeat_until_time_is_over(check)


def test_a_random_body_is_a_response_or_a_typed_error() -> None:
    bodies = (
        objects.map(lambda body: json.dumps(body).encode())
        | st.binary(max_size=60)
        | anything.map(lambda body: json.dumps(body).encode())
    )
    statuses = st.sampled_from([200, 200, 200, 201, 204, 301, 400, 402, 403, 404, 418, 429, 500, 503, 529, 599])

    @endless
    @given(statuses, bodies, headers, st.integers(1, 64), st.sampled_from(["application/json", "text/html", ""]))
    def check(status: int, body: bytes, head: dict[str, str], size: int, kind: str) -> None:
        outcome(status, head | {"content-type": kind}, Pieces(body, size), stream=False, streaming=False)

    repeat_until_time_is_over(check)
