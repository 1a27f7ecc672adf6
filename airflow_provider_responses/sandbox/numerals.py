"""Numbers within a schema's limits."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

from airflow_provider_responses.models.output_limits import limits_of
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
    """Return a number that the schema allows; a score is a share of one unless the schema says otherwise."""
    one = {**one, **limits_of(one)}
    limited = any(is_number(one.get(key)) for key in ("maximum", "exclusiveMaximum"))
    share = not limited and any(word in name.lower() for word in SHARES)
    low, high = _limits(one, 1 if share else SPAN)
    step, places = one.get("multipleOf"), one.get("decimalPlaces")
    if is_number(step) and step > 0:
        found = _multiples(low, high, step, choice)
    elif places is not None or "maxDigits" in one:
        found = _multiples_of_ten(low, high, places, choice)
    else:
        exact = low + (high - low) * (0.1 + 0.8 * (choice % 1009) / 1009)
        found = [round(exact, 2), exact, low + (high - low) / 2, low, high]
    limits = _limits_of(one)
    return next((value for value in found if conforms(value, limits, {}) and _has_digits(value, one)), low)


def _multiples_of_ten(low: float, high: float, places: int | None, choice: int) -> list[float]:
    """Return decimal numbers of ever fewer places."""
    found: list[float] = []
    for count in range(2 if places is None else min(places, 6), -1, -1):
        first, last = math.ceil(low * 10**count), math.floor(high * 10**count)
        turns = [choice % (last - first + 1), 0, 1, last - first, last - first - 1] if first <= last else []
        found += [round((first + turn) / 10**count, count) for turn in turns]
    return found if places is None or places <= 6 else [*found, round((low + high) / 2, places)]


def _has_digits(value: float, one: Schema) -> bool:
    """Whether a number has no more digits than its description allows."""
    most: float = one.get("maxDigits", math.inf)
    most_places: float | None = one.get("decimalPlaces")
    exact = Decimal(str(value))
    whole = len(str(int(abs(exact)))) if abs(exact) >= 1 or exact == 0 else 0
    places = max(0, -int(exact.normalize().as_tuple().exponent))
    most_whole = most if most_places is None else most - most_places
    return places <= (most if most_places is None else most_places) and whole <= most_whole and whole + places <= most


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
