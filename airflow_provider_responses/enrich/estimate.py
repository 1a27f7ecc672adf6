"""The price of a table before it is paid: counts requests and tokens, and multiplies them by the prices of models."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_provider_responses.enrich.statuses import INVALID
from airflow_provider_responses.exceptions import BudgetExceededError
from airflow_provider_responses.task.cost_total import short_dollars
from airflow_provider_responses.task.escalation import fields_of_tier
from airflow_provider_responses.task.prices import (
    BATCH_VARIANT,
    BYTES_PER_TOKEN,
    FEWEST_BYTES_PER_TOKEN,
    MOST_BYTES_PER_TOKEN,
    OUTPUT_TOKENS,
    TokenPrice,
    tokens_of,
)

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index, PendingRequest
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.enrich.report import Report
    from airflow_provider_responses.task.escalation import Escalation

log = logging.getLogger(__name__)

VERSION: Final = 1  # of the form of an estimate; a field that is added does not change it
MAX_REMEMBERED: Final = 1000  # requests without their input, whose measures are remembered
READ_AHEAD: Final = 500  # requests
READ_BY_MODELS: Final = ("instructions", "prompt", "tools", "text")  # fields beside the input
MAX_SHOWN_MODELS: Final = 5

Prices = Mapping[str, TokenPrice]


class MeasuredRequest(NamedTuple):
    """The parts of a request that its price depends on."""

    model: str
    size: int  # bytes that the model reads
    max_output_tokens: int | None


class RequestMeter:
    """
    Measures requests by the JSON of their fields.

    :param job: whose requests they are.
    """

    def __init__(self, job: Job) -> None:
        self._default_model = job.config.for_call(job.options).default_model or ""
        self._format_size = _size_of(job.request.text_format())
        self._remembered: dict[str, MeasuredRequest] = {}  # with the size of the fields beside the input

    def measure(self, fields: str) -> MeasuredRequest:
        """Return the measures of a request."""
        others: dict[str, Any] = json.loads(fields)
        size = _size_of(others.pop("input", None))
        rest = json.dumps(others)
        if (shared := self._remembered.get(rest)) is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            most = others.get("max_output_tokens")
            shared = self._remembered[rest] = MeasuredRequest(
                str(others.get("model") or self._default_model),
                self._format_size + sum(_size_of(others.get(name)) for name in READ_BY_MODELS),
                most if isinstance(most, int) and not isinstance(most, bool) else None,
            )
        return shared._replace(size=shared.size + size)


@dataclass
class ModelShare:
    """The requests of a table to one model."""

    requests: int = 0
    size: int = 0  # bytes
    input_tokens: int = 0
    output_tokens: int = 0
    most_output_tokens: int | None = 0  # None without a limit

    def add(self, request: MeasuredRequest, output_tokens: int, most: int | None) -> None:
        """Add a request."""
        self.requests += 1
        self.size += request.size
        self.input_tokens += tokens_of(request.size)
        self.output_tokens += output_tokens
        known = self.most_output_tokens is not None and most is not None
        self.most_output_tokens = (self.most_output_tokens or 0) + (most or 0) if known else None

    def costs(self, price: TokenPrice) -> tuple[float, float, float | None]:
        """Return the lowest, the expected and the highest price in US dollars; the last one None if unlimited."""
        lowest = price.of(self.size / MOST_BYTES_PER_TOKEN, 0) + price.request * (self.requests - 1)
        fixed = price.request * (self.requests - 1)
        expected = price.of(self.input_tokens, self.output_tokens) + fixed
        if self.most_output_tokens is None:
            return lowest, expected, None
        return lowest, expected, price.of(self.size / FEWEST_BYTES_PER_TOKEN, self.most_output_tokens) + fixed


@dataclass
class Estimate:
    """
    The estimate of the requests of a table that have no response yet.

    :param index: of the rows, with the responses of earlier attempts.
    :param report: the counts of the attempt.
    :param job: whose rows they are.
    :param prices: of models by name, or the reason why they are unknown.
    :param mode: ``live`` or ``batch``, which decides the price.
    """

    index: Index
    report: Report
    job: Job
    prices: Prices | str
    mode: str = "live"
    shares: dict[str, ModelShare] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Count the requests, and return the documented form of the estimate."""
        meter = RequestMeter(self.job)
        learned = _mean_output(self.index, meter)
        sources = set()
        for it in _pending(self.index):
            request = meter.measure(self._fields_of(it))
            most = request.max_output_tokens
            if learned is not None:
                source, tokens = "responses", learned if most is None else min(learned, most)
            elif most is not None:
                source, tokens = "max_output_tokens", most
            else:
                source, tokens = "default", OUTPUT_TOKENS
            sources.add(source)
            limit = most if most is not None else self._limit_of(request.model)
            self.shares.setdefault(request.model, ModelShare()).add(request, tokens, limit)
        counts, pending = self.index.counts(), self.index.count_pending()
        first_steps = self.index.count_first_steps()
        cost, lowest, highest, reason = self._cost()
        later = later_models(self.job.escalate, self.job.judge, self.prices)
        return {
            "kind": "estimate",
            "version": VERSION,
            "mode": self.mode,
            "rows": self.report.rows,
            "invalid_rows": counts.get(INVALID, 0),
            "requests": first_steps,
            "requests_reused": self.report.reused,
            "requests_in_batches": self.report.pending - pending,
            "duplicate_rows": self.report.rows - counts.get(INVALID, 0) - self.report.pending - self.report.reused,
            "input_tokens": sum(share.input_tokens for share in self.shares.values()),
            "output_tokens": sum(share.output_tokens for share in self.shares.values()),
            "output_tokens_from": sorted(sources),
            "bytes_per_token": BYTES_PER_TOKEN,
            "cost": cost,
            "cost_low": lowest,
            "cost_high": None if later else highest,
            "cost_unknown_because": reason,
            "cost_so_far": self.report.spent.total,
            "models": {name: self._share_to_dict(name, share) for name, share in self.shares.items()},
            **_without(later, pending - first_steps),
        }

    def _fields_of(self, request: PendingRequest) -> str:
        """Return the JSON of the request of the step that is next."""
        step = request.step
        if not step.tier and not step.is_judge:
            return request.fields
        fields = fields_of_tier(self.job.escalate, step.tier, json.loads(request.fields))
        if step.is_judge and self.job.judge is not None:  # the columns are about as long as the response
            fields = self.job.judge.fields(fields, request.earlier or "")
        return json.dumps(fields)

    def _limit_of(self, model: str) -> int | None:
        price = self._price_of(model)
        return price.max_output_tokens if isinstance(price, TokenPrice) else None

    def _price_of(self, model: str) -> TokenPrice | str:
        """Return the price of a model, or why it is unknown."""
        if isinstance(self.prices, str):
            return self.prices
        return price_of(self.prices, model, self.mode)

    def _cost(self) -> tuple[float | None, float | None, float | None, str | None]:
        """Return the expected, the lowest and the highest cost, and why the first is unknown if it is."""
        total, lowest, highest = 0.0, 0.0, 0.0
        is_limited = True
        for name, share in self.shares.items():
            price = self._price_of(name)
            if isinstance(price, str):
                return None, None, None, price
            low, expected, high = share.costs(price)
            total, lowest = total + expected, lowest + low
            is_limited = is_limited and high is not None
            highest += high or 0.0
        return round(total, 9), round(lowest, 9), round(highest, 9) if is_limited else None, None

    def _share_to_dict(self, name: str, share: ModelShare) -> dict[str, Any]:
        price = self._price_of(name)
        return {
            "requests": share.requests,
            "input_tokens": share.input_tokens,
            "output_tokens": share.output_tokens,
            "cost": None if isinstance(price, str) else round(share.costs(price)[1], 9),
        }


def estimate_one(body: bytes, prices: Prices | str, escalations: Sequence[Escalation] = ()) -> dict[str, Any]:
    """
    Return the estimate of one request, in the form of a table's.

    :param body: as it would be sent.
    :param escalations: larger models, which are not counted.
    """
    fields: dict[str, Any] = json.loads(body)
    model, most = str(fields.get("model") or ""), fields.get("max_output_tokens")
    price = prices if isinstance(prices, str) else price_of(prices, model)
    limit = most if most is not None or isinstance(price, str) else price.max_output_tokens
    size = sum(_size_of(fields.get(name)) for name in ("input", *READ_BY_MODELS))
    share = ModelShare()
    share.add(MeasuredRequest(model, size, most), OUTPUT_TOKENS if most is None else most, limit)
    lowest, cost, highest = (None, None, None) if isinstance(price, str) else share.costs(price)
    later = later_models(escalations, None, prices)
    return {
        "kind": "estimate",
        "version": VERSION,
        "mode": "live",
        "rows": 1,
        "invalid_rows": 0,
        "requests": 1,
        "requests_reused": 0,
        "requests_in_batches": 0,
        "duplicate_rows": 0,
        "input_tokens": share.input_tokens,
        "output_tokens": share.output_tokens,
        "output_tokens_from": ["default" if most is None else "max_output_tokens"],
        "bytes_per_token": BYTES_PER_TOKEN,
        "cost": _rounded(cost),
        "cost_low": _rounded(lowest),
        "cost_high": None if later else _rounded(highest),
        "cost_unknown_because": price if isinstance(price, str) else None,
        "cost_so_far": 0.0,
        "models": {
            model: {
                "requests": 1,
                "input_tokens": share.input_tokens,
                "output_tokens": share.output_tokens,
                "cost": _rounded(cost),
            }
        },
        **_without(later, 0),
    }


def later_models(escalations: Sequence[Escalation], judge: Judge | None, prices: Prices | str) -> list[dict[str, Any]]:
    """
    Return the models of ``escalate`` and ``judge`` with their prices.

    The number of their requests depends on responses, so that an estimate has only those of responses that are there.
    """
    named = [("escalate", it.model) for it in escalations]
    named += [] if judge is None else [("judge", judge.model)]
    found = []
    for argument, model in named:
        price = prices if isinstance(prices, str) else price_of(prices, model)
        amounts = (None, None) if isinstance(price, str) else (price.input, price.output)
        found.append({"argument": argument, "model": model, "input_price": amounts[0], "output_price": amounts[1]})
    return found


def _without(later: Sequence[Mapping[str, Any]], requests: int) -> dict[str, Any]:
    """
    Return the keys of an estimate with ``escalate`` or ``judge``, none without them.

    :param requests: that wait for a larger model or the judge, since the response before them is there.
    """
    if not later:
        return {}
    arguments = list(dict.fromkeys(it["argument"] for it in later))
    return {"without": arguments, "later_requests": requests, "later_models": list(later)}


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 9)


def price_of(prices: Prices, model: str, mode: str = "live") -> TokenPrice | str:
    """Return the price of a model, or why it is unknown."""
    name = f"{model}{BATCH_VARIANT}" if mode == "batch" else model
    if not model:
        return "the request names no model, and the connection has no default_model"
    return prices.get(name) or f"/models lists no price of {name}"


def describe_estimate(estimate: Mapping[str, Any]) -> list[str]:
    """Return the lines that show an estimate."""
    counts = (
        f"{estimate['rows']} rows: {estimate['requests']} requests to send, {estimate['requests_reused']} with a "
        f"response from before, {estimate['duplicate_rows']} duplicate and {estimate['invalid_rows']} invalid rows"
    )
    tokens = (
        f"About {estimate['input_tokens']} input tokens ({estimate['bytes_per_token']:g} bytes each) and "
        f"{estimate['output_tokens']} output tokens (from {', '.join(estimate['output_tokens_from']) or 'nothing'})"
    )
    lines = [counts, tokens]
    if estimate["cost"] is None:
        lines.append(f"Cost ({estimate['mode']}): unknown, {estimate['cost_unknown_because']}")
    else:
        high = estimate["cost_high"]
        most = "no limit without max_output_tokens" if high is None else f"at most {short_dollars(high)}"
        most = _left_out(estimate) or most
        lines.append(
            f"Cost ({estimate['mode']}): about {short_dollars(estimate['cost'])}, at least "
            f"{short_dollars(estimate['cost_low'])}, {most}"
        )
    lines += [_describe_price(it) for it in estimate.get("later_models") or ()]
    models = estimate["models"]
    for name in sorted(models, key=lambda it: -models[it]["requests"])[:MAX_SHOWN_MODELS] if len(models) > 1 else ():
        share, cost = models[name], models[name]["cost"]
        lines.append(
            f"  {name}: {share['requests']} requests, {'cost unknown' if cost is None else short_dollars(cost)}"
        )
    return lines


def _left_out(estimate: Mapping[str, Any]) -> str:
    """Return a part of a sentence about the requests that the cost leaves out, since they depend on responses."""
    names = {"escalate": "the larger models", "judge": "the judge"}
    left_out = " and ".join(names[it] for it in estimate.get("without") or ())
    if not left_out:
        return ""
    known = estimate["later_requests"]
    return f"without {left_out}{f' but for {known} requests to them' if known else ''}"


def _describe_price(model: Mapping[str, Any]) -> str:
    price = "price unknown"
    if model["input_price"] is not None:
        million = [short_dollars(model[name] * 1e6) for name in ("input_price", "output_price")]
        price = f"{million[0]} per million tokens of input, {million[1]} of output"
    return f"  {model['argument']} {model['model']}: {price}"


def check_key_limit(estimate: Mapping[str, Any], remaining: float) -> None:
    """
    Compare an estimate with the US dollars that the limit of the key leaves.

    :raises BudgetExceededError: if even the lowest price exceeds it.
    """
    cost, lowest = estimate["cost"], estimate["cost_low"]
    if cost is None or cost <= remaining:
        return
    requests = estimate["requests"] + estimate.get("later_requests", 0)
    about = f"the {requests} requests cost about {short_dollars(cost)}"
    if lowest > remaining:
        raise BudgetExceededError(
            f"the key's limit leaves {short_dollars(remaining)}, and {about}, at least {short_dollars(lowest)}: "
            "nothing was sent. Raise the limit of the key, or send fewer rows"
        )
    log.warning("The key's limit leaves %s, and %s: some may not be sent", short_dollars(remaining), about)


def _pending(index: Index) -> Iterator[PendingRequest]:
    last = -1
    while found := index.pending(last, READ_AHEAD):
        last = found[-1].first_row
        yield from found


def _mean_output(index: Index, meter: RequestMeter) -> int | None:
    """Return the mean number of output tokens of the responses that are there, None if there are none."""
    total = count = 0
    for fields, columns in index.responses():
        tokens = json.loads(columns).get("_tokens")
        if isinstance(tokens, int) and not isinstance(tokens, bool):
            total += max(0, tokens - tokens_of(meter.measure(fields).size))
            count += 1
    return round(total / count) if count else None


def _size_of(value: Any) -> int:
    """Return the bytes of a text, or of the JSON of another value."""
    if value is None:
        return 0
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return len(text.encode(errors="replace"))
