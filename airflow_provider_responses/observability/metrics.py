"""The metrics of a request that a task has sent. No Airflow: the caller passes them to Airflow's Stats."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

PREFIX: Final = "responses"
ENRICH_PREFIX: Final = f"{PREFIX}.enrich"
MICRO: Final = 1_000_000
MAX_COUNT: Final = 2**53
MAX_QUEUE_SECONDS: Final = 10.0**8  # a longer time is a broken clock, or a broken argument


class Metric(NamedTuple):
    """A number to add to a counter, or a duration."""

    name: str
    value: int | timedelta
    tags: dict[str, str]


def request_metrics(  # noqa: C901  each metric has a line and a condition
    usage: Mapping[str, Any], *, error: Exception | None, seconds: float | None, tags: Mapping[str, str]
) -> Iterator[Metric]:
    """
    Yield the metrics of one attempt that has sent a request; an unknown value is no metric.

    :param usage: the XCom ``usage`` of the attempt.
    :param error: why the attempt failed.
    :param seconds: from the first send to the end of the response.
    :param tags: of the task.
    """
    sends = usage["sends"]
    if not sends:
        return
    tags = {**tags, "model": usage["model"] or "unknown"}

    def count(name: str, number: int | None, **more: str) -> Iterator[Metric]:
        # Servers report anything, and Airflow's counters refuse what is negative.
        if number is not None and 0 < number <= MAX_COUNT:
            yield Metric(f"{PREFIX}.{name}", number, {**tags, **more})

    yield from count("requests", 1, status=str(usage["status"]))
    yield from count("sends", len(sends))
    for cause, number in Counter(send["cause"]["error"] for send in sends if _is_followed(send)).items():
        yield from count(f"resends.{cause}", number, cause=cause)
    if error is not None:
        name = type(error).__name__
        yield from count(f"failures.{name}", 1, cause=name)
    cost = usage["cost_this_attempt"]
    smaller = _costs_of_smaller(sends)
    for (model, name), amount in smaller.items():
        yield from count(name, round(amount), model=model)
    if usage["cached"]:
        yield from count("cache_hits", 1)
    else:
        yield from count("input_tokens", usage["input_tokens"])
        yield from count("output_tokens", usage["output_tokens"])
    # A whole number: not every StatsD server reads 1.2e-05, which small prices are written as.
    if cost is None:
        yield from count("unpriced", 1)
    elif abs(cost) < MAX_COUNT / MICRO:
        earlier = sum(amount for (_, name), amount in smaller.items() if name == "cost_microdollars")
        yield from count("cost_microdollars", round(cost * MICRO - earlier))
    if seconds is not None:
        yield Metric(f"{PREFIX}.duration", timedelta(seconds=seconds), tags)


def queue_metrics(seconds: float, tags: Mapping[str, str]) -> Iterator[Metric]:
    """Yield the metric of the seconds between a task's deferral and its send in the triggerer."""
    seconds = max(seconds, 0.0)  # the clocks of two machines may differ
    if seconds <= MAX_QUEUE_SECONDS:
        yield Metric(f"{PREFIX}.queue_time", timedelta(seconds=seconds), dict(tags))


def _costs_of_smaller(sends: Iterable[Mapping[str, Any]]) -> Mapping[tuple[str, str], float]:
    """Return the tokens and millionths of a US dollar of responses that were not accepted, by model and metric."""
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for send in sends:
        if "escalated_to" not in send or "cost" not in send or send["cached"]:
            continue
        model = send["model"] or "unknown"
        found[model, "cost_microdollars"] += (send["cost"] or 0.0) * MICRO
        for name in ("input_tokens", "output_tokens"):
            found[model, name] += send[name] or 0
    return found


def _is_followed(send: Mapping[str, Any]) -> bool:
    """Whether a send failed and was followed by another one."""
    return send["cause"] is not None and send["wait"] is not None
