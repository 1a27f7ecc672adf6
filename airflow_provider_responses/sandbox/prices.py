"""What a model costs in the sandbox, and how tokens are counted. The prices are the sandbox's own."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token."""

    input: float
    output: float


PRICES: Final[dict[str, Price]] = {
    "anthropic/claude-haiku-4.5": Price(1.0e-6, 5.0e-6),
    "anthropic/claude-sonnet-4.5": Price(3.0e-6, 15.0e-6),
    "deepseek/deepseek-chat": Price(0.3e-6, 0.9e-6),
    "google/gemini-2.5-flash": Price(0.3e-6, 2.5e-6),
    "meta-llama/llama-3.3-70b-instruct": Price(0.1e-6, 0.3e-6),
    "mistralai/mistral-small-3.2": Price(0.1e-6, 0.3e-6),
    "openai/gpt-4o": Price(2.5e-6, 10.0e-6),
    "openai/gpt-4o-mini": Price(0.15e-6, 0.6e-6),
    "openai/gpt-5-mini": Price(0.25e-6, 2.0e-6),
}
DEFAULT_PRICE: Final = Price(1.0e-6, 4.0e-6)
FREE: Final = Price(0.0, 0.0)
PROVIDERS: Final = {
    "anthropic": "Anthropic",
    "deepseek": "DeepSeek",
    "google": "Google",
    "meta-llama": "Together",
    "mistralai": "Mistral",
    "openai": "OpenAI",
}


@dataclass(frozen=True, slots=True)
class Bill:
    """Tokens of one answer and what they cost, in US dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0  # among the output's
    input_cost: float = 0.0
    output_cost: float = 0.0

    @property
    def cost(self) -> float:
        """Input and output together."""
        return round(self.input_cost + self.output_cost, 12)


def price_of(model: str) -> Price:
    """Give a model's price; a model that is not in the table has the default one."""
    if model.endswith(":free"):
        return FREE
    return PRICES.get(model.partition(":")[0], DEFAULT_PRICE)


def provider_of(model: str) -> str:
    """Name the provider that serves a model."""
    return PROVIDERS.get(model.partition("/")[0], "FakeProvider")


def count_tokens(text: str) -> int:
    """Count tokens, four characters each."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def count_input_tokens(body: dict[str, Any]) -> int:
    """Count the tokens of what a model reads of a request."""
    read = [body[name] for name in ("instructions", "input", "prompt", "tools", "text") if body.get(name)]
    return sum(count_tokens(part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)) for part in read)


def bill(model: str, input_tokens: int, output_tokens: int, reasoning_tokens: int = 0) -> Bill:
    """Price these tokens; those of the reasoning are among the output's."""
    price = price_of(model)
    return Bill(
        input_tokens,
        output_tokens,
        reasoning_tokens,
        round(input_tokens * price.input, 12),
        round(output_tokens * price.output, 12),
    )
