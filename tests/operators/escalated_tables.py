"""A table whose small model has no acceptable response to each fifth row, as a DAG, and its bill."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

SMALL, LARGE, JUDGE = "openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
ROWS = 50
UNSURE = ROWS // 5  # rows that the function `is_unsure` rejects

FILE = """
from typing import Literal

from airflow.providers.common.compat.sdk import DAG
from pydantic import BaseModel

from airflow_provider_responses.enrich import Judge, Limits
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.sql import SqlTable

SMALL, LARGE, JUDGE = "openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
RUBRIC = "Is the mood right? From 1 (wrong) to 5 (right)."


class Label(BaseModel):
    mood: Literal["good", "bad", "other"]
    why: str


def is_unsure(value):
    return value["mood"] == "other"


def each_fifth_to(model):
    return lambda row: {"input": row["text"], "model": model if row["id"] % 5 == 0 else SMALL}


ROWS = [{"id": n, "text": f"Review {n} is {'strange' if n % 5 == 0 else 'good'}."} for n in range(COUNT)]
GIVEN = {
    "source": ROWS,
    "key": "id",
    "input": "Mood: {{ row.text }}",
    "model": SMALL,
    "output_type": Label,
    "output_path": "FOLDER",
}

with DAG("table", schedule=None):
    ARGUMENTS
"""


def dag_file(folder: Path, arguments: str = "", *, count: int = ROWS, task: str = "") -> str:
    """
    Return the text of the DAG file.

    :param arguments: those of the task in addition to the table, its model and its folder, such as ``judge=...``.
    :param task: the whole call, if it is another one.
    """
    call = task or f'ResponsesEnrichOperator(**(GIVEN | dict(task_id="label", {arguments})))'
    return FILE.replace("COUNT", str(count)).replace("FOLDER", str(folder / "out")).replace("ARGUMENTS", call)


def result(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the result."""
    return [json.loads(line) for line in (folder / "out" / "result.jsonl").read_text().splitlines()]


def bill(sandbox: Any) -> dict[str, int]:
    """Return the number of billed responses by model."""
    return dict(Counter(entry.model for entry in sandbox.billed))


def paid(sandbox: Any, *models: str) -> float:
    """Return the US dollars that the ledger has, for some models or for all."""
    return float(sum(entry.cost for entry in sandbox.billed if not models or entry.model in models))
