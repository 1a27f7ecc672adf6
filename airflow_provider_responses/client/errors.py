"""
What a server reports, as errors: of a status, of a failure inside a 200, of an event of a stream.

No I/O and no clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from airflow_provider_responses.client.account_limits import account_reset
from airflow_provider_responses.client.bodies import cut, describe, parse_what_arrived, quoted
from airflow_provider_responses.client.error_names import CONTENT, TOO_LONG, Cause, choose
from airflow_provider_responses.client.error_reports import Report, fields_around, read_report, text_of
from airflow_provider_responses.client.summary import RequestSummary
from airflow_provider_responses.exceptions import (
    APIError,
    ForbiddenResponseError,
    ResponsesError,
    error_class_for_status,
)
from airflow_provider_responses.models.response import Response

NAME_OF_STATUS: Final[Mapping[int, str]] = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
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
# What to do, by status; where a server needs other words than OpenRouter, theirs are in the second table.
ADVICE: Final[Mapping[int, str]] = {
    400: "Correct the request: the same one fails again",
    401: "Check the API key in the connection's password field",
    402: "The account, or the key, may spend no more: settle it, or raise its limit, with whoever runs the server",
    403: "The key may not do this: check what it is allowed to do",
    404: "Check the model's name and the connection's base URL",
    408: "If it goes on, ask for less output or raise the timeout",
    413: "Send less: shorten the input, or split it over several tasks",
    422: "Correct the request: the same one fails again",
    429: "If it goes on, run fewer tasks at once (a pool), or ask the service for a higher limit",
    503: "If it goes on, run fewer tasks at once (a pool), or give the server more capacity",
    529: "If it goes on, run fewer tasks at once (a pool), or give the server more capacity",
}
ADVICE_OPENROUTER: Final[Mapping[int, str]] = {
    **ADVICE,
    401: "Check the API key in the connection's password field (OpenRouter's keys: https://openrouter.ai/settings/keys)",
    402: "Add credits (https://openrouter.ai/settings/credits) or raise the key's limit "
    "(https://openrouter.ai/settings/keys); the connection's Test button, or ResponsesHook.get_key(), shows what "
    "the key has left",
    503: "If it goes on, allow more models (`models`) or providers",
    529: "If it goes on, allow more models (`models`) or providers",
}
ADVICE_FORBIDDEN: Final[Mapping[str, str]] = {
    "guardrail-blocked": "A guardrail of the account blocked it: take what it found out of the input, or change the "
    "guardrail",
    "moderation": "The model's moderation blocked it: change the input, or take a model without one",
    "insufficient-permissions": "The key may not do this: check what it, or the account's privacy settings, allow",
}
GUARDRAILS: Final = " (https://openrouter.ai/settings/guardrails)"
ADVICE_SERVER: Final = "If it goes on, look at the server's log, or take another model"
ADVICE_SERVER_OPENROUTER: Final = "If it goes on, look at the service's status page, or take another model"
ADVICE_TOO_LONG: Final = (
    "Send less: shorten the input, or split it over several tasks; or take a model with a longer context"
)
ADVICE_CONTENT: Final = (
    "The rules of the model, or of its provider, do not allow this content: change the input or the model"
)
ADVICE_NO_RETRY: Final = "The server reports that the same request fails again: change the request"
ADVICE_NO_RETRY_OPENROUTER: Final = (
    "The service says that trying again does not help: change the model or the provider preferences"
)
ADVICE_NO_DATABASE: Final = "Check the API key: LiteLLM without a database answers a wrong key like this"
ADVICE_PREVIOUS: Final = (
    "The server has no response with the id in `previous_response_id`: it was not stored (`store`), has expired, or is "
    "at another server. Send the whole history in `input` instead (Response.to_input() gives a response's part of it)"
)
ADVICE_PREVIOUS_OR_MODEL: Final = (
    "Check that the server still has the response of `previous_response_id`, then the model's name and the "
    "connection's base URL"
)
ADVICE_STORED: Final = (
    "The server does not have the {thing} that the request names: check its id. It may have been deleted, or belong to "
    "another key or server"
)
_STORED: Final[Mapping[str, re.Pattern[str]]] = {
    "conversation": re.compile(r"\bconversation\b|\bconv_", re.IGNORECASE),
    "prompt": re.compile(r"\bprompt\b|\bpmpt_", re.IGNORECASE),
    "vector store": re.compile(r"\bvector[ _]store|\bvs_", re.IGNORECASE),
    "container": re.compile(r"\bcontainer\b|\bcntr_", re.IGNORECASE),
    "file": re.compile(r"\bfiles?\b|\bfile[-_]", re.IGNORECASE),
}
# Statuses for which a name of a passing cause is believed: elsewhere, what the status says stays.
RETRIED_BY_NAME: Final = frozenset({400, 403})
NO_MESSAGE: Final = "no message"
TOO_LARGE_FOR_LIMIT: Final = "request too large"

_NO_MODEL: Final = frozenset(
    {"deployment_not_found", "model_not_exist", "model_not_found", "no_such_model", "unknown_model"}
)
_TOLD: Final = {"true": True, "false": False}
_NAMES_RESPONSE: Final = re.compile(
    r"previous[ _]response|\bresp_|\bresponse\b.*\b(?:not found|not exist|expired|no longer)|\bno (?:such )?response\b",
    re.IGNORECASE | re.DOTALL,
)


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, *, request: RequestSummary) -> APIError:
    """Build the error of a status other than 2XX."""
    data = parse_what_arrived(body)
    report = read_report(data)
    if report.words is None:
        is_known = isinstance(data, dict) and isinstance(data.get("error"), dict)
        report = replace(report, words=NO_MESSAGE if is_known else describe(body))
    return _api_error(status, report, request=request, headers=headers)


def error_from_result(response: Response, *, request: RequestSummary) -> APIError:
    """Build the error of a failure inside a 200."""
    return _error_inside(response, _report_of(response), request)


def error_from_event(data: Mapping[str, Any], headers: Mapping[str, str], *, request: RequestSummary) -> APIError:
    """Build the error of an ``error`` or ``response.error`` event: flat, or with an ``error`` object inside."""
    response, reported = _read_event(data, headers)
    return _error_inside(response, _report_of(response, reported), request)


def says_more(response: Response, data: Mapping[str, Any]) -> bool:
    """Whether the failed response that ended a stream says more of the cause than the error event before it."""
    first, reported = _read_event(data, {})
    before, after = _report_of(first, reported), _report_of(response)
    if before.code is None and before.error_type is None and (after.code or after.error_type):
        return True
    return after.cause is not None and choose((before.cause, after.cause)) != before.cause


def _read_event(data: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[Response, Mapping[str, Any]]:
    """Return an error event as a failed response, and its error with all that stands around it."""
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
            # The reason of a response that was cut off, which some servers call failed.
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
        retryable=_is_retryable(status, report, cause, headers),
        status_code=status,
        code=report.code,
        error_type=report.error_type,
        metadata=report.metadata,
        availability=report.availability,
        retry_after=retry_after(headers, report.availability),
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
    happened = f"{request.label}: {status} {NAME_OF_STATUS.get(status, 'error')}{where}: {words}{field}"
    return error.about(_sentence(happened, error, _advice(error, report, cause, request)))


def _headers_in(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that OpenRouter repeats in the body of an error."""
    headers = metadata.get("headers")
    return {name.lower(): str(text) for name, text in headers.items()} if isinstance(headers, Mapping) else {}


def _cause(status: int, report: Report) -> Cause | None:
    """Return the named cause, where it says more than the status."""
    cause = report.cause
    if status == 429 and TOO_LARGE_FOR_LIMIT in (report.words or "").lower():
        return Cause(413, "request_too_large")  # it is beyond the limit by itself, and no wait makes it smaller
    if cause is None or report.is_decisive or status >= 500:
        return cause
    # Below 500, a generic name or a number is often a gateway's default, and the status is what was meant.
    if cause.is_generic or cause.name is None:
        return None
    can_pass = error_class_for_status(status)[1] or status in RETRIED_BY_NAME
    return cause if can_pass or not cause.may_pass else None


def _is_retryable(status: int, report: Report, cause: Cause | None, headers: Mapping[str, str]) -> bool:
    """Return whether the same request may succeed later: the more particular a report is, the more it counts."""
    if isinstance(told := report.availability.get("retryable"), bool):
        return told
    if (told := _TOLD.get(headers.get("x-should-retry", "").lower())) is not None:
        return told
    return error_class_for_status(status)[1] if cause is None else cause.may_pass


def _sentence(happened: str, error: APIError, advice: str) -> str:
    """Return what happened, what the upstream said, and what to do."""
    wait = "" if error.retry_after is None else f"The service asks to wait {error.retry_after:g} s"
    parts = (happened, *_reasons(error.metadata), wait, advice)
    return ". ".join(part.rstrip(". ") for part in parts if part)


def _reasons(metadata: Mapping[str, Any]) -> list[str]:
    """Return what the upstream said itself."""
    provider = text_of(metadata.get("provider_name"))
    found = []
    if raw := metadata.get("raw"):
        found.append(f"{provider or 'The provider'} said: {quoted(raw if isinstance(raw, str) else repr(raw))}")
    if code := metadata.get("provider_code"):
        found.append(f"Provider code: {cut(str(code))}")
    for name in ("reasons", "patterns", "previous_errors"):
        if value := metadata.get(name):
            found.append(f"{name}: {quoted(repr(value))}")
    return found


def _advice(error: APIError, report: Report, cause: Cause | None, request: RequestSummary) -> str:
    status = error.status_code or 500
    if models := error.availability.get("fallback_models"):
        return f"Models to use instead: {', '.join(map(str, models)) if isinstance(models, list) else models}"
    if (advice := _advice_previous(status, report, request)) or (advice := _advice_named(cause)):
        return advice
    if (advice := _advice_stored(status, report)) is not None:
        return advice
    about = status if cause is None else cause.status
    if not error.retryable and error_class_for_status(about)[1]:
        return ADVICE_NO_RETRY_OPENROUTER if request.is_openrouter else ADVICE_NO_RETRY
    if isinstance(error, ForbiddenResponseError) and about == 403:
        if error.kind == "insufficient-permissions" and not request.is_openrouter:
            return ADVICE[403]
        is_guardrail = error.kind == "guardrail-blocked" and request.is_openrouter
        return ADVICE_FORBIDDEN[error.kind] + (GUARDRAILS if is_guardrail else "")
    if (advice := (ADVICE_OPENROUTER if request.is_openrouter else ADVICE).get(about)) is not None:
        return advice
    if 300 <= about < 400:
        return "Redirects are not followed, since they could carry the key away: set the base URL to where they lead"
    if about >= 500 or error.retryable:
        return ADVICE_SERVER_OPENROUTER if request.is_openrouter else ADVICE_SERVER
    return ADVICE[400]


def _advice_named(cause: Cause | None) -> str | None:
    """Return what to do about a cause whose name says more than its status."""
    name = None if cause is None else cause.name
    if name in TOO_LONG:
        return ADVICE_TOO_LONG
    if name in CONTENT:
        return ADVICE_CONTENT
    return ADVICE_NO_DATABASE if name == "no_db_connection" else None


def _advice_previous(status: int, report: Report, request: RequestSummary) -> str | None:
    """Return what to do if the response that the request goes on from is not there."""
    name = report.cause.name if report.cause else None
    if name == "previous_response_not_found":
        return ADVICE_PREVIOUS
    if status not in {400, 404} or not request.previous_response_id:
        return None
    if report.param == "model" or name in _NO_MODEL:
        return None
    is_named = report.param in {"previous_response_id", "response_id"} or name == "response_not_found"
    if is_named or _NAMES_RESPONSE.search(report.words or ""):
        return ADVICE_PREVIOUS
    is_about_model = "model" in (report.words or "").lower()
    return ADVICE_PREVIOUS_OR_MODEL if status == 404 and not is_about_model else None


def _advice_stored(status: int, report: Report) -> str | None:
    """Return what to do about a 404 of something else that the server stores."""
    if status != 404 or report.param == "model" or (report.cause and report.cause.name in _NO_MODEL):
        return None
    words = report.words or ""
    for thing, name in _STORED.items():
        if name.search(report.param or "") or ("model" not in words.lower() and name.search(words)):
            return ADVICE_STORED.format(thing=thing)
    return None


def retry_after(headers: Mapping[str, str], availability: Mapping[str, Any] | None = None) -> float | None:
    """Return the seconds that the service asks to wait, from headers (seconds, milliseconds or a date) and body."""
    waits = [
        _milliseconds(headers.get("retry-after-ms")),
        _seconds(headers.get("retry-after"), headers.get("date")),
    ]
    waits.append(_seconds(str((availability or {}).get("retry_after", "")), None))
    known = [wait for wait in waits if wait is not None and 0 <= wait < float("inf")]
    return max(known) if known else None


def _milliseconds(text: str | None) -> float | None:
    seconds = _seconds(text, None)
    return None if seconds is None else seconds / 1000


def _seconds(text: str | None, now: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:  # a date is read against the server's own clock where its Date header tells it, else against this one
        since = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(text) - since).total_seconds())
    except (TypeError, ValueError):
        return None


def note_tries(error: ResponsesError) -> None:
    """Add to a final error how often was tried."""
    if error.previous:
        kinds = ", ".join(type(e).__name__ for e in error.previous)
        error.add_note(f"{error.tries} tries were made; the earlier ones ended in: {kinds}")
