"""Numbers within a schema's limits."""

from __future__ import annotations

import math
from typing import Any, Final

from airflow_provider_responses.sandbox.schemas import Schema, conforms, is_number

SPAN: Final = 100
SHARES: Final = ("confidence", "score", "probability", "ratio", "share", "likelihood")


def integer(one: Schema, choice: int) -> int:
    """Give an integer that the schema allows."""
    low, high = _limits(one, SPAN)
    step = one.get("multipleOf", 1)
    step = step if is_number(step) and step > 0 else 1
    numbers = [value for value in _multiples(low, high, step, choice) if float(value).is_integer()]
    return next((int(value) for value in numbers if conforms(int(value), _limits_of(one), {})), math.ceil(low))


def number(one: Schema, name: str, choice: int) -> float:
    """Give a number that the schema allows; a score is a share of one unless the schema says otherwise."""
    limited = any(is_number(one.get(key)) for key in ("maximum", "exclusiveMaximum"))
    share = not limited and any(word in name.lower() for word in SHARES)
    low, high = _limits(one, 1 if share else SPAN)
    step = one.get("multipleOf")
    if is_number(step) and step > 0:
        found = _multiples(low, high, step, choice)
    else:
        exact = low + (high - low) * (0.1 + 0.8 * (choice % 1009) / 1009)
        found = [round(exact, 2), exact, low + (high - low) / 2, low, high]
    return next((value for value in found if conforms(value, _limits_of(one), {})), low)


def _limits_of(one: Schema) -> dict[str, Any]:
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    return {name: one[name] for name in names if is_number(one.get(name))}


def _limits(one: Schema, span: float) -> tuple[float, float]:
    lows = [one[key] for key in ("minimum", "exclusiveMinimum") if is_number(one.get(key))]
    highs = [one[key] for key in ("maximum", "exclusiveMaximum") if is_number(one.get(key))]
    low = max(lows) if lows else None
    high = min(highs) if highs else None
    if low is None:
        low = 0 if high is None or high > 0 else high - span
    return low, max(low, low + span if high is None else high)


def _multiples(low: float, high: float, step: float, choice: int) -> list[float]:
    first, last = math.ceil(low / step), math.floor(high / step)
    if last < first:
        # The usual span holds no multiple: the next one may still be allowed.
        first, last = first - 1, first + 1
    count = last - first + 1
    start = choice % count
    # Products of binary fractions are not exact, so some multiples fail the check: offer many.
    picked = [first + (start + turn) % count for turn in range(min(count, 400))]
    return [k * step for k in (*picked, 0)]
