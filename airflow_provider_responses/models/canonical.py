"""Serializes requests: the same request is always the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_responses.exceptions import RequestValidationError


def merged(base: Any, over: Any) -> Any:
    """Return ``base`` with ``over`` on top: dicts are merged key by key, everything else is replaced."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    return {**base, **{key: merged(base[key], value) if key in base else value for key, value in over.items()}}


def to_bytes(body: Mapping[str, Any]) -> bytes:
    """
    Return a body as UTF-8 JSON without white space; the order of its keys is kept.

    :raises RequestValidationError: naming the path of a value that JSON cannot hold.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_dict)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        path, reason = _first_unserializable(body) or ("", str(error))
        raise RequestValidationError(f"the request cannot be sent as JSON: {path} {reason}", fields=(path,)) from error


def _as_dict(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _first_unserializable(value: Any, path: str = "", depth: int = 0) -> tuple[str, str] | None:
    if depth > 200:
        return path, "is nested too deeply, or contains itself"
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
        for key in value:
            if wrong := _no_json_form(key, path):
                return path, f"has a key that {wrong[1]}"
            if isinstance(key, tuple):
                return path, "has a key that is a tuple: keys must be text"
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return _no_json_form(value, path)
    nested = (_first_unserializable(item, f"{path}.{key}".lstrip("."), depth + 1) for key, item in items)
    return next(filter(None, nested), None)


def _no_json_form(value: Any, path: str) -> tuple[str, str] | None:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except TypeError:
        return (
            path,
            f"is a {type(value).__name__}, which has no JSON form: convert it to text, a number, a list or a dict",
        )
    except UnicodeEncodeError:
        return path, "holds half of a surrogate pair, which is not text: decode the source with its own encoding"
    except ValueError:
        return path, f"is {value!r}, which has no JSON form"
    return None
