"""A person approves the cost of a table before it is paid, and a reply before it is used. Airflow 3.1 and later."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import dag, task
from airflow.providers.standard.operators.hitl import ApprovalOperator
from pydantic import BaseModel

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

REVIEWS: dict[str, Any] = {
    "source": [{"id": n, "text": f"Order {n} came late. " * (1 + n % 9)} for n in range(60)],
    "input": "Mood of this review: {{ row.text }}",
    "model": "openai/gpt-4o-mini",
    "key": "id",
    "output_path": str(Path(tempfile.gettempdir()) / "approved" / "{{ run_id }}"),
}
MOST = 0.01  # US dollars


class Reply(BaseModel):
    """A reply to a customer, and how sure the model is, in percent."""

    text: str
    confidence: int


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def approve_first():
    # [start cost]
    # Airflow 3.1 and later
    preview = ResponsesEnrichOperator(task_id="preview", preview=10, **REVIEWS)
    approve_cost = ApprovalOperator(
        task_id="approve_cost",
        subject="Label {{ ti.xcom_pull('preview')['rows'] }} reviews?",
        body="About ${{ '%.4f' % ti.xcom_pull('preview')['cost'] }}, at most "
        "${{ '%.4f' % ti.xcom_pull('preview')['cost_high'] }} with 95 % confidence.",
        response_timeout=datetime.timedelta(hours=8),
    )
    preview >> approve_cost >> ResponsesEnrichOperator(task_id="label", **REVIEWS)
    # [end cost]

    # [start reply]
    # Airflow 3.1 and later
    reply = ResponsesOperator(
        task_id="reply",
        model="openai/gpt-4o-mini",
        input="Reply to the customer whose order came late.",
        output_type=Reply,
    )

    @task.branch
    def check(reply, usage):
        is_dear = usage["cost"] is None or usage["cost"] > MOST
        return "approve_reply" if is_dear or reply["confidence"] < 80 else "use_reply"

    approve_reply = ApprovalOperator(
        task_id="approve_reply",
        subject="Send this reply?",
        body="{{ ti.xcom_pull('reply')['text'] }}\n\nConfidence: {{ ti.xcom_pull('reply')['confidence'] }} %",
        defaults="Reject",  # if nobody has decided within a day
        response_timeout=datetime.timedelta(days=1),
    )

    @task(trigger_rule="none_failed_min_one_success")
    def use_reply(reply):
        print(reply["text"])

    checked = check(reply.output, reply.output["usage"])
    checked >> [approve_reply, used := use_reply(reply.output)]
    approve_reply >> used
    # [end reply]


approve_first()
