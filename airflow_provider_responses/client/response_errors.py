"""Builds the errors of a body or a response that has status 200 and cannot be used. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from airflow_provider_responses.client.batch_errors import is_ambiguous
from airflow_provider_responses.client.bodies import describe, quoted
from airflow_provider_responses.client.error_reports import is_report, read_report
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.server_errors import error_from_event, error_from_result
from airflow_provider_responses.exceptions import APIError, IncompleteResponseError, RefusalError
from airflow_provider_responses.models.messages import is_message
from airflow_provider_responses.models.response import Response

# `incomplete_reason` of a response that reached `max_output_tokens`.
LIMIT_REASONS: Final = frozenset({"max_output_tokens", "max_tokens", "length"})


def not_json(status: int, headers: Mapping[str, str], body: bytes, *, request: RequestSummary) -> APIError:
    """Return the error of a body that is not a JSON object."""
    is_null = body.strip() == b"null" and not request.is_streamed  # one bridge sends it for unstreamed requests
    advice = "If the server only streams, set stream=True" if is_null else "Check the proxies on the way"
    # Only a gateway's page is quoted: any other body may be a part of the response.
    body_text = describe(body, quote=body.lstrip().startswith(b"<"))
    return APIError(
        request.error_text(
            f"expected a complete JSON object with status {status}, got {body_text}", "Check the base URL", advice
        ),
        status_code=status,
        retryable=not is_null,
        # A model may have responded, and a proxy may have damaged the response.
        ambiguous=is_ambiguous(request.batch),
        generation_id=headers.get("x-generation-id"),
    )


def not_ready(response: Response, *, request: RequestSummary) -> APIError:
    """Return the error of a response that is still queued or in progress, or was cancelled."""
    is_cancelled = response.status == "cancelled"
    return APIError(
        request.error_text(
            f"the response is not ready: its status is {response.status!r}",
            "Leave out `background`, or send the request again",
        ),
        retryable=is_cancelled,
        ambiguous=is_cancelled and (has_output(response) or response.was_generated),
        response=response,
    )


def refused(response: Response, *, request: RequestSummary) -> RefusalError:
    """Return the error of a refusal."""
    return RefusalError(
        request.error_text(
            "the model refused", "Change the input or the model; the text of the refusal is in `response.refusal`"
        ),
        response=response,
    )


def no_response(response: Response, *, request: RequestSummary) -> APIError:
    """Return the error of JSON that is not a response, with the server's message if it reports an error."""
    kind = response.raw.get("type")
    report = None
    if is_report(response.raw, kind if isinstance(kind, str) else ""):
        report = read_report(response.raw)
        if report.cause is not None:
            return error_from_event(response.raw, response.headers, request=request)
    return APIError(
        request.error_text(
            "the server sent JSON that is not a response: it has neither `status` nor `output`",
            f"Its message: {quoted(report.words)}" if report and report.words else "",
            "Check the base URL",
        ),
        retryable=False,
        response=response,
    )


def failed(response: Response, *, request: RequestSummary) -> APIError:
    """Return the error of a failure inside a 200."""
    error = error_from_result(response, request=request)
    error.ambiguous = error.may_have_been_billed or has_output(response)
    return error


def truncated(response: Response, *, request: RequestSummary) -> IncompleteResponseError:
    """Return the error of a response that ended early."""
    reason = response.incomplete_reason
    name = (reason or "").lower()
    if name in LIMIT_REASONS or (reason is None and _is_at_limit(response, request)):
        advice = "raise `max_output_tokens`"
    elif name == "content_filter" or response.status == "failed":
        advice = "change the input or the model"
    else:
        advice = "change the request"
    cause = f"the response was truncated ({reason or 'unknown reason'})"
    if response.ended_in_reasoning and reason is None:
        cause = "the response ended inside its reasoning, without any output"
        advice = "raise `max_output_tokens` or lower the reasoning effort (`reasoning.effort`)"
    if response.status == "failed" and reason is None:
        cause = "the response failed without an error after a part of its output, as with a content filter"
    text = request.error_text(cause, f'To get all of it, {advice}; to accept this part, set on_invalid_output="return"')
    return IncompleteResponseError(text, response=response)


def has_output(response: Response) -> bool:
    """Whether a response has any output."""
    return any(not is_message(item) or item.get("content") for item in response.output)


def _is_at_limit(response: Response, request: RequestSummary) -> bool:
    most = request.max_output_tokens
    return most is not None and 0 < most <= (response.usage.output_tokens or 0)
