"""Triage support tickets: which team each one goes to, and a summary of one sentence."""

from __future__ import annotations

import datetime
from typing import Literal

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel, Field

TICKETS = [
    "The nightly export has been empty since Tuesday. We changed nothing, and finance needs the file by noon.",
    "I was charged twice for March. Please correct the billing and refund the second payment.",
    "My login fails with error 403. I got a new phone yesterday, and the old one had the codes.",
    "The export now takes three hours instead of ten minutes. It began with the update of last week.",
    "Which billing period is the first with our new VAT number? It changed on 1 March.",
    "Do you have an office in Ghent? We would like to meet you before we sign.",
]


# [start dag]
class Triage(BaseModel):
    team: Literal["billing", "export", "login", "other"]
    summary: str = Field(description="The problem or question, in one sentence.")


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def support_tickets():
    @task.responses(model="openai/gpt-4o-mini", output_type=Triage)
    def triage(ticket: str) -> str:
        return f"Triage this support ticket:\n\n{ticket}"

    tickets = read_tickets()
    triaged = triage.expand(ticket=tickets)
    print_results(tickets, triaged, triaged["usage"])
    # [end dag]


@task
def read_tickets() -> list[str]:
    return TICKETS


@task
def print_results(tickets, triaged, usages) -> None:
    """Print each ticket with its output, tokens, cost and model."""
    print("=== results ===")
    for ticket, output, usage in zip(tickets, triaged, usages, strict=True):
        cost = "cost unknown" if usage["cost"] is None else f"${usage['cost']:.6f}"
        print(f"ticket   {ticket}")
        print(f"team     {output['team']}")
        print(f"summary  {output['summary']}")
        print(f"usage    {usage['total_tokens'] or '?'} tokens, {cost}, {usage['model']}")
        print()
    costs = [usage["cost"] for usage in usages if usage["cost"] is not None]
    print(f"{len(tickets)} tickets, ${sum(costs):.6f} in total")
    print("=== end ===")


support_tickets()
