"""The usage of a loop: of each step, and the sum of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_provider_responses.task.cost import charges_of, total_cost
from airflow_provider_responses.task.outcome import Outcome

TOKENS: Final = ("input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
_SAME: Final = ("response_id", "generation_id", "model", *TOKENS, "cost_this_attempt", "cached", "sends")


def step_usage(usage: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    """
    Return the usage of a step, without its calls.

    :param usage: the XCom ``usage`` of its request alone, whose ``cost`` is that of all steps so far.
    :param outcome: its outcome.
    """
    response = outcome.response
    if response is not None and not response.cached and not response.previous:  # the usual case
        cost = usage["cost_this_attempt"]
    else:
        cost = total_cost(charge.cost for charge in charges_of(outcome))
    return {**{name: usage[name] for name in _SAME}, "cost": cost, "calls": []}


def unknown_step() -> dict[str, Any]:
    """Return the usage of a step of which nothing is known."""
    return {**dict.fromkeys((*_SAME, "cost")), "sends": [], "calls": []}


def sum_steps(usage: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], outcome: Outcome) -> dict[str, Any]:
    """
    Return the XCom ``usage`` of a loop: tokens, costs and sends of all steps, and the rest of the last response.

    :param usage: of the last request alone.
    :param steps: before it.
    :param outcome: of the last request.
    """
    has_last = outcome.response is not None or bool(usage["sends"])
    every = [*steps, *([step_usage(usage, outcome)] if has_last else [])]
    sends = [send for step in every for send in step["sends"]]
    tokens = {name: _total(step[name] for step in every) for name in TOKENS}
    return {
        **usage,
        **(tokens if every else {}),
        "cost_this_attempt": total_cost(step["cost_this_attempt"] for step in every),
        "cached": usage["cached"] if usage["cached"] is None else all(step["cached"] for step in every),
        "sends": sends,
        "ambiguous_sends": sum(send["ambiguous"] for send in sends),
        "steps": every,
    }


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if any(count is None for count in known) else sum(count or 0 for count in known)
