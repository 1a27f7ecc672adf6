"""Two turns of a conversation. The server stores nothing, so the second request contains the history."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_responses.models import Response
from airflow_provider_responses.operators.responses import ResponsesOperator

QUESTION = "Name three risks of running {{ params.database }} on a spot instance."


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1),
    catchup=False,
    params={"database": "PostgreSQL"},
    tags=["responses"],
)
def conversation():
    first = ResponsesOperator(task_id="first", model="openai/gpt-4o-mini", input=QUESTION, result="response")

    # [start history]
    @task.responses(model="openai/gpt-4o-mini")
    def second(response: dict, params: dict) -> list:
        question = {"role": "user", "content": QUESTION.replace("{{ params.database }}", params["database"])}
        follow_up = {"role": "user", "content": "Which of these is the worst, and why?"}
        return [question, *Response(raw=response).to_input(), follow_up]

    # [end history]

    second(first.output)


conversation()
