"""The highest expected price of requests, before a batch of them is submitted. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

BATCH_VARIANT: Final = ":batch"
BYTES_PER_TOKEN: Final = 3  # of JSON; English has about four
OUTPUT_TOKENS: Final = 1000  # of a response to a request without `max_output_tokens`
_MAX_OUTPUT: Final = re.compile(r'"max_output_tokens": ?(\d+)')


@dataclass(frozen=True)
class TokenPrice:
    """US dollars for one token of input and of output."""

    input: float
    output: float


def batch_prices(models: Iterable[Mapping[str, Any]]) -> dict[str, TokenPrice]:
    """
    Return the prices of models in batches.

    :param models: as ``GET /models`` lists them; the price in a batch is that of the variant ``:batch``.
    """
    found = {}
    for entry in models:
        name, pricing = entry.get("id"), entry.get("pricing")
        if not isinstance(name, str) or not name.endswith(BATCH_VARIANT) or not isinstance(pricing, Mapping):
            continue
        prices = [_number(pricing.get(kind)) for kind in ("prompt", "completion")]
        if None not in prices:
            found[name.removesuffix(BATCH_VARIANT)] = TokenPrice(*(price or 0.0 for price in prices))
    return found


def estimate(fields: str, size: int, price: TokenPrice | None) -> float | None:
    """
    Return the highest expected price of a request in US dollars, None if the model's price is unknown.

    :param fields: its JSON.
    :param size: bytes of its body.
    """
    if price is None:
        return None
    return price.input * size / BYTES_PER_TOKEN + price.output * _output_tokens(fields)


def _output_tokens(fields: str) -> int:
    found = _MAX_OUTPUT.findall(fields)
    if len(found) == 1:
        return int(found[0])
    given = json.loads(fields).get("max_output_tokens") if found else None
    return given if isinstance(given, int) else OUTPUT_TOKENS


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number >= 0 else None
