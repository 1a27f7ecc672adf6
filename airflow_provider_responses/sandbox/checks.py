"""What a request must be like, so that it is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import ResponsesRequest
from airflow_provider_responses.models.fields import REQUEST_FIELDS, Dialect
from airflow_provider_responses.sandbox.errors import RefusedError, error_answer
from airflow_provider_responses.sandbox.routing import requested_models

FORMATS: Final = ("text", "json_object", "json_schema")


def checked(given: Any, *, is_openrouter: bool, is_stored: Callable[[str], bool]) -> dict[str, Any]:
    """
    Return the request that a body holds.

    :param is_stored: whether a response's id is one that this server has stored.
    :raises RefusedError: 400, naming the field; 404 for a previous response that is not stored.
    """
    if not isinstance(given, dict):
        raise RefusedError(error_answer(400, "the body is not a JSON object"))
    # A field that no schema knows yet is let through, as the service does: `extra_body` sends such fields.
    unknown = {name: value for name, value in given.items() if name not in REQUEST_FIELDS}
    fields = {name: value for name, value in given.items() if name not in unknown}
    if "input" in fields:
        fields["input"] = _with_details(fields["input"])
    dialect: Dialect = "openrouter" if is_openrouter else "open"
    try:
        body = ResponsesRequest.parse({**fields, "extra_body": unknown}, dialect=dialect).to_dict()
    except RequestValidationError as error:
        raise RefusedError(error_answer(400, str(error))) from None
    if problem := _problem(given, body, is_openrouter):
        raise RefusedError(error_answer(400, problem))
    previous = body.get("previous_response_id")
    if previous is not None and not is_stored(previous):
        message = f"Previous response with id {previous!r} was not found"
        code = "previous_response_not_found"
        raise RefusedError(error_answer(404, message, code=code, param="previous_response_id"))
    return body


def _with_details(given: Any) -> Any:
    """Return the input with `detail: "auto"` in images that have none: Open Responses does not require it."""
    return [_with_detail(item) for item in given] if isinstance(given, list) else given


def _with_detail(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    parts = {name: item[name] for name in ("content", "output") if isinstance(item.get(name), list)}
    return item | {name: [_image(part) for part in listed] for name, listed in parts.items()}


def _image(part: Any) -> Any:
    is_image = isinstance(part, dict) and part.get("type") == "input_image"
    return {"detail": "auto", **part} if is_image else part


def _problem(given: dict[str, Any], body: dict[str, Any], is_openrouter: bool) -> str | None:
    begins = body.get("input") or body.get("prompt") or body.get("previous_response_id")
    has_model = requested_models(body) or (body.get("prompt") and not is_openrouter)
    checks = {
        "extra_body: is no field of a request": "extra_body" in given,
        "give a model, or models": not has_model,
        "store: must be false: responses are not stored here": is_openrouter and body.get("store") is True,
        "previous_response_id: must be null: send the whole history in `input`": (
            is_openrouter and body.get("previous_response_id") is not None
        ),
        "give an input, or a prompt": not begins,
        "text.format: its type must be text, json_object or json_schema (with a name and a schema)": (
            not _is_format((body.get("text") or {}).get("format"))
        ),
    }
    return next((problem for problem, found in checks.items() if found), None)


def _is_format(given: Any) -> bool:
    if given is None:
        return True
    if not isinstance(given, dict) or given.get("type") not in FORMATS:
        return False
    return given["type"] != "json_schema" or (bool(given.get("name")) and isinstance(given.get("schema"), dict))
