"""Pushes the XCom ``usage`` at the end of an enrichment's attempt, also of one that failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.task.idempotency import clearing_id, idempotency_key_of
from airflow_provider_responses.task.texts import storable
from airflow_provider_responses.task.xcom import USAGE_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_responses.enrich.model_counts import ModelCounts
    from airflow_provider_responses.enrich.progress import Progress
    from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

STATE_KEY: Final = "airflow_provider_responses.enrich.usage"

log = logging.getLogger(__name__)


class Totals:
    """
    The counts of the first part of an attempt, which another process has run.

    :param is_known: whether there is no such part.
    """

    def __init__(self, *, is_known: bool) -> None:
        self._is_known, self._totals = is_known, dict[str, Any]()

    def set(self, totals: Mapping[str, Any]) -> None:
        """Set the totals of the wait for batches."""
        self._is_known, self._totals = True, dict(totals)

    def progress(self) -> Progress | None:
        """Return the counts; None if they are unknown."""
        from airflow_provider_responses.enrich.progress import Progress

        if not self._totals:
            return Progress() if self._is_known else None
        return Progress.from_json(self._totals["progress"])


@contextmanager
def usage_pushed(task: ResponsesEnrichOperator, context: Context, *, resumed: bool) -> Iterator[Totals]:
    """
    Push ``usage`` at the end of the block, unless the task is deferred or its process is ended.

    :param resumed: whether the attempt continues after a wait for batches.
    """
    totals, failed = Totals(is_known=not resumed), True
    try:
        yield totals
        failed = False
    except Exception:  # not `TaskDeferred`, whose attempt goes on
        _push(task, context, totals, failed=failed)
        raise
    _push(task, context, totals, failed=failed)


def _push(task: ResponsesEnrichOperator, context: Context, totals: Totals, *, failed: bool) -> None:
    if not task.do_xcom_push:
        return
    from airflow_provider_responses.enrich.usage import usage_of_enrichment

    enrichment = task.enrichment
    report = None if enrichment is None else enrichment.report
    manifest = (None if enrichment is None else enrichment.manifest) or {}
    prompt = task.prompt_template if enrichment is None else enrichment.job.prompt
    progress = totals.progress() if report is None else report.progress
    usage = usage_of_enrichment(
        progress,
        earlier=_add_to_store(task, context, {} if progress is None else progress.models),
        failed=failed,
        rows=None if report is None or not report.source_rows else report.rows,
        prompt_fingerprint=(prompt or {}).get("fingerprint"),
        result_path=manifest.get("output"),
    )
    ti: Any = context["ti"]
    ti.xcom_push(key=USAGE_KEY, value=storable(usage))


def _add_to_store(
    task: ResponsesEnrichOperator, context: Context, models: Mapping[str, ModelCounts]
) -> dict[str, ModelCounts]:
    """Add the counts of this attempt to the task state store, and return those of earlier ones."""
    from airflow_provider_responses.enrich.usage import add_models, models_from_json, models_to_json

    store: Any = context.get("task_state_store")  # Airflow 3.3 and later; survives retries
    if store is None:
        return {}
    ti = context["ti"]
    key = idempotency_key_of(ti, clearing_id=clearing_id(ti, task.retries))
    try:
        stored = store.get(STATE_KEY) or {}
        earlier = models_from_json(stored["models"]) if stored.get("idempotency_key") == key else {}
        store.set(STATE_KEY, {"idempotency_key": key, "models": models_to_json(add_models(earlier, models))})
    except Exception as error:  # noqa: BLE001  no error of the store is a reason to fail a task that is done
        log.warning("`usage` counts this attempt alone: the task state store cannot be used: %s", error)
        return {}
    return earlier
