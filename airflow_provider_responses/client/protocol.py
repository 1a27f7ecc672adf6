"""
The Responses API without I/O and without a clock.

A request becomes bytes and headers; a status, headers and a body become a Response or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from logging import getLogger
from typing import Any, Final

from airflow_provider_responses import __version__
from airflow_provider_responses.client.bodies import describe, parse_json, quoted
from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.client.error_reports import is_report, read_report
from airflow_provider_responses.client.errors import error_from_event, error_from_response, error_from_result
from airflow_provider_responses.client.summary import RequestSummary
from airflow_provider_responses.exceptions import (
    APIError,
    IncompleteResponseError,
    RefusalError,
    RequestValidationError,
)
from airflow_provider_responses.models.fields import MAX_TOOL_CALLS
from airflow_provider_responses.models.history import filled
from airflow_provider_responses.models.messages import is_message
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

log = getLogger(__name__)
# Whoever sends many requests logs what is remarkable about their responses together.
is_one_of_many: ContextVar[bool] = ContextVar("is_one_of_many", default=False)

TOO_LONG: Final = frozenset({"max_output_tokens", "max_tokens", "length"})  # reasons of a response that was cut off


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
    Return the JSON object of a successful HTTP response.

    :param request: the request that is responded to.
    :raises APIError: for any other status, and for a body that is no JSON object.
    """
    if not 200 <= status < 300:
        raise error_from_response(status, headers, body, request=request)
    data = parse_json(body)
    if not isinstance(data, dict):
        label = request.label
        is_null = body.strip() == b"null" and not request.is_streamed  # one bridge responds so to what is not streamed
        advice = "If the server only streams, set stream=True" if is_null else "Check the proxies on the way"
        # The model may well have run: what lies between mangled its response.
        raise APIError(
            # What is no page of a gateway may be a piece of the response, and is not quoted.
            f"{label}: answered {status} with {describe(body, quote=body.lstrip().startswith(b'<'))} instead of a "
            f"whole JSON object. Check the base URL. {advice}",
            status_code=status,
            retryable=not is_null,
            ambiguous=True,
            generation_id=headers.get("x-generation-id"),
        )
    return data


def note_limits(response: Response, *, request: RequestSummary) -> Response:
    """Mark a response that may be truncated: it is as long as allowed, and its server calls it complete."""
    limit = request.max_output_tokens
    is_at_limit = limit is not None and response.usage.output_tokens == limit
    if response.maybe_truncated or not is_at_limit or response.status not in (None, "completed"):
        return response
    if not is_one_of_many.get():
        log.warning(
            "%s: the response is complete by its status, and has as many tokens as `max_output_tokens` allows (%s). It "
            "may be truncated: raise `max_output_tokens`",
            request.label,
            request.max_output_tokens,
        )
    return replace(response, maybe_truncated=True)


def check_answer(response: Response, *, request: RequestSummary) -> Response:
    """
    Return a response if it is a whole one, marked if it may be truncated all the same.

    :raises APIError: the class that its ``error_type`` names, for a failure inside a 200.
    :raises IncompleteResponseError: for a response that was cut off.
    :raises RefusalError: for a refusal.
    """
    status, label = response.status, request.label
    if response.error is not None and status in (None, "completed", "failed"):
        raise _failure(response, request)
    if status == "failed" and not (_has_output(response) or response.incomplete_reason):
        raise _failure(response, request)
    if status in {"queued", "in_progress", "cancelled"}:
        raise APIError(
            f"{label}: the response's status is {status!r}, so it is not there. Leave out `background`, or try again",
            retryable=status == "cancelled",
            ambiguous=status == "cancelled" and (_has_output(response) or response.was_made),
            response=response,
        )
    if status in {"failed", "incomplete"}:
        raise _cut_off(response, request)
    if response.refusal is not None:
        raise RefusalError(
            f"{label}: the model refused. Change the input or the model; the refusal's words are in `response.refusal`",
            response=response,
        )
    if status is None and not isinstance(response.raw.get("output"), list):
        raise _no_response(response, request)
    return note_limits(response, request=request)


def _has_output(response: Response) -> bool:
    return any(not is_message(item) or item.get("content") for item in response.output)


def _no_response(response: Response, request: RequestSummary) -> APIError:
    """Build the error of JSON that is none, with the server's words if they report an error."""
    kind = response.raw.get("type")
    report = None
    if is_report(response.raw, kind if isinstance(kind, str) else ""):
        report = read_report(response.raw)
        if report.cause is not None:
            return error_from_event(response.raw, response.headers, request=request)
    said = f". The server says: {quoted(report.words)}" if report and report.words else ""
    return APIError(
        f"{request.label}: answered with JSON that is no response (neither `status` nor `output`){said}. "
        "Check the base URL",
        retryable=False,
        response=response,
    )


def _failure(response: Response, request: RequestSummary) -> APIError:
    error = error_from_result(response, request=request)
    error.ambiguous = error.may_have_been_billed or _has_output(response)
    return error


def _cut_off(response: Response, request: RequestSummary) -> IncompleteResponseError:
    reason = response.incomplete_reason
    name = (reason or "").lower()
    if name in TOO_LONG or (reason is None and _is_at_limit(response, request)):
        advice = "raise `max_output_tokens`"
    elif name == "content_filter" or response.status == "failed":
        advice = "change the input or the model"
    else:
        advice = "change the request"
    happened = f"the response was cut off ({reason or 'unknown reason'})"
    if response.ended_in_reasoning and reason is None:
        happened = "the response ended inside its reasoning, without any output"
        advice = "raise `max_output_tokens` or lower the reasoning effort (`reasoning.effort`)"
    if response.status == "failed" and reason is None:
        happened = "the response failed without an error after a part of its output, as a content filter ends it"
    return IncompleteResponseError(
        f'{request.label}: {happened}. To get it whole, {advice}; to take what there is, set on_incomplete="return"',
        response=response,
    )


def _is_at_limit(response: Response, request: RequestSummary) -> bool:
    most = request.max_output_tokens
    return most is not None and 0 < most <= (response.usage.output_tokens or 0)
