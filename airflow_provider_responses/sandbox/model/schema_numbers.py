"""Numbers that conform to a schema."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

from airflow_provider_responses.models.output_limits import limits_of
from airflow_provider_responses.sandbox.model.json_schema import Schema, conforms, is_number

SPAN: Final = 100  # between the limits, where the schema has only one of them
# Parts of the names of properties that become a number from 0 to 1.
SHARES: Final = ("confidence", "score", "probability", "ratio", "share", "likelihood")


def make_integer(schema: Schema, choice: int) -> int:
    """Return an integer that the schema allows."""
    low, high = _range(schema, SPAN)
    step = schema.get("multipleOf", 1)
    step = step if is_number(step) and step > 0 else 1
    numbers = [value for value in _multiples(low, high, step, choice) if float(value).is_integer()]
    return next((int(value) for value in numbers if conforms(int(value), _number_keywords(schema), {})), math.ceil(low))


def make_number(schema: Schema, name: str, choice: int) -> float:
    """Return a number that the schema allows; by default, one from 0 to 1 for a property such as ``score``."""
    schema = {**schema, **limits_of(schema)}
    has_maximum = any(is_number(schema.get(key)) for key in ("maximum", "exclusiveMaximum"))
    is_share = not has_maximum and any(word in name.lower() for word in SHARES)
    low, high = _range(schema, 1 if is_share else SPAN)
    step, places = schema.get("multipleOf"), schema.get("decimalPlaces")
    if is_number(step) and step > 0:
        found = _multiples(low, high, step, choice)
    elif places is not None or "maxDigits" in schema:
        found = _decimals(low, high, places, choice)
    else:
        exact = low + (high - low) * (0.1 + 0.8 * (choice % 1009) / 1009)
        found = [round(exact, 2), exact, low + (high - low) / 2, low, high]
    limits = _number_keywords(schema)
    return next((value for value in found if conforms(value, limits, {}) and _has_digits(value, schema)), low)


def _decimals(low: float, high: float, places: int | None, choice: int) -> list[float]:
    """Return numbers with at most ``places`` decimal places, those with the most places first."""
    found: list[float] = []
    for count in range(2 if places is None else min(places, 6), -1, -1):
        first, last = math.ceil(low * 10**count), math.floor(high * 10**count)
        turns = [choice % (last - first + 1), 0, 1, last - first, last - first - 1] if first <= last else []
        found += [round((first + turn) / 10**count, count) for turn in turns]
    return found if places is None or places <= 6 else [*found, round((low + high) / 2, places)]


def _has_digits(value: float, schema: Schema) -> bool:
    """Whether a number has at most as many digits as its description allows."""
    most: float = schema.get("maxDigits", math.inf)
    most_places: float | None = schema.get("decimalPlaces")
    exact = Decimal(str(value))
    whole = len(str(int(abs(exact)))) if abs(exact) >= 1 or exact == 0 else 0
    places = max(0, -int(exact.normalize().as_tuple().exponent))
    most_whole = most if most_places is None else most - most_places
    return places <= (most if most_places is None else most_places) and whole <= most_whole and whole + places <= most


def _number_keywords(schema: Schema) -> dict[str, Any]:
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    return {name: schema[name] for name in names if is_number(schema.get(name))}


def _range(schema: Schema, span: float) -> tuple[float, float]:
    lows = [schema[key] for key in ("minimum", "exclusiveMinimum") if is_number(schema.get(key))]
    highs = [schema[key] for key in ("maximum", "exclusiveMaximum") if is_number(schema.get(key))]
    low = max(lows) if lows else None
    high = min(highs) if highs else None
    if low is None:
        low = 0 if high is None or high > 0 else high - span
    return low, max(low, low + span if high is None else high)


def _multiples(low: float, high: float, step: float, choice: int) -> list[float]:
    first, last = math.ceil(low / step), math.floor(high / step)
    if last < first:
        # The usual span holds no multiple: the next multiple may still be allowed.
        first, last = first - 1, first + 1
    count = last - first + 1
    start = choice % count
    # Products of binary fractions are not exact, so some multiples do not conform: return many.
    picked = [first + (start + turn) % count for turn in range(min(count, 400))]
    return [k * step for k in (*picked, 0)]
