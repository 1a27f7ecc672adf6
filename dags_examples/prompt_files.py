"""Prompts in files of their own, which people can review and change without touching the DAG."""

from __future__ import annotations

import datetime
import tempfile

from airflow.providers.common.compat.sdk import dag

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

TICKETS = [
    {"id": "t1", "text": "The invoice of March has the wrong address."},
    {"id": "t2", "text": "I cannot log in since the update."},
]


# [start files]
@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1),
    params={"company": "Harbour & Sons", "hint": ""},
    tags=["responses"],
)
def prompt_files():
    ResponsesEnrichOperator(
        task_id="triage",
        source=TICKETS,
        key="id",
        instructions="prompts/style.txt",  # beside the DAG's file
        input="prompts/triage.md",
        model="openai/gpt-4o-mini",
        output_path=f"{tempfile.gettempdir()}/triage/{{{{ run_id }}}}",
    )


prompt_files()
# [end files]
