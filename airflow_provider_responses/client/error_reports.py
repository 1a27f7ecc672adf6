"""
Reads the report of a failure from an error body, in any envelope.

No I/O and no clock. Parts that repeat the request are never read, since messages are logged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.client.bodies import embedded
from airflow_provider_responses.client.error_names import Cause, most_particular, read_cause

DEEPEST: Final = 5  # envelopes inside each other that are opened
LONGEST_LIST: Final = 10  # errors in one list that are quoted
_INNER: Final = ("error", "detail", "message", "errors")  # fields in which an envelope holds another one
_WORDS: Final = (
    *("message", "error_message", "error_description", "errorMessage", "Message", "msg", "detail", "details"),
    *("description", "reason", "errors", "title", "error"),
)
_STATUSES: Final = ("status", "status_code", "statusCode", "code", "error_code")
_CODES: Final = ("code", "type", "status", "status_code", "statusCode", "error_code", "error", "__type")
_STATUS: Final = re.compile(
    r"\b(?:status(?:[ _]code)?|error code|http(?: error)?|api)\s*:?\s*([45]\d\d)\b", re.IGNORECASE
)
_NO_TYPES: Final = frozenset({"error", "response.error", "response.failed", "None", "about:blank"})
_CONTENT: Final = frozenset(
    {"response", "output", "item", "part", "delta", "choices"}
)  # fields of responses and events
_ABOUT: Final = ("param", "error_type", "metadata", "availability")


@dataclass(frozen=True, kw_only=True)
class Report:
    """
    The report of a failure by a server.

    :param words: the server's own description, None without one.
    :param cause: the cause that codes and types name, None if they are unknown.
    :param is_decisive: whether OpenRouter's ``error_type`` names the cause, which counts more than the status.
    :param param: the field of the request that the error names.
    """

    words: str | None = None
    cause: Cause | None = None
    is_decisive: bool = False
    code: str | int | None = None
    error_type: str | None = None
    param: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    availability: Mapping[str, Any] = field(default_factory=dict)
    openrouter_metadata: Mapping[str, Any] | None = None


def read_report(body: Any) -> Report:
    """Return the report in the JSON of an error body, or in the object of an error event."""
    layers = _layers(body)
    types = [layer.get("error_type") for layer in layers]
    decisive = most_particular(map(read_cause, types))
    named = most_particular(read_cause(layer.get(key)) for layer in layers for key in _CODES)
    words = _words(_outermost(body))
    cause = most_particular((decisive, named))
    if cause is None or (cause is not decisive and cause.is_generic and cause.is_temporary):
        # Servers report every failure of the model behind them as `server_error`.
        cause = _status_in(words) or cause
    return Report(
        words=words,
        cause=cause,
        is_decisive=cause is not None and cause is decisive,
        code=next((code for layer in layers if (code := _code(layer.get("code"))) is not None), None),
        error_type=next((text for value in (*types, *_types(layers)) if (text := non_blank_text(value))), None),
        param=next((text for layer in layers if (text := _name_of_field(layer.get("param")))), None),
        metadata=_first_mapping(layers, "metadata"),
        availability=_first_mapping(layers, "availability"),
        openrouter_metadata=_first_mapping(layers, "openrouter_metadata") or None,
    )


def is_report(body: Mapping[str, Any], kind: str) -> bool:
    """
    Whether an object in place of a response, or of an event, reports an error.

    :param kind: its type, or the value of its ``event:`` line; empty without one.
    """
    if kind.startswith("response.") or not _CONTENT.isdisjoint(body):
        return False
    if body.get("object") == "error":
        return True
    if _words(body) is None:
        return False
    if kind and kind != "about:blank" and "://" not in kind:
        return ("_" in kind or kind.endswith(("Error", "Exception"))) and read_cause(kind) is not None
    return bool(body.get("detail")) or any(read_cause(body.get(name)) for name in _STATUSES)


def fields_around(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an error event that are beside its ``error`` object, or in place of it."""
    names = dict.fromkeys((*_CODES, *_WORDS, *_ABOUT))
    found = {name: body[name] for name in names if name != "error" and body.get(name) is not None}
    if found.get("type") in _NO_TYPES:
        del found["type"]
    return found


def _status_in(words: str | None) -> Cause | None:
    """Return the status of another server in a message, such as ``Error code: 404`` or ``status_code: 404``."""
    found = _STATUS.search(words or "")
    return read_cause(int(found[1])) if found else None


def non_blank_text(value: Any) -> str | None:
    """Return a text that is not blank, None for any other value."""
    return value if isinstance(value, str) and value.strip() else None


def _outermost(body: Any) -> Any:
    """Return a body as one envelope; a list of errors becomes an object with this list."""
    if isinstance(body, list):
        first = body[0] if body else None
        return first if isinstance(first, Mapping) and "error" in first else {"detail": body}
    return {"message": body} if isinstance(body, str) else body


def _layers(body: Any) -> list[Mapping[str, Any]]:
    """Return the envelopes of a body, the innermost first."""
    found: list[Mapping[str, Any]] = []
    layer = _outermost(body)
    while isinstance(layer, Mapping) and len(found) < DEEPEST:
        found.insert(0, layer)
        inner = (_opened(layer.get(key)) for key in _INNER)
        layer = next((item for item in inner if isinstance(item, Mapping)), None)
    return found


def _opened(value: Any) -> Any:
    """Return the value inside an envelope: the only item of a list, or the JSON in a text."""
    if isinstance(value, str):
        return embedded(value)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _words(value: Any, depth: int = 0) -> str | None:
    if depth > DEEPEST + 2:
        return None
    if isinstance(value, str):
        return _words(embedded(value), depth + 1) or value.strip() or None
    if isinstance(value, list):
        found = [words for item in value[:LONGEST_LIST] if (words := _list_item(item, depth + 1))]
        return "; ".join(found) or None
    if not isinstance(value, Mapping):
        return None
    keys = ("error", *_WORDS) if isinstance(value.get("error"), Mapping) else _WORDS
    words = next((words for key in keys if (words := _words(value.get(key), depth + 1))), None)
    for heading in (non_blank_text(value.get("error")), non_blank_text(value.get("title"))):
        if words and heading and heading.strip() not in words:
            return f"{heading.strip()}: {words}"
    return words


def _list_item(item: Any, depth: int) -> str | None:
    """Return the message of an item in a list of errors; of a validation with its location, but never its ``input``."""
    if not isinstance(item, Mapping) or "loc" not in item:
        return _words(item, depth)
    message, location = non_blank_text(item.get("msg")), _location(item["loc"])
    return f"{location}: {message}" if location and message else message or location or None


def _location(loc: Any) -> str:
    steps = loc if isinstance(loc, list) else [loc]
    location = ""
    for step in steps[1:] if len(steps) > 1 and steps[0] == "body" else steps:
        if isinstance(step, int):
            location += f"[{step}]"
        elif isinstance(step, str):
            location += f".{step[:80]}" if location else step[:80]
    return location


def _code(value: Any) -> str | int | None:
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _types(layers: list[Mapping[str, Any]]) -> list[Any]:
    """Return the types of errors, as OpenAI has them; not those of events, and of single fields."""
    kinds = [layer.get("type") for layer in layers if "loc" not in layer]
    return [kind for kind in kinds if isinstance(kind, str) and kind not in _NO_TYPES]


def _name_of_field(value: Any) -> str | None:
    text = non_blank_text(value)
    return text if text and len(text) <= 80 and text.isprintable() and text != "None" else None


def _first_mapping(layers: list[Mapping[str, Any]], key: str) -> dict[str, Any]:
    return next((dict(value) for layer in layers if isinstance(value := layer.get(key), dict)), {})
