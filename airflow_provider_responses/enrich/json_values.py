"""The values of rows as JSON."""

from __future__ import annotations

import base64
import datetime
import decimal
import enum
import ipaddress
import json
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import PydanticSerializationError
from pydantic_core import to_json as to_bytes

from airflow_provider_responses.exceptions import RequestValidationError

_PLAIN: Final = frozenset({str, int, bool})
_ADDRESSES: Final = (
    *(ipaddress.IPv4Address, ipaddress.IPv4Network, ipaddress.IPv4Interface),
    *(ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv6Interface),
)
# The first match counts: an enum may be a string as well.
_FORMS: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (enum.Enum, lambda value: to_json(value.value, value.name)),
    ((str, int), lambda value: value),
    (float, lambda value: float(value) if math.isfinite(value) else None),
    ((datetime.date, datetime.time), lambda value: value.isoformat() if _is_time(value) else None),
    (datetime.timedelta, lambda value: value.total_seconds()),
    (decimal.Decimal, lambda value: str(value) if value.is_finite() else None),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    ((uuid.UUID, *_ADDRESSES), str),
)


def to_json(value: Any, column: str) -> Any:
    """
    Return the JSON form of a value.

    Dates and times are ISO 8601, durations seconds, decimals text with all their digits, bytes base64, network
    addresses text; NaN and infinity are null; tuples, sets (sorted) and arrays are lists; numbers of numpy are numbers.

    :raises RequestValidationError: naming the column, if the value has no JSON form.
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(name): to_json(item, f"{column}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item, column) for item in value]
    if isinstance(value, (set, frozenset)):  # their order differs from process to process
        return sorted((to_json(item, column) for item in value), key=dump)
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return form(value)
    for method in ("tolist", "model_dump"):  # arrays and numbers of numpy, models of pydantic
        if not isinstance(value, type) and callable(convert := getattr(value, method, None)):
            converted = convert()
            if type(converted) is not type(value):  # numpy's long double returns itself
                return to_json(converted, column)
    raise RequestValidationError(
        f"column {column!r} holds a {type(value).__name__}, which has no JSON form; convert it to text, or leave the "
        "column out of the source",
        fields=(column,),
    )


def _is_time(value: Any) -> bool:
    return bool(value == value)  # noqa: PLR0124  pandas' missing time is a datetime, and like NaN not equal to itself


_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ALIKE: Final = frozenset({str, int, bool, type(None)})


def dump(value: Any) -> str:
    """Return compact JSON. Half a surrogate pair, which UTF-8 cannot encode, becomes a question mark."""
    if type(value) is dict and _is_alike(value):
        try:
            return to_bytes(value).decode()  # the same text, in a quarter of the time
        except PydanticSerializationError:
            return _dump(value)  # it holds half a surrogate pair
    return _dump(value)


def _dump(value: Any) -> str:
    text = _encoder.encode(value)
    return text if text.isascii() else text.encode(errors="replace").decode()


def number(value: float | None) -> str:
    """Return a finite number, or null, as JSON."""
    return "null" if value is None else repr(value)


def _is_alike(value: dict[Any, Any]) -> bool:
    """Return whether pydantic and the json module write an object alike. They differ in exponents."""
    for name, item in value.items():
        kind = type(item)
        if type(name) is not str:
            return False
        if kind in _ALIKE or (kind is float and (1e-4 <= abs(item) < 1e16 or item == 0.0)):
            continue
        if kind not in {list, tuple} or not all(type(it) in _ALIKE for it in item):
            return False
    return True


def joined(first: str, second: str) -> str:
    """Return two JSON objects, as text, as one."""
    if first == "{}":
        return second
    return first if second == "{}" else f"{first[:-1]},{second[1:]}"
