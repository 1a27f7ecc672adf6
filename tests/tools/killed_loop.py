"""
A process that runs a task with tools and kills it: one child of it for each attempt.

Run as ``python -m tests.tools.killed_loop``. It reads one JSON object from stdin: ``runs`` (each with a ``name``, the
``boundary`` of its first attempt, at which that attempt ends in its own SIGKILL, and ``on_interrupted``), ``folder``
and ``connection``. It prints one JSON object: the outcome of the last attempt of each run.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.models.request import ResponsesRequest
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.tools import IdempotencyKey
from tests.airflow_fakes import TaskInstance, context

STEPS = 5  # of calls; one more request brings the text


class FileStore:
    """Stands in for Airflow's task state store: a file for each key."""

    def __init__(self, folder: Path, reach: Callable[[str], None]) -> None:
        self.folder = folder
        self.reach = reach

    def get(self, key: str, default: Any = None) -> Any:
        path = self.folder / key
        return json.loads(path.read_text()) if path.exists() else default

    def set(self, key: str, value: Any) -> None:
        is_of_tools = ".tools." in key
        if is_of_tools:
            self.reach("before record")
        part = self.folder / f"{key}.part"
        part.write_text(json.dumps(value))
        part.rename(self.folder / key)
        if is_of_tools:
            self.reach("after record")


class Boundaries:
    """Counts the boundaries of an attempt, and kills the process at one of them."""

    def __init__(self, log: Path, kill_at: int | None) -> None:
        self.log = log
        self.kill_at = kill_at
        self.passed = 0

    def reach(self, name: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{name}\n")
        if self.passed == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1


def run_attempt(run: dict[str, Any], folder: Path, attempt: int) -> None:
    """Run one attempt; write its outcome to a file."""
    own = folder / run["name"]
    boundaries = Boundaries(own / f"boundaries.{attempt}", run["boundary"] if attempt == 1 else None)
    send = ResponsesClient.send

    def marked_send(self: ResponsesClient, *args: Any, **kwargs: Any) -> Any:
        boundaries.reach("before send")
        response = send(self, *args, **kwargs)
        boundaries.reach("after send")
        return response

    def charge(order: int, key: IdempotencyKey) -> str:
        """Charge an order."""
        boundaries.reach("before effect")
        with (own / "effects").open("a") as file:
            file.write(f"{order} {key}\n")
        boundaries.reach("after effect")
        return f"charged {order}"

    ResponsesClient.send = marked_send  # type: ignore[method-assign]
    task = ResponsesOperator(
        task_id="ask",
        model=f"sandbox/calls-{STEPS}",
        input=f"charge in {run['name']}",
        tools=[charge],
        on_interrupted_tool=run["on_interrupted"],
    )
    ti = TaskInstance(run_id=run["name"], try_number=attempt)
    try:
        value = task.execute(context(ti, task_state_store=FileStore(own, boundaries.reach)))
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


def allow_execute() -> None:
    """Let this process call ``execute()`` itself."""
    try:
        from airflow.sdk.bases.operator import ExecutorSafeguard
    except ImportError:
        from airflow.models.baseoperator import ExecutorSafeguard
    ExecutorSafeguard.test_mode = True


def main() -> None:
    given = json.load(sys.stdin)
    os.environ["AIRFLOW_CONN_RESPONSES_DEFAULT"] = json.dumps(given["connection"])
    folder, ended = Path(given["folder"]), {}
    for module in ("client", "models.request", "models.history", "models.output", "task.payloads", "tools.loop"):
        importlib.import_module(f"airflow_provider_responses.{module}")  # once, and not in each child
    ResponsesRequest.parse({"input": "a"}, dialect="openrouter")
    for run in given["runs"]:
        own = folder / run["name"]
        own.mkdir()
        signals = [in_child(run, folder, 1)]
        if signals[0]:
            signals.append(in_child(run, folder, 2))
        effects = own / "effects"
        ended[run["name"]] = {
            **json.loads((own / "outcome").read_text()),
            "signals": signals,
            "killed_at": (own / "boundaries.1").read_text().splitlines()[-1],
            "boundaries": len((own / "boundaries.1").read_text().splitlines()),
            "effects": effects.read_text().splitlines() if effects.exists() else [],
        }
    print(json.dumps(ended))


if __name__ == "__main__":
    allow_execute()
    main()
