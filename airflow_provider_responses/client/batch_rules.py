"""The rules for a request in a batch that do not hold for the same request by itself. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.request import ResponsesRequest

LIVE: Final = "send this request by itself"
URL_FIELDS: Final = frozenset({"image_url", "file_url", "video_url"})
WEB_SEARCH: Final = ("web_search", "openrouter:web_search")  # how the types of these tools begin


def check_for_batch(request: ResponsesRequest) -> None:
    """
    Refuse a request that OpenRouter takes by itself, but not in a batch. ``extra_body`` is not checked.

    :raises RequestValidationError: naming the field and what to do.
    """
    _refuse_first(_problems(request))


def check_for_any_batch(request: ResponsesRequest) -> None:
    """
    Refuse a request that no server takes in a batch. ``extra_body`` is not checked.

    :raises RequestValidationError: naming the field and what to do.
    """
    _refuse_first(_general_problems(request))


def has_web_search(model: str) -> bool:
    """Return whether the variant of a model searches the web."""
    return "online" in model.split(":")[1:]


def _refuse_first(problems: Iterator[tuple[str, str]]) -> None:
    if (found := next(problems, None)) is not None:
        field, problem = found
        raise RequestValidationError(f"{field} {problem}", fields=(field,))


def _general_problems(request: ResponsesRequest) -> Iterator[tuple[str, str]]:
    if request.models:
        yield "models", "must not be set in a batch, which has one model"
    if request.stream:
        yield "stream", "must not be true in a batch: results are read after the batch has finished"


def _problems(request: ResponsesRequest) -> Iterator[tuple[str, str]]:
    yield from _general_problems(request)
    if isinstance(request.provider, Mapping) and request.provider.get("zdr"):
        yield "provider.zdr", f"must not be true in a batch, which has no zero data retention: {LIVE}"
    for n, kind in enumerate(request.modalities or ()):
        if kind != "text":
            yield f"modalities.{n}", f"must be 'text' in a batch, got {kind!r}: {LIVE}"
    yield from _web_searches(request)
    if isinstance(request.input, list):
        yield from _inline_content(request.input, "input")


def _web_searches(request: ResponsesRequest) -> Iterator[tuple[str, str]]:
    for n, tool in enumerate(request.tools or ()):
        if isinstance(kind := tool.get("type"), str) and kind.startswith(WEB_SEARCH):
            yield f"tools.{n}", f"must not be {kind!r} in a batch, which has no web search: {LIVE}"
    for n, plugin in enumerate(request.plugins or ()):
        if plugin.get("id") == "web" and plugin.get("enabled") is not False:
            yield f"plugins.{n}", f"must not be 'web' in a batch, which has no web search: {LIVE}"


def _inline_content(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the places of images, files and sounds whose content is inside the request."""
    if isinstance(value, (list, tuple)):
        for n, item in enumerate(value):
            if isinstance(item, (Mapping, list, tuple)):
                yield from _inline_content(item, f"{path}.{n}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if given := _content(name, item):
                yield (
                    f"{path}.{name}",
                    f"must be a public http or https URL in a batch, got {given}: upload it, or {LIVE}",
                )
            elif isinstance(item, (Mapping, list, tuple)):
                yield from _inline_content(item, f"{path}.{name}")


def _content(name: Any, value: Any) -> str | None:
    """Return a description of content in place of a URL, None for anything else."""
    if name in URL_FIELDS:
        url = value.get("url") if isinstance(value, Mapping) else value
        return "a data URL" if isinstance(url, str) and url[:5].lower() == "data:" else None
    if name == "file_data":
        is_url = isinstance(value, str) and value[:4].lower() == "http"
        return None if is_url or not value else "the file's content"
    return "the sound's content" if name == "input_audio" and isinstance(value, Mapping) and "data" in value else None
