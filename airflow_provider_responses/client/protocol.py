"""
The Responses API without I/O and without a clock.

A request becomes bytes and headers; a status, headers and a body become a Response or an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from pydantic_core import from_json

from airflow_provider_responses import __version__
from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import (
    APIError,
    ForbiddenResponseError,
    IncompleteResponseError,
    RefusalError,
    RequestValidationError,
    ResponsesError,
    error_class_for_status,
)
from airflow_provider_responses.models.fields import MAX_TOOL_CALLS
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.models.response import Response

MAX_QUOTED: Final = 500  # characters of a server's own words in a message

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


def prepare(request: ResponsesRequest | Mapping[str, Any], config: ClientConfig) -> ResponsesRequest:
    """
    Check a request against the server it goes to, and add the connection's default model if it names none.

    :raises RequestValidationError: naming the field and what to do.
    """
    request = ResponsesRequest.parse(request)
    if request.model is None and not request.models:
        if not config.default_model:
            raise RequestValidationError(
                "model: missing; give `model` or `models`, or set a default model on the connection",
                fields=("model",),
            )
        request = request.replace(model=config.default_model)
    if request.input is None and request.prompt is None:
        raise RequestValidationError("input: missing; give `input`, or `prompt` for a stored prompt", fields=("input",))
    if request.background:
        raise RequestValidationError(
            "background: true would return before there is an answer; leave it out, the task waits for the answer",
            fields=("background",),
        )
    if config.is_openrouter:
        _check_openrouter(request)
    return request


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


def read_json(status: int, headers: Mapping[str, str], body: bytes, *, what: str) -> dict[str, Any]:
    """
    Give the JSON object of a good answer.

    :param what: the request, for messages: ``POST https://… (model a/b)``.
    :raises APIError: for any other status, and for a body that is no JSON object.
    """
    if not 200 <= status < 300:
        raise error_from_response(status, headers, body, what=what)
    data = parse_json(body)
    if not isinstance(data, dict):
        # The model may well have run: what lies between mangled its answer.
        raise APIError(
            # What is no page of a gateway may be a piece of the answer, and is not quoted.
            f"{what}: answered {status} with {_describe(body, quote=body.lstrip().startswith(b'<'))} instead of a JSON "
            "object. Check the base URL, and the proxies on the way",
            status_code=status,
            retryable=True,
            ambiguous=True,
            generation_id=headers.get("x-generation-id"),
        )
    return data


def check_answer(response: Response, *, what: str) -> Response:
    """
    Give an answer back if it is a whole one.

    :raises APIError: the class that its ``error_type`` names, for a failure inside a 200.
    :raises IncompleteResponseError: for an answer that was cut off.
    :raises RefusalError: for a refusal.
    """
    status = response.status
    if status == "failed" or (response.error is not None and status in (None, "completed")):
        raise error_from_result(response, what=what)
    if status in {"queued", "in_progress", "cancelled"}:
        raise APIError(
            f"{what}: the answer's status is {status!r}, so there is none. Leave out `background`, or try again",
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
            f"{what}: the answer was cut off ({reason}). To get it whole, {advice.get(reason, 'change the request')}; "
            'to take what there is, set on_incomplete="return"',
            response=response,
        )
    if response.refusal is not None:
        raise RefusalError(
            f"{what}: the model refused. Change the input or the model; the refusal's words are in `response.refusal`",
            response=response,
        )
    if status is None and not isinstance(response.raw.get("output"), list):
        raise APIError(
            f"{what}: answered with JSON that is no response (neither `status` nor `output`). Check the base URL",
            retryable=False,
            response=response,
        )
    return response


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, *, what: str) -> APIError:
    """Build the error of a status other than 2XX."""
    envelope = parse_json(body)
    if not isinstance(envelope, dict):
        envelope = {}
    error = envelope.get("error")
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = {"message": _text(envelope.get("message")) or _describe(body)}
    return _api_error(
        status,
        error,
        what=what,
        headers=headers,
        error_type=_text(error.get("error_type")) or _text(envelope.get("error_type")),
        openrouter_metadata=envelope.get("openrouter_metadata"),
    )


def error_from_result(response: Response, *, what: str) -> APIError:
    """Build the error of a failure inside a 200."""
    error = response.error or {}
    code = error.get("code")
    status = STATUS_OF_ERROR_TYPE.get(response.error_type or "")
    if status is None:
        status = code if isinstance(code, int) and 400 <= code < 600 else STATUS_OF_CODE.get(str(code), 500)
    return _api_error(
        status,
        error,
        what=what,
        headers=response.headers,
        error_type=response.error_type,
        openrouter_metadata=response.openrouter_metadata,
        response=response,
    )


def error_from_event(data: Mapping[str, Any], headers: Mapping[str, str], *, what: str) -> APIError:
    """Build the error of an ``error`` or ``response.error`` event: flat, or with an ``error`` object inside."""
    inner = {"message": data["error"]} if isinstance(data.get("error"), str) else data.get("error")
    error = (
        inner
        if isinstance(inner, dict)
        else {k: data[k] for k in ("code", "message", "param", "error_type") if k in data}
    )
    raw = {"status": "failed", "error": error, "error_type": data.get("error_type")}
    return error_from_result(Response(raw=raw, headers=headers), what=what)


def _api_error(
    status: int,
    error: Mapping[str, Any],
    *,
    what: str,
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
    said = _cut(_text(error.get("message")) or "no message")
    return error_object.about(
        _sentence(f"{what}: {status} {NAME_OF_STATUS.get(status, 'error')}{where}: {said}", error_object)
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
        found.append(f"{provider or 'The provider'} said: {_cut(raw if isinstance(raw, str) else repr(raw))}")
    if code := metadata.get("provider_code"):
        found.append(f"Provider code: {_cut(str(code))}")
    for name in ("reasons", "patterns", "previous_errors"):
        if value := metadata.get(name):
            found.append(f"{name}: {_cut(repr(value))}")
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


def describe_call(config: ClientConfig, request: ResponsesRequest) -> str:
    """Say which request a message is about, without its content."""
    return f"POST {config.base_url}/responses (model {request.model or ', '.join(request.models or [])})"


def note_tries(error: ResponsesError) -> None:
    """Add to a final error how often was tried."""
    if error.previous:
        kinds = ", ".join(type(e).__name__ for e in error.previous)
        error.add_note(f"{error.tries} tries were made; the earlier ones ended in: {kinds}")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}… ({len(text)} characters)"


def _describe(body: bytes, *, quote: bool = True) -> str:
    if not body.strip():
        return "an empty body"
    begins = f" beginning {_cut(body[:200].decode(errors='replace'))!r}" if quote else ""
    return f"{len(body)} bytes{begins}"


def parse_json(text: bytes | str) -> Any:
    """Read JSON; None if it is none. Half of a surrogate pair, which is valid JSON but no text, becomes U+FFFD."""
    try:
        return from_json(text)
    except ValueError:
        pass
    try:
        return json.loads(
            json.dumps(json.loads(text), ensure_ascii=False)
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )
    except (ValueError, RecursionError):
        return None
