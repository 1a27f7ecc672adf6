"""A small table, and a task that sends a request for each of its rows."""

from __future__ import annotations

import dataclasses
import json

from pydantic import BaseModel

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

MODEL = "openai/gpt-4o-mini"
ROWS = [{"id": f"r{n}", "text": f"review {n}"} for n in range(5)]


class Label(BaseModel):
    mood: str


def enrich(folder, **kwargs):
    given = {"source": ROWS, "input": "Mood of: {{ row.text }}", "model": MODEL, "output_path": str(folder / "out")}
    return ResponsesEnrichOperator(task_id="label", **(given | kwargs))


def result(folder):
    return [json.loads(line) for line in (folder / "out" / "result.jsonl").read_text().splitlines()]


def inputs(sandbox):
    return sorted(entry.body["input"] for entry in sandbox.ledger)


def set_intervals(monkeypatch, **seconds):
    """Shorten intervals of the engine."""
    environment = ResponsesEnrichOperator.environment
    monkeypatch.setattr(
        ResponsesEnrichOperator,
        "environment",
        lambda task, report: dataclasses.replace(environment(task, report), **seconds),
    )
