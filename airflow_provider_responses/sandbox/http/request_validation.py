"""The validation of a request's body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.fields import REQUEST_FIELDS, Dialect
from airflow_provider_responses.sandbox.http.http_errors import http_error
from airflow_provider_responses.sandbox.http.media_validation import find_media_problem
from airflow_provider_responses.sandbox.http.routing import requested_models

FORMATS: Final = ("text", "json_object", "json_schema")


def validated_request(value: Any, *, is_openrouter: bool, is_stored: Callable[[str], bool]) -> dict[str, Any]:
    """
    Return the request that a body holds.

    :param is_stored: returns whether this server has stored the response with an id.
    :raises HttpError: 400, naming the field; 404 for a previous response that is not stored.
    """
    if not isinstance(value, dict):
        raise http_error(400, f"the body must be a JSON object, got {type(value).__name__}")
    # A field that no schema knows is accepted, as by the real service: `extra_body` sends such fields.
    unknown = {name: field for name, field in value.items() if name not in REQUEST_FIELDS}
    fields = {name: field for name, field in value.items() if name not in unknown}
    if "input" in fields:
        fields["input"] = _with_image_details(fields["input"])
    dialect: Dialect = "openrouter" if is_openrouter else "open"
    try:
        body = ResponsesRequest.parse({**fields, "extra_body": unknown}, dialect=dialect).to_dict()
    except RequestValidationError as error:
        raise http_error(400, str(error)) from None
    if problem := _problem(value, body, is_openrouter) or find_media_problem(body.get("input")):
        raise http_error(400, problem)
    previous = body.get("previous_response_id")
    if previous is not None and not is_stored(previous):
        message = f"Previous response with id {previous!r} was not found"
        code = "previous_response_not_found"
        raise http_error(404, message, code=code, param="previous_response_id")
    return body


def _with_image_details(items: Any) -> Any:
    """Return the input with `detail: "auto"` in images without a detail, which Open Responses does not require."""
    return [_with_image_detail(item) for item in items] if isinstance(items, list) else items


def _with_image_detail(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    lists = {name: item[name] for name in ("content", "output") if isinstance(item.get(name), list)}
    return item | {name: [_complete_image(part) for part in parts] for name, parts in lists.items()}


def _complete_image(part: Any) -> Any:
    is_image = isinstance(part, dict) and part.get("type") == "input_image"
    return {"detail": "auto", **part} if is_image else part


def _problem(value: dict[str, Any], body: dict[str, Any], is_openrouter: bool) -> str | None:
    has_input = body.get("input") or body.get("prompt") or body.get("previous_response_id")
    has_model = requested_models(body) or (body.get("prompt") and not is_openrouter)
    problems = {
        "extra_body is not a field of a request": "extra_body" in value,
        "model (or models) is required": not has_model,
        "store must be false: responses are not stored here": is_openrouter and body.get("store") is True,
        "previous_response_id must be null: send the whole history in `input`": (
            is_openrouter and body.get("previous_response_id") is not None
        ),
        "input (or prompt) is required": not has_input,
        "text.format: its type must be text, json_object or json_schema (with a name and a schema)": (
            not _is_valid_format((body.get("text") or {}).get("format"))
        ),
    }
    return next((problem for problem, found in problems.items() if found), None)


def _is_valid_format(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.get("type") not in FORMATS:
        return False
    return value["type"] != "json_schema" or (bool(value.get("name")) and isinstance(value.get("schema"), dict))
