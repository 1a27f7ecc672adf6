"""A task that sends one request, and the requests that the sandbox got."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from airflow_provider_responses.operators.responses import ResponsesOperator

MODEL = "openai/gpt-4o-mini"


class Label(BaseModel):
    topic: Literal["good", "bad"]
    why: str


def ask(**kwargs):
    return ResponsesOperator(task_id="ask", **({"model": MODEL, "input": "Is it good?"} | kwargs))


def sent(sandbox):
    return [entry.body for entry in sandbox.ledger]
