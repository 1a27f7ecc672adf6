"""
The prices of models, and the expected and the highest price of a request, from its bytes. No I/O.

Tokens are estimated from bytes of UTF-8. With OpenAI's ``o200k_base`` a token has 5.3 bytes of English prose, 5.1 of
German, 4.8 of French, 3.6 of Chinese, 4.2 of Japanese, 7.9 of Hindi, 2.6 of JSON, and 1.8 of long numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError

BATCH_VARIANT: Final = ":batch"
BYTES_PER_TOKEN: Final = 4.0  # expected
MOST_BYTES_PER_TOKEN: Final = 8.0  # for the lowest price
FEWEST_BYTES_PER_TOKEN: Final = 1.5  # for the highest price
OUTPUT_TOKENS: Final = 1000  # of a response to a request without `max_output_tokens`
_BATCH_BYTES_PER_TOKEN: Final = 3  # of JSON; English has about four
_MAX_OUTPUT: Final = re.compile(r'"max_output_tokens": ?(\d+)')


@dataclass(frozen=True)
class TokenPrice:
    """
    The price of a model.

    :param input: US dollars for one token of input.
    :param output: US dollars for one token of output.
    :param request: US dollars for each request beside its tokens.
    :param max_output_tokens: of the model, None if unknown.
    """

    input: float
    output: float
    request: float = 0.0
    max_output_tokens: int | None = None

    def of(self, input_tokens: float, output_tokens: float) -> float:
        """Return the price of a request in US dollars."""
        return self.request + self.input * input_tokens + self.output * output_tokens


def read_prices(models: Iterable[Mapping[str, Any]]) -> dict[str, TokenPrice]:
    """
    Return the prices of models by name, without the models whose price varies or cannot be read.

    :param models: as ``GET /models`` lists them.
    """
    found = {}
    for entry in models:
        name, pricing = entry.get("id"), entry.get("pricing")
        if not isinstance(name, str) or not isinstance(pricing, Mapping):
            continue
        tokens_in, tokens_out = (_number(pricing.get(kind)) for kind in ("prompt", "completion"))
        if tokens_in is not None and tokens_out is not None:
            request = _number(pricing.get("request")) or 0.0
            found[name] = TokenPrice(tokens_in, tokens_out, request, _most_output(entry))
    return found


def batch_prices(models: Iterable[Mapping[str, Any]]) -> dict[str, TokenPrice]:
    """
    Return the prices of models in batches.

    :param models: as ``GET /models`` lists them; the price in a batch is that of the variant ``:batch``.
    """
    prices = read_prices(models)
    return {name.removesuffix(BATCH_VARIANT): it for name, it in prices.items() if name.endswith(BATCH_VARIANT)}


def estimate(fields: str, size: int, price: TokenPrice | None) -> float | None:
    """
    Return the highest expected price of a request in a batch in US dollars, None if the model's price is unknown.

    :param fields: its JSON.
    :param size: bytes of its body.
    """
    if price is None:
        return None
    return price.of(size / _BATCH_BYTES_PER_TOKEN, _output_tokens(fields))


def tokens_of(size: int, bytes_per_token: float = BYTES_PER_TOKEN) -> int:
    """Return the estimated number of tokens in a number of bytes."""
    return math.ceil(size / bytes_per_token)


def highest_price(body: bytes, prices: Mapping[str, TokenPrice], *, files: int = 0) -> float | str:
    """
    Return the highest price of one send of a request in US dollars, or why it is unknown.

    Fees for tools and media are not part of it.

    :param body: as it is sent.
    :param files: bytes of the contents of files, which are sent in addition.
    :raises RequestValidationError: if its output is unlimited.
    """
    fields: dict[str, Any] = json.loads(body)
    others = fields.get("models")
    names = [fields.get("model"), *(others if isinstance(others, list) else ())]
    found = 0.0
    for name in filter(None, names):
        if (price := prices.get(str(name))) is None:
            return f"/models lists no price of {name}"
        if (most := fields.get("max_output_tokens") or price.max_output_tokens) is None:
            raise RequestValidationError(
                "max_output_tokens is missing, without which the price of a response has no limit: set "
                "request={'max_output_tokens': ...}",
                fields=("max_output_tokens",),
            )
        found = max(found, price.of(tokens_of(len(body) + files, FEWEST_BYTES_PER_TOKEN), most))
    return found


def _output_tokens(fields: str) -> int:
    found = _MAX_OUTPUT.findall(fields)
    if len(found) == 1:
        return int(found[0])
    given = json.loads(fields).get("max_output_tokens") if found else None
    return given if isinstance(given, int) else OUTPUT_TOKENS


def _most_output(entry: Mapping[str, Any]) -> int | None:
    provider = entry.get("top_provider")
    most = provider.get("max_completion_tokens") if isinstance(provider, Mapping) else None
    return most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else None


def _number(value: Any) -> float | None:
    """Return a price; -1 stands for one that varies, as that of a router."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number >= 0 and math.isfinite(number) else None
