"""
The Responses API without I/O and without a clock.

A request becomes bytes and headers; a status, headers and a body become a Response or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_responses import __version__
from airflow_provider_responses.client.bodies import describe, parse_json
from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.client.errors import error_from_response, error_from_result
from airflow_provider_responses.client.summary import RequestSummary
from airflow_provider_responses.exceptions import (
    APIError,
    IncompleteResponseError,
    RefusalError,
    RequestValidationError,
)
from airflow_provider_responses.models.fields import MAX_TOOL_CALLS
from airflow_provider_responses.models.history import filled
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response


def prepare(request: ResponsesRequest | Mapping[str, Any], config: ClientConfig) -> ResponsesRequest:
    """
    Check a request against the server it goes to, and add the connection's default model if it names none.

    What ``extra_body`` says is not checked, and counts: it may bring the model, or the input.

    :raises RequestValidationError: naming the field and what to do.
    """
    request = ResponsesRequest.parse(request, dialect="openrouter" if config.is_openrouter else "open")
    if request.background:
        raise RequestValidationError(
            "background: true would return before there is an answer; leave it out, the task waits for the answer",
            fields=("background",),
        )
    if config.is_openrouter:
        _check_openrouter(request)
    request = request.settled()
    if "stream" in request.extra_body:
        raise RequestValidationError(
            "extra_body.stream: must be true or false, since the response is read by it", fields=("extra_body.stream",)
        )
    request = _with_model(request, config)
    if config.is_openrouter:
        return _for_openrouter(request)
    if not _has(request, "input", "prompt", "previous_response_id", "conversation"):
        raise RequestValidationError(
            "input: missing; give `input`, or `prompt`, `previous_response_id` or `conversation`", fields=("input",)
        )
    return request


def _has(request: ResponsesRequest, *names: str) -> bool:
    return any(getattr(request, name) or name in request.extra_body for name in names)


def _with_model(request: ResponsesRequest, config: ClientConfig) -> ResponsesRequest:
    if _has(request, "model", "models") or (_has(request, "prompt") and not config.is_openrouter):
        return request  # another server keeps the model with the prompt
    if not config.default_model:
        raise RequestValidationError(
            "model: missing; give `model` or `models`, or set a default model on the connection", fields=("model",)
        )
    return request.replace(model=config.default_model)


def _for_openrouter(request: ResponsesRequest) -> ResponsesRequest:
    if not _has(request, "input", "prompt"):
        raise RequestValidationError("input: missing; give `input`, or `prompt` for a stored prompt", fields=("input",))
    if not isinstance(request.input, list):
        return request
    items = filled(request.input)
    return request if items == request.input else request.model_copy(update={"input": items})


def _check_openrouter(request: ResponsesRequest) -> None:
    if request.store:
        raise RequestValidationError(
            "store: true is refused by OpenRouter, which keeps nothing; leave it out", fields=("store",)
        )
    if request.previous_response_id is not None:
        raise RequestValidationError(
            "previous_response_id: OpenRouter keeps no responses; send the whole history in `input` "
            "(Response.to_input() gives the answer's part of it)",
            fields=("previous_response_id",),
        )
    if (request.max_tool_calls or 0) > MAX_TOOL_CALLS:
        raise RequestValidationError(
            f"max_tool_calls: {request.max_tool_calls} given, at most {MAX_TOOL_CALLS} is allowed",
            fields=("max_tool_calls",),
        )


def build_headers(
    config: ClientConfig, options: RequestOptions | None = None, *, stream: bool = False
) -> dict[str, str]:
    """Give the headers of a request; the call's own come last and win."""
    options = options or RequestOptions()
    headers = {
        "authorization": f"Bearer {config.api_key}",
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": f"airflow-provider-responses/{__version__}",
    }
    if config.app_url:
        headers["http-referer"] = config.app_url
    if config.app_title:
        headers["x-openrouter-title"] = config.app_title
    if options.metadata_level:
        headers["x-openrouter-metadata"] = options.metadata_level
    for extra in (config.extra_headers, options.headers or {}):
        headers.update({name.lower(): value for name, value in extra.items()})
    if options.accept:
        headers["accept"] = options.accept
    return headers


def read_json(status: int, headers: Mapping[str, str], body: bytes, *, request: RequestSummary) -> dict[str, Any]:
    """
    Give the JSON object of a good answer.

    :param request: what the body answers.
    :raises APIError: for any other status, and for a body that is no JSON object.
    """
    if not 200 <= status < 300:
        raise error_from_response(status, headers, body, request=request)
    data = parse_json(body)
    if not isinstance(data, dict):
        label = request.label
        # The model may well have run: what lies between mangled its answer.
        raise APIError(
            # What is no page of a gateway may be a piece of the answer, and is not quoted.
            f"{label}: answered {status} with {describe(body, quote=body.lstrip().startswith(b'<'))} instead of a JSON "
            "object. Check the base URL, and the proxies on the way",
            status_code=status,
            retryable=True,
            ambiguous=True,
            generation_id=headers.get("x-generation-id"),
        )
    return data


def check_answer(response: Response, *, request: RequestSummary) -> Response:
    """
    Give an answer back if it is a whole one.

    :raises APIError: the class that its ``error_type`` names, for a failure inside a 200.
    :raises IncompleteResponseError: for an answer that was cut off.
    :raises RefusalError: for a refusal.
    """
    status, label = response.status, request.label
    if status == "failed" or (response.error is not None and status in (None, "completed")):
        raise error_from_result(response, request=request)
    if status in {"queued", "in_progress", "cancelled"}:
        raise APIError(
            f"{label}: the answer's status is {status!r}, so there is none. Leave out `background`, or try again",
            retryable=status == "cancelled",
            response=response,
        )
    if status == "incomplete":
        reason = response.incomplete_reason or "unknown"
        advice = {
            "max_output_tokens": "raise `max_output_tokens`",
            "content_filter": "change the input or the model",
        }
        raise IncompleteResponseError(
            f"{label}: the answer was cut off ({reason}). To get it whole, {advice.get(reason, 'change the request')}; "
            'to take what there is, set on_incomplete="return"',
            response=response,
        )
    if response.refusal is not None:
        raise RefusalError(
            f"{label}: the model refused. Change the input or the model; the refusal's words are in `response.refusal`",
            response=response,
        )
    if status is None and not isinstance(response.raw.get("output"), list):
        raise APIError(
            f"{label}: answered with JSON that is no response (neither `status` nor `output`). Check the base URL",
            retryable=False,
            response=response,
        )
    return response
