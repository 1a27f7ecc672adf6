"""An Airflow on loopback, with one DAG run against the sandbox: api-server, scheduler and a SQLite database."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from airflow_provider_responses.sandbox import Sandbox

SERIES: Final = "3.3"
LIMIT: Final = 180.0  # seconds for a service to start, and for the DAG run
GRACE: Final = 20.0  # seconds for a service to end
TAIL: Final = 2000  # characters of a log


class AirflowError(Exception):
    """Airflow is not the one that the pictures are of, or a part of it failed."""


class Airflow:
    """
    Airflow in a folder of its own.

    :param folder: for the database, the logs and the DAG files.
    :param connections: connection id → the connection, as in an ``AIRFLOW_CONN_…`` variable of JSON.
    """

    def __init__(self, folder: Path, connections: dict[str, Any]) -> None:
        if not version("apache-airflow").startswith(f"{SERIES}."):
            raise AirflowError(f"the pictures are of Airflow {SERIES}, and {version('apache-airflow')} is installed")
        self.folder = folder
        self.dags = folder / "dags"
        self.dags.mkdir()
        self._port = _free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        settings = {
            "API__SECRET_KEY": secrets.token_hex(),
            "API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes()).decode(),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__PARALLELISM": "1",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        }
        # The settings of whoever makes the pictures must not be in them.
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self._env |= {f"AIRFLOW__{name}": value for name, value in settings.items()}
        self._env |= {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in connections.items()}
        self._env |= {"AIRFLOW_HOME": str(folder), "HOME": str(folder), "NO_COLOR": "1", "NO_PROXY": "127.0.0.1"}

    @contextlib.contextmanager
    def running(self, file: Path) -> Iterator[httpx.Client]:
        """Make the database with the DAG of a file, and yield a client of the REST API while Airflow runs."""
        shutil.copy(file, self.dags)
        self._run("db", "migrate")
        self._run("dags", "reserialize")
        server = ("api-server", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1")
        with (
            self._service(*server) as process,
            httpx.Client(base_url=self.address, trust_env=False, timeout=30) as client,
            self._service("scheduler", "--skip-serve-logs"),
        ):
            end = time.monotonic() + LIMIT
            while not _is_up(client):
                if time.monotonic() > end or process.poll() is not None:
                    raise AirflowError(f"the api-server did not start:\n{self._log('api-server')}")
                time.sleep(0.5)
            token = client.get("/auth/token").raise_for_status().json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield client

    def run_dag(self, client: httpx.Client, dag_id: str) -> str:
        """Run a DAG to its success; return the id of the DAG run."""
        runs = f"/api/v2/dags/{dag_id}/dagRuns"
        run_id = str(client.post(runs, json={"logical_date": None}).raise_for_status().json()["dag_run_id"])
        end = time.monotonic() + LIMIT
        while (state := client.get(f"{runs}/{run_id}").raise_for_status().json()["state"]) != "success":
            if state == "failed" or time.monotonic() > end:
                raise AirflowError(f"the run of {dag_id} is {state}:\n{self._log('scheduler')}")
            time.sleep(0.5)
        return run_id

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self._env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AirflowError(f"`airflow {' '.join(arguments)}` failed:\n{done.stdout[-TAIL:]}")

    @contextlib.contextmanager
    def _service(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command in a process group of its own, and end the group afterwards."""
        with (self.folder / f"{arguments[0]}.log").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                env=self._env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=GRACE)

    def _log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")[-TAIL:]


@contextlib.contextmanager
def airflow(*, text: str) -> Iterator[Airflow]:
    """Yield an Airflow in a temporary folder, whose connection is to a sandbox whose first two responses are `text`."""
    with (
        tempfile.TemporaryDirectory(prefix="pictures-airflow-", ignore_cleanup_errors=True) as folder,
        Sandbox(port=0) as sandbox,
    ):
        sandbox.script({"text": text, "times": 2})
        yield Airflow(Path(folder), {"responses_default": sandbox.connection})


def _is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/api/v2/monitor/health").is_success
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
