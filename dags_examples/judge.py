"""Triage tickets with a small model, let a judge score each response, and ask a larger model where the score is low."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Literal

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel

from airflow_provider_responses.enrich import Judge, Limits
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation

OUTPUT = Path(tempfile.gettempdir()) / "judged-tickets"
TEXTS = (
    "My login fails with error 403.",
    "The nightly export of project {n} is empty.",
    "Please send invoice {n} to our new address.",
    "I cannot find the button to change billing to yearly.",
    "Is there a way to export {n} rows as Parquet?",
)
TICKETS = [{"id": n, "text": TEXTS[n % len(TEXTS)].format(n=n)} for n in range(60)]


# [start dag]
class Triage(BaseModel):
    team: Literal["billing", "export", "login", "other"]
    summary: str


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def judge():
    triage = ResponsesEnrichOperator(
        task_id="triage",
        source=TICKETS,
        key="id",
        input="Triage this ticket: {{ row.text }}",
        model="openai/gpt-4o-mini",
        output_type=Triage,
        output_path=str(OUTPUT),
        judge=Judge(
            model="anthropic/claude-sonnet-4.5",
            rubric={1: "wrong team", 2: "right team, wrong summary", 3: "right team and summary"},
            min_score=2,
        ),
        escalate=[Escalation(model="openai/gpt-4o", when=["invalid", "low_score"])],
        limits=Limits(max_cost=1.0, max_failures=0.25),
    )
    report(triage.output)
    # [end dag]


@task
def report(manifest: dict) -> None:
    """Print the rows by status, and what each model has cost."""
    print(", ".join(f"{count} {status}" for status, count in manifest["counts"].items()))
    for tier in manifest["tiers"]:
        print(f"{tier['model']:<28} {tier['requests']:>3} requests, ${tier['cost']:.6f}")
    scores = manifest["judge"]
    print(f"{scores['model']:<28} {scores['requests']:>3} requests, ${scores['cost']:.6f}")
    print(f"mean score {scores['mean_score']:.2f}")


judge()
