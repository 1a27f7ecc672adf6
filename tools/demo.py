"""Run the example DAG `support_tickets` once, with `airflow dags test`, and print its results.

The requests go to a sandbox on this machine, or to OpenRouter if OPENROUTER_API_KEY is set.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DAG_ID = "support_tickets"
RESULTS_START, RESULTS_END = "=== results ===", "=== end ==="
# Log records of Airflow 3 and of Airflow 2, which can come between the lines of the results.
LOG_RECORD = re.compile(r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:")
TAIL_LINES = 40


class DemoError(Exception):
    """A step of the demo failed; the log has the reason."""


class Airflow:
    """Airflow's command line, with settings and a database of its own for each release of Airflow."""

    def __init__(self, folder: Path, dags: Path, *, verbose: bool) -> None:
        self.version = version("apache-airflow")
        home = folder / self.version
        self.database = home / "airflow.db"
        self.log = folder / "demo.log"
        self.verbose = verbose
        # The user's own Airflow settings must not reach the demo.
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self.env |= {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }
        home.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    def migrate(self) -> None:
        """Create the database, unless an earlier demo has created it."""
        if self.database.exists():
            return
        unfinished = self.database.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        self.run("db", "migrate", database=unfinished)
        unfinished.rename(self.database)

    def test_dag(self, connection: dict[str, object]) -> list[str]:
        """Run the DAG with `connection` and return the lines of its results."""
        self.env["AIRFLOW_CONN_RESPONSES_DEFAULT"] = json.dumps(connection)
        lines = self.run("dags", "test", DAG_ID, database=self.database)
        if RESULTS_START not in lines or RESULTS_END not in lines:
            raise DemoError("the DAG ran, but printed no results")
        results = lines[lines.index(RESULTS_START) + 1 : lines.index(RESULTS_END)]
        return [line for line in results if not LOG_RECORD.match(line)]

    def run(self, *arguments: str, database: Path) -> list[str]:
        """Run one command and return the lines of its output."""
        lines = []
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                env=self.env | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            for line in process.stdout or ():
                log.write(line)
                if self.verbose:
                    print(line, end="", flush=True)
                lines.append(line.rstrip())
        if process.returncode:
            raise DemoError(f"`airflow {' '.join(arguments)}` ended with exit code {process.returncode}")
        return lines


@contextlib.contextmanager
def service() -> Iterator[tuple[list[str], dict[str, object]]]:
    """Yield lines about the service that responds, and the connection to it."""
    if key := os.environ.get("OPENROUTER_API_KEY"):
        yield ["Service: OpenRouter (OPENROUTER_API_KEY is set)"], {"conn_type": "responses", "password": key}
        return
    from airflow_provider_responses.sandbox import Sandbox

    with Sandbox(port=0) as sandbox:
        name = "Service: a sandbox on this machine (OPENROUTER_API_KEY is not set)"
        yield [name, f"Note:    {sandbox.notice}"], sandbox.connection


def main() -> int:
    """Run the demo; the exit code is 0 only if the DAG succeeded and printed its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-v", "--verbose", action="store_true", help="show everything that Airflow logs")
    parser.add_argument("--folder", type=Path, default=ROOT / ".airflow" / "demo", help="for Airflow's files")
    parser.add_argument("--dags", type=Path, default=ROOT / "dags_examples", help="the folder of the DAG's file")
    options = parser.parse_args()

    began = time.monotonic()
    airflow = Airflow(options.folder.resolve(), options.dags.resolve(), verbose=options.verbose)
    try:
        with service() as (about, connection):
            print(f"DAG:     {DAG_ID}, on Airflow {airflow.version}", *about, sep="\n", flush=True)
            airflow.migrate()
            results = airflow.test_dag(connection)
    except DemoError as error:
        tail = airflow.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        print(*tail, f"\nThe demo failed: {error}.", f"The whole log: {airflow.log}", sep="\n", file=sys.stderr)
        return 1
    print("", *results, "", sep="\n")
    print(f"Done in {time.monotonic() - began:.0f} s. Airflow's log: {airflow.log}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
