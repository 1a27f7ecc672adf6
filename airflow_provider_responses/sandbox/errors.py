"""Error answers: for each status the envelope that the API documents."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

from airflow_provider_responses.sandbox.limits import Excess
from airflow_provider_responses.sandbox.prices import PRICES, provider_of
from airflow_provider_responses.sandbox.routing import routing_metadata, unrouted
from airflow_provider_responses.sandbox.script import Step

DOCUMENTED: Final = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 524, 529)
MESSAGES: Final = {
    400: "The request is not valid",
    401: "The API key is not accepted",
    402: "The credits, or the limit of this key, are used up",
    403: "This key may not do that",
    404: "There is no such model or endpoint",
    408: "The request took too long to arrive or to answer",
    413: "The request is too large",
    422: "The request is well-formed, but cannot be processed",
    429: "Too many requests for this key",
    500: "Something went wrong inside",
    502: "The provider answered with an error",
    503: "No provider can take the request now",
    524: "The provider did not answer in time",
    529: "The provider is overloaded",
}
KIND_MESSAGES: Final = {
    "guardrail-blocked": "A guardrail blocked the request",
    "moderation": "The input was flagged by moderation",
    "insufficient-permissions": "The key has no permission for this operation",
}
BLOCKED_PATTERN: Final = "forget what you were told"


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An HTTP error, ready to be sent."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """The call ends with an HTTP error."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def error_answer(status: int, message: str | None = None, **details: Any) -> ErrorAnswer:
    """Build the envelope; ``details`` that are ``None`` are left out of it."""
    error: dict[str, Any] = {"code": status, "message": message or default_message(status)}
    error |= {name: value for name, value in details.items() if value is not None}
    return ErrorAnswer(status, {"error": error})


def default_message(status: int) -> str:
    """Say what a status means."""
    if status in MESSAGES:
        return MESSAGES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"


def model_not_found(requested: list[str], *, metadata: bool = False) -> ErrorAnswer:
    """404 for models that do not exist, with what could be asked for instead; ``metadata`` as below."""
    answer = error_answer(
        404,
        f"No endpoint found for {', '.join(requested)}",
        availability={
            "code": "model_not_found",
            "retryable": False,
            "requested_models": requested,
            "fallback_models": _alike(requested[0]),
        },
    )
    return _with_metadata(answer, unrouted(requested[0])) if metadata else answer


def _with_metadata(answer: ErrorAnswer, metadata: dict[str, Any]) -> ErrorAnswer:
    return replace(answer, body={**answer.body, "openrouter_metadata": metadata})


def _alike(model: str) -> list[str]:
    vendor = model.partition("/")[0]
    return [name for name in PRICES if name.startswith(f"{vendor}/")][:3] or list(PRICES)[-2:]


def scripted_error(step: Step, requested: Sequence[str], *, metadata: bool) -> ErrorAnswer:
    """Build the error that a step asks for; ``metadata`` adds the routing metadata."""
    status = step.error_status or 500
    model = next(iter(requested), "openai/gpt-4o-mini")
    message = step.message or (KIND_MESSAGES[step.kind] if step.kind else None)
    answer = error_answer(
        status,
        message,
        metadata=step.metadata or _metadata(status, step.kind, model),
        availability=_availability(step, status, list(requested) or [model]),
        error_type=step.error_type,
    )
    answer = replace(answer, headers=_headers(status, step))
    if not metadata:
        return answer
    routed = routing_metadata(model, model, status=status)
    if step.kind == "guardrail-blocked":
        routed["pipeline"] = [_guardrail()]
    return _with_metadata(answer, routed)


def rate_limited(excess: Excess) -> ErrorAnswer:
    """429 for a key that asks for more than it may, with the wait after which it may again."""
    message = f"Rate limit exceeded: {excess.limit} {excess.what} per minute for this key"
    headers = {"Retry-After": str(math.ceil(excess.wait)), **_rate_limit_headers(excess.limit, excess.resets_at)}
    return replace(error_answer(429, message, error_type="rate_limit_exceeded"), headers=headers)


def _rate_limit_headers(limit: int, resets_at: float) -> dict[str, str]:
    milliseconds = str(math.ceil(resets_at * 1000))
    return {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": milliseconds}


def _headers(status: int, step: Step) -> dict[str, str]:
    headers: dict[str, str] = {}
    wait = step.retry_after
    if "retry_after" not in step.model_fields_set and status in {429, 503}:
        wait = 1.0
    if wait is not None:
        headers["Retry-After"] = f"{wait:g}"
    if status == 429 and "provider_name" not in (step.metadata or {}):  # the platform's own
        headers |= _rate_limit_headers(20, time.time() + (wait or 0.0))
    return headers


def _availability(step: Step, status: int, requested: list[str]) -> dict[str, Any] | None:
    """Complete what a step says of availability; a step that spells it all out is taken at its word."""
    if not isinstance(step.availability, str):
        return step.availability
    retryable = status >= 500
    known: dict[str, Any] = {"code": step.availability, "retryable": retryable, "requested_models": requested}
    if retryable:
        known["retry_after"] = 1.0 if step.retry_after is None else step.retry_after
        known["affected_providers"] = [provider_of(requested[0])]
    else:
        known["fallback_models"] = _alike(requested[0])
    return known


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
