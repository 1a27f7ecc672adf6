"""The body of ``POST /batches``: everything else stands before ``requests``, since the service reads it as a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_provider_responses.sandbox.http.http_errors import http_error, model_not_found_error
from airflow_provider_responses.sandbox.http.routing import choose_model

ENDPOINT: Final = "/v1/responses"
OTHER_ENDPOINTS: Final = ("/v1/chat/completions", "/v1/messages", "/v1/embeddings")
COMPLETION_WINDOW: Final = "24h"
PROVIDER_FIELDS: Final = frozenset({"only", "allow_fallbacks"})
SPACE: Final = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, kw_only=True)
class BatchSubmission:
    """The fields of a submission, and its requests as they were sent."""

    model: str
    endpoint: str
    provider: dict[str, Any] | None
    callback_url: str | None
    requests: list[Any]


def parse_submission(raw: bytes) -> BatchSubmission:
    """
    Return what a body submits; the requests are not checked.

    :raises HttpError: 400 if the body is not JSON, or a field is wrong or in the wrong place; 404 for the model.
    """
    fields, requests = _read(raw)
    problem = _problem(fields, requests)
    if problem is not None:
        raise http_error(400, problem)
    if choose_model([fields["model"]], open_names=False) is None:
        raise model_not_found_error([fields["model"]])
    return BatchSubmission(
        model=fields["model"],
        endpoint=fields["endpoint"],
        provider=fields.get("provider"),
        callback_url=fields.get("callback_url"),
        requests=requests or [],
    )


def _read(raw: bytes) -> tuple[dict[str, Any], list[Any] | None]:
    """Return the fields before ``requests``, and the requests."""
    fields: dict[str, Any] = {}
    requests: list[Any] | None = None
    try:
        for name, value in _members(raw.decode()):
            if requests is not None:
                raise http_error(400, f"{name} must come before requests: the body is read as a stream")
            if name == "requests":
                if not isinstance(value, list):
                    raise http_error(400, f"requests must be an array, got {type(value).__name__}")
                requests = value
            else:
                fields[name] = value
    except (ValueError, RecursionError) as error:
        raise http_error(400, f"the body must be a JSON object: {error}") from None
    return fields, requests


def _members(text: str) -> Iterator[tuple[str, Any]]:
    """
    Iterate over the members of a JSON object, in their order and with those that repeat a name.

    :raises ValueError: if the text is not a JSON object.
    """
    decoder = json.JSONDecoder()
    position = _expect(text, 0, "{")
    if text[position : position + 1] == "}":
        _expect(text, position, "}", last=True)
        return
    while True:
        name, position = decoder.raw_decode(text, position)
        if not isinstance(name, str):
            raise ValueError("the name of a member must be a string")  # noqa: TRY004  one kind for callers
        value, position = decoder.raw_decode(text, _expect(text, _skip(text, position), ":"))
        yield name, value
        position = _skip(text, position)
        if text[position : position + 1] != ",":
            break
        position = _skip(text, position + 1)
    _expect(text, position, "}", last=True)


def _skip(text: str, position: int) -> int:
    found = SPACE.match(text, position)
    return found.end() if found else position


def _expect(text: str, position: int, character: str, *, last: bool = False) -> int:
    position = _skip(text, position)
    if text[position : position + 1] != character:
        raise ValueError(f"expected {character!r} at character {position}")
    position = _skip(text, position + 1)
    if last and position != len(text):
        raise ValueError(f"extra data at character {position}")
    return position


def _problem(fields: dict[str, Any], requests: list[Any] | None) -> str | None:
    model, endpoint, provider = fields.get("model"), fields.get("endpoint"), fields.get("provider")
    window, callback_url = fields.get("completion_window", COMPLETION_WINDOW), fields.get("callback_url")
    is_provider = provider is None or (isinstance(provider, dict) and set(provider) <= PROVIDER_FIELDS)
    problems = {
        f"model must be the name of a model, got {model!r}": not isinstance(model, str) or not model,
        f"endpoint must be {ENDPOINT}, got {endpoint!r}": endpoint not in {ENDPOINT, *OTHER_ENDPOINTS},
        f"endpoint must be {ENDPOINT} in this sandbox, got {endpoint!r}": endpoint in OTHER_ENDPOINTS,
        f"completion_window must be {COMPLETION_WINDOW!r}, got {window!r}": window != COMPLETION_WINDOW,
        f"provider may have only {' and '.join(sorted(PROVIDER_FIELDS))}, got {provider!r}": not is_provider,
        f"callback_url must be an https address, got {callback_url!r}": (
            callback_url is not None and not _is_https(callback_url)
        ),
        "requests is required": requests is None,
        "requests must have at least one request": requests == [],
    }
    return next((problem for problem, found in problems.items() if found), None)


def _is_https(value: Any) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme == "https" and bool(urlsplit(value).netloc)
