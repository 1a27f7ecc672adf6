"""Reads the wait that a service asks for before the next request. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


def read_retry_after(headers: Mapping[str, str], availability: Mapping[str, Any] | None = None) -> float | None:
    """Return the seconds that the service asks to wait, from headers (seconds, milliseconds or a date) and body."""
    waits = [
        _milliseconds(headers.get("retry-after-ms")),
        _seconds(headers.get("retry-after"), headers.get("date")),
    ]
    waits.append(_seconds(str((availability or {}).get("retry_after", "")), None))
    known = [wait for wait in waits if wait is not None and 0 <= wait < float("inf")]
    return max(known) if known else None


def _milliseconds(text: str | None) -> float | None:
    seconds = _seconds(text, None)
    return None if seconds is None else seconds / 1000


def _seconds(text: str | None, now: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:  # a date counts from the server's clock (its Date header), else from this machine's
        since = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(text) - since).total_seconds())
    except (TypeError, ValueError):
        return None
