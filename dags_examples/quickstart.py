"""Request a haiku, and print it with its cost."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_responses.operators.responses import ResponsesOperator


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def quickstart():
    # [start operator]
    haiku = ResponsesOperator(
        task_id="haiku",
        model="openai/gpt-4o-mini",
        instructions="Reply with one haiku and nothing else.",
        input="The data pipeline {{ dag.dag_id }} is green.",
        request={"max_output_tokens": 100},
    )
    # [end operator]

    @task
    def publish(text: str, usage: dict) -> None:
        print(text)
        print(f"{usage['total_tokens']} tokens, cost in US dollars: {usage['cost']}")

    publish(haiku.output, haiku.output["usage"])


quickstart()
