"""
What a server reports, as errors: of a status, of a failure inside a 200, of an event of a stream.

No I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from airflow_provider_responses.client.bodies import cut, describe, parse_json
from airflow_provider_responses.client.summary import RequestSummary
from airflow_provider_responses.exceptions import (
    APIError,
    ForbiddenResponseError,
    ResponsesError,
    error_class_for_status,
)
from airflow_provider_responses.models.response import Response

# The stable names of failures inside a 200 (API.md), and the codes used where there is no name.
STATUS_OF_ERROR_TYPE: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "context_length_exceeded",
            "max_tokens_exceeded",
            "token_limit_exceeded",
            "string_too_long",
            "invalid_request",
            "invalid_prompt",
            "content_policy_violation",
            "refusal",
            "invalid_image",
            "image_too_large",
            "image_too_small",
            "unsupported_image_format",
            "image_download_failed",
        ),
        400,
    ),
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "not_found": 404,
    "image_not_found": 404,
    "precondition_failed": 412,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "server": 500,
    "unmapped": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    "timeout": 504,
}
STATUS_OF_CODE: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "invalid_prompt",
            "invalid_image",
            "invalid_image_format",
            "invalid_base64_image",
            "invalid_image_url",
            "image_too_large",
            "image_too_small",
            "image_parse_error",
            "image_content_policy_violation",
            "invalid_image_mode",
            "image_file_too_large",
            "unsupported_image_media_type",
            "empty_image_file",
            "failed_to_download_image",
        ),
        400,
    ),
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "vector_store_timeout": 504,
    "bio_policy": 403,
    "data_residency_mismatch": 403,
    "image_file_not_found": 404,
}
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
ADVICE: Final[Mapping[int, str]] = {
    400: "Correct the request: the same one fails again",
    401: "Check the API key in the connection's password field (OpenRouter's keys: https://openrouter.ai/settings/keys)",
    402: "Add credits (https://openrouter.ai/settings/credits) or raise the key's limit "
    "(https://openrouter.ai/settings/keys); the connection's Test button, or ResponsesHook.get_key(), shows what "
    "the key has left",
    404: "Check the model's name and the connection's base URL",
    408: "If it stays, ask for less output or raise the timeout",
    413: "Send less: shorten the input, or split it over several tasks",
    422: "Correct the request: the same one fails again",
    429: "If it stays, run fewer tasks at once (a pool), or ask the service for a higher limit",
    503: "If it stays, allow more models (`models`) or providers",
    529: "If it stays, allow more models (`models`) or providers",
}
ADVICE_FORBIDDEN: Final[Mapping[str, str]] = {
    "guardrail-blocked": "A guardrail of the account blocked it: take what it found out of the input, or change the "
    "guardrail (https://openrouter.ai/settings/guardrails)",
    "moderation": "The model's moderation blocked it: change the input, or take a model without one",
    "insufficient-permissions": "The key may not do this: check what it, or the account's privacy settings, allow",
}
ADVICE_SERVER: Final = "If it stays, look at the service's status page, or take another model"


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, *, request: RequestSummary) -> APIError:
    """Build the error of a status other than 2XX."""
    envelope = parse_json(body)
    if not isinstance(envelope, dict):
        envelope = {}
    error = envelope.get("error")
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = {"message": _text(envelope.get("message")) or describe(body)}
    return _api_error(
        status,
        error,
        request=request,
        headers=headers,
        error_type=_text(error.get("error_type")) or _text(envelope.get("error_type")),
        openrouter_metadata=envelope.get("openrouter_metadata"),
    )


def error_from_result(response: Response, *, request: RequestSummary) -> APIError:
    """Build the error of a failure inside a 200."""
    error = response.error or {}
    code = error.get("code")
    status = STATUS_OF_ERROR_TYPE.get(response.error_type or "")
    if status is None:
        status = code if isinstance(code, int) and 400 <= code < 600 else STATUS_OF_CODE.get(str(code), 500)
    return _api_error(
        status,
        error,
        request=request,
        headers=response.headers,
        error_type=response.error_type,
        openrouter_metadata=response.openrouter_metadata,
        response=response,
    )


def error_from_event(data: Mapping[str, Any], headers: Mapping[str, str], *, request: RequestSummary) -> APIError:
    """Build the error of an ``error`` or ``response.error`` event: flat, or with an ``error`` object inside."""
    inner = {"message": data["error"]} if isinstance(data.get("error"), str) else data.get("error")
    error = (
        inner
        if isinstance(inner, dict)
        else {k: data[k] for k in ("code", "message", "param", "error_type") if k in data}
    )
    raw = {"status": "failed", "error": error, "error_type": data.get("error_type")}
    return error_from_result(Response(raw=raw, headers=headers), request=request)


def _api_error(
    status: int,
    error: Mapping[str, Any],
    *,
    request: RequestSummary,
    headers: Mapping[str, str],
    error_type: str | None,
    openrouter_metadata: Any,
    response: Response | None = None,
) -> APIError:
    availability = _mapping(error.get("availability"))
    metadata = _mapping(error.get("metadata"))
    cls, retryable = error_class_for_status(status)
    # What is said in particular goes before what the status says in general.
    if (named := STATUS_OF_ERROR_TYPE.get(error_type or "")) is not None:
        _, retryable = error_class_for_status(named)
    if isinstance(availability.get("retryable"), bool):
        retryable = availability["retryable"]
    error_object = cls(
        retryable=retryable,
        status_code=status,
        code=error["code"] if isinstance(error.get("code"), (str, int)) else None,
        error_type=error_type,
        metadata=metadata,
        availability=availability,
        retry_after=retry_after(headers, availability),
        generation_id=headers.get("x-generation-id"),
        openrouter_metadata=_mapping(openrouter_metadata) or None,
        response=response,
    )
    where = " inside the answer" if response is not None else ""
    said = cut(_text(error.get("message")) or "no message")
    return error_object.about(
        _sentence(f"{request.label}: {status} {NAME_OF_STATUS.get(status, 'error')}{where}: {said}", error_object)
    )


def _sentence(happened: str, error: APIError) -> str:
    """Say what happened, what the upstream said, and what to do."""
    wait = "" if error.retry_after is None else f"The service asks to wait {error.retry_after:g} s"
    parts = (happened, *_reasons(error.metadata), wait, _advice(error))
    return ". ".join(part.rstrip(". ") for part in parts if part)


def _reasons(metadata: Mapping[str, Any]) -> list[str]:
    """What the upstream said itself."""
    provider = _text(metadata.get("provider_name"))
    found = []
    if raw := metadata.get("raw"):
        found.append(f"{provider or 'The provider'} said: {cut(raw if isinstance(raw, str) else repr(raw))}")
    if code := metadata.get("provider_code"):
        found.append(f"Provider code: {cut(str(code))}")
    for name in ("reasons", "patterns", "previous_errors"):
        if value := metadata.get(name):
            found.append(f"{name}: {cut(repr(value))}")
    return found


def _advice(error: APIError) -> str:
    status = error.status_code or 500
    if models := error.availability.get("fallback_models"):
        return f"Models to use instead: {', '.join(map(str, models)) if isinstance(models, list) else models}"
    if not error.retryable and (status >= 500 or status in {408, 425, 429}):
        return "The service says that trying again does not help: change the model or the provider preferences"
    if isinstance(error, ForbiddenResponseError):
        return ADVICE_FORBIDDEN[error.kind]
    if status in ADVICE:
        return ADVICE[status]
    if 300 <= status < 400:
        return "Redirects are not followed, since they could carry the key away: set the base URL to where they lead"
    return ADVICE_SERVER if status >= 500 or error.retryable else "Correct the request: the same one fails again"


def retry_after(headers: Mapping[str, str], availability: Mapping[str, Any] | None = None) -> float | None:
    """Give the seconds that the service asks to wait, from headers (seconds, milliseconds or a date) and body."""
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


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
