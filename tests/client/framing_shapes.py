"""Streams that break off, fail or are framed in unusual ways, and bodies that are not streams."""

from __future__ import annotations

import json

import httpx

from airflow_provider_responses.exceptions import (
    APIError,
    BadRequestResponseError,
    InternalServerResponseError,
    TooManyRequestsResponseError,
)

from .shapes import (
    CUT,
    HALF,
    JSON,
    LIMITED,
    PIECES,
    REASONING,
    REFUSED,
    TEXT,
    USAGE,
    USUAL,
    ZERO,
    Shape,
    body,
    created,
    cut_off,
    deltas,
    end,
    ended,
    event,
    failed,
    message,
    part,
    plain,
    raw,
    refusal,
    stream,
)
from .wire import EVENT_STREAM, sse

WRAPPED = "The provider encountered an error: status_code: 400, model_name: small, body: {'message': 'no'}"

CUT_OFF: dict[str, Shape] = {
    "incomplete": stream(*deltas(*PIECES[:4]), end(message(HALF), kind="incomplete", **CUT), **cut_off()),
    "vLLM, incomplete in completed": stream(
        *deltas(*PIECES[:4]), event("completed", response=body(message(HALF), status="incomplete", **CUT)), **cut_off()
    ),
    "only the details": stream(*deltas(*PIECES[:4]), end(message(HALF), **CUT), **cut_off()),
    "OGX, length": stream(
        *deltas(*PIECES[:4]), end(kind="incomplete", incomplete_details={"reason": "length"}), **cut_off()
    ),
    "LiteLLM, no details": stream(*deltas(*PIECES[:4]), end(kind="incomplete"), **cut_off()),
    "only the item": stream(created(), end(message(HALF, status="incomplete")), **cut_off()),
    "only the item's event": stream(created(), ended(message(HALF, status="incomplete")), end(), **cut_off()),
    "reasoning alone, streamed": stream(created(), ended(REASONING), end(), **cut_off("")),
    "details that are a text": stream(
        *deltas(*PIECES[:4]), end(message(HALF), incomplete_details="max_output_tokens"), **cut_off()
    ),
    "incomplete without response": stream(created(), *deltas(*PIECES[:4]), event("incomplete"), **cut_off()),
    "as long as allowed": stream(*USUAL, end(message()), request={"max_output_tokens": 2}, maybe_truncated=True),
    "aimock, content filter": stream(
        *deltas(*PIECES[:4]), event("completed", response=body(message(HALF), status="failed")), **cut_off()
    ),
}

ERRORS: dict[str, Shape] = {
    "error before output": stream(created(), {"type": "error", **LIMITED}, error=TooManyRequestsResponseError, text=""),
    "error after output": stream(
        created(), *deltas(*PIECES[:4]), {"type": "error", **LIMITED}, **failed(TooManyRequestsResponseError, HALF)
    ),
    "fastresponses, error and failed": stream(
        created(),
        {"type": "error", "error": LIMITED},
        end(kind="failed", error=LIMITED, usage=None),
        error=TooManyRequestsResponseError,
        text="",
    ),
    "fastresponses, its model refuses the request": stream(
        created(),
        {"type": "error", "error": {"type": "server_error", "code": None, "message": WRAPPED, "param": None}},
        end(kind="failed", error={"code": "server_error", "type": "server_error", "message": WRAPPED}, usage=None),
        error=BadRequestResponseError,
        text="",
    ),
    "an error that is less particular": stream(
        created(),
        {"type": "error", "message": "no"},
        end(kind="failed", error=LIMITED, usage=None),
        error=TooManyRequestsResponseError,
        text="",
    ),
    "an error, and output in the end": stream(
        {"type": "error", **LIMITED},
        end(message(HALF), kind="failed", error=LIMITED),
        **failed(TooManyRequestsResponseError, HALF),
    ),
    "an error, and tokens in the end": stream(
        {"type": "error", **LIMITED},
        end(kind="failed", error=LIMITED),
        **failed(TooManyRequestsResponseError, ""),
    ),
    "tokens in the end": stream(
        created(), end(kind="failed", error=LIMITED), **failed(TooManyRequestsResponseError, "")
    ),
    "cancelled by its status": stream(
        *deltas(*PIECES[:4]),
        event("completed", response=body(message(HALF), status="cancelled")),
        **failed(APIError, HALF),
    ),
    "cancelled before all": stream(
        event("completed", response=body(status="cancelled", usage=None)), error=APIError, text=""
    ),
    "failed after output": stream(
        *deltas(*PIECES[:4]),
        end(message(HALF), kind="failed", error=LIMITED),
        **failed(TooManyRequestsResponseError, HALF),
    ),
    "failed, error in the event": stream(
        created(), event("failed", error=LIMITED), error=TooManyRequestsResponseError, text=""
    ),
    "failed without an error": stream(
        created(), end(kind="failed", usage=None), error=InternalServerResponseError, text=""
    ),
    "a bad request in the stream": stream(
        created(), {"type": "error", "code": "invalid_prompt", "message": "no"}, error=BadRequestResponseError, text=""
    ),
    "error without a type": stream(
        {"error": {"code": 429, "message": "slow down"}}, error=TooManyRequestsResponseError, text=""
    ),
    "an empty error beside all": stream(*USUAL, end(message(), error={})),
    "an error of nulls beside all": stream(*USUAL, end(message(), error={"code": None, "message": None})),
    "an error of '' beside all": stream(*USUAL, end(message(), error="")),
    "an empty error event": stream(created(), {"type": "error", "code": None, "message": None}, *deltas(), end()),
    "an empty error event alone": stream(created(), {"type": "error"}, error=InternalServerResponseError, text=""),
}

FRAMING: dict[str, Shape] = {
    "no blank line at the end": raw(sse(*USUAL, end(message()), done=False).rstrip(b"\n")),
    "no blank lines": raw("".join(f"data:{json.dumps(one)}\n" for one in [*USUAL, end(message())]).encode()),
    "no blank lines, and [DONE]": raw(sse(*USUAL, end(message())).replace(b"\n\n", b"\n")),
    "an event on several lines": raw(
        sse(*USUAL, done=False),
        b"data: " + json.dumps(end(message()), indent=1).replace("\n", "\ndata: ").encode() + b"\n\n",
    ),
    "no [DONE]": stream(*USUAL, end(message()), done=False),
    "lines end with CR LF": raw(sse(*USUAL, end(message()), newline="\r\n")),
    "byte by byte": Shape(tuple(bytes([one]) for one in sse(*USUAL[:6], end(message())))),
    "a byte order mark": raw(b"\xef\xbb\xbf" + sse(*USUAL, end(message()))),
    "blank lines first": raw(b"\n\n  \n", b"\n" + sse(*USUAL, end(message()))),
    "no content type": raw(sse(*USUAL, end(message())), headers={}),
    "content type of JSON": raw(sse(*USUAL, end(message())), headers=JSON),
    "content type of a page": raw(sse(*USUAL, end(message())), headers={"content-type": "text/html"}),
    "signs of life between": stream(
        "ping", "null", ": OPENROUTER PROCESSING", *USUAL[:5], "[1]", "7", '"x"', *USUAL[5:], end(message())
    ),
    "comments between": raw(
        b": OPENROUTER PROCESSING\n\n" + sse(*USUAL, done=False) + b": ping\n\n" + sse(end(message()))
    ),
    "the type only in event:": raw(
        "".join(
            f"event: {one['type']}\ndata: {json.dumps({k: v for k, v in one.items() if k != 'type'})}\n\n"
            for one in [*USUAL, end()]
        ).encode()
    ),
    "an error only in event:": raw(
        b"event: error\ndata: " + json.dumps(LIMITED).encode() + b"\n\n", error=TooManyRequestsResponseError, text=""
    ),
    "an error as text": raw(b"event: error\ndata: model not loaded\n\n", error=InternalServerResponseError, text=""),
    "an event over many lines": raw(
        b"".join(b"data: " + line + b"\n" for line in json.dumps(end(message()), indent=1).encode().splitlines())
        + b"\n"
    ),
    "after the end comes more": raw(sse(*USUAL, end(message())) + b"data: {broken\n\n"),
    "ended by [DONE] alone": stream(created(), *deltas(), **failed(text=TEXT)),
    "broken JSON": stream(created(), *deltas(*PIECES[:4]), '{"type": "response.outp', **failed(text=HALF)),
    "cut inside the last event": raw(sse(*USUAL, end(message()), done=False)[:-40], **failed(text=TEXT)),
    "dropped half method": raw(
        sse(created(), *deltas(*PIECES[:4]), done=False), httpx.ReadError("dropped"), **failed(text=HALF)
    ),
    "nothing at all": raw(b"", **failed(text="")),
    "only comments": raw(b": OPENROUTER PROCESSING\n\n", **failed(text="")),
}

COUNTS: dict[str, Shape] = {
    "usage beside the response": stream(*USUAL, end(message(), usage=None) | {"usage": USAGE}),
    "names of chat completions": stream(created(), *deltas(), end(usage={"prompt_tokens": 3, "completion_tokens": 2})),
    "floats": stream(created(), *deltas(), end(usage={"input_tokens": 3.0, "output_tokens": 2.0})),
    "nothing counted": stream(created(), *deltas(), end(usage=ZERO), tokens=(None, None)),
    "a cached response": stream(
        *USUAL, end(message(), usage=ZERO), tokens=(0, 0), headers=EVENT_STREAM | {"x-openrouter-cache-status": "HIT"}
    ),
    "no usage": stream(created(), *deltas(), end(usage=None), tokens=(None, None)),
    "LiteLLM, a price before the work": stream(
        *USUAL,
        end(message()),
        headers=EVENT_STREAM | {"x-litellm-response-cost": "0.5", "x-litellm-response-cost-original": "0.0"},
    ),
}

BODIES: dict[str, Shape] = {
    "JSON": plain(message()),
    "JSON labelled as a stream": plain(message(), headers=EVENT_STREAM),
    "JSON without content type": plain(message(), headers={}),
    "JSON padded": raw(b" \n" * 5000, json.dumps(body(message())).encode() + b"\n", headers=JSON),
    "JSON with a byte order mark": raw(b"\xef\xbb\xbf" + json.dumps(body(message())).encode(), headers=JSON),
    "JSON of the last event": raw(json.dumps(end(message())).encode(), headers=JSON),
    "content is a string, unstreamed": plain(message(content=TEXT)),
    "parts are strings": plain(message(content=[HALF, TEXT[len(HALF) :]])),
    "parts of type text, unstreamed": plain(message(content=[part(type="text")])),
    "codex-relay, no status, no ids": plain(message(name=None), status=None),
    "output is one item": plain(output=message()),
    "an empty error, unstreamed": plain(message(), error={"code": None, "message": None}),
    "an empty error and no status": plain(message(), error={}, status=None),
    "an empty incomplete_details": plain(message(), incomplete_details={"reason": None}),
    "only the details, unstreamed": plain(message(HALF), outcome=cut_off(), **CUT),
    "only the item, unstreamed": plain(message(HALF, status="incomplete"), outcome=cut_off()),
    "aimock, content filter, unstreamed": plain(message(HALF), status="failed", outcome=cut_off()),
    "LiteLLM, price in a header": plain(
        message(), headers=JSON | {"x-litellm-response-cost": "0.25"}, outcome={"cost": 0.25}
    ),
    "a price in both": plain(
        message(),
        usage=USAGE | {"cost": 0.5},
        headers=JSON | {"x-litellm-response-cost": "0.25"},
        outcome={"cost": 0.5},
    ),
    "a price that is none": plain(
        message(), headers=JSON | {"x-litellm-response-cost": "None", "x-litellm-response-cost-original": "0.0"}
    ),
    "usage as in chat, unstreamed": plain(message(), usage={"prompt_tokens": 3.0, "completion_tokens": 2.0}),
    "LiteLLM, nothing counted": plain(message(), usage=ZERO, outcome={"tokens": (None, None)}),
    "cached, unstreamed": plain(
        message(), usage=ZERO, headers=JSON | {"x-openrouter-cache-status": "HIT"}, outcome={"tokens": (0, 0)}
    ),
    "failed after output, unstreamed": plain(
        message(HALF), status="failed", error=LIMITED, outcome=failed(TooManyRequestsResponseError, HALF)
    ),
    "a refusal, unstreamed": plain(refusal(), outcome=REFUSED),
    "reasoning alone": plain(REASONING, outcome=cut_off("")),
    "as long as allowed, unstreamed": plain(
        message(), outcome={"request": {"max_output_tokens": 2}, "maybe_truncated": True}
    ),
    "chat completions": raw(b'{"choices": [{"message": {"content": "x"}}]}', headers=JSON, error=APIError, text=""),
    "a page": raw(b"<html>hello</html>", headers={"content-type": "text/html"}, **failed(APIError)),
}
