"""
Encode values as JSON for the payloads between worker and triggerer, and decode them.

Nested JSON is written as text, or as lists of pairs where its templates are not rendered yet: PostgreSQL reorders the
keys of an object, Airflow reads some keys as its own, and the same request must be the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from airflow_provider_responses import exceptions
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.models.response import COST_HEADER, Response
from airflow_provider_responses.task.texts import unwrap_enum

_ERROR_FIELDS: Final = (
    "retryable",
    "ambiguous",
    "status_code",
    "code",
    "error_type",
    "metadata",
    "availability",
    "retry_after",
    "generation_id",
    "openrouter_metadata",
)
_FIELDS_OF_CLASS: Final = {
    "RequestValidationError": ("fields",),
    "OutputRejectedError": ("function",),
    "StreamInterruptedError": ("text",),
    "TransportError": ("kind",),
}
# Other headers may hold cookies, or repeat headers of the request.
_HEADERS: Final = frozenset(
    {"x-generation-id", "x-openrouter-cache-status", "x-openrouter-cache-source-id", COST_HEADER}
)
# A worker does not render the keys of a dict. In a list of pairs a key is rendered like any text, which drops comments
# and the last line end.
_RENDERED_IN_KEYS: Final = ("{{", "{%", "{#", "\n", "\r")


def encode_fields(fields: Mapping[str, Any]) -> str:
    """Return a request's fields as JSON text: as they are sent, whatever their classes are."""
    # Here, and not above: DAG files import this module, and building the models takes its time.
    from airflow_provider_responses.models.request import ResponsesRequest

    request = ResponsesRequest.parse(fields, dialect="open")  # checked for its server before
    return json.dumps({name: getattr(request, name) for name in fields}, allow_nan=False, default=dict)


def decode_fields(text: str) -> dict[str, Any]:
    """Undo :func:`encode_fields`."""
    return dict(json.loads(text).items())


def to_pairs(value: Any, path: str = "") -> Any:
    """
    Turn dicts, however deep, into lists of pairs, which keep their order and let Airflow render their texts.

    :raises RequestValidationError: naming the path of a value that is not plain JSON.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or any(mark in key for mark in _RENDERED_IN_KEYS):
                raise RequestValidationError(f"{path or 'it'} has the key {key!r}", fields=(path,))
        return {"pairs": [[key, to_pairs(item, f"{path}.{key}" if path else key)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [to_pairs(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestValidationError(f"{path or 'it'} is {value!r}", fields=(path,))
    if isinstance(value, str):
        return unwrap_enum(value)
    if value is None or isinstance(value, (int, float, bool)):
        return value
    raise RequestValidationError(f"{path or 'it'} is a {type(value).__name__}", fields=(path,))


def from_pairs(value: Any) -> Any:
    """Undo :func:`to_pairs`."""
    if isinstance(value, Mapping):
        return {key: from_pairs(item) for key, item in value["pairs"]}
    return [from_pairs(item) for item in value] if isinstance(value, (list, tuple)) else value


def encode_response(response: Response | None) -> dict[str, Any] | None:
    """Return a response as a dict of JSON types; of its headers, those that :class:`Response` reads."""
    if response is None:
        return None
    return {
        "raw": response.raw,
        "headers": {name: text for name, text in response.headers.items() if name in _HEADERS},
        "previous": [encode_error(error) for error in response.previous],
        "seconds": response.seconds,
        "inconsistent": response.inconsistent,
        "maybe_truncated": response.maybe_truncated,
    }


def decode_response(data: Mapping[str, Any] | None) -> Response | None:
    """Undo :func:`encode_response`."""
    if data is None:
        return None
    return Response(
        raw=data["raw"],
        headers=data["headers"],
        previous=tuple(earlier for item in data["previous"] if (earlier := decode_error(item))),
        seconds=data["seconds"],
        inconsistent=data["inconsistent"],
        maybe_truncated=data["maybe_truncated"],
    )


def encode_error(error: Exception | None) -> dict[str, Any] | None:
    """Return an error as a dict of JSON types, with its response and the errors before it."""
    if error is None:
        return None
    name = type(error).__name__
    details = {name: getattr(error, name, None) for name in (*_ERROR_FIELDS, *_FIELDS_OF_CLASS.get(name, ()))}
    response = getattr(error, "response", None)
    # The earlier errors of a response are those of its error too: they are written once.
    previous = [] if response is not None and response.previous else getattr(error, "previous", ())
    return {
        "class": name,
        "message": str(error),
        "details": {name: value for name, value in details.items() if value is not None},
        "notes": getattr(error, "__notes__", []),
        "wait": getattr(error, "wait", None),
        "escalated_to": getattr(error, "escalated_to", None),
        "response": encode_response(response),
        "previous": [encode_error(earlier) for earlier in previous],
    }


def decode_error(data: Mapping[str, Any] | None) -> ResponsesError | None:
    """Undo :func:`encode_error`; a class that is unknown here becomes a plain ``ResponsesError``."""
    if data is None:
        return None
    cls = getattr(exceptions, data["class"], None) if data["class"] in exceptions.__all__ else ResponsesError
    details = dict(data["details"])
    if "fields" in details:
        details["fields"] = tuple(details["fields"])
    response = decode_response(data["response"])
    previous = (earlier for item in data["previous"] if (earlier := decode_error(item)))
    error: ResponsesError = (cls or ResponsesError)(data["message"], response=response, **details)
    error.previous = response.previous if response is not None and response.previous else tuple(previous)
    if data["wait"] is not None:
        error.wait = data["wait"]
    error.escalated_to = data.get("escalated_to")
    for note in data["notes"]:
        error.add_note(note)
    return error
