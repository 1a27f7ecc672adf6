"""Preview a table: send a few rows, and the rest only if all of them are affordable."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

MOST = 0.50  # US dollars
ENRICHMENT: dict[str, Any] = {
    "source": [{"id": n, "text": f"Order {n} came late. " * (1 + n % 9)} for n in range(200)],
    "input": "Mood of this review: {{ row.text }}",
    "model": "openai/gpt-4o-mini",
    "key": "id",
    "output_path": str(Path(tempfile.gettempdir()) / "previewed-reviews"),
}


# [start dag]
@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def preview_first():
    preview = ResponsesEnrichOperator(task_id="preview", preview=20, **ENRICHMENT)
    full = ResponsesEnrichOperator(task_id="full", **ENRICHMENT)

    @task.short_circuit
    def is_affordable(estimate):
        return estimate["cost_high"] is not None and estimate["cost_high"] <= MOST

    is_affordable(preview.output) >> full
    # [end dag]


preview_first()
