"""Checks a request against the rules of its server, and completes it, before it is sent. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.fields import MAX_TOOL_CALLS
from airflow_provider_responses.models.history import fill_required
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.validation import wrong_value

# Of the parts of the package `content`, which the client does not import.
_FILE_PARTS: Final = frozenset({"input_image", "input_file", "input_audio", "input_video", "input_by_content"})
_UNREAD: Final = ("path", "bytes")
_LISTS: Final = ("content", "output")


def prepare(request: ResponsesRequest | Mapping[str, Any], config: ClientConfig) -> ResponsesRequest:
    """
    Check a request against the rules of its server, and add the connection's default model if it names none.

    Fields in ``extra_body`` are not checked, but count as given: the model and the input may be there.

    :raises RequestValidationError: naming the field and what to do.
    """
    request = ResponsesRequest.parse(request, dialect="openrouter" if config.is_openrouter else "open")
    if request.background:
        raise RequestValidationError(
            "background must not be true: the call would return without a response; leave it out",
            fields=("background",),
        )
    if config.is_openrouter:
        _check_openrouter(request)
    request = request.with_merged_extra_body()
    for value in (request.input, request.extra_body.get("input")):
        _refuse_unread_files(value)
    if "stream" in request.extra_body:
        raise RequestValidationError(
            "extra_body.stream must be true or false, since it decides how the response is read",
            fields=("extra_body.stream",),
        )
    request = _with_model(request, config)
    if config.is_openrouter:
        return _for_openrouter(request)
    if not _has(request, "input", "prompt", "previous_response_id", "conversation"):
        raise RequestValidationError(
            "input is missing: give `input`, or `prompt`, `previous_response_id` or `conversation`", fields=("input",)
        )
    return request


def _refuse_unread_files(value: Any) -> None:
    """Refuse parts that stand for files, such as ``InputFile.from_path(…)``: operators read them, no server does."""
    for number, item in enumerate(value if isinstance(value, list) else ()):
        for name in _LISTS:
            parts = item.get(name) if isinstance(item, Mapping) else None
            for n, part in enumerate(parts if isinstance(parts, list) else ()):
                if not isinstance(part, Mapping) or str(part.get("type")) not in _FILE_PARTS:
                    continue
                if (field := next((it for it in _UNREAD if it in part), None)) is not None:
                    place = f"input.{number}.{name}.{n}.{field}"
                    raise RequestValidationError(
                        f"{place} is a file that nothing has read: only operators and decorated functions read files. "
                        "Use one of them, or set a URL, or the content as base64 (image_url, file_url, file_data, "
                        "input_audio, video_url)",
                        fields=(place,),
                    )


def _has(request: ResponsesRequest, *names: str) -> bool:
    return any(getattr(request, name) or name in request.extra_body for name in names)


def _with_model(request: ResponsesRequest, config: ClientConfig) -> ResponsesRequest:
    if _has(request, "model", "models") or (_has(request, "prompt") and not config.is_openrouter):
        return request  # on other servers a stored prompt may hold the model
    if not config.default_model:
        raise RequestValidationError(
            "model is missing: give `model` or `models`, or set a default model on the connection", fields=("model",)
        )
    return request.replace(model=config.default_model)


def _for_openrouter(request: ResponsesRequest) -> ResponsesRequest:
    if not _has(request, "input", "prompt"):
        raise RequestValidationError(
            "input is missing: give `input`, or `prompt` for a stored prompt", fields=("input",)
        )
    if not isinstance(request.input, list):
        return request
    items = fill_required(request.input)
    return request if items == request.input else request.model_copy(update={"input": items})


def _check_openrouter(request: ResponsesRequest) -> None:
    if request.store:
        raise RequestValidationError(
            "store must not be true: OpenRouter stores no responses; leave it out", fields=("store",)
        )
    if request.previous_response_id is not None:
        raise RequestValidationError(
            "previous_response_id must not be set: OpenRouter stores no responses; send the whole history in `input` "
            "(Response.to_input() returns a response's part of it)",
            fields=("previous_response_id",),
        )
    if (request.max_tool_calls or 0) > MAX_TOOL_CALLS:
        raise wrong_value("max_tool_calls", f"at most {MAX_TOOL_CALLS}", request.max_tool_calls)
