"""
A real Airflow on loopback: scheduler with its executor, dag-processor, triggerer, api-server and PostgreSQL.

Actions of users go through the REST API; the tests read results from the database.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from tests.e2e import postgres
from tests.e2e.processes import Service, free_port, is_running, parent, send, stop, tail

ROOT = Path(__file__).resolve().parents[2]
VERSION = importlib.metadata.version("apache-airflow")
DATABASE = "airflow"
COMMANDS = {
    # No servers for logs: they have fixed ports, and the tests read the files.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
# From Airflow 3.4 on, each attempt of a task has a row of its own, and XComs belong to an attempt.
if AIRFLOW_V_3_4_PLUS:
    TASK_TABLE = "(SELECT *, region_index AS map_index FROM task_instance WHERE working_set) AS task_instance"
    XCOM_TABLE = f"(SELECT * FROM xcom_v2 JOIN {TASK_TABLE} ON task_instance.id = task_instance_id) AS xcom"  # noqa: S608
else:
    TASK_TABLE, XCOM_TABLE = "task_instance", "xcom"
LIMIT = 120.0  # seconds after which something that should have happened has failed
FINISHED = frozenset({"success", "failed"})
# So that what was killed is missed within seconds. The triggerer's is also how soon another one takes over.
QUICK_HEARTBEATS = {
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 10,
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 1,
    "WORKERS__MIN_HEARTBEAT_INTERVAL": 2,
    "TRIGGERER__JOB_HEARTBEAT_SEC": 1,
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 6,
}


@dataclass(frozen=True, kw_only=True)
class TaskInstance:
    """A row of Airflow's table of that name."""

    state: str | None
    try_number: int
    max_tries: int
    next_method: str | None
    trigger_id: int | None
    pid: int | None


class Deployment:
    """
    Airflow, as long as the ``with`` block lasts.

    :param connections: connection id → the connection, as in an ``AIRFLOW_CONN_…`` variable of JSON.
    :param parallelism: how many tasks the executor runs at once.
    :param settings: ``SECTION__KEY`` → value.
    :param executor: LocalExecutor, or one whose workers are among the commands.
    :param commands: further services: a name → the arguments of ``airflow``.
    """

    def __init__(
        self,
        *,
        connections: Mapping[str, Mapping[str, Any]],
        parallelism: int = 8,
        settings: Mapping[str, Any] = QUICK_HEARTBEATS,
        executor: str = "LocalExecutor",
        commands: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.connections = connections
        self.parallelism = parallelism
        self.settings = settings
        self.executor = executor
        self.commands = COMMANDS | dict(commands or {})
        self.services: dict[str, Service] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Deployment:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="airflow-e2e-"))
        stack.callback(shutil.rmtree, self.home, ignore_errors=True)
        self.dags = self.home / "dags"
        self.dags.mkdir()
        # Empty, and there before the services could all write one: every setting is in the environment.
        (self.home / "airflow.cfg").touch()
        server = stack.enter_context(postgres.running())
        self.port = free_port()
        self.env = self._environment(server)
        self._migrate(server)
        self._database = stack.enter_context(contextlib.closing(server.connect(DATABASE)))
        stack.callback(lambda: stop(list(self.services.values())))
        # One worker: it is one process, and the tests' load is small.
        self._run("api-server", "api-server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
        for name, arguments in self.commands.items():
            self._run(name, *arguments)
        self._api = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30)
        )
        self.wait_until(self._is_healthy, "all parts to be healthy")
        token = self._api.get("/auth/token").raise_for_status().json()["access_token"]
        self._api.headers["Authorization"] = f"Bearer {token}"

    def _environment(self, server: postgres.Postgres) -> dict[str, str]:
        # The settings of whoever runs the tests must not reach them.
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        settings = {
            "API__PORT": self.port,
            "API__SECRET_KEY": secrets.token_hex(),
            "API_AUTH__JWT_SECRET": secrets.token_hex(),
            "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__DAGS_FOLDER": self.dags,
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "CORE__EXECUTOR": self.executor,
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes()).decode(),
            "CORE__LOAD_EXAMPLES": False,
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": 1000,
            "CORE__PARALLELISM": self.parallelism,
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 3600,  # a file that changes is parsed sooner
            "DAG_PROCESSOR__REFRESH_INTERVAL": 1,
            "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": 1,
            "DATABASE__SQL_ALCHEMY_CONN": server.url("psycopg2", DATABASE),
            "DATABASE__SQL_ALCHEMY_CONN_ASYNC": server.url("asyncpg", DATABASE),
            "LOGGING__COLORED_CONSOLE_LOG": False,
            **self.settings,
        }
        env |= {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
        env |= {f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in self.connections.items()}
        return env | {
            "AIRFLOW_HOME": str(self.home),
            "HOME": str(self.home),
            "NO_COLOR": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
        }

    def _migrate(self, server: postgres.Postgres) -> None:
        """Make the tables; they are made once per release of Airflow and kept in the checkout."""
        kept = ROOT / ".cache" / f"airflow-{VERSION}-postgresql.sql"
        if kept.exists():
            server.create(DATABASE, like=kept)
            return
        server.create(DATABASE)
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, env=self.env, cwd=self.home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"`airflow db migrate` failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        server.dump(DATABASE, kept)

    def _run(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "airflow", *arguments]
        self.services[name] = Service(name, command, env=self.env, folder=self.home, log=self.home / f"{name}.log")

    def _is_healthy(self) -> bool:
        try:
            health = self._api.get("/api/v2/monitor/health").raise_for_status().json()
        except httpx.HTTPError:
            return False
        return all(health[part]["status"] == "healthy" for part in ("scheduler", "triggerer", "dag_processor"))

    # What users do

    def write_dag(self, name: str, source: str, *dag_ids: str) -> None:
        """Write a DAG file, and wait until its DAGs (by default one of that name) can be triggered."""
        wanted = list(dag_ids or (name,))
        path = self.dags / f"{name}.py"
        path.write_text(source)

        def parsed() -> bool:
            errors = self.query("SELECT stacktrace FROM import_error WHERE filename = %s", path.name)
            assert not errors, errors[0][0]
            query = (
                "SELECT count(*) FROM dag JOIN serialized_dag USING (dag_id) WHERE dag_id = ANY(%s) AND NOT is_stale"
            )
            return bool(self.query(query, wanted)[0][0] == len(wanted))

        self.wait_until(parsed, f"{path.name} to be parsed")

    def make_pool(self, name: str, slots: int, *, include_deferred: bool) -> None:
        """Make a pool."""
        self._ask("POST", "pools", {"name": name, "slots": slots, "include_deferred": include_deferred})

    def trigger(self, dag_id: str, run_id: str | None = None, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run; return its id."""
        run_id = run_id or f"run-{secrets.token_hex(4)}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        self._ask("POST", f"dags/{dag_id}/dagRuns", body)
        return run_id

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task, so that it runs again."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self._ask("POST", f"dags/{dag_id}/clearTaskInstances", body)

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task as failed, whatever it is doing."""
        self._ask("PATCH", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": "failed"})

    def respond(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Choose an option of a task that waits for a person."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self._ask("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def _ask(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        response = self._api.request(method, f"/api/v2/{path}", json=dict(body))
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}\n{self.logs()}"

    # What happened

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        return str(self.query("SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s", dag_id, run_id)[0][0])

    def task(self, dag_id: str, run_id: str, task_id: str) -> TaskInstance | None:
        """An unmapped task instance, once there is one."""
        columns = ", ".join(TaskInstance.__dataclass_fields__)
        rows = self.query(
            f"SELECT {columns} FROM {TASK_TABLE} WHERE dag_id = %s AND run_id = %s AND task_id = %s",  # noqa: S608
            dag_id,
            run_id,
            task_id,
        )
        return TaskInstance(**dict(zip(TaskInstance.__dataclass_fields__, rows[0], strict=True))) if rows else None

    def xcoms(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """The XComs of an unmapped task, decoded."""
        from airflow.sdk.serde import deserialize

        query = f"SELECT key, value FROM {XCOM_TABLE} WHERE dag_id = %s AND run_id = %s AND task_id = %s"  # noqa: S608
        return {key: deserialize(value) for key, value in self.query(query, dag_id, run_id, task_id)}

    def all_xcoms(self, dag_id: str, run_id: str, task_id: str, key: str) -> list[Any]:
        """One XCom of all instances of a task, decoded."""
        from airflow.sdk.serde import deserialize

        where = "dag_id = %s AND run_id = %s AND task_id = %s AND key = %s"
        query = f"SELECT value FROM {XCOM_TABLE} WHERE {where}"  # noqa: S608
        return [deserialize(value) for (value,) in self.query(query, dag_id, run_id, task_id, key)]

    def wait_for_run(self, dag_id: str, run_id: str, states: Collection[str] = FINISHED, limit: float = LIMIT) -> str:
        """Wait until a run has one of the states; return it."""
        what = f"run {run_id} of {dag_id} to be {' or '.join(sorted(states))}"
        self.wait_until(
            lambda: self.run_state(dag_id, run_id) in states,
            what,
            limit=limit,
            details=lambda: self.logs(dag_id, run_id),
        )
        return self.run_state(dag_id, run_id)

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, states: Collection[str] = FINISHED, limit: float = LIMIT
    ) -> TaskInstance:
        """Wait until a task instance has one of the states; return it."""
        found: list[TaskInstance] = []

        def arrived() -> bool:
            task = self.task(dag_id, run_id, task_id)
            found[:] = [task] if task and task.state in states else []
            return bool(found)

        what = f"{dag_id}.{task_id} to be {' or '.join(sorted(states))}"
        self.wait_until(arrived, what, limit=limit, details=lambda: self.logs(dag_id, run_id))
        return found[0]

    def wait_until(
        self,
        condition: Callable[[], bool],
        what: str,
        *,
        limit: float = LIMIT,
        details: Callable[[], str] | None = None,
    ) -> None:
        """
        Wait for a condition; the limit only ends a test that has failed.

        :param details: what the error shall show; by default the ends of the logs.
        :raises AssertionError: when the limit is over, or a part of Airflow has ended.
        """
        end = time.monotonic() + limit
        while not condition():
            for service in self.services.values():
                service.check()
            if time.monotonic() > end:
                raise AssertionError(f"waited {limit:.0f} s for {what}\n{(details or self.logs)()}")
            time.sleep(0.1)

    def logs(self, dag_id: str | None = None, run_id: str = "") -> str:
        """Return the ends of the logs, after a table of the run's tasks."""
        texts = []
        if dag_id:
            columns = "task_id, map_index, state, try_number, max_tries, next_method, trigger_id, pid"
            query = f"SELECT {columns} FROM {TASK_TABLE} WHERE dag_id = %s AND run_id = %s"  # noqa: S608
            texts += [columns, *map(str, self.query(query, dag_id, run_id))]
            texts += [tail(path, 20) for path in self._log_files(dag_id, run_id)]
        return "\n".join([*texts, *(tail(service.log, 15) for service in self.services.values())])

    def task_log(self, dag_id: str, run_id: str) -> str:
        """Return the logs of all attempts of a run's tasks, also those of their triggers."""
        return "\n".join(path.read_text(errors="replace") for path in self._log_files(dag_id, run_id))

    def _log_files(self, dag_id: str, run_id: str) -> list[Path]:
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        return sorted(path for path in folder.rglob("*.log*") if path.is_file())

    def query(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read Airflow's database."""
        with self._database.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    # What breaks

    def processes(self, dag_id: str, run_id: str, task_id: str) -> tuple[int, int]:
        """The process of a running task, and its supervisor, which is one of LocalExecutor's workers."""
        task = self.task(dag_id, run_id, task_id)
        assert task, task_id
        assert task.pid, task
        supervisor = parent(task.pid)
        assert supervisor, f"{task} has ended\n{self.logs(dag_id, run_id)}"
        assert parent(supervisor) == self.services["scheduler"].pid, (task, supervisor)
        return task.pid, supervisor

    def kill(self, pids: Sequence[int]) -> None:
        """SIGKILL processes, and wait until they are gone."""
        for pid in pids:
            send(pid, signal.SIGKILL)
        self.wait_until(lambda: not any(map(is_running, pids)), f"{pids} to end")

    def kill_service(self, name: str) -> None:
        """SIGKILL a service with all that it has started."""
        self.services.pop(name).kill()

    def stop_service(self, name: str) -> None:
        """Stop a service as its users do: by SIGTERM."""
        stop([self.services.pop(name)])

    def start_service(self, name: str) -> None:
        """Start a service again."""
        self._run(name, *self.commands[name])


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that what it has started is stopped."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
