"""Dates, times and durations that conform to a schema."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

DAY: Final = 86_400_000_000  # microseconds, as in all of this module
SECOND: Final = 1_000_000
YEAR: Final = 365 * DAY
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_FUTURE: Final = datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)


def date(limits: Mapping[str, Any], choice: int) -> str:
    """Return a date."""
    since = _pick(limits, choice, _since_epoch, _since_epoch("2025-01-01"), YEAR, step=DAY)
    return _datetime(since).date().isoformat()


def date_time(limits: Mapping[str, Any], choice: int) -> str:
    """Return a date with a time and a time zone."""
    return date_time_without_zone(limits, choice) + "Z"


def date_time_without_zone(limits: Mapping[str, Any], choice: int) -> str:
    """Return a date with a time."""
    since = _pick(limits, choice, _since_epoch, _since_epoch("2025-01-01"), YEAR)
    return _datetime(since).replace(tzinfo=None).isoformat()


def time(limits: Mapping[str, Any], choice: int) -> str:
    """Return a time of the day with a time zone."""
    return time_without_zone(limits, choice) + "Z"


def time_without_zone(limits: Mapping[str, Any], choice: int) -> str:
    """Return a time of the day."""
    since = _pick(limits, choice, _since_midnight, 0, DAY - SECOND, most=DAY - SECOND)
    return _datetime(since).time().isoformat()


def duration(limits: Mapping[str, Any], choice: int) -> str:
    """Return a duration."""
    since = _pick(limits, choice, _length, DAY, 30 * DAY, step=DAY)
    return str(to_jsonable_python(datetime.timedelta(microseconds=since)))


def _pick(
    limits: Mapping[str, Any],
    choice: int,
    count: Any,
    first: int,
    span: int,
    *,
    step: int = SECOND,
    most: int | None = None,
) -> int:
    """Return a number within the limits, a multiple of ``step`` if one lies within them."""
    low, high = _bounds(limits, count, first, span)
    high = high if most is None else min(high, most)
    for unit in (step, SECOND, 1):
        least, last = -(-low // unit), high // unit
        if least <= last:
            return (least + choice % (last - least + 1)) * unit
    return low


def _bounds(limits: Mapping[str, Any], count: Any, first: int, span: int) -> tuple[int, int]:
    lows = [count(limits["minimum"])] if "minimum" in limits else []
    lows += [count(limits["exclusiveMinimum"]) + 1] if "exclusiveMinimum" in limits else []
    lows += [(_FUTURE - _EPOCH) // _MICROSECOND] if limits.get("future") else []
    highs = [count(limits["maximum"])] if "maximum" in limits else []
    highs += [count(limits["exclusiveMaximum"]) - 1] if "exclusiveMaximum" in limits else []
    if lows and not highs:
        return max(lows), max(lows) + span
    if highs and not lows:
        return min(first, min(highs) - span), min(highs)
    return max(lows, default=first), min(highs, default=first + span)


def _datetime(microseconds: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=microseconds)


def _since_epoch(text: str) -> int:
    moment = datetime.datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // _MICROSECOND


def _since_midnight(text: str) -> int:
    moment = datetime.time.fromisoformat(text)
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * SECOND + moment.microsecond


def _length(text: str) -> int:
    return TypeAdapter(datetime.timedelta).validate_python(text) // _MICROSECOND
