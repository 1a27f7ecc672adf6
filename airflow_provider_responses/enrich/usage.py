"""The XCom ``usage`` of an enrichment: the sums of its table, in the form of a request's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich.model_counts import ModelCounts, total_of
from airflow_provider_responses.task.cost_total import CostTotal
from airflow_provider_responses.task.xcom import VERSION, EnrichmentUsageXCom, ModelUsage

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.progress import Progress

Models = Mapping[str, ModelCounts]


def usage_of_enrichment(
    progress: Progress | None,
    *,
    earlier: Models,
    status: str,
    is_complete: bool = True,
    rows: int | None = None,
    prompt_fingerprint: str | None = None,
    result_path: str | None = None,
) -> EnrichmentUsageXCom:
    """
    Return the ``usage`` of an attempt.

    :param progress: the counts of the attempt; None if they are unknown.
    :param earlier: the counts of earlier attempts since the task was cleared, by model.
    :param status: ``completed``, ``failed``, or ``in_progress`` of an attempt that runs.
    :param is_complete: whether ``earlier`` has all costs of earlier attempts; without, the cost is unknown.
    :param rows: of the source; None if it was not read.
    :param result_path: of the file with all rows.
    """
    models = add_models(earlier, {} if progress is None else progress.models)
    total = total_of(models.values())
    tokens_in, tokens_out = total.tokens
    served = [name for name in models if name]
    counted = progress is not None
    return {
        "version": VERSION,
        "kind": "enrichment",
        "prompt_fingerprint": prompt_fingerprint,
        "status": status,
        "model": served[0] if len(served) == 1 else None,
        "provider": None,
        "response_id": None,
        "generation_id": None,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": None if tokens_in is None or tokens_out is None else tokens_in + tokens_out,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "cost": total.cost_total.total if counted and is_complete else None,
        "cost_this_attempt": None if progress is None else _paid(progress).total,
        "cached": None,
        "sends": [],
        "ambiguous_sends": 0,
        "maybe_truncated": progress.maybe_truncated > 0 if progress else None,
        "inconsistent": progress.inconsistent > 0 if progress else None,
        "repaired": progress.repaired > 0 if progress else None,
        "steps": None,
        "escalated": None,
        "requests": total.requests,
        "requests_cached": total.cached,
        "requests_failed": total.failed,
        "failures": dict(progress.failures) if progress else {},
        "models": [_model_usage(name, counts) for name, counts in models.items()],
        "rows": rows,
        "result_path": result_path,
    }


def add_models(earlier: Models, models: Models) -> dict[str, ModelCounts]:
    """Return the counts of earlier attempts and of this one, by model."""
    found: dict[str, ModelCounts] = {}
    for each in (earlier, models):
        for name, counts in each.items():
            found.setdefault(name, ModelCounts()).add(counts)
    return found


def models_to_json(models: Models) -> dict[str, Any]:
    """Return counts by model as JSON."""
    return {name: counts.to_json() for name, counts in models.items()}


def models_from_json(data: Mapping[str, Any]) -> dict[str, ModelCounts]:
    """Return the counts from :func:`models_to_json`."""
    return {name: ModelCounts.from_json(counts) for name, counts in data.items()}


def _paid(progress: Progress) -> CostTotal:
    """Return the cost of this attempt, in which cached responses cost nothing."""
    return CostTotal(
        progress.cost,
        progress.priced_responses - progress.priced_cached,
        progress.unpriced - progress.unpriced_cached,
    )


def _model_usage(name: str, counts: ModelCounts) -> ModelUsage:
    tokens_in, tokens_out = counts.tokens
    return {
        "model": name or None,
        "requests": counts.requests,
        "failed": counts.failed,
        "cached": counts.cached,
        "cost": counts.cost_total.total,
        "unpriced": counts.unpriced,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
    }
