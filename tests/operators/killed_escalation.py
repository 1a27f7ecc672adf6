"""
A process that runs tasks whose small model refuses, and kills them: one child of it for each attempt.

Run as ``python -m tests.operators.killed_escalation``. It reads one JSON object from stdin: ``runs`` (each with a
``name``, and the ``boundary`` of its first attempt, at which that attempt ends in its own SIGKILL), ``folder`` and
``connection``. It prints one JSON object: the outcome of the last attempt of each run.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import TaskInstance, context
from tests.tools.killed_loop import Boundaries, FileStore, allow_execute

SMALL, LARGE = "sandbox/refusal", "openai/gpt-4o"


class Store(FileStore):
    """A store in files, whose writes are boundaries."""

    def set(self, key: str, value: Any) -> None:
        self.reach("before record")
        super().set(key, value)
        self.reach("after record")


def run_attempt(run: dict[str, Any], folder: Path, attempt: int) -> None:
    """Run one attempt; write its outcome to a file."""
    own = folder / run["name"]
    boundaries = Boundaries(own / f"boundaries.{attempt}", run["boundary"] if attempt == 1 else None)
    send = ResponsesClient.send

    def marked_send(self: ResponsesClient, *args: Any, **kwargs: Any) -> Any:
        boundaries.reach("before send")
        try:
            return send(self, *args, **kwargs)
        finally:
            boundaries.reach("after send")

    ResponsesClient.send = marked_send  # type: ignore[method-assign]
    task = ResponsesOperator(
        task_id="ask", model=SMALL, input=run["name"], escalate=[Escalation(model=LARGE, when="refused")]
    )
    ti = TaskInstance(run_id=run["name"], try_number=attempt)
    try:
        value = task.execute(context(ti, task_state_store=Store(own, boundaries.reach)))
        outcome = {"value": value, "usage": ti.xcoms["usage"]}
    except Exception as error:  # noqa: BLE001  the test reads which
        traceback.print_exc()
        outcome = {"error": str(error), "usage": ti.xcoms.get("usage")}
    (own / "outcome").write_text(json.dumps(outcome))


def in_child(run: dict[str, Any], folder: Path, attempt: int) -> int:
    """Run an attempt in a child process; return the signal that ended it, 0 if none did."""
    child = os.fork()
    if child == 0:
        try:
            run_attempt(run, folder, attempt)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status)


def main() -> None:
    given = json.load(sys.stdin)
    os.environ["AIRFLOW_CONN_RESPONSES_DEFAULT"] = json.dumps(given["connection"])
    folder, ended = Path(given["folder"]), {}
    for run in given["runs"]:
        own = folder / run["name"]
        own.mkdir()
        signals = [in_child(run, folder, 1)]
        if signals[0]:
            signals.append(in_child(run, folder, 2))
        passed = (own / "boundaries.1").read_text().splitlines()
        ended[run["name"]] = {
            **json.loads((own / "outcome").read_text()),
            "signals": signals,
            "boundaries": passed,
        }
    print(json.dumps(ended))


if __name__ == "__main__":
    allow_execute()
    main()
