"""A task that never takes a worker: it starts in the triggerer, and ends there."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_responses.operators.responses import ResponsesOperator


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1),
    catchup=False,
    params={"regions": ["Flanders", "Wallonia", "Brussels"]},
    tags=["responses"],
)
def from_trigger():
    # [start task]
    digest = ResponsesOperator(
        task_id="digest",
        model="openai/gpt-4o-mini",
        instructions="Reply in two sentences.",
        input="What should a retailer in {{ params.regions | join(', ') }} prepare for next week?",
        start_from_trigger=True,
        retries=3,
    )
    # [end task]

    @task
    def publish(text: str, usage: dict) -> None:
        print(text)
        print(f"Cost in US dollars: {usage['cost']}")

    publish(digest.output, digest.output["usage"])


from_trigger()
