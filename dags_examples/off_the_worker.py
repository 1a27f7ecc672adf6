"""Twelve requests at once; no worker is held while the model works."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag, task

MONTHS = [datetime.date(2026, month, 1).strftime("%B") for month in range(1, 13)]


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def off_the_worker():
    # [start deferrable]
    @task.responses(model="openai/gpt-4o-mini", deferrable=True, execution_timeout=datetime.timedelta(minutes=5))
    def holidays(month: str) -> str:
        return f"Which public holidays of {month} close a bank in Brussels? Reply in one sentence."

    texts = holidays.expand(month=MONTHS)
    # [end deferrable]

    @task
    def publish(texts, usages) -> None:
        for text, usage in zip(texts, usages, strict=True):
            print(f"{text} (${usage['cost']})")

    publish(texts, texts["usage"])


off_the_worker()
