"""Chooses the advice in the error of a server. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from airflow_provider_responses.client.batch_errors import advise_batch
from airflow_provider_responses.client.error_names import CONTENT, TOO_LONG, Cause
from airflow_provider_responses.client.error_reports import Report
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.exceptions import APIError, ForbiddenResponseError, error_class_for_status

# The advice by status; the second table has the advice for OpenRouter.
ADVICE: Final[Mapping[int, str]] = {
    400: "Correct the request: the same one fails again",
    401: "Check the API key in the connection's password field",
    402: "The account, or the key, has used up its credit or limit: pay, or ask the server's operator to raise it",
    403: "The key may not do this: check what it is allowed to do",
    404: "Check the model's name and the connection's base URL",
    408: "If this persists, lower max_output_tokens or raise the timeout",
    413: "Send less: shorten the input, or split it over several tasks",
    422: "Correct the request: the same one fails again",
    429: "If this persists, run fewer tasks at once (a pool), or ask the service for a higher limit",
    503: "If this persists, run fewer tasks at once (a pool), or give the server more capacity",
    529: "If this persists, run fewer tasks at once (a pool), or give the server more capacity",
}
ADVICE_OPENROUTER: Final[Mapping[int, str]] = {
    **ADVICE,
    401: "Check the API key in the connection's password field (OpenRouter's keys: https://openrouter.ai/settings/keys)",
    402: "Add credits (https://openrouter.ai/settings/credits) or raise the key's limit "
    "(https://openrouter.ai/settings/keys); the connection's Test button, or ResponsesHook.get_key(), shows "
    "what remains of the limit",
    503: "If this persists, allow more models (`models`) or providers",
    529: "If this persists, allow more models (`models`) or providers",
}
ADVICE_FORBIDDEN: Final[Mapping[str, str]] = {
    "guardrail-blocked": "A guardrail of the account blocked it: remove what it found from the input, or change the "
    "guardrail",
    "moderation": "The model's moderation blocked it: change the input, or use a model without moderation",
    "insufficient-permissions": "The key may not do this: check what it, or the account's privacy settings, allow",
}
GUARDRAILS: Final = " (https://openrouter.ai/settings/guardrails)"
ADVICE_SERVER: Final = "If this persists, look at the server's log, or use another model"
ADVICE_SERVER_OPENROUTER: Final = "If this persists, look at the service's status page, or use another model"
ADVICE_TOO_LONG: Final = (
    "Send less: shorten the input, or split it over several tasks; or use a model with a longer context"
)
ADVICE_CONTENT: Final = (
    "The rules of the model, or of its provider, do not allow this content: change the input or the model"
)
ADVICE_NO_RETRY: Final = "The server reports that the same request fails again: change the request"
ADVICE_NO_RETRY_OPENROUTER: Final = (
    "The service reports that the same request fails again: change the model or the provider preferences"
)
ADVICE_NO_DATABASE: Final = "Check the API key: LiteLLM without a database responds to a wrong key in this way"
ADVICE_PREVIOUS: Final = (
    "The server has no response with the id in `previous_response_id`: it was not stored (`store`), has expired, or is "
    "at another server. Send the whole history in `input` instead (Response.to_input() returns a response's part of it)"
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
_NO_MODEL: Final = frozenset(
    {"deployment_not_found", "model_not_exist", "model_not_found", "no_such_model", "unknown_model"}
)
_NAMES_RESPONSE: Final = re.compile(
    r"previous[ _]response|\bresp_|\bresponse\b.*\b(?:not found|not exist|expired|no longer)|\bno (?:such )?response\b",
    re.IGNORECASE | re.DOTALL,
)


def advise(error: APIError, report: Report, cause: Cause | None, request: RequestSummary) -> str:
    """Return the advice for an error, in terms of the server that is in use."""
    if request.batch:
        batch_advice = advise_batch(
            request.batch, error.status_code or 500, retryable=error.retryable, is_openrouter=request.is_openrouter
        )
        if batch_advice is not None:
            return batch_advice
    return _advise_generally(error, report, cause, request)


def _advise_generally(error: APIError, report: Report, cause: Cause | None, request: RequestSummary) -> str:
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
        return "Redirects are not followed, since they could take the key elsewhere: set the base URL to their target"
    if about >= 500 or error.retryable:
        return ADVICE_SERVER_OPENROUTER if request.is_openrouter else ADVICE_SERVER
    return ADVICE[400]


def _advice_named(cause: Cause | None) -> str | None:
    """Return the advice for a cause whose name is more particular than its status."""
    name = None if cause is None else cause.name
    if name in TOO_LONG:
        return ADVICE_TOO_LONG
    if name in CONTENT:
        return ADVICE_CONTENT
    return ADVICE_NO_DATABASE if name == "no_db_connection" else None


def _advice_previous(status: int, report: Report, request: RequestSummary) -> str | None:
    """Return the advice if the response that the request continues is missing."""
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
    """Return the advice for a 404 of something else that the server stores."""
    if status != 404 or report.param == "model" or (report.cause and report.cause.name in _NO_MODEL):
        return None
    words = report.words or ""
    for thing, name in _STORED.items():
        if name.search(report.param or "") or ("model" not in words.lower() and name.search(words)):
            return ADVICE_STORED.format(thing=thing)
    return None
