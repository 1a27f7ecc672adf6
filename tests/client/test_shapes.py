"""Every shape of a stream or a body, with every method: outcome, text, sends, and whether it may be billed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from airflow_provider_responses.exceptions import OutputValidationError, ResponsesError
from airflow_provider_responses.models import Response, json_schema_format
from airflow_provider_responses.models.output import read_output

from . import content_shapes, framing_shapes
from .shapes import Shape
from .wire import REQUEST, Body, Flavour, Handle

OPEN = "http://127.0.0.1:8642/v1"
SHAPES: dict[str, Shape] = {
    **content_shapes.CONTENT,
    **content_shapes.NAMES,
    **content_shapes.ENDS,
    **content_shapes.MESSAGES,
    **content_shapes.CALLS,
    **content_shapes.CONFIRMED,
    **content_shapes.PARTS,
    **content_shapes.ANNOUNCED,
    **content_shapes.SAME,
    **content_shapes.HIDDEN,
    **framing_shapes.CUT_OFF,
    **framing_shapes.ERRORS,
    **framing_shapes.FRAMING,
    **framing_shapes.COUNTS,
    **framing_shapes.BODIES,
}


class Output(BaseModel):
    number: int
    why: str


def serve(shape: Shape) -> tuple[list[httpx.Request], Any]:
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, headers=dict(shape.headers), stream=Body(*shape.body))

    return requests, handler


def send(handle: Handle, method: str, request: dict[str, Any]) -> Response:
    if method != "stream":
        return handle.send({**request, "stream": method == "send, streamed"})
    *events, last = handle.stream(request)
    assert last.is_terminal
    assert not any(event.is_terminal for event in events)
    assert last.response is not None
    return last.response


@pytest.mark.parametrize("method", ["send", "send, streamed", "stream"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_shape_becomes_its_response(
    flavour: Flavour, shape: Shape, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    requests, handler = serve(shape)
    handle = flavour.on(handler, draw=0.0, base_url=OPEN, max_retries=0, max_ambiguous_retries=1)
    for typed in (False, True):
        text = {"text": {"format": json_schema_format(Output)}} if typed else {}
        requests.clear()
        caplog.clear()
        if shape.error is not None:
            with pytest.raises(ResponsesError) as caught:
                send(handle, method, {**REQUEST, **shape.request, **text})
            check_error(caught.value, shape, len(requests), streaming=method == "stream")
        else:
            response = send(handle, method, {**REQUEST, **shape.request, **text})
            assert len(requests) == response.sends == 1
            check(response, shape)
            warned = [record for record in caplog.records if record.levelname == "WARNING"]
            assert bool(warned) == (shape.inconsistent or shape.maybe_truncated or shape.ignored)
            if typed:
                check_typed(response, shape)


def check(response: Response, shape: Shape) -> None:
    usage = response.usage
    assert response.output_text == shape.text
    assert (usage.input_tokens, usage.output_tokens, usage.cost) == (*shape.tokens, shape.cost)
    assert tuple((call["name"], call["arguments"]) for call in response.function_calls) == shape.calls
    assert all(call["call_id"] for call in response.function_calls)
    assert (response.inconsistent, response.maybe_truncated) == (shape.inconsistent, shape.maybe_truncated)
    assert response.status in ("completed", None)
    assert response.model == "maker/small-1"
    if shape.messages is not None:
        assert tuple(message.text for message in response.messages) == shape.messages


def check_error(error: ResponsesError, shape: Shape, sends: int, *, streaming: bool) -> None:
    assert type(error) is shape.error
    assert error.ambiguous is shape.ambiguous
    assert sends == error.sends == (1 if streaming else shape.sends)
    text = getattr(error, "text", None) if error.response is None else error.response.output_text
    assert (text or "") == (shape.text or "")


def check_typed(response: Response, shape: Shape) -> None:
    if shape.value is None:
        with pytest.raises(OutputValidationError):
            read_output(Output, response.output_texts)
    else:
        assert read_output(Output, response.output_texts).value == shape.value
