"""
Reads when a limit of the account is reset, from the headers of a 429. No I/O.

Forms of ``X-RateLimit-Reset`` in use: milliseconds or seconds since 1970 (OpenRouter, GitHub), seconds from
now, and lengths of time such as ``1m30.5s`` (OpenAI, which has one pair of headers for requests and one for tokens).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_KINDS: Final = ("", "-requests", "-tokens")
_MILLISECONDS_FROM: Final = 1e11  # as seconds since 1970, this is in the year 5138
_DATE_FROM: Final = 1e9  # as seconds from now, these are 31 years
_UNITS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_LENGTH: Final = re.compile(rf"(?:{_PART.pattern})+")


def account_reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the account's limit is reset, None if no limit is known to be used up."""
    waits = [_wait(headers, kind) for kind in _KINDS if _is_used_up(headers.get(f"x-ratelimit-remaining{kind}"))]
    return max((wait for wait in waits if wait is not None), default=None)


def _is_used_up(remaining: str | None) -> bool:
    number = _number(remaining)
    return number is not None and number <= 0


def _wait(headers: Mapping[str, str], kind: str) -> float | None:
    text = (headers.get(f"x-ratelimit-reset{kind}") or "").strip().lower()
    if _LENGTH.fullmatch(text):
        return math.fsum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    number = _number(text)
    if number is None or number < 0:
        return None
    if number < _DATE_FROM:
        return number
    moment = number / 1000 if number >= _MILLISECONDS_FROM else number
    return max(0.0, moment - _now(headers))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _now(headers: Mapping[str, str]) -> float:
    """Return the time of the server's clock (its ``Date``), else of this machine's."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return datetime.now(UTC).timestamp()
