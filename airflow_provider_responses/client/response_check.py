"""Checks whether bodies and responses are complete; if not, they become errors. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from logging import getLogger
from typing import Any

from airflow_provider_responses.client import response_errors
from airflow_provider_responses.client.bodies import parse_json
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.server_errors import error_from_response
from airflow_provider_responses.models.response import Response

log = getLogger(__name__)
# A caller that sends many requests logs the number of responses that may be truncated, instead of each of them.
is_one_of_many: ContextVar[bool] = ContextVar("is_one_of_many", default=False)


def read_json(status: int, headers: Mapping[str, str], body: bytes, *, request: RequestSummary) -> dict[str, Any]:
    """
    Return the JSON object of a successful HTTP response.

    :raises APIError: for any other status, and for a body that is not a JSON object.
    """
    if not 200 <= status < 300:
        raise error_from_response(status, headers, body, request=request)
    data = parse_json(body)
    if not isinstance(data, dict):
        raise response_errors.not_json(status, headers, body, request=request)
    return data


def mark_at_limit(response: Response, *, request: RequestSummary) -> Response:
    """Mark a response that may be truncated: it is as long as allowed, but its status is completed."""
    limit = request.max_output_tokens
    is_at_limit = limit is not None and response.usage.output_tokens == limit
    if response.maybe_truncated or not is_at_limit or response.status not in (None, "completed"):
        return response
    if not is_one_of_many.get():
        log.warning(
            "The response may be truncated: its status is completed, but it has as many tokens as `max_output_tokens` "
            "allows (%s). If it is truncated, raise `max_output_tokens`. Request: %s",
            limit,
            request.label,
        )
    return replace(response, maybe_truncated=True)


def check_response(response: Response, *, request: RequestSummary) -> Response:
    """
    Return a response if it is complete; one that may be truncated is marked.

    :raises APIError: the class that its ``error_type`` names, for a failure inside a 200.
    :raises IncompleteResponseError: for a response that was truncated.
    :raises RefusalError: for a refusal.
    """
    status = response.status
    if response.error is not None and status in (None, "completed", "failed"):
        raise response_errors.failed(response, request=request)
    if status == "failed" and not (response_errors.has_output(response) or response.incomplete_reason):
        raise response_errors.failed(response, request=request)
    if status in {"queued", "in_progress", "cancelled"}:
        raise response_errors.not_ready(response, request=request)
    if status in {"failed", "incomplete"}:
        raise response_errors.truncated(response, request=request)
    if response.refusal is not None:
        raise response_errors.refused(response, request=request)
    if status is None and not isinstance(response.raw.get("output"), list):
        raise response_errors.no_response(response, request=request)
    return mark_at_limit(response, request=request)
