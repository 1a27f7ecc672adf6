"""A small model labels each ticket, and a larger one gets the tickets whose label is of no use."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel

from airflow_provider_responses.operators.escalation import Escalation

TICKETS = [
    "My login fails with error 403 since this morning.",
    "The export of invoices as CSV has no header.",
    "Something is wrong, please call me.",
]


# [start escalate]
class Label(BaseModel):
    team: Literal["billing", "export", "login", "other"]
    summary: str


def is_vague(label: dict[str, Any]) -> bool:
    return label["team"] == "other"


LARGER = Escalation(
    model="openai/gpt-4o",
    when=["invalid", "refused", "incomplete", is_vague],
    request={"max_output_tokens": 2000},
)


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def escalate():
    @task.responses(
        model="openai/gpt-4o-mini",
        output_type=Label,
        escalate=[LARGER],
        request={"max_output_tokens": 200},
        max_cost=0.10,  # US dollars of one ticket, with both models
    )
    def label(ticket: str) -> str:
        return f"Label this support ticket:\n\n{ticket}"

    labels = label.expand(ticket=TICKETS)
    report(labels, labels["usage"])
    # [end escalate]


@task
def report(labels, usages) -> None:
    """Print each label with its model and its cost."""
    for found, usage in zip(labels, usages, strict=True):
        how = "escalated to " if usage["escalated"] else ""
        print(f"{found['team']:8} {how}{usage['model']}, ${usage['cost'] or 0:.6f}")


escalate()
