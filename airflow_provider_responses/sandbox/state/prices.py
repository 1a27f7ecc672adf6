"""The price of each model, and the bill of one response. The prices are the sandbox's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per token."""

    input: float
    output: float

    def times(self, share: float) -> Price:
        """Return a share of the price."""
        return Price(self.input * share, self.output * share)


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
BATCH_VARIANT: Final = ":batch"
BATCH_SHARE: Final = 0.5  # the price of a request in a batch, as a share of the ordinary price
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
    """Tokens of one response and their cost in US dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0  # part of the output tokens
    input_cost: float = 0.0
    output_cost: float = 0.0

    @property
    def cost(self) -> float:
        """The cost of input and output, in US dollars."""
        return round(self.input_cost + self.output_cost, 12)

    def times(self, share: float) -> Bill:
        """Return the bill with a share of the costs."""
        input_cost, output_cost = round(self.input_cost * share, 12), round(self.output_cost * share, 12)
        return replace(self, input_cost=input_cost, output_cost=output_cost)


def price_of(model: str) -> Price:
    """Return a model's price, or the default price."""
    if model.endswith(":free"):
        return FREE
    return PRICES.get(model.partition(":")[0], DEFAULT_PRICE)


def provider_of(model: str) -> str:
    """Return the name of the provider that serves a model."""
    return PROVIDERS.get(model.partition("/")[0], "FakeProvider")


def make_bill(model: str, input_tokens: int, output_tokens: int, reasoning_tokens: int = 0) -> Bill:
    """Return the bill for these tokens; the output tokens include those of the reasoning."""
    price = price_of(model)
    return Bill(
        input_tokens,
        output_tokens,
        reasoning_tokens,
        round(input_tokens * price.input, 12),
        round(output_tokens * price.output, 12),
    )
