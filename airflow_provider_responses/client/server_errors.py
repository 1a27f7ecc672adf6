"""
Builds the errors that a server reports: by a status, a failure inside a 200, or an event of a stream.

No I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from airflow_provider_responses.client.account_limits import account_reset
from airflow_provider_responses.client.advice import advise
from airflow_provider_responses.client.batch_errors import is_refused, may_have_created
from airflow_provider_responses.client.bodies import describe, parse_partial, quoted, shorten
from airflow_provider_responses.client.error_names import Cause, most_particular
from airflow_provider_responses.client.error_reports import Report, fields_around, non_blank_text, read_report
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.retry_after import read_retry_after
from airflow_provider_responses.exceptions import APIError, error_class_for_status
from airflow_provider_responses.models.response import Response

NAME_OF_STATUS: Final[Mapping[int, str]] = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    413: "Payload Too Large",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    524: "Edge Network Timeout",
    529: "Provider Overloaded",
}
# Permanent statuses that count as temporary if the error names a temporary cause.
RETRIED_BY_NAME: Final = frozenset({400, 403})
NO_MESSAGE: Final = "no message"
TOO_LARGE_FOR_LIMIT: Final = "request too large"

_BOOLEANS: Final = {"true": True, "false": False}


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, *, request: RequestSummary) -> APIError:
    """Return the error of a status other than 2XX."""
    data = parse_partial(body)
    report = read_report(data)
    if report.words is None:
        is_known = isinstance(data, dict) and isinstance(data.get("error"), dict)
        report = replace(report, words=NO_MESSAGE if is_known else describe(body))
    return _api_error(status, report, request=request, headers=headers)


def error_from_result(response: Response, *, request: RequestSummary) -> APIError:
    """Return the error of a failure inside a 200."""
    return _error_inside(response, _report_of(response), request)


def error_from_event(data: Mapping[str, Any], headers: Mapping[str, str], *, request: RequestSummary) -> APIError:
    """Return the error of an ``error`` or ``response.error`` event: flat, or with an ``error`` object inside."""
    response, reported = _read_event(data, headers)
    return _error_inside(response, _report_of(response, reported), request)


def error_in_batch(status: int | None, reported: Mapping[str, Any], *, request: RequestSummary) -> APIError:
    """
    Return the error of one request in a batch.

    :param status: the status of the request; None if it was never sent to the model.
    """
    report = read_report(reported)
    named = report.cause.status if report.cause else 500
    return _api_error(named if status is None or status < 400 else status, report, request=request, headers={})


def names_cause_better(response: Response, data: Mapping[str, Any]) -> bool:
    """Whether the failed response in the last event names the cause more precisely than the error event before it."""
    first, reported = _read_event(data, {})
    before, after = _report_of(first, reported), _report_of(response)
    if before.code is None and before.error_type is None and (after.code or after.error_type):
        return True
    return after.cause is not None and most_particular((before.cause, after.cause)) != before.cause


def _read_event(data: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[Response, Mapping[str, Any]]:
    """Return an error event as a failed response, and its error with the fields beside it."""
    inner = {"message": data["error"]} if isinstance(data.get("error"), str) else data.get("error")
    own = {name: value for name, value in inner.items() if value is not None} if isinstance(inner, dict) else {}
    around = fields_around(data)
    raw = {"status": "failed", "error": around | own, "error_type": data.get("error_type")}
    return Response(raw=raw, headers=headers), {**around, "error": own} if own and around else around | own


def _report_of(response: Response, reported: Mapping[str, Any] | None = None) -> Report:
    return read_report(
        {
            "error": reported or response.error or {},
            "error_type": response.error_type,
            "openrouter_metadata": response.openrouter_metadata,
            # Some servers send a truncated response as a failed one: its reason is the code.
            "code": response.incomplete_reason,
        }
    )


def _error_inside(response: Response, report: Report, request: RequestSummary) -> APIError:
    status = report.cause.status if report.cause else 500
    return _api_error(status, report, request=request, headers=response.headers, response=response)


def _api_error(
    status: int,
    report: Report,
    *,
    request: RequestSummary,
    headers: Mapping[str, str],
    response: Response | None = None,
) -> APIError:
    cause = _cause(status, report)
    cls, _ = error_class_for_status(status)
    error = cls(
        retryable=_is_retryable(status, report, cause, headers) and not is_refused(request.batch, status),
        ambiguous=request.batch == "submit" and may_have_created(status),
        status_code=status,
        code=report.code,
        error_type=report.error_type,
        metadata=report.metadata,
        availability=report.availability,
        retry_after=read_retry_after(headers, report.availability),
        generation_id=headers.get("x-generation-id"),
        openrouter_metadata=report.openrouter_metadata,
        response=response,
    )
    if status == 429:
        error.account_reset = account_reset(_headers_in(report.metadata) | dict(headers))
        error.retry_after = error.account_reset if error.retry_after is None else error.retry_after
    where = " inside a response with status 200" if response is not None else ""
    words = quoted(report.words or NO_MESSAGE)
    field = f" (field {report.param})" if report.param and report.param not in words else ""
    happened = f"{status} {NAME_OF_STATUS.get(status, 'error')}{where}: {words}{field}"
    wait = "" if error.retry_after is None else f"The service asks to wait {error.retry_after:g} s"
    advice = advise(error, report, cause, request)
    return error.set_message(request.error_text(happened, *_reasons(error.metadata), wait, advice))


def _headers_in(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers in the body of an error: OpenRouter repeats them there."""
    headers = metadata.get("headers")
    return {name.lower(): str(text) for name, text in headers.items()} if isinstance(headers, Mapping) else {}


def _cause(status: int, report: Report) -> Cause | None:
    """Return the cause that the error names, if it is more particular than the status."""
    cause = report.cause
    if status == 429 and TOO_LARGE_FOR_LIMIT in (report.words or "").lower():
        return Cause(413, "request_too_large")  # the request alone exceeds the limit, so waiting does not help
    if cause is None or report.is_decisive or status >= 500:
        return cause
    # Below 500, a generic name or a number is often the default of a gateway: then the status counts.
    if cause.is_generic or cause.name is None:
        return None
    is_retried = error_class_for_status(status)[1] or status in RETRIED_BY_NAME
    return cause if is_retried or not cause.is_temporary else None


def _is_retryable(status: int, report: Report, cause: Cause | None, headers: Mapping[str, str]) -> bool:
    """Return whether the same request may succeed later; the most particular report counts."""
    if isinstance(given := report.availability.get("retryable"), bool):
        return given
    if (given := _BOOLEANS.get(headers.get("x-should-retry", "").lower())) is not None:
        return given
    return error_class_for_status(status)[1] if cause is None else cause.is_temporary


def _reasons(metadata: Mapping[str, Any]) -> list[str]:
    """Return the provider's own messages."""
    provider = non_blank_text(metadata.get("provider_name"))
    found = []
    if raw := metadata.get("raw"):
        found.append(f"{provider or 'The provider'} reported: {quoted(raw if isinstance(raw, str) else repr(raw))}")
    if code := metadata.get("provider_code"):
        found.append(f"Provider code: {shorten(str(code))}")
    for name in ("reasons", "patterns", "previous_errors"):
        if value := metadata.get(name):
            found.append(f"{name}: {quoted(repr(value))}")
    return found
