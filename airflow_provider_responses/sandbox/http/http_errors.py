"""HTTP errors with the bodies that the API documents for each status."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from airflow_provider_responses.sandbox.http.routing import routing_metadata, unrouted_metadata
from airflow_provider_responses.sandbox.state.prices import PRICES, provider_of
from airflow_provider_responses.sandbox.state.rate_limits import ExceededLimit
from airflow_provider_responses.sandbox.state.script import Step

DOCUMENTED: Final = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 524, 529)
MESSAGES: Final = {
    400: "The request is not valid",
    401: "The API key is not accepted",
    402: "The credits, or the limit of this key, are used up",
    403: "This key has no access to the operation",
    404: "There is no such model or endpoint",
    408: "The request took too long",
    413: "The request is too large",
    422: "The request is well-formed, but cannot be processed",
    429: "Too many requests for this key",
    500: "Internal error",
    502: "The provider returned an error",
    503: "No provider is available",
    524: "The provider did not respond in time",
    529: "The provider is overloaded",
}
KIND_MESSAGES: Final = {
    "guardrail-blocked": "A guardrail blocked the request",
    "moderation": "The input was flagged by moderation",
    "insufficient-permissions": "The key has no permission for this operation",
}
BLOCKED_PATTERN: Final = "forget what you were told"


class HttpError(Exception):
    """The call ends with this HTTP error."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}


def http_error(
    status: int, message: str | None = None, headers: dict[str, str] | None = None, **details: Any
) -> HttpError:
    """Return the error of a status; ``details`` that are ``None`` are left out of its body."""
    error: dict[str, Any] = {"code": status, "message": message or default_message(status)}
    error |= {name: value for name, value in details.items() if value is not None}
    return HttpError(status, {"error": error}, headers)


def default_message(status: int) -> str:
    """Return the message of a status."""
    if status in MESSAGES:
        return MESSAGES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def model_not_found_error(requested: list[str], *, with_metadata: bool = False) -> HttpError:
    """Return the 404 of models that do not exist; it names models that do."""
    error = http_error(
        404,
        f"No endpoint found for {', '.join(requested)}",
        availability={
            "code": "model_not_found",
            "retryable": False,
            "requested_models": requested,
            "fallback_models": _similar_models(requested[0]),
        },
    )
    if with_metadata:
        error.body["openrouter_metadata"] = unrouted_metadata(requested[0])
    return error


def _similar_models(model: str) -> list[str]:
    vendor = model.partition("/")[0]
    return [name for name in PRICES if name.startswith(f"{vendor}/")][:3] or list(PRICES)[-2:]


def scripted_error(step: Step, requested: Sequence[str], *, with_metadata: bool) -> HttpError:
    """Return the error of a step, with the routing metadata if they are enabled."""
    status = step.error_status or 500
    model = next(iter(requested), "openai/gpt-4o-mini")
    error = http_error(
        status,
        step.message or (KIND_MESSAGES[step.kind] if step.kind else None),
        _headers(status, step),
        metadata=step.metadata or _metadata(status, step.kind, model),
        availability=_availability(step, status, list(requested) or [model]),
        error_type=step.error_type,
    )
    if with_metadata:
        routing = routing_metadata(model, model, status=status)
        if step.kind == "guardrail-blocked":
            routing["pipeline"] = [_guardrail()]
        error.body["openrouter_metadata"] = routing
    return error


def rate_limit_error(exceeded: ExceededLimit) -> HttpError:
    """Return the 429 of a key that exceeds its limit."""
    message = f"Rate limit exceeded: {exceeded.limit} {exceeded.unit} per minute for this key"
    headers = {
        "Retry-After": str(math.ceil(exceeded.retry_after)),
        **_rate_limit_headers(exceeded.limit, exceeded.resets_at),
    }
    return http_error(429, message, headers, error_type="rate_limit_exceeded")


def _rate_limit_headers(limit: int, resets_at: float) -> dict[str, str]:
    milliseconds = str(math.ceil(resets_at * 1000))
    return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": milliseconds}


def _headers(status: int, step: Step) -> dict[str, str]:
    headers: dict[str, str] = {}
    retry_after = step.retry_after
    if "retry_after" not in step.model_fields_set and status in {429, 503}:
        retry_after = 1.0
    if retry_after is not None:
        headers["Retry-After"] = f"{retry_after:g}"
    if status == 429 and "provider_name" not in (step.metadata or {}):  # OpenRouter's own limit, not a provider's
        headers |= _rate_limit_headers(20, time.time() + (retry_after or 0.0))
    return headers


def _availability(step: Step, status: int, requested: list[str]) -> dict[str, Any] | None:
    """Return the step's ``availability``: an object as it is, a code completed to an object."""
    if not isinstance(step.availability, str):
        return step.availability
    retryable = status >= 500
    availability: dict[str, Any] = {"code": step.availability, "retryable": retryable, "requested_models": requested}
    if retryable:
        availability["retry_after"] = 1.0 if step.retry_after is None else step.retry_after
        availability["affected_providers"] = [provider_of(requested[0])]
    else:
        availability["fallback_models"] = _similar_models(requested[0])
    return availability


def _metadata(status: int, kind: str | None, model: str) -> dict[str, Any] | None:
    if kind == "guardrail-blocked":
        return {"patterns": [BLOCKED_PATTERN]}
    provider = provider_of(model)
    if kind == "moderation":
        return {"reasons": ["violence"], "flagged_input": "…", "provider_name": provider, "model_slug": model}
    if status in {502, 503, 529}:
        return {"provider_name": provider, "raw": default_message(status), "provider_code": status}
    return None


def _guardrail() -> dict[str, Any]:
    return {
        "type": "guardrail",
        "name": "regex_pi_detection",
        "guardrail_id": "grd_sandbox",
        "guardrail_scope": "api-key",
        "summary": "One pattern matched",
        "data": {"action": "blocked", "detected": True, "engines": ["regex"], "patterns": [BLOCKED_PATTERN]},
    }
