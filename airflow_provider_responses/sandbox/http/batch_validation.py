"""The checks of a batch's requests, which OpenRouter makes after it has accepted the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from airflow_provider_responses.sandbox.http.batch_requests import BatchRequest
from airflow_provider_responses.sandbox.http.http_errors import HttpError
from airflow_provider_responses.sandbox.http.request_validation import validated_request

MEDIA: Final = frozenset({"input_image", "input_file", "input_video", "input_audio"})
INLINE_FIELDS: Final = frozenset({"file_data", "input_audio", "data"})


def find_rejection(requests: Sequence[Any], model: str, *, max_requests: int) -> tuple[str | None, list[BatchRequest]]:
    """Return why a batch is rejected, or else ``None`` and its requests, complete and valid."""
    if len(requests) > max_requests:
        return f"The batch has {len(requests)} requests: at most {max_requests} are allowed", []
    valid: list[BatchRequest] = []
    custom_ids: set[str] = set()
    for index, request in enumerate(requests):
        problem = _shape_problem(request, index) or _repeated_id(request["custom_id"], custom_ids)
        if problem:
            return problem, []
        custom_ids.add(request["custom_id"])
        problem, body = _check_body(request["body"], model)
        if body is None:
            return f"Request {request['custom_id']!r}: {problem}", []
        valid.append(BatchRequest(custom_id=request["custom_id"], model=model, body=body))
    return _unequal_formats(valid, model), valid


def _shape_problem(request: Any, index: int) -> str | None:
    if not isinstance(request, dict):
        return f"Request {index} must be an object with custom_id and body, got {type(request).__name__}"
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        return f"Request {index}: custom_id must be a text, got {custom_id!r}"
    if not isinstance(request.get("body"), dict):
        return f"Request {custom_id!r}: body must be an object, got {type(request.get('body')).__name__}"
    return None


def _repeated_id(custom_id: str, custom_ids: set[str]) -> str | None:
    return f"Request {custom_id!r}: custom_id must be unique in the batch" if custom_id in custom_ids else None


def _check_body(body: dict[str, Any], model: str) -> tuple[str | None, dict[str, Any] | None]:
    """Return a request's problem, or its complete body."""
    if problem := _unsupported(body, model):
        return problem, None
    try:
        return None, validated_request({**body, "model": model}, is_openrouter=True, is_stored=lambda _: False)
    except HttpError as error:
        return error.body["error"]["message"], None


def _unsupported(body: dict[str, Any], model: str) -> str | None:
    """Return the first thing in a request that batches do not support."""
    provider = body.get("provider")
    modalities = body.get("modalities")
    problems = {
        f"model must be {model!r}, the model of the batch, got {body.get('model')!r}": (
            body.get("model") not in {None, model} or bool(body.get("models"))
        ),
        "stream must not be true in a batch": body.get("stream") is True,
        "zero data retention (provider.zdr) is not available in a batch": (
            isinstance(provider, dict) and provider.get("zdr") is True
        ),
        "web search is not available in a batch": _has_web_search(body, model),
        "modalities: a batch brings text only": isinstance(modalities, list) and modalities != ["text"],
        "images and files must be public URLs in a batch, not base64 or data URLs": any(_inline_media(body)),
    }
    return next((problem for problem, found in problems.items() if found), None)


def _has_web_search(body: dict[str, Any], model: str) -> bool:
    tools = [tool.get("type") for tool in _objects(body.get("tools"))]
    plugins = [plugin.get("id") for plugin in _objects(body.get("plugins"))]
    return model.endswith(":online") or "web" in plugins or any("web_search" in str(kind) for kind in tools)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _inline_media(value: Any) -> Iterator[bool]:
    """Iterate over the parts of a request that are images or files: whether each one holds its content."""
    if isinstance(value, list):
        for item in value:
            yield from _inline_media(item)
    elif isinstance(value, dict):
        if value.get("type") in MEDIA:
            yield any(
                (name in INLINE_FIELDS and field) or (isinstance(field, str) and field.startswith("data:"))
                for name, field in value.items()
            )
        for field in value.values():
            yield from _inline_media(field)


def _unequal_formats(requests: list[BatchRequest], model: str) -> str | None:
    if not model.startswith("google/"):
        return None
    formats = [(request.body.get("text") or {}).get("format") for request in requests]
    for request, output_format in zip(requests, formats, strict=True):
        if output_format != formats[0]:
            return f"Request {request.custom_id!r}: text.format must be equal in all requests to a Google model"
    return None
