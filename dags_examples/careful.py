"""A request with many settings: other fields, templates, options, and a truncated response that is accepted."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag

from airflow_provider_responses.client import RequestOptions
from airflow_provider_responses.operators.responses import ResponsesOperator


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1),
    catchup=False,
    params={"topic": "row-level security", "temperature": 0.2},
    tags=["responses"],
)
def careful():
    # [start settings]
    ResponsesOperator(
        task_id="explain",
        model="anthropic/claude-sonnet-4",
        input="Explain {{ params.topic }} to a data analyst in five sentences.",
        request={
            "models": ["anthropic/claude-sonnet-4", "openai/gpt-4o-mini"],  # tried in this order
            "temperature": "{{ params.temperature }}",
            "max_output_tokens": 400,
            "provider": {"sort": "price"},
            "metadata": {"team": "analytics", "run": "{{ run_id }}"},
        },
        on_invalid_output="return",
        options=RequestOptions(timeout=120, max_retries=2, metadata_level="enabled"),
        execution_timeout=datetime.timedelta(minutes=5),
        retries=2,
    )
    # [end settings]


careful()
