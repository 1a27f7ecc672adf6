"""JSON of the plugin's API, as its contract has it: made up, and the same in each run."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MODELS = ("openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5", "google/gemini-2.5-flash", "qwen/qwen3-32b", None)
# Each would run, or break a page out of its place, where a text is taken for HTML or an address.
EVIL = (
    "<img src=x onerror=\"document.title='evil'\">",
    "</script><script>document.title='evil'</script>",
    "javascript:document.title='evil'//",
    "a/../b?c#d %2F é 雪 \u202eevil",
    '"><svg onload="document.title=\'evil\'">',
)
COUNTS = ("requests", "unpriced", "cached", "failed", "task_instances")
KNOWN = ("cost", "input_tokens", "output_tokens")


def no_usage() -> dict[str, Any]:
    """Return the sums of nothing."""
    return {**dict.fromkeys(COUNTS, 0), **dict.fromkeys(KNOWN)}


def added(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of some rows: unknown only if all are."""
    rows = list(rows)
    sums: dict[str, Any] = {key: sum(row[key] for row in rows) for key in COUNTS}
    for key in KNOWN:
        known = [row[key] for row in rows if row[key] is not None]
        sums[key] = sum(known) if known else None
    return sums


def spend(
    *,
    task_instances: int = 200,
    dags: tuple[str, ...] = ("reviews", "support_tickets", "catalogue"),
    priced: bool = True,
    start: str = "2026-10-30",
    days: int = 30,
    missing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what ``/api/spend`` returns for so many task instances."""
    chance = random.Random(7)  # noqa: S311 - the same figures in each run
    first = datetime.date.fromisoformat(start)
    rows = []
    for number in range(task_instances):
        dag = dags[number % len(dags)]
        model = chance.choice(MODELS)
        day = first + datetime.timedelta(chance.randrange(days))
        tokens = chance.randrange(200, 4000)
        rows.append(
            {
                "dag_id": dag,
                "task_id": f"task_{chance.randrange(8)}",
                "model": model,
                "day": day.isoformat(),
                "run_id": f"scheduled__{day.isoformat()}T00:00:00+00:00",
                "start": f"{day.isoformat()}T00:00:12.5+00:00",
                "requests": 1,
                "unpriced": int(not priced or model is None),
                "cost": tokens * 4e-7 if priced and model is not None else None,
                "input_tokens": tokens,
                "output_tokens": tokens // 5,
                "cached": int(number % 9 == 0),
                "failed": int(number % 40 == 0),
                "task_instances": 1,
            }
        )

    def by(*keys: str) -> list[dict[str, Any]]:
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(tuple(row[key] for key in keys), []).append(row)
        return [{**dict(zip(keys, group, strict=True)), **added(of)} for group, of in groups.items()]

    by_day = {row["day"]: row for row in by("day")}
    every_day = [(first + datetime.timedelta(n)).isoformat() for n in range(days)]
    cost: Callable[[Mapping[str, Any]], float] = lambda row: row["cost"] or 0.0  # noqa: E731
    return {
        "start": every_day[0],
        "end": every_day[-1],
        "totals": added(rows) if rows else no_usage(),
        "by_dag": sorted(by("dag_id"), key=cost, reverse=True),
        "by_task": sorted(by("dag_id", "task_id"), key=cost, reverse=True),
        "by_model": sorted(by("model"), key=cost, reverse=True),
        "by_day": [by_day.get(day, {"day": day, **no_usage()}) for day in every_day],
        "top_runs": sorted(by("dag_id", "run_id", "start"), key=cost, reverse=True)[:20],
        "choices": {
            "dags": sorted({row["dag_id"] for row in rows}),
            "tasks": sorted([*key] for key in {(row["dag_id"], row["task_id"]) for row in rows}),
            "models": sorted({row["model"] for row in rows if row["model"]}),
        },
        "missing": {
            "unreadable": 0,
            "not_ours": 0,
            "without_usage": 0,
            "earlier_attempts": False,
            "backend": None,
            **(missing or {}),
        },
    }


USAGE: dict[str, Any] = {
    "version": 1,
    "kind": "request",
    "status": "completed",
    "model": "openai/gpt-4o-mini",
    "provider": "Azure",
    "response_id": "resp_01",
    "generation_id": "gen-1790000000-abcDEF",
    "input_tokens": 1234,
    "output_tokens": 321,
    "total_tokens": 1555,
    "cached_tokens": 1024,
    "reasoning_tokens": 0,
    "cost": 0.000031,
    "cost_this_attempt": 0.000031,
    "cached": False,
    "sends": [
        {"cause": {"error": "RateLimitError", "status": 429}, "ambiguous": False, "wait": 2.5},
        {"cause": {"error": "ReadTimeoutError", "status": None}, "ambiguous": True, "wait": 75.0},
        {"cause": None, "ambiguous": False, "wait": None},
    ],
    "ambiguous_sends": 1,
    "maybe_truncated": False,
    "inconsistent": False,
    "repaired": True,
}


def task(**changes: Any) -> dict[str, Any]:
    """Return what ``/api/task`` returns for one request."""
    return {
        "dag_id": "reviews",
        "run_id": "manual__1",
        "task_id": "classify",
        "map_index": -1,
        "try_number": 2,
        "state": "success",
        "operator": "ResponsesOperator",
        "usage": USAGE,
        "missing": None,
        "missing_detail": None,
        "kind": "request",
        "prompt_fingerprint": "sha256:3f1c9a0e7b5d4c2a",
        "progress": None,
        "manifest": None,
        "result_path": None,
        "batches": [],
        "generation_url": "https://openrouter.ai/generation?id=gen-1790000000-abcDEF",
        **changes,
    }


def enrichment(*, done: int | None = None, total: int = 10_000) -> dict[str, Any]:
    """Return what ``/api/task`` returns for an enrichment: one that runs, or, without ``done``, one that has ended."""
    failures = {"RateLimitError": 12, "InvalidOutputError": 3}
    progress = {
        "total": total,
        "done": total if done is None else done,
        "left": 0 if done is None else total - done,
        "rate": 42.5,
        "seconds_left": None if done is None else (total - done) / 42.5,
        "cost": 0.61 if done is None else 0.61 * done / total,
        "failed": 15,
        "failures": failures,
        "resent": 21,
        "in_flight": 0 if done is None else 64,
        "batches": [],
        "try_number": 2,
        "is_current": True,
    }
    if done is not None:
        return task(
            state="running", operator="ResponsesEnrichOperator", kind="enrichment", usage=None, missing="none",
            progress=progress, generation_url=None,
        )  # fmt: skip
    models = [
        {
            "model": "openai/gpt-4o-mini", "requests": 9000, "failed": 11, "cached": 4000, "cost": 0.55,
            "input_tokens": 4_000_000, "output_tokens": 300_000,
        },
        {
            "model": "qwen/qwen3-32b", "requests": 1000, "failed": 4, "cached": 0, "cost": None,
            "input_tokens": 400_000, "output_tokens": 30_000,
        },
    ]  # fmt: skip
    usage = {
        **USAGE, "kind": "enrichment", "sends": [], "ambiguous_sends": 0, "repaired": None, "generation_id": None,
        "response_id": None, "cost": 0.55, "cost_this_attempt": 0.31, "rows": total, "requests": total,
        "requests_cached": 4000, "requests_failed": 15, "failures": failures, "models": models,
        "input_tokens": 4_400_000, "output_tokens": 330_000, "total_tokens": 4_730_000,
    }  # fmt: skip
    return task(
        operator="ResponsesEnrichOperator", kind="enrichment", usage=usage, progress=progress, generation_url=None,
        result_path="s3://bucket/reviews/labels.parquet",
        manifest={"rows": total, "ok": total - 15, "cost": 0.55, "limits": {"concurrency": 64}},
        batches=[
            {
                "id": "batch_01", "model": "openai/gpt-4o-mini", "status": "completed", "requests": 9000,
                "url": "https://openrouter.ai/batches/batch_01",
            },
            {"id": "batch_02", "model": "qwen/qwen3-32b", "status": "expired", "requests": 1000, "url": None},
        ],
    )  # fmt: skip
