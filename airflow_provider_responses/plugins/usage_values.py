"""Reads XComs named ``usage``, which any task may have pushed: no value raises an error. No I/O."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from airflow_provider_responses.task.xcom import VERSION

MAX_COST: Final = 1e9  # US dollars; more is no price of a request
MAX_COUNT: Final = 10**15  # JavaScript's numbers are exact up to 9 * 10**15
MAX_TEXT: Final = 500  # characters
FAILED: Final = frozenset({"failed", "incomplete", "refused", "invalid_output", "cancelled"})
COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "ambiguous_sends",
    "escalated",
    "requests",
    "requests_cached",
    "requests_failed",
    "rows",
)
TEXTS: Final = (
    "prompt_fingerprint",
    "status",
    "model",
    "provider",
    "response_id",
    "generation_id",
    "result_path",
)
COSTS: Final = ("cost", "cost_this_attempt")
FLAGS: Final = ("cached", "maybe_truncated", "inconsistent", "repaired")
OF_MODEL: Final = ("requests", "failed", "cached", "unpriced", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Part:
    """The requests of a task instance that one model has served; None where unknown."""

    model: str | None
    provider: str | None
    status: str | None
    requests: int
    cached: int
    failed: int
    unpriced: int
    cost: float | None
    input_tokens: int | None
    output_tokens: int | None


def is_usage(value: Any) -> bool:
    """Return whether a value has the form that this version of the package pushes."""
    return isinstance(value, Mapping) and _is_version(value.get("version")) and isinstance(value.get("sends"), list)


def parts_of(usage: Mapping[str, Any]) -> list[Part]:
    """Return the requests in a ``usage``, by model."""
    if usage.get("kind") != "enrichment":
        return _requests(usage)
    models = usage.get("models")
    given = [it for it in models if isinstance(it, Mapping)] if isinstance(models, list) else []
    status, provider = text(usage.get("status")), text(usage.get("provider"))
    if given:
        parts = [_of_model(it, status) for it in given]
        if cost_of(usage.get("cost")) is None and not any(it.unpriced for it in parts):
            # The models have what earlier attempts paid, and the rest is unknown.
            parts.append(Part(None, provider, status, 0, 0, 0, 1, None, None, None))
        return parts
    requests, cost = count(usage.get("requests")) or 0, cost_of(usage.get("cost"))
    return [
        Part(
            text(usage.get("model")),
            provider,
            status,
            requests,
            count(usage.get("requests_cached")) or 0,
            count(usage.get("requests_failed")) or 0,
            max(requests, 1) if cost is None else 0,
            cost,
            count(usage.get("input_tokens")),
            count(usage.get("output_tokens")),
        )
    ]


def clean_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the documented fields of a ``usage``, null where a value has another type."""
    is_enrichment = usage.get("kind") == "enrichment"
    found: dict[str, Any] = {"version": VERSION, "kind": "enrichment" if is_enrichment else "request"}
    for names, read in ((TEXTS, text), (COUNTS, count), (COSTS, cost_of), (FLAGS, _flag)):
        found |= {name: read(usage[name]) for name in names if name in usage}
    found["sends"] = [_send(it) for it in usage.get("sends", []) if isinstance(it, Mapping)]
    if "steps" in usage:
        steps = usage["steps"]
        found["steps"] = [_step(it) for it in steps if isinstance(it, Mapping)] if isinstance(steps, list) else None
    if is_enrichment:
        failures, models = usage.get("failures"), usage.get("models")
        found["failures"] = counts_by_name(failures)
        found["models"] = [
            {
                "model": text(it.get("model")),
                "cost": cost_of(it.get("cost")),
                **{name: count(it.get(name)) for name in OF_MODEL},
            }
            for it in (models if isinstance(models, list) else [])
            if isinstance(it, Mapping)
        ]
    return found


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request of a task with tools, and the calls that its response requested."""
    found: dict[str, Any] = {}
    for names, read in ((TEXTS, text), (COUNTS, count), (COSTS, cost_of), (FLAGS, _flag)):
        found |= {name: read(step[name]) for name in names if name in step}
    sends, calls = step.get("sends"), step.get("calls")
    found["sends"] = [_send(it) for it in sends if isinstance(it, Mapping)] if isinstance(sends, list) else []
    found["calls"] = [
        {"name": text(it.get("name")), "status": text(it.get("status")), "seconds": number(it.get("seconds"))}
        for it in (calls if isinstance(calls, list) else [])
        if isinstance(it, Mapping)
    ]
    return found


def counts_by_name(value: Any) -> dict[str, int]:
    """Return the numbers of a mapping, such as failures by class."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name)[:MAX_TEXT]: number for name, it in value.items() if (number := count(it)) is not None}


def count(value: Any) -> int | None:
    """Return a whole number >= 0, None for any other value."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def cost_of(value: Any) -> float | None:
    """Return US dollars, None for a value that is no price."""
    return float(value) if type(value) in {int, float} and 0 <= value <= MAX_COST else None


def number(value: Any) -> float | None:
    """Return a finite number, None for any other value."""
    if type(value) is int:
        return value if abs(value) <= MAX_COUNT else None
    return value if type(value) is float and math.isfinite(value) else None


def text(value: Any) -> str | None:
    """Return a text, shortened; None for any other value, and for an empty one."""
    return value[:MAX_TEXT] if isinstance(value, str) and value else None


def _is_version(value: Any) -> bool:
    return type(value) is int and value == VERSION


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _request(usage: Mapping[str, Any]) -> Part:
    status, cost = text(usage.get("status")), cost_of(usage.get("cost"))
    is_request = not _is_unsent(usage)
    return Part(
        text(usage.get("model")),
        text(usage.get("provider")),
        status,
        int(is_request),
        int(usage.get("cached") is True),
        int(is_request and status in FAILED),
        int(cost is None),
        cost,
        count(usage.get("input_tokens")),
        count(usage.get("output_tokens")),
    )


def _requests(usage: Mapping[str, Any]) -> list[Part]:
    """Return a request by model: the responses that were not accepted are those of smaller models."""
    whole, shares = _request(usage), _Shares()
    steps, sends = usage.get("steps"), usage.get("sends")
    if not isinstance(steps, list) or not steps:
        shares.add_sends(sends)
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping):
            shares.add_step(step)
    smaller = {model: it for model, it in shares.by_model.items() if model != whole.model}
    if not shares.has_escalated or not smaller:
        return [whole]
    last = replace(
        whole,
        cost=None if whole.cost is None else max(whole.cost - sum(it["cost"] for it in smaller.values()), 0.0),
        input_tokens=_less(whole.input_tokens, sum(it["step_input_tokens"] for it in smaller.values())),
        output_tokens=_less(whole.output_tokens, sum(it["step_output_tokens"] for it in smaller.values())),
    )
    return [*(_smaller(model, it) for model, it in smaller.items()), last]


class _Shares:
    """The responses of each model in a request that went to a larger one."""

    def __init__(self) -> None:
        self.has_escalated = False
        self.by_model: dict[str | None, defaultdict[str, float]] = {}

    def add_sends(self, sends: Any) -> float:
        """Add the responses that were not accepted; return their cost in US dollars."""
        total = 0.0
        for send in sends if isinstance(sends, list) else ():
            if isinstance(send, Mapping) and text(send.get("escalated_to")) is not None:
                self.has_escalated = True
                total += self._add(send)
        return total

    def add_step(self, step: Mapping[str, Any]) -> None:
        """Add the responses of a step of a tool loop, whose tokens are those of its last response."""
        earlier, cost = self.add_sends(step.get("sends")), cost_of(step.get("cost"))
        self._add({**step, "cost": None if cost is None else max(cost - earlier, 0.0)}, prefix="step_")

    def _add(self, given: Mapping[str, Any], prefix: str = "") -> float:
        cost, found = cost_of(given.get("cost")), self.by_model.setdefault(text(given.get("model")), defaultdict(float))
        found["requests"] += not prefix
        found["cached"] += not prefix and given.get("cached") is True
        found["unpriced"] += cost is None
        found["cost"] += cost or 0.0
        for name in ("input_tokens", "output_tokens"):
            number = count(given.get(name)) or 0
            found[name] += number
            found[f"step_{name}"] += number if prefix else 0
        return cost or 0.0


def _smaller(model: str | None, share: Mapping[str, Any]) -> Part:
    return Part(
        model,
        None,
        None,
        max(int(share["requests"]), 1),
        int(share["cached"]),
        0,
        int(share["unpriced"]),
        None if share["unpriced"] else share["cost"],
        int(share["input_tokens"]),
        int(share["output_tokens"]),
    )


def _less(number: int | None, part: float) -> int | None:
    return None if number is None else max(number - int(part), 0)


def _is_unsent(usage: Mapping[str, Any]) -> bool:
    """Return whether a request was refused before it was sent, such as by a budget."""
    return not any(usage.get(name) for name in ("sends", "model", "response_id", "cached", "steps"))


def _of_model(given: Mapping[str, Any], status: str | None) -> Part:
    requests, cost = count(given.get("requests")) or 0, cost_of(given.get("cost"))
    unpriced = count(given.get("unpriced"))
    if unpriced is None or (cost is None and not unpriced):
        unpriced = max(requests, 1) if cost is None else 0
    return Part(
        text(given.get("model")),
        None,
        status,
        requests,
        count(given.get("cached")) or 0,
        count(given.get("failed")) or 0,
        unpriced,
        cost,
        count(given.get("input_tokens")),
        count(given.get("output_tokens")),
    )


def _send(send: Mapping[str, Any]) -> dict[str, Any]:
    cause, wait = send.get("cause"), number(send.get("wait"))
    if isinstance(cause, Mapping):
        cause = {"error": text(cause.get("error")), "status": count(cause.get("status"))}
    else:
        cause = None
    found: dict[str, Any] = {"cause": cause, "ambiguous": send.get("ambiguous") is True, "wait": wait}
    if (larger := text(send.get("escalated_to"))) is not None:
        found |= {"model": text(send.get("model")), "escalated_to": larger}
        if "cost" in send:
            found |= {"cost": cost_of(send["cost"]), "cached": send.get("cached") is True}
            found |= {name: count(send.get(name)) for name in ("input_tokens", "output_tokens")}
    return found
