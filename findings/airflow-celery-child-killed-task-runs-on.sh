#!/usr/bin/env bash
# Airflow on Celery: a worker's child is killed, the task runs on without it, and the retry runs beside it.
#
# Version:  apache-airflow 3.3.2, apache-airflow-providers-celery 3.26.0, celery 5.6.3 (PyPI), Python 3.11, Linux, default
#           settings but SQLite and a queue of files; the same with Redis and PostgreSQL. (With celery 5.7.0, which the
#           provider allows, no worker starts: it names an Airflow that is too old, and means an import that failed.)
# Guess:    when the process that Celery started for a task dies (the kernel is out of memory, `kill -9`), the task dies
#           with it; or Airflow waits for `task_instance_heartbeat_timeout` before it starts another attempt.
# Instead:  the task is that process's child, and nobody ends it. Celery reports WorkerLostError, and Airflow retries
#           within seconds. Both attempts work at the same time, the first to its end: only its parent had heartbeats.
# Seen:     attempt 2 works 14 s after the kill (8 to 12 s with Redis), and attempt 1 beside it for another 14 s,
#           to its end.
# Avoid it: write where two attempts cannot mix, and look now and then whether a newer one has begun. `execution_timeout`
#           runs in the task itself, without its parent.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    apache-airflow==3.3.2 apache-airflow-providers-celery==3.26.0 celery==5.6.3
cat >"$folder/check.py" <<'PYTHON'
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

DAG = """
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import dag, get_current_context, task


@dag(schedule="@once", start_date=datetime(2026, 1, 1))
def works():
    @task(retries=1, retry_delay=timedelta(seconds=1))
    def work():
        attempt = get_current_context()["ti"].try_number
        for _ in range(60):
            with Path("FOLDER", f"attempt-{attempt}").open("a") as file:
                print(time.time(), os.getpid(), os.getppid(), file=file)
            time.sleep(0.5)

    work()


works()
"""
WITHIN = 180  # seconds

folder = Path(sys.argv[1])
home = folder / "airflow"
queue = home / "queue"
queue.mkdir(parents=True)
(home / "dags").mkdir()
(home / "dags" / "works.py").write_text(DAG.replace("FOLDER", str(home)))
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
settings = {
    "API__PORT": port,
    "API_AUTH__JWT_SECRET": secrets.token_hex(32),
    "API__SECRET_KEY": secrets.token_hex(32),
    "CELERY__BROKER_URL": "filesystem://",
    "CELERY__RESULT_BACKEND": f"db+sqlite:///{home}/results.db",
    "CELERY_BROKER_TRANSPORT_OPTIONS__CONTROL_FOLDER": queue,
    "CELERY_BROKER_TRANSPORT_OPTIONS__DATA_FOLDER_IN": queue,
    "CELERY_BROKER_TRANSPORT_OPTIONS__DATA_FOLDER_OUT": queue,
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
    "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
    "CORE__EXECUTOR": "CeleryExecutor",
    "CORE__LOAD_EXAMPLES": False,
}
env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
env |= {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
env |= {"AIRFLOW_HOME": str(home), "HOME": str(home), "NO_PROXY": "127.0.0.1"}
airflow = [sys.executable, "-m", "airflow"]
services = []


def start(*arguments):
    log = (home / f"{arguments[0]}.log").open("w")
    services.append(
        subprocess.Popen([*airflow, *arguments], env=env, stdout=log, stderr=log, cwd=home, start_new_session=True)
    )


def lines(attempt):
    file = home / f"attempt-{attempt}"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(condition, what):
    limit = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > limit:
            logs = "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(home.glob("*.log")))
            sys.exit(f"waited {WITHIN} s for {what}\n{logs}")
        time.sleep(0.1)


def end(session):
    """End all processes of a session, the task's included, which are groups of their own."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGKILL)
        except ProcessLookupError:
            pass


try:
    subprocess.run([*airflow, "db", "migrate"], env=env, cwd=home, check=True, capture_output=True)
    start("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    start("scheduler", "--skip-serve-logs")
    start("dag-processor")
    start("celery", "worker", "--skip-serve-logs", "--concurrency", "2")
    wait_for(lambda: len(lines(1)) > 2, "the task to work")
    _, task, child = map(float, lines(1)[-1])
    os.kill(int(child), signal.SIGKILL)
    killed = time.time()
    wait_for(lambda: lines(2), "the second attempt to work")
    began = float(lines(2)[0][0])
    print(f"attempt 2 works {began - killed:.0f} s after the kill of attempt 1's parent")
    wait_for(lambda: len(lines(1)) == 60, "the first attempt to end")
    beside = [at for at, *_ in lines(1) if float(at) > began]
    print(f"attempt 1 worked beside it for {float(beside[-1]) - began:.0f} s, to its end")
    sys.exit(len(beside) < 10)
finally:
    for service in services:
        end(service.pid)
        service.wait()
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
