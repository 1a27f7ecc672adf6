"""Three turns of a conversation. The server stores nothing, so each request contains the turns before it."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag

from airflow_provider_responses.operators.responses import ResponsesOperator

MODEL = "openai/gpt-4o-mini"


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1),
    catchup=False,
    params={"database": "PostgreSQL"},
    tags=["responses"],
)
def conversation():
    # [start history]
    risks = ResponsesOperator(
        task_id="risks",
        model=MODEL,
        input="Name three risks of running {{ params.database }} on a spot instance.",
        result="response",
    )
    worst = ResponsesOperator(
        task_id="worst",
        model=MODEL,
        history=risks.output,
        input="Which of these is the worst, and why?",
        result="response",
    )
    ResponsesOperator(
        task_id="ticket", model=MODEL, history=worst.output, input="Write a ticket that asks to remove this risk."
    )
    # [end history]


conversation()
