"""``python -m airflow_provider_responses estimate DAG_ID TASK_ID``: the price of a task before it runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_responses")
    commands = parser.add_subparsers(dest="command", required=True)
    estimate = commands.add_parser(
        "estimate",
        help="print the number of requests and tokens of a task, and its price; nothing is sent to a model",
        description="Print the number of requests and tokens of a task, and its price. Nothing is sent to a model.",
    )
    estimate.add_argument("dag_id")
    estimate.add_argument("task_id")
    estimate.add_argument("--conf", metavar="JSON", help="the conf of the DAG run, which overrides its params")
    estimate.add_argument("--file", metavar="PATH", help="the DAG's file; by default the DAGs folder is searched")
    estimate.add_argument("--logical-date", metavar="DATE", help="of the DAG run, in ISO 8601; by default now")
    estimate.add_argument("--json", action="store_true", help="print the estimate as JSON")
    given = parser.parse_args(arguments)
    # As Airflow's own commands do: connections and variables are read from the database, too.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    with contextlib.redirect_stdout(sys.stderr):  # Airflow's log
        code, text = _estimate(given)
    (sys.stderr if code else sys.stdout).write(f"{text}\n")
    return code


def _estimate(given: argparse.Namespace) -> tuple[int, str]:
    """Return the exit code, and the estimate or the error."""
    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_provider_responses.enrich.estimate import describe_estimate
    from airflow_provider_responses.exceptions import ResponsesError
    from airflow_provider_responses.operators.estimate_command import estimate_task

    try:
        found = estimate_task(
            given.dag_id, given.task_id, conf=given.conf, path=given.file, logical_date=given.logical_date
        )
    except (ResponsesError, AirflowException) as error:
        return 1, f"No estimate: {error}"
    return 0, json.dumps(found, indent=2) if given.json else "\n".join(describe_estimate(found))


if __name__ == "__main__":
    sys.exit(main())
